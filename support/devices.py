"""Training on several devices, with JAX: `python nice.py --distribute`, docs/performance.md.

Every device holds the whole model and works on an equal part of each batch; the gradients are
averaged: the result is that of one device but for rounding. Only the first process is heard.
"""

import contextlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras

from support.errors import UserError

PROCESSES = [f"KERAS_DISTRIBUTION_{n}" for n in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")]


class Devices(NamedTuple):
    """`count` devices, evenly in `processes` of which this is number `process`."""

    count: int = 1
    processes: int = 1
    process: int = 0
    scope: Callable = contextlib.nullcontext  # to build, compile and fit in

    def share(self, rows):
        """This process's part of the rows, but for the last few that do not divide evenly."""
        if len(rows) < self.count:
            raise UserError(f"{len(rows)} pictures are too few for {self.count} devices.")
        size = len(rows) // self.count * self.count // self.processes
        return rows[self.process * size : (self.process + 1) * size]

    @contextlib.contextmanager
    def folder(self, output, *names):
        """The folder to write to: `output`; of a later process its own, with copies of `names`."""
        state, *others = (Path(output, name) for name in names)
        if self.processes > 1:
            from jax.experimental.multihost_utils import process_allgather

            seen = zlib.crc32(state.read_bytes()) if state.exists() else 0
            if len(set(process_allgather(keras.ops.array(seen, "uint32")).tolist())) > 1:
                raise UserError(f"not all processes see the same {state}: share one --output.")
        if not self.process:
            yield output
            return
        with tempfile.TemporaryDirectory() as own, open(os.devnull, "w") as null:
            for path in filter(Path.exists, (state, *others)):
                shutil.copy(path, own)
            with contextlib.redirect_stdout(null):
                yield own


ONE = Devices()


def start(batch_size):
    """All devices there are. Call it before anything is computed.

    Raises: `UserError` where there is one only, the batch cannot be divided, or no JAX.
    """
    if keras.backend.backend() != "jax":
        raise UserError("--distribute needs JAX: set KERAS_BACKEND=jax, or leave it out.")
    import jax

    given = [name for name in PROCESSES if name in os.environ]
    if 0 < len(given) < len(PROCESSES):
        raise UserError(f"for several processes set all of {', '.join(PROCESSES)}.")
    if given and not jax.distributed.is_initialized():
        keras.distribution.initialize()
    count, processes, process = jax.device_count(), jax.process_count(), jax.process_index()
    if count == 1 or jax.local_device_count() * processes != count or batch_size % count:
        raise UserError(
            f"--distribute found {count} devices in {processes} processes: it needs several, as "
            f"many in each, and a --batch-size that they divide, not {batch_size}."
        )
    print(f"training on {count} devices, process {process + 1} of {processes}")
    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    return Devices(count, processes, process, parallel.scope)
