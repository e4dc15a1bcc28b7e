"""Training on several devices: `KERAS_BACKEND=jax python nice.py --distribute`.

Every device holds the whole model and works on an equal part of each batch; the gradients are
averaged, so that the result is that of one device but for rounding. What cannot be divided,
fewer pictures than devices, is left out of each epoch and of the validation. Several machines:
docs/performance.md. Only the first process speaks and writes; with several the film of the
training is left out, and Ctrl-C ends a process at once instead of after its step.
"""

import contextlib
import os
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras

from support.cli import UserError

PROCESSES = [
    f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
]


class Devices(NamedTuple):
    """What a training runs on; without arguments, whatever Keras picks.

    `count` devices, evenly in `processes` of which this is number `process`;
    `distribute()` is the engine's context, to build, compile and fit in.
    """

    count: int = 1
    processes: int = 1
    process: int = 0
    distribute: Callable = contextlib.nullcontext

    @property
    def first(self):
        """Whether this process is the one that speaks and writes."""
        return self.process == 0

    @contextlib.contextmanager
    def scope(self):
        """Build, compile and fit in here; the later processes do so in silence."""
        if self.processes > 1:  # waiting for the others could last for ever
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
        with self.distribute(), open(os.devnull, "w") as null:
            with contextlib.nullcontext() if self.first else contextlib.redirect_stdout(null):
                yield

    def even(self, rows):
        """Rows without the last few, fewer than devices: each device gets equally many."""
        if len(rows) < self.count:
            raise UserError(f"{len(rows)} pictures are too few for {self.count} devices.")
        return rows[: len(rows) - len(rows) % self.count]

    def part(self, rows):
        """This process's part of even rows."""
        size = len(rows) // self.processes
        return rows[self.process * size : (self.process + 1) * size]

    def part_size(self, batch_size):
        """Rows of this process in a batch of `batch_size`, rounded up to an even one."""
        return -(-batch_size // self.count) * (self.count // self.processes)

    def check_shared(self, path):
        """Raise `UserError` unless all processes see the same file, or none, at `path`."""
        if self.processes == 1:
            return
        import numpy as np
        from jax.experimental.multihost_utils import process_allgather

        content = Path(path).read_bytes() if os.path.exists(path) else b""
        if len(np.unique(process_allgather(np.uint32(zlib.crc32(content))))) > 1:
            raise UserError(
                f"not all processes see the same {path}. To resume on several machines, "
                "name a folder with --output that they share."
            )


ONE = Devices()


def start(args):
    """The devices that the flags ask for; several say how many they are.

    Call it before anything is computed.

    Raises: `UserError` where --distribute finds one device only, cannot divide the
        batch among several, or the backend is not JAX.
    """
    if not args.distribute:
        return ONE
    if keras.backend.backend() != "jax":
        raise UserError("--distribute needs JAX: set KERAS_BACKEND=jax, or leave it out.")
    devices = _jax()
    if devices.count == 1:
        raise UserError("--distribute found only one device. Leave it out to train on that one.")
    if args.batch_size % devices.count:
        raise UserError(
            f"--batch-size {args.batch_size} is not divisible by the {devices.count} devices of "
            "--distribute."
        )
    print(
        f"training on {devices.count} devices"
        + (f", as process {devices.process + 1} of {devices.processes}" * (devices.processes > 1))
    )
    return devices


def _jax():
    import jax

    given = [name for name in PROCESSES if name in os.environ]
    if given:
        missing = set(PROCESSES) - set(given)
        if missing:
            raise UserError(f"for several processes set {', '.join(sorted(missing))} too.")
        if not jax.distributed.is_initialized():
            keras.distribution.initialize()
        if jax.local_device_count() * jax.process_count() != jax.device_count():
            raise UserError("--distribute needs equally many devices in all processes.")
    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    return Devices(jax.device_count(), jax.process_count(), jax.process_index(), parallel.scope)
