"""Small flows, small data and ways to run the scripts, for all tests; KERAS_BACKEND's backend."""

import contextlib
import csv
import importlib
import io
import json
import os
import subprocess
import sys

from support import cli, options

cli.load_keras()  # before NumPy, whose threads it sets

import keras
import numpy as np
import pytest
from keras import ops

import nice
import training
from support import checkpoint, pictures, resuming

ROOT = options.HERE
SHAPE = (3, 4)  # of a picture
DIM = 12
SMALL = {"dim": DIM, "couplings": 4, "units": 16, "depth": 2, "seed": 1}
TINY = "--units 8 --depth 1 --couplings 2 --batch-size 16 --epochs 2".split()  # flags of nice.py
RESULT = (options.TRAINED, resuming.HISTORY, *resuming.PICTURES)  # what a finished training leaves


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def x(rng):
    return rng.random((32, DIM), dtype="float32")


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (80, DIM)).astype("uint8")


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


# --------------------------------------------------------------------------- flows


def randomize(encoder, seed=0):
    """Give every weight, biases and log_scale included, a value that matters."""
    rng = np.random.default_rng(seed)
    for v in encoder.weights:
        inputs = np.prod(v.shape[:-1]) if len(v.shape) > 1 else v.shape[0]
        width = 0.5 if v.name == "log_scale" else inputs**-0.5
        v.assign(width * rng.standard_normal(v.shape))


@pytest.fixture
def small():
    """`small(**choices)`: a pair over a small flow with random weights."""

    def build(**choices):
        encoder, decoder = nice.build(**{**SMALL, **choices})
        randomize(encoder)
        return encoder, decoder

    return build


def configuration(shape=SHAPE, **choices):
    """What the weights file of a small flow carries."""
    choices = options.recipe(**{**SMALL, **choices})
    return options.configuration(choices, choices["dim"], shape)


@pytest.fixture
def flow(small):
    return nice.Trained(*small(), configuration())


def identity(log_scale, shape=SHAPE, **choices):
    """A flow whose couplings add nothing: a dimension of the code is a pixel over its σ."""
    model = {**SMALL, "dim": shape[0] * shape[1], **choices}
    held = configuration(shape, **model)
    encoder, decoder = nice.build(**held["model"])
    for v in encoder.weights[:-1]:
        v.assign(np.zeros(v.shape))
    encoder.weights[-1].assign(np.broadcast_to(log_scale, encoder.weights[-1].shape))
    return nice.Trained(encoder, decoder, held)


def save(path, encoder, held=None, codes=None):
    """Write a weights file: its path."""
    arrays = {**checkpoint.named(encoder), **(codes.arrays() if codes else {})}
    checkpoint.save(str(path), arrays, held or configuration())
    return str(path)


def header(content):
    """A safetensors file's bytes: `(header, data)`."""
    size = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:size]), content[size:]


def joined(text, data):
    """The file's bytes again, of a header as text."""
    return len(text.encode()).to_bytes(8, "little") + text.encode() + data


def jacobian(function, x):
    """Autodiff Jacobian of function at the single row x (D,): float64 (D, D)."""
    backend = keras.backend.backend()
    row = ops.convert_to_tensor(x[None])
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


def log_det(function, x):
    """log|det| of that Jacobian."""
    return np.linalg.slogdet(jacobian(function, x))[1]


# ----------------------------------------------------------------------- trainings


@pytest.fixture
def npz(tmp_path, rng):
    """A data file of 90 pictures of 4 x 4 whose rows are all alike: something to learn."""
    rows = rng.integers(0, 256, (90, 1, 4)).repeat(4, axis=1).astype("uint8")
    path = str(tmp_path / "data.npz")
    np.savez(path, x_train=rows[:70], x_test=rows[70:])
    return path


def run(npz, output, *flags):
    """Train as nice.py does, in this process: what `nice.load` reads back."""
    training.main(options.training(["--data", npz, "--output", str(output), *TINY, *flags]))
    return nice.load(str(output / options.TRAINED))


def history(folder):
    with open(folder / resuming.HISTORY) as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def result(folder):
    """The files that a finished training leaves, byte by byte."""
    return {name: open(os.path.join(folder, name), "rb").read() for name in RESULT}


class Killed(BaseException):
    pass


@pytest.fixture
def killed(monkeypatch):
    """`killed(npz, output, *flags, epochs=1)`: a run that dies once their state is on the disk."""
    write = resuming.write_state

    def run_and_die(npz, output, *flags, epochs=1):
        def dying(path, arrays, settings, history, **options):
            if epochs:
                write(path, arrays, settings, history, **options)
            if len(history) >= epochs:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(resuming, "write_state", dying)
            run(npz, output, *flags)

    return run_and_die


# ------------------------------------------------------------------------- scripts


def script(name, *arguments, cwd=None, **environment):
    """Run a script as users do."""
    return subprocess.run(
        [sys.executable, os.path.join(ROOT, name), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def in_process(name, *arguments):
    """The same without loading Keras again: `(exit code, stderr)`."""
    module = importlib.import_module(name.removesuffix(".py"))
    main, parse = training.main, options.training
    if name != "nice.py":
        main, parse = module.main, module.parse
    stderr, code = io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(stderr):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            cli.run(lambda: main(parse()))
        except SystemExit as end:
            code = end.code
    return code, stderr.getvalue()


@pytest.fixture
def figures(monkeypatch):
    """What `pictures.captioned` is given, as it comes: dictionaries of its arguments."""
    found, captioned = [], pictures.captioned

    def note(image, title, caption, left=(), top=(), right=()):
        words = {"left": list(left), "top": list(top), "right": list(right)}
        found.append({"image": image, "title": title, "caption": caption, **words})
        return captioned(image, title, caption, left=left, top=top, right=right)

    monkeypatch.setattr(pictures, "captioned", note)
    return found
