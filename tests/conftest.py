"""Small flows and small data for all tests; the backend is KERAS_BACKEND's."""

import os
import sys

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import cli  # noqa: E402, F401  (quietly loads Keras)
import keras  # noqa: E402

import nice  # noqa: E402

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
