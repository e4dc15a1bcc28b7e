"""Training on batches whose order is a function of (seed, epoch) alone."""

import keras
import numpy as np
from keras import ops

from support.data import scale
from support.devices import ONE


def fit(encoder, pixels, *, epochs=20, batch_size=128, seed=0, levels=255, first_epoch=0,
        on=ONE, validation=None, **options):  # fmt: skip
    """Train a compiled encoder on uint8 (N, D), an order of its own in every epoch.

    Args:
        levels: what pixels are divided by, see `data.scale`.
        first_epoch: the epoch to begin with, counted from 0.
        on: see `devices`.
        validation: (M, D) float32, as the encoder takes them.
        options: further arguments of Keras's `fit`.
    """
    if validation is not None:
        options["validation_data"] = 2 * (on.share(validation),)
        options["validation_batch_size"] = -(-1000 // on.count) * on.count // on.processes
    chosen = {"steps_per_epoch": steps(len(pixels), batch_size, on), **options}
    encoder.fit(
        batches(pixels, batch_size, seed, levels, first_epoch, on),
        initial_epoch=first_epoch,
        epochs=epochs,
        shuffle=False,  # `batches` has shuffled
        **chosen,
    )


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

    count = len(pixels)
    pixels = tf.constant(pixels)

    def epoch(number):
        indices = tf.numpy_function(lambda n: order(count, seed, n), [number], tf.int32)
        return tf.data.Dataset.from_tensor_slices(indices).batch(batch_size)

    def batch(indices):
        x = scale(tf.gather(pixels, tf.ensure_shape(indices, (None,))), levels)
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
