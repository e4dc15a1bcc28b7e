"""The pictures: what comes in, in which order, and what is refused."""

import gzip
import hashlib
import io
import pickle
import resource
import zipfile

import keras
import numpy as np
import pytest
from conftest import numpy

from support import batches, data, options, readers
from support.errors import UserError


def test_mnist_is_embedded_and_whole():
    with open(options.MNIST, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    assert digest == "06af5dfe73b70e3bc1c36439982b18a8d76803db9b544f6fdf838a37fbb01b64"
    found = data.load()
    assert found.x_train.shape == (60_000, 784) and found.x_test.shape == (10_000, 784)
    assert found.x_train.dtype == np.uint8 and found.shape == (28, 28)
    assert np.bincount(found.y_test).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip


def test_scale():
    pixels = np.array([[0, 51, 255]], "uint8")
    assert np.allclose(numpy(data.scale(pixels)), [[0, 0.2, 1]])
    assert np.allclose(numpy(data.scale(pixels, 256)), [[0, 51 / 256, 255 / 256]])
    floats = (pixels / 255).astype("float32")  # the same pictures, however they are stored
    for levels in (255, 256):
        assert np.allclose(numpy(data.scale(floats, levels)), numpy(data.scale(pixels, levels)))


def take_epochs(count, batch_size, seed, epochs, first_epoch=0):
    pixels = np.arange(count, dtype="uint8")[:, None]
    stream = batches.batches(pixels, batch_size, seed, first_epoch=first_epoch)
    steps = batches.steps(count, batch_size)
    if keras.backend.backend() == "tensorflow":
        drawn = [x for x, _ in stream.take(steps * epochs)]
    else:
        drawn = [stream[i][0] for i in range(steps * epochs)]
    x = [np.rint(numpy(batch)[:, 0] * 255).astype(int).tolist() for batch in drawn]
    return [sum(x[i * steps : (i + 1) * steps], []) for i in range(epochs)], x


def test_each_epoch_shows_every_picture_once_in_its_own_order():
    epochs, batches = take_epochs(50, 16, seed=0, epochs=3)
    assert [len(b) for b in batches[:4]] == [16, 16, 16, 2]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_the_order_is_a_function_of_seed_and_epoch():
    epochs, _ = take_epochs(50, 16, seed=0, epochs=3)
    assert take_epochs(50, 16, seed=0, epochs=3)[0] == epochs
    assert take_epochs(50, 16, seed=1, epochs=1)[0][0] != epochs[0]
    assert take_epochs(50, 16, seed=0, epochs=1, first_epoch=2)[0][0] == epochs[2]
    assert epochs[1] == batches.order(50, 0, 1).tolist()  # the same on every backend


def write(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("shape", [(6, 4, 3), (6, 12)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_own_pictures(tmp_path, rng, shape, dtype):
    x = rng.integers(0, 256, shape) if dtype == "uint8" else rng.random(shape)
    found = data.load(write(tmp_path / "own.npz", x_train=x.astype(dtype), x_test=x.astype(dtype)))
    assert found.x_train.shape == found.x_test.shape == (6, 12)
    assert found.x_train.dtype == ("uint8" if dtype == "uint8" else "float32")
    assert found.shape == ((4, 3) if len(shape) == 3 else (1, 12))
    assert found.y_train is None


GOOD = np.zeros((4, 2, 2), "uint8")
BAD = {
    "no x_train": {"x_test": GOOD},
    "empty": {"x_train": GOOD[:0]},
    "no pixels": {"x_train": GOOD[:, :0]},
    "one dimension": {"x_train": GOOD.reshape(-1)},
    "four dimensions": {"x_train": GOOD[None]},
    "odd": {"x_train": np.zeros((4, 3, 3), "uint8")},
    "NaN": {"x_train": np.full((4, 2, 2), np.nan)},
    "infinite": {"x_train": np.full((4, 2, 2), np.inf)},
    "floats out of range": {"x_train": GOOD + 2.5},
    "negative floats": {"x_train": GOOD - 0.5},
    "negative integers": {"x_train": GOOD.astype("int64") - 1},
    "large integers": {"x_train": GOOD + np.uint16(256)},
    "complex": {"x_train": GOOD.astype("complex64")},
    "strings": {"x_train": GOOD.astype("U2")},
    "another size to test": {"x_train": GOOD, "x_test": np.zeros((4, 4, 4), "uint8")},
    "pickled objects": {"x_train": np.array([None, {}], dtype=object)},
    "labels of another length": {"x_train": GOOD, "y_train": np.zeros(3)},
}


@pytest.mark.parametrize("arrays", BAD.values(), ids=BAD)
def test_unusable_arrays_are_refused(tmp_path, arrays):
    with pytest.raises(UserError):
        data.load(write(tmp_path / "bad.npz", **arrays))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "data.npz"
    whole = open(write(path, x_train=np.ones((50, 4, 4), "uint8")), "rb").read()
    contents = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"these are no pictures",
        "pickle": pickle.dumps({"x_train": GOOD}),
    }
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(UserError):
            data.load(str(path))
    for missing in (tmp_path / "missing.npz", tmp_path):
        with pytest.raises(UserError):
            data.load(str(missing))


def test_a_pickle_is_named_as_such(tmp_path):
    path = write(tmp_path / "bad.npz", x_train=np.array([None, {}], dtype=object))
    with pytest.raises(UserError, match="pickle"):
        data.load(path)


def idx(x):
    head = bytes([0, 0, 8, x.ndim]) + np.array(x.shape, ">u4").tobytes()
    return head + x.tobytes()


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_folders(tmp_path, rng, end):
    x, y = rng.integers(0, 256, (6, 4, 3)).astype("uint8"), np.arange(6, dtype="uint8")
    for name, array in zip(readers.IDX, (x, y, x[:2], y[:2])):
        content = idx(array)
        (tmp_path / (name + end)).write_bytes(gzip.compress(content) if end else content)
    found = data.load(str(tmp_path))
    assert np.array_equal(found.x_train, x.reshape(6, 12)) and np.array_equal(found.y_train, y)
    assert len(found.x_test) == len(found.y_test) == 2 and found.shape == (4, 3)


def test_damaged_idx_files_are_refused(tmp_path, rng):
    path = tmp_path / readers.IDX[0]
    whole = idx(rng.integers(0, 256, (6, 4, 3)).astype("uint8"))
    contents = {
        "truncated": whole[:-1],
        "too long": whole + b"\0",
        "header only": whole[:10],
        "another type": whole[:2] + b"\x0d" + whole[3:],
        "a lying header": whole[:4] + b"\xff\xff\xff\xff" + whole[8:],
    }
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(UserError):
            data.load(str(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match="holds no"):
        data.load(str(tmp_path))


def npz(path, content, name="x_train.npy"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return str(path)


def test_a_header_that_lies_is_refused_before_anything_is_allocated(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for count in (10**6, 10**9):  # 0.8 GB, which a machine has, and 800
        array = io.BytesIO()
        lie = {"descr": "|u1", "fortran_order": False, "shape": (count, 28, 28)}
        np.lib.format.write_array_header_1_0(array, lie)
        with pytest.raises(UserError, match="damaged"):
            data.load(npz(tmp_path / "lie.npz", array.getvalue() + bytes(784)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # kB


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path, rng):
    array = io.BytesIO()
    np.save(array, np.zeros((2**18, 28, 28), "uint8"))  # 205 MB of zeros in 200 kB
    path = npz(tmp_path / "bomb.npz", array.getvalue())
    with pytest.raises(UserError, match="too many"):
        data.load(path)
    (tmp_path / (readers.IDX[0] + ".gz")).write_bytes(
        gzip.compress(idx(np.zeros((2**18, 28, 28), "uint8")))
    )
    with pytest.raises(UserError, match="too many"):
        data.load(str(tmp_path))
    with pytest.raises(UserError, match="too many"):  # the size the directory states
        content = bytearray(open(path, "rb").read())
        at = content.rindex(b"PK\1\2") + 24
        content[at : at + 4] = (2**31).to_bytes(4, "little")
        (tmp_path / "bomb.npz").write_bytes(content)
        data.load(path)


def test_fortran_order(tmp_path, rng):
    x = np.asfortranarray(rng.integers(0, 256, (6, 4, 3)).astype("uint8"))
    found = data.load(write(tmp_path / "own.npz", x_train=x))
    assert np.array_equal(found.x_train, x.reshape(6, 12))
