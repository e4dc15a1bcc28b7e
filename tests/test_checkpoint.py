"""Weights files: the round trip, and everything that must not load."""

import json
import os
import pickle
import re
import time

import keras
import numpy as np
import pytest
import safetensors.numpy
from conftest import SMALL, configuration, header, joined, numpy, save
from keras import ops

import nice
from support import checkpoint, files
from support.errors import UserError
from support.optimizer import Adam

CONFIGURATION = configuration()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "flow.safetensors")


@pytest.mark.parametrize(
    "choices",
    [{}, {"shuffle": "random"}, {"noise": 0.0}, {"convention": "paper", "dropout": 0.5}],
)
def test_weights_and_configuration_round_trip(small, x, path, choices):
    encoder, decoder = small(**choices)
    held = configuration(**choices)
    trained = nice.load(save(path, encoder, held))
    again, back = trained
    assert trained.configuration == held
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
    for old, new in zip(encoder.get_weights(), nice.load(path).encoder.get_weights()):
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
    save(path, encoder)
    old = open(path, "rb").read()
    with pytest.raises(RuntimeError):
        with files.atomic(path) as temporary:
            open(temporary, "w").write("half")
            raise RuntimeError("killed")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        save(path, encoder)
    assert open(path, "rb").read() == old
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_missing_files_folders_and_foreign_files_are_refused(small, path, tmp_path):
    save(path, small()[0])
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
    save(path, small()[0])
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
    save(path, small()[0])
    found, data = header(open(path, "rb").read())
    change(found, len(data))
    open(path, "wb").write(joined(json.dumps(found), data))
    with pytest.raises(UserError) as refused:
        nice.load(path)
    assert len(str(refused.value)) < 500


def test_a_tensor_named_twice_is_refused(small, path):
    save(path, small()[0])
    found, data = header(open(path, "rb").read())
    twice = f'{{"{KERNEL}": {json.dumps(found[KERNEL])}, {json.dumps(found)[1:]}'
    open(path, "wb").write(joined(twice, data))  # both name the same bytes: nothing is ambiguous
    assert nice.load(path)
    other = json.dumps(tensor(len(data), found[KERNEL]["shape"]))
    twice = f'{{"{KERNEL}": {other}, {json.dumps(found)[1:]}'
    open(path, "wb").write(joined(twice, 2 * data))
    with pytest.raises(UserError):
        nice.load(path)


def with_model(**changes):
    return {**CONFIGURATION, "model": {**CONFIGURATION["model"], **changes}}


def lacking(held, name):
    return {n: value for n, value in held.items() if n != name}


# What does not fit, and what the line must say of it.
BAD_CONFIGURATION = {
    "another width": (with_model(units=8), "other names or shapes"),
    "a width of 400 digits": (with_model(units=10**400), "units"),
    "a negative width": (with_model(units=-1), "units"),
    "text without end": (with_model(output_activation="x" * 10**5), "cannot use"),
    "a width that is no number": (with_model(units="16"), "'16'"),
    "true for a number": (with_model(couplings=True), "True"),
    "an odd dimension": (with_model(dim=13), "13"),
    "no dimension": ({**CONFIGURATION, "model": lacking(CONFIGURATION["model"], "dim")}, "use"),
    "an unknown activation": (with_model(output_activation="exec"), "exec"),
    "NaN noise": (with_model(noise=float("nan")), "nan"),
    "an unknown key": (with_model(hermetic=1), "hermetic"),
    "no prior": (lacking(CONFIGURATION, "prior"), "cannot use"),
    "another picture shape": ({**CONFIGURATION, "picture": [5, 5]}, "5, 5"),
    "a picture shape of text": ({**CONFIGURATION, "picture": ["3", "4"]}, "'3', '4'"),
    "an unhashable prior": ({**CONFIGURATION, "prior": []}, "cannot use"),
    "no model": ({**CONFIGURATION, "model": None}, "None"),
}


@pytest.mark.parametrize("held, said", BAD_CONFIGURATION.values(), ids=BAD_CONFIGURATION)
def test_unusable_configurations_are_refused(small, path, held, said):
    save(path, small()[0], held)
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        nice.load(path)
    assert len(str(refused.value)) < 1000


HUGE = {
    "wide": {"units": 10**6, "depth": 100},
    "long": {"couplings": 1000, "units": 10**6, "depth": 100},
    "of many pixels": {"dim": 10**7, "units": 10**6},
    "of many layers": {"couplings": 1000},
}


@pytest.mark.parametrize("choices", HUGE.values(), ids=HUGE)
def test_a_huge_model_in_a_small_file_is_refused_at_once(small, path, choices):
    held = with_model(**choices)
    held["picture"] = [1, held["model"]["dim"]]
    save(path, small()[0], held)
    start = time.process_time()
    with pytest.raises(UserError, match="arrays|configuration"):
        nice.load(path)
    assert time.process_time() - start < 2


def test_what_is_refused_is_never_allocated(small, path):
    """Not then, and not with the next model, whose end has Keras allocate whatever waits."""
    allocated = []

    def noting(shape, dtype=None):
        allocated.append(shape)
        return keras.ops.zeros(shape, dtype)

    def m(half):
        return keras.layers.Dense(half, kernel_initializer=noting)

    save(path, small()[0])
    with pytest.raises(UserError, match="arrays|configuration"):
        nice.load(path, m=m)
    nice.build(**SMALL)
    with keras.StatelessScope():
        pass
    assert not allocated
    nice.build(**SMALL, m=m)
    assert len(allocated) == SMALL["couplings"]


def test_what_an_older_file_lacks_takes_its_default(small, x, path):
    encoder, _ = small()
    model = {n: v for n, v in CONFIGURATION["model"].items() if n not in ("dropout", "shuffle")}
    held = {**lacking(CONFIGURATION, "schedule"), "model": model}
    again = nice.load(save(path, encoder, held)).encoder
    assert np.array_equal(numpy(again(x)), numpy(encoder(x)))


def convolution(half):
    """m as in the article's last section: half the pixels as a line, convolved."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Reshape((half, 1)),
            layers.Conv1D(4, 3, padding="same", activation="relu"),
            layers.Conv1D(1, 3, padding="same"),
            layers.Flatten(),
        ]
    )


LISTS = {"one m": convolution, "a list": [convolution, lambda half: keras.layers.Dense(half)]}


@pytest.mark.parametrize("m", LISTS.values(), ids=LISTS)
def test_a_file_of_an_own_m_loads_where_keras_counts_its_layers_otherwise(path, rng, m):
    """As in another process, which has built other layers before."""
    choices = {"dim": 64, "couplings": 2}
    encoder, decoder = nice.build(**choices, m=m)
    x = rng.random((64, 64), dtype="float32")
    encoder.compile(loss=nice.gaussian, optimizer=Adam(1e-2))
    history = encoder.fit(x, x, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert np.abs(numpy(decoder(encoder(x))) - x).max() < 1e-4
    save(path, encoder, configuration((8, 8), **choices))
    for _ in range(9):
        keras.layers.Conv1D(1, 1), keras.layers.Dense(1), keras.Sequential()
    again = nice.load(path, m=m)
    assert set(checkpoint.named(again.encoder)) != set(checkpoint.named(encoder))
    assert np.array_equal(numpy(again.encoder(x)), numpy(encoder(x)))
    expected = -encoder.evaluate(x, x, verbose=0) - 64 * nice.gaussian.constant
    assert again.log_likelihood(x).mean() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match="arrays"):  # with the article's m
        nice.load(path)


def test_arrays_are_told_apart_by_their_numbers(path):
    """Ten layers and more: 10 comes after 9, whatever the first one's number is."""
    names = [f"a/dense_{i}/kernel" for i in range(12)]
    arrays = {name: np.full(2, i, "float32") for i, name in enumerate(names)}
    variables = {
        f"a/dense_{i + 95}/kernel": keras.Variable(np.zeros(2, "float32")) for i in range(12)
    }
    checkpoint.assign(variables, arrays, path)
    assert [numpy(v)[0] for v in variables.values()] == list(range(12))
    with pytest.raises(UserError):
        checkpoint.assign(variables, {n.replace("dense", "conv"): a for n, a in arrays.items()}, "")
