"""Weights files: the round trip, and everything that must not load."""

import json
import os
import pickle

import numpy as np
import pytest
import safetensors.numpy
from conftest import SMALL, numpy
from keras import ops

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
    return str(tmp_path / "flow.safetensors")


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
    arrays = {name: numpy(v) for name, v in checkpoint.named(encoder).items()}
    sizes = []
    for dtype in ("float32", "float16"):
        half = {name: array.astype(dtype) for name, array in arrays.items()}
        checkpoint.save(path, half, CONFIGURATION)
        sizes.append(os.path.getsize(path))
    assert sizes[0] - sizes[1] == pytest.approx(2 * encoder.count_params(), abs=200)
    for old, new in zip(encoder.get_weights(), nice.load(path)[0].get_weights()):
        assert new.dtype == np.float32
        assert np.allclose(old, new, rtol=1e-3, atol=1e-6)


def test_arrays_of_every_form_round_trip(path, rng):
    arrays = {
        "a scalar": np.float32(3),
        "an integer": np.array(7),
        "nothing": np.zeros((0, 3), "uint8"),
        "a transpose": rng.random((3, 4), dtype="float32").T,
        "every other": rng.random(9, dtype="float32")[::2],
        "backwards": rng.random(9, dtype="float32")[::-1],
        "of another byte order": np.arange(3, dtype=">f4"),
        "of a backend": ops.convert_to_tensor(rng.random((2, 3), dtype="float32")),
    }
    checkpoint.save(path, arrays, {})
    _, read = checkpoint.read(path)
    for name, array in arrays.items():
        array = numpy(array)
        assert read[name].shape == array.shape and np.array_equal(read[name], array), name
        assert read[name].flags.writeable and read[name].dtype.name == array.dtype.name


def test_the_same_arrays_give_the_same_bytes(small, path):
    arrays = checkpoint.named(small()[0])
    written = []
    for names in (arrays, reversed(arrays), sorted(arrays)):
        checkpoint.save(path, {name: arrays[name] for name in names}, CONFIGURATION)
        written.append(open(path, "rb").read())
    assert written[0] == written[1] == written[2]


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
    contents = {
        "truncated": whole[: len(whole) // 2],
        "shorter by one byte": whole[:-1],
        "empty": b"",
        "text": b"these are no weights",
        "pickle": pickle.dumps([1, 2, 3]),
        "another program's": safetensors.numpy.save({"data": np.zeros(3, "float32")}),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(1000),
        "a header that is all": (2**40).to_bytes(8, "little") + whole[8:],
    }
    for content in contents.values():
        with open(path, "wb") as file:
            file.write(content)
        with pytest.raises(UserError):
            nice.load(path)
    for missing in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(UserError):
            nice.load(str(missing))


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), os.devnull):
        with pytest.raises(UserError, match="a pipe or a device"):
            nice.load(path)


def test_a_file_that_may_not_be_read_says_so(small, path):
    checkpoint.save(path, checkpoint.named(small()[0]), CONFIGURATION)
    os.chmod(path, 0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(UserError, match="no permission"):
        nice.load(path)


KERNEL = "encoder/coupling_1/m/dense_1/kernel"


def put(arrays, name, value):
    return {**arrays, name: np.asarray(value)}


def without(arrays, name):
    return {n: a for n, a in arrays.items() if n != name}


ARRAYS = {
    "wrong shape": lambda a: put(a, KERNEL, a[KERNEL].T),
    "missing": lambda a: without(a, KERNEL),
    "renamed": lambda a: put(without(a, KERNEL), KERNEL + "s", a[KERNEL]),
    "additional": lambda a: put(a, "more", np.zeros(2, "float32")),
    "additional, without numbers": lambda a: put(a, "more", np.zeros((0, 2), "float32")),
    "NaN": lambda a: put(a, KERNEL, a[KERNEL] * np.nan),
    "infinite": lambda a: put(a, KERNEL, np.where(a[KERNEL] > 0, np.inf, 0).astype("float32")),
    "infinite float16": lambda a: put(a, KERNEL, np.full_like(a[KERNEL], 1e5).astype("float16")),
    "integers": lambda a: put(a, KERNEL, a[KERNEL].astype("int32")),
    "float64": lambda a: put(a, KERNEL, a[KERNEL].astype("float64")),
    "booleans": lambda a: put(a, KERNEL, a[KERNEL] > 0),
}


@pytest.mark.parametrize("change", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.filterwarnings("ignore:overflow")
def test_other_arrays_are_refused(small, path, change):
    encoder, _ = small()
    arrays = {name: numpy(v) for name, v in checkpoint.named(encoder).items()}
    checkpoint.save(path, change(arrays), CONFIGURATION)
    with pytest.raises(UserError):
        nice.load(path)


def header(content):
    """A safetensors file: (header, data)."""
    size = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:size]), content[size:]


def joined(text, data):
    return len(text.encode()).to_bytes(8, "little") + text.encode() + data


def tensor(start, shape, dtype="F32"):
    size = 4 * int(np.prod(shape))
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}


HEADERS = {
    "no metadata": lambda h, n: h.pop("__metadata__"),
    "no configuration": lambda h, n: h.update(__metadata__={"format": "np"}),
    "no JSON": lambda h, n: h.update(__metadata__={"configuration": "{"}),
    "a list": lambda h, n: h.update(__metadata__={"configuration": "[]"}),
    "nested too deep": lambda h, n: h.update(__metadata__={"configuration": "[" * 10**5}),
    "no text": lambda h, n: h.update(__metadata__={"configuration": {}}),
    "more than there is": lambda h, n: h.update(more=tensor(n, [2])),
    "4 TB": lambda h, n: h.update(more=tensor(n, [10**6, 10**6])),
    "more than 64 bits can count": lambda h, n: h[KERNEL].update(shape=[2**40, 2**40]),
    "an empty array of endless width": lambda h, n: h.update(more=tensor(n, [2**62, 0])),
    "shared bytes": lambda h, n: h.update(more=tensor(0, [2])),
    "bytes of nobody": lambda h, n: h.pop(KERNEL),
    "a negative size": lambda h, n: h[KERNEL].update(shape=[-12, -8]),
    "numbers NumPy has not": lambda h, n: h[KERNEL].update(dtype="I32X"),
    "quarters of a byte": lambda h, n: h.update(more=tensor(n, [0], "F4")),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_damaged_headers_are_refused(small, path, change):
    checkpoint.save(path, checkpoint.named(small()[0]), CONFIGURATION)
    found, data = header(open(path, "rb").read())
    change(found, len(data))
    open(path, "wb").write(joined(json.dumps(found), data))
    with pytest.raises(UserError) as refused:
        nice.load(path)
    assert len(str(refused.value)) < 500


def test_a_tensor_named_twice_is_refused(small, path):
    checkpoint.save(path, checkpoint.named(small()[0]), CONFIGURATION)
    found, data = header(open(path, "rb").read())
    twice = f'{{"{KERNEL}": {json.dumps(found[KERNEL])}, {json.dumps(found)[1:]}'
    open(path, "wb").write(joined(twice, data))  # both name the same bytes: nothing is ambiguous
    assert nice.load(path)
    other = json.dumps(tensor(len(data), found[KERNEL]["shape"]))
    twice = f'{{"{KERNEL}": {other}, {json.dumps(found)[1:]}'
    open(path, "wb").write(joined(twice, 2 * data))
    with pytest.raises(UserError):
        nice.load(path)


BAD_CONFIGURATION = {
    "another width": with_model(units=8),
    "a huge model": with_model(units=10**6, depth=100),
    "a negative width": with_model(units=-1),
    "a width of 400 digits": with_model(units=10**400),
    "text without end": with_model(output_activation="x" * 10**5),
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
    with pytest.raises(UserError) as refused:
        nice.load(path)
    assert len(str(refused.value)) < 1000
