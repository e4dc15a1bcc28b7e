"""Weights files: the round trip, and everything that must not load."""

import json
import os
import pickle

import h5py
import numpy as np
import pytest
from conftest import DIM, SMALL, numpy

import nice
from support import checkpoint, files, options
from support.cli import UserError

CONFIGURATION = {
    "model": {**dict(zip(options.MODEL, [4, 16, 2, "relu", "article", "reverse", 0.01,
                                              "negative", 0.0, 1])), **SMALL},
    "prior": "gaussian",
    "levels": 255,
    "picture": [3, 4],
}  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "flow.weights.h5")


def with_model(**choices):
    return {**CONFIGURATION, "model": {**CONFIGURATION["model"], **choices}}


@pytest.mark.parametrize(
    "choices",
    [{}, {"shuffle": "random"}, {"noise": 0.0}, {"convention": "paper", "dropout": 0.5}],
)
def test_weights_and_configuration_round_trip(small, x, path, choices):
    encoder, decoder = small(**choices)
    configuration = with_model(**choices)
    checkpoint.save(path, checkpoint.named(encoder), configuration)
    again, back, read = nice.load_with_configuration(path)
    assert read == configuration
    for old, new in zip(encoder.get_weights(), again.get_weights()):
        assert np.array_equal(old, new)
    assert np.array_equal(numpy(encoder(x)), numpy(again(x)))
    assert np.array_equal(numpy(decoder(x)), numpy(back(x)))
    assert again.noise is None or again.noise.get_config() == encoder.noise.get_config()


def test_float16_halves_the_file_and_keeps_the_weights(small, path):
    encoder, _ = small()
    checkpoint.save(path, checkpoint.named(encoder), CONFIGURATION)
    full = os.path.getsize(path)
    checkpoint.save(path, checkpoint.named(encoder), CONFIGURATION, dtype="float16")
    overhead = 30_000
    assert os.path.getsize(path) < full / 2 + overhead
    for old, new in zip(encoder.get_weights(), nice.load(path)[0].get_weights()):
        assert new.dtype == np.float32
        assert np.allclose(old, new, rtol=1e-3, atol=1e-6)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(small, path, monkeypatch):
    encoder, _ = small()
    checkpoint.save(path, checkpoint.named(encoder), CONFIGURATION)
    old = open(path, "rb").read()
    with pytest.raises(RuntimeError):
        with files.atomic(path) as temporary:
            open(temporary, "w").write("half")
            raise RuntimeError("killed")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.save(path, checkpoint.named(encoder), CONFIGURATION)
    assert open(path, "rb").read() == old
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_missing_files_folders_and_foreign_files_are_refused(small, path, tmp_path):
    checkpoint.save(path, checkpoint.named(small()[0]), CONFIGURATION)
    whole = open(path, "rb").read()
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["data"] = np.zeros(3)
    contents = {
        "truncated": whole[: len(whole) // 2],
        "shorter by one byte": whole[:-1],
        "empty": b"",
        "text": b"these are no weights",
        "pickle": pickle.dumps([1, 2, 3]),
        "foreign": (tmp_path / "foreign.h5").read_bytes(),
    }
    for content in contents.values():
        with open(path, "wb") as file:
            file.write(content)
        with pytest.raises(UserError):
            nice.load(path)
    for missing in (tmp_path / "missing.weights.h5", tmp_path):
        with pytest.raises(UserError):
            nice.load(str(missing))


def text(content):
    return np.frombuffer(content.encode(), "uint8")


def replace(file, name, value):
    del file[name]
    file[name] = value


KERNEL = "encoder/coupling_1/m/dense_1/kernel"
DAMAGE = {
    "wrong shape": lambda f: replace(f, KERNEL, np.zeros((16, DIM // 2), "float32")),
    "missing": lambda f: f.__delitem__(KERNEL),
    "renamed": lambda f: f.move(KERNEL, KERNEL + "s"),
    "additional": lambda f: f.__setitem__("more", np.zeros(2, "float32")),
    "NaN": lambda f: f[KERNEL].__setitem__((0, 0), np.nan),
    "infinite": lambda f: f[KERNEL].__setitem__((0, 0), np.inf),
    "integers": lambda f: replace(f, KERNEL, np.zeros((DIM // 2, 16), "int32")),
    "strings": lambda f: replace(f, KERNEL, "weights"),
    "soft link": lambda f: replace(f, KERNEL, h5py.SoftLink("/encoder/scale/log_scale")),
    "external link": lambda f: replace(f, KERNEL, h5py.ExternalLink("/etc/passwd", "/")),
    "no configuration": lambda f: f.__delitem__(checkpoint.CONFIGURATION),
    "no JSON": lambda f: replace(f, checkpoint.CONFIGURATION, text("{")),
    "a list": lambda f: replace(f, checkpoint.CONFIGURATION, text("[]")),
    "nested too deep": lambda f: replace(f, checkpoint.CONFIGURATION, text("[" * 10**5)),
    "no text": lambda f: replace(f, checkpoint.CONFIGURATION, np.full(4, 255, "uint8")),
    "an attribute": lambda f: (
        f.__delitem__(checkpoint.CONFIGURATION),
        f.attrs.__setitem__(checkpoint.CONFIGURATION, "{}"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_refused(small, path, damage):
    checkpoint.save(path, checkpoint.named(small()[0]), CONFIGURATION)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(UserError):
        nice.load(path)


def test_an_array_larger_than_its_file_is_refused(path):
    """A bomb: 4 TB of zeros in a few kB."""
    with h5py.File(path, "w") as file:
        file[checkpoint.CONFIGURATION] = text(json.dumps(CONFIGURATION))
        file.create_dataset("encoder/bomb", (10**6, 10**6), "float32", chunks=(1000, 1000))
    with pytest.raises(UserError):
        nice.load(path)
    with h5py.File(path, "w") as file:
        file[checkpoint.CONFIGURATION] = text(json.dumps(CONFIGURATION))
        file.create_dataset("encoder/bomb", (10**6, 10**6), "float32")  # never written
    with pytest.raises(UserError):
        nice.load(path)


BAD_CONFIGURATION = {
    "another width": with_model(units=8),
    "a huge model": with_model(units=10**6, depth=100),
    "a negative width": with_model(units=-1),
    "a width that is no number": with_model(units="16"),
    "true for a number": with_model(couplings=True),
    "an odd dimension": with_model(dim=13),
    "an unknown activation": with_model(output_activation="exec"),
    "NaN noise": with_model(noise=float("nan")),
    "an unknown key": with_model(extra=1),
    "a missing key": {k: v for k, v in CONFIGURATION.items() if k != "prior"},
    "another picture shape": {**CONFIGURATION, "picture": [5, 5]},
    "a picture shape of text": {**CONFIGURATION, "picture": ["3", "4"]},
    "an unhashable prior": {**CONFIGURATION, "prior": []},
    "no model": {**CONFIGURATION, "model": None},
}


@pytest.mark.parametrize("configuration", BAD_CONFIGURATION.values(), ids=BAD_CONFIGURATION)
def test_unusable_configurations_are_refused(small, path, configuration):
    checkpoint.save(path, checkpoint.named(small()[0]), configuration)
    with pytest.raises(UserError):
        nice.load(path)
