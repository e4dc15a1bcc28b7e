"""Training on batches whose order is a function of (seed, epoch) alone."""

import contextlib

import keras
import numpy as np
from keras import ops

from support.data import scale
from support.devices import ONE
from support.errors import UserError


def fit(encoder, pixels, *, epochs=20, batch_size=128, steps_per_execution=1, seed=0, levels=255,
        first_epoch=0, on=ONE, validation=None, **options):  # fmt: skip
    """Train a compiled encoder on uint8 (N, D), an order of its own in every epoch.

    Args:
        steps_per_execution: steps that the device does at a call of the host, a block. On a GPU
            it would wait for the host between them. What they compute is the same.
        levels: what pixels are divided by, see `data.scale`.
        first_epoch: the epoch to begin with, counted from 0.
        on: see `devices`.
        validation: (M, D) float32, as the encoder takes them.
        options: further arguments of Keras's `fit`.

    Raises: `UserError` for blocks on PyTorch or on several devices.
    """
    if steps_per_execution > 1 and (on.count > 1 or keras.backend.backend() == "torch"):
        raise UserError("--steps-per-execution needs TensorFlow or JAX, and a single device.")
    if validation is not None:
        options["validation_data"] = 2 * (on.share(validation),)
        options["validation_batch_size"] = -(-1000 // on.count) * on.count // on.processes
    block = steps_per_execution * batch_size
    chosen = {"steps_per_epoch": steps(len(pixels), block, on), **options}
    with _in_blocks(encoder, batch_size) if steps_per_execution > 1 else contextlib.nullcontext():
        encoder.fit(
            batches(pixels, block, seed, levels, first_epoch, on),
            initial_epoch=first_epoch,
            epochs=epochs,
            shuffle=False,  # `batches` has shuffled
            **chosen,
        )


@contextlib.contextmanager
def _in_blocks(encoder, batch_size):
    """In here a step of `fit` is one for every `batch_size` pictures of a batch, the last shorter.

    Keras's own steps_per_execution is a Python loop on JAX, up to 3.15: with 3.16 it is a scan,
    too. On TensorFlow it runs on into the next epoch unless it divides the steps of one.
    """
    step = encoder.train_step

    def scan(state, data):  # JAX
        import jax

        x = data[0]
        whole = len(x) // batch_size * batch_size
        if whole:
            parts = ops.reshape(x[:whole], (-1, batch_size, x.shape[1]))  # (K B, D) -> (K, B, D)
            state, logs = jax.lax.scan(lambda s, x: step(s, (x, x))[::-1], state, parts)
            logs = {name: values[-1] for name, values in logs.items()}
        if whole < len(x):
            logs, state = step(state, (x[whole:], x[whole:]))
        return logs, state

    def loop(data):  # TensorFlow
        import tensorflow as tf

        x = data[0]

        def body(start):
            step(2 * (x[start : start + batch_size],))
            return start + batch_size

        tf.while_loop(lambda start: start < tf.shape(x)[0], body, [0])
        return encoder.get_metrics_result()

    encoder.train_step = scan if keras.backend.backend() == "jax" else loop
    try:
        yield
    finally:
        encoder.train_step = step


def batches(pixels, batch_size, seed, levels=255, first_epoch=0, devices=ONE):
    """Endless (x, x) batches for `fit(..., steps_per_epoch=steps(...))`.

    Every epoch has its own order: the same on every backend and after a restart at
    `first_epoch`. Keras's own seeded shuffle repeats one order in all epochs on TensorFlow.

    Args:
        pixels: (N, D) uint8 or float32; scaled on the way, batch by batch.
        batch_size: pictures a batch; the last batch of an epoch may be shorter.
        seed: of the order.
        levels: see `data.scale`.
        first_epoch: the epoch to begin with, counted from 0.
        devices: JAX only; several leave out the last few pictures of an epoch's order, fewer
            than devices, so that each batch, the short one too, parts evenly.
    """
    if keras.backend.backend() == "tensorflow":
        return _dataset(pixels, batch_size, seed, levels, first_epoch)
    return _Batches(pixels, batch_size, seed, levels, first_epoch, devices)


def steps(count, batch_size, devices=ONE):
    """Batches an epoch."""
    return -(-(count - count % devices.count) // batch_size)


def order(count, seed, epoch):
    """The order of the pictures in one epoch: int32 (count,)."""
    return np.random.default_rng([seed, epoch]).permutation(count).astype("int32")


def _dataset(pixels, batch_size, seed, levels, first_epoch):
    import tensorflow as tf

    count, dim = pixels.shape

    def epoch(number):
        indices = tf.numpy_function(lambda n: order(count, seed, n), [number], tf.int32)
        return tf.data.Dataset.from_tensor_slices(indices).batch(batch_size)

    def batch(indices):  # from where the pixels lie, a mapped file maybe, without a copy of all
        x = tf.numpy_function(lambda i: pixels[i], [indices], pixels.dtype)
        x = scale(tf.ensure_shape(x, (None, dim)), levels)
        return x, x

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo("int64").max)
    return epochs.flat_map(epoch).map(batch).prefetch(4)


class _Batches(keras.utils.PyDataset):
    """`batches` for JAX and PyTorch: the pixels lie on the device, and so do the batches."""

    def __init__(self, pixels, batch_size, seed, levels, first_epoch, devices):
        super().__init__()
        self.pixels = ops.convert_to_tensor(pixels)
        self.batch_size = batch_size
        self.seed = seed
        self.levels = levels
        self.first_epoch = first_epoch
        self.devices = devices
        self.epoch = None

    @property
    def num_batches(self):
        return None  # endless

    def __getitem__(self, index):
        count = len(self.pixels)
        epoch, step = divmod(index, steps(count, self.batch_size, self.devices))
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = order(count, self.seed, self.first_epoch + epoch)
        indices = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        x = scale(ops.take(self.pixels, self.devices.share(indices), axis=0), self.levels)
        return x, x
