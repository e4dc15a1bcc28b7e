"""Training on several devices at once: `python nice.py --distribute`.

Every device holds the whole model and works on an equal part of each batch; the
gradients are averaged, so that the result is that of one device but for
rounding; only TensorFlow's dropout masks repeat from device to device. What
cannot be divided is left out: of each epoch, and of the validation pictures,
fewer pictures than there are devices.

TensorFlow takes all GPUs of this machine. JAX takes all devices of this machine,
or of several: start the same command once a machine, with

    KERAS_DISTRIBUTION_JOB_ADDRESSES=host:port   of the first process, on all
    KERAS_DISTRIBUTION_NUM_PROCESSES=2
    KERAS_DISTRIBUTION_PROCESS_ID=0              then 1, …

Only the first process speaks and writes. With several, the film of the training
is left out, Ctrl-C ends a process at once instead of after its step, the others
end when they miss it, and `--resume` needs an `--output` that all can read.
"""

import contextlib
import os
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import keras
from cli import UserError

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


def start(batch_size):
    """All devices, after a line that says how many. Before anything is computed.

    Raises: `UserError` where there is one device only, `batch_size` cannot be
        divided among them, or the backend is neither TensorFlow nor JAX.
    """
    engines = {"tensorflow": _tensorflow, "jax": _jax}
    backend = keras.backend.backend()
    if backend not in engines:
        raise UserError(
            f"--distribute is for TensorFlow and JAX, not {backend}. Set KERAS_BACKEND to one of "
            "them, or leave --distribute out."
        )
    devices = engines[backend]([name for name in PROCESSES if name in os.environ])
    if devices.count == 1:
        raise UserError("--distribute found only one device. Leave it out to train on that one.")
    if batch_size % devices.count:
        raise UserError(
            f"--batch-size {batch_size} is not divisible by the {devices.count} devices of "
            "--distribute."
        )
    print(
        f"training on {devices.count} devices"
        + (f", as process {devices.process + 1} of {devices.processes}" * (devices.processes > 1))
    )
    return devices


def _tensorflow(processes):
    import tensorflow as tf

    if processes:
        raise UserError(
            f"several processes need JAX: set KERAS_BACKEND=jax, or unset {processes[0]}."
        )
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    return Devices(len(devices), distribute=strategy.scope)


def _jax(processes):
    import jax

    if processes:
        missing = set(PROCESSES) - set(processes)
        if missing:
            raise UserError(f"for several processes set {', '.join(sorted(missing))} too.")
        if not jax.distributed.is_initialized():
            keras.distribution.initialize()
        if jax.local_device_count() * jax.process_count() != jax.device_count():
            raise UserError("--distribute needs equally many devices in all processes.")
    parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
    return Devices(jax.device_count(), jax.process_count(), jax.process_index(), parallel.scope)


def active():
    """Whether the scope of several devices is open."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.has_strategy()
    return keras.distribution.distribution() is not None


def replica():
    """`(index, count)` of the TensorFlow replica that is computing; elsewhere (0, 1)."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context:  # none between the replicas, in the scope of a strategy
            return context.replica_id_in_sync_group, context.num_replicas_in_sync
    return 0, 1
