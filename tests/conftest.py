"""Small flows and small data for all tests; the backend is KERAS_BACKEND's."""

import csv

import numpy as np
import pytest

from support import cli, options

cli.load_keras()

import keras

import nice

ROOT = options.HERE

DIM = 12
SMALL = {"dim": DIM, "couplings": 4, "units": 16, "depth": 2, "seed": 1}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def x(rng):
    return rng.random((32, DIM), dtype="float32")


def randomize(encoder, seed=0):
    """Give every weight, biases and log_scale included, a value that matters."""
    rng = np.random.default_rng(seed)
    for v in encoder.weights:
        width = 0.5 if v.name == "log_scale" else v.shape[0] ** -0.5
        v.assign(width * rng.standard_normal(v.shape))


@pytest.fixture
def small():
    """`small(**choices)`: a pair over a small flow with random weights."""

    def build(**choices):
        encoder, decoder = nice.build(**{**SMALL, **choices})
        randomize(encoder)
        return encoder, decoder

    return build


TINY = "--units 8 --depth 1 --couplings 2 --batch-size 16 --epochs 2".split()


@pytest.fixture
def npz(tmp_path, rng):
    """A data file of 90 pictures of 4 x 4 whose rows are all alike: something to learn."""
    rows = rng.integers(0, 256, (90, 1, 4)).repeat(4, axis=1).astype("uint8")
    path = str(tmp_path / "data.npz")
    np.savez(path, x_train=rows[:70], x_test=rows[70:])
    return path


def run(npz, output, *flags):
    """Train as nice.py does, in this process: what `nice.load_with_configuration` reads back."""
    nice.train(options.training(["--data", npz, "--output", str(output), *TINY, *flags]))
    return nice.load_with_configuration(str(output / options.TRAINED))


def history(output):
    with open(output / "history.csv") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def jacobian(function, x):
    """Autodiff Jacobian of function at the single row x (D,): float64 (D, D)."""
    backend = keras.backend.backend()
    row = keras.ops.convert_to_tensor(x[None])
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(row)
            y = function(row)
        matrix = tape.jacobian(y, row)
    elif backend == "jax":
        import jax

        matrix = jax.jacobian(function)(row)
    else:
        import torch

        matrix = torch.autograd.functional.jacobian(function, row)
    return numpy(matrix).reshape(len(x), len(x)).astype("float64")
