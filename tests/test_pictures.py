"""Anybody's pictures: the files, numbers and colours that people have."""

import gzip
import os

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import TINY, in_process, numpy, run

import explore
import nice
import training
from support import data, options, pictures, readers
from support.errors import UserError


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture
def bytes_(rng):
    return rng.integers(0, 256, (12, 4, 6)).astype("uint8")


# -------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", ["int64", "uint16", "int16", "float32", "float64"])
def test_whole_numbers_of_any_type_are_bytes(tmp_path, bytes_, dtype):
    found = data.load(save(tmp_path / "own.npz", x_train=bytes_.astype(dtype)))
    assert found.x_train.dtype == np.uint8
    assert np.array_equal(found.x_train, bytes_.reshape(12, 24))


def test_bool_is_black_and_white(tmp_path, bytes_):
    found = data.load(save(tmp_path / "own.npz", x_train=bytes_ > 127))
    assert found.x_train.dtype == np.uint8 and set(np.unique(found.x_train)) == {0, 255}


@pytest.mark.parametrize("most, said", [(1, "x / 1 "), (16, "x / 16 "), (90, "x / 90 ")])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_numbers_too_dark_for_bytes_are_named(tmp_path, bytes_, most, said, dtype):
    x = (bytes_ % (most + 1)).astype(dtype)
    if most == 1 and dtype == "float64":
        return  # 0.0 and 1.0 are floats in [0, 1]
    with pytest.raises(UserError, match=f"from 0 to {most}.*{said}"):
        data.load(save(tmp_path / "dark.npz", x_train=x))
    data.load(save(tmp_path / "dark.npz", x_train=x / most))
    data.load(save(tmp_path / "dark.npz", x_train=x / 255))  # dark, and meant so


def test_a_rounding_error_beyond_0_and_1_is_clipped(tmp_path, rng):
    x = rng.random((6, 4, 4))
    x[0, 0, :2] = -1e-17, 1.00000024
    found = data.load(save(tmp_path / "own.npz", x_train=x))
    assert found.x_train.min() == 0 and found.x_train.max() == 1
    assert np.array_equal(found.x_train, np.clip(x, 0, 1).reshape(6, 16).astype("float32"))


@pytest.mark.parametrize("x, said", [
    (np.linspace(-1, 1, 48), r"from -1 to 1.*\(x - -1\) / 2"),
    (np.arange(48) * 1000, "from 0 to 47000.*x / 47000"),
    (np.linspace(0, 255.5, 48), "floats from 0 to 255.5"),
])  # fmt: skip
def test_other_ranges_are_told_what_to_do(tmp_path, x, said):
    with pytest.raises(UserError, match=said):
        data.load(save(tmp_path / "own.npz", x_train=x.reshape(3, 4, 4)))


def test_785_columns_are_a_label_and_a_picture(tmp_path, rng):
    x = rng.integers(0, 256, (5, 785)).astype("uint8")
    with pytest.raises(UserError, match=r"label.*x\[:, 1:\]"):
        data.load(save(tmp_path / "own.npz", x_train=x))


# --------------------------------------------------------------------------- labels


def test_labels_in_a_column_one_hot_and_in_words(tmp_path, bytes_, capsys):
    y = np.arange(12) % 3
    for labels in (y[:, None], np.eye(3)[y], np.eye(3, dtype=bool)[y], y.astype("U")):
        found = data.load(save(tmp_path / "own.npz", x_train=bytes_, y_train=labels))
        assert found.y_train.shape == (12,) and np.array_equal(found.y_train, y)
    words = np.array(["cat", "dog", "emu"])[y]
    arrays = {"x_train": bytes_, "y_train": words, "x_test": bytes_[1:3], "y_test": words[1:3]}
    found = data.load(save(tmp_path / "own.npz", **arrays))
    assert np.array_equal(found.y_train, y) and found.y_test.tolist() == [1, 2]
    assert "1 dog" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"one label.*\(12, 2\)"):
        data.load(save(tmp_path / "own.npz", x_train=bytes_, y_train=np.ones((12, 2))))


# ---------------------------------------------------------------------------- files


@pytest.mark.parametrize("names", [
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("X_train", "Y_train", "X_test", "Y_test"),
    ("images", "labels", "val_images", "val_labels"),
    ("imgs", "label", "x_val", "y_val"),
])  # fmt: skip
def test_usual_names(tmp_path, bytes_, names, capsys):
    y = np.arange(12)
    arrays = dict(zip(names, (bytes_, y, bytes_[:3], y[:3])))
    found = data.load(save(tmp_path / "own.npz", **arrays, more=y))
    assert len(found.x_train) == len(found.y_train) == 12
    assert len(found.x_test) == len(found.y_test) == 3
    said = capsys.readouterr().out
    if names[0] != "X_train":
        assert f"{names[0]} as x_train" in said and "left: more" in said


def test_arrays_without_a_usual_name(tmp_path, bytes_):
    np.savez(tmp_path / "own.npz", bytes_)  # arr_0
    assert len(data.load(str(tmp_path / "own.npz")).x_train) == 12
    assert len(data.load(save(tmp_path / "own.npz", faces=bytes_)).x_train) == 12
    path = save(tmp_path / "own.npz", faces=bytes_, hands=bytes_[:5])
    with pytest.raises(UserError, match="faces, hands.*own.npz:NAME"):
        data.load(path)
    assert len(data.load(path + ":hands").x_train) == 5
    for name in ("feet", "Hands", ""):
        with pytest.raises(UserError, match="faces, hands"):
            data.load(f"{path}:{name}") if name else data.load(path)
    path = save(tmp_path / "own.npz", images=bytes_, labels=np.arange(12), x_test=bytes_)
    found = data.load(path + ":images")
    assert found.x_test is None and len(found.y_train) == 12


def test_a_bare_array_is_mapped(tmp_path, bytes_):
    path = tmp_path / "own.npy"
    np.save(path, bytes_)
    found = data.load(str(path))
    assert np.array_equal(found.x_train, bytes_.reshape(12, 24)) and found.shape == (4, 6)
    base = found.x_train
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)  # 2 GB do not lie in the memory twice
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged"):
        data.load(str(path))
    np.save(path, np.array([None, {}]), allow_pickle=True)
    with pytest.raises(UserError):
        data.load(str(path))


def idx(x):
    return bytes([0, 0, 8, x.ndim]) + np.array(x.shape, ">u4").tobytes() + x.tobytes()


@pytest.mark.parametrize("names", [
    ["raw/" + name for name in readers.IDX],
    [name.replace("-idx", ".idx") for name in readers.IDX],
    [f"{name}/{name}" for name in readers.IDX],  # Kaggle's
    [f"emnist-letters-{name}.gz".replace("t10k", "test") for name in readers.IDX],
])  # fmt: skip
def test_idx_under_other_names(tmp_path, bytes_, names):
    y = np.arange(12, dtype="uint8")
    for name, array in zip(names, (bytes_, y, bytes_[:3], y[:3])):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(idx(array)) if name.endswith("gz") else idx(array))
    for source in (tmp_path, tmp_path / names[0]):  # the folder, or the file with its partners
        found = data.load(str(source))
        assert np.array_equal(found.x_train, bytes_.reshape(12, 24))
        assert np.array_equal(found.y_train, y) and found.y_test.tolist() == [0, 1, 2]
    assert data.load(str(tmp_path / names[2])).y_train.tolist() == [0, 1, 2]
    other = tmp_path / "emnist-digits-train-images-idx3-ubyte"
    other.write_bytes(idx(bytes_))
    with pytest.raises(UserError, match="several sets.*emnist-digits"):
        data.load(str(tmp_path))
    anything = tmp_path / "mine.gz"
    anything.write_bytes(gzip.compress(idx(bytes_)))
    assert len(data.load(str(anything)).x_train) == 12


def test_a_folder_of_pictures_with_folders_as_labels(tmp_path, bytes_):
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for i in range(3):
            picture = bytes_[i + 3 * (kind == "dog")]
            imageio.imwrite(tmp_path / kind / f"{i}.png", picture)
    (tmp_path / "cat" / "._0.png").write_bytes(b"of a Macintosh")
    found = data.load(str(tmp_path))
    assert np.array_equal(found.x_train, bytes_[:6].reshape(6, 24))
    assert found.y_train.tolist() == [0, 0, 0, 1, 1, 1] and found.shape == (4, 6)
    colour = np.stack([bytes_[0]] * 3, axis=-1)
    colour[0, 0] = 10, 20, 30
    imageio.imwrite(tmp_path / "dog" / "0.png", colour)  # one of them has colours: all have
    found = data.load(str(tmp_path))
    assert found.shape == (4, 6, 3)
    assert np.array_equal(found.x_train[3], colour.ravel())
    imageio.imwrite(tmp_path / "dog" / "1.jpg", np.zeros((8, 8), "uint8"))
    with pytest.raises(UserError, match="6 x 4 pixels, .*8 x 8.*mogrify"):
        data.load(str(tmp_path))
    (tmp_path / "dog" / "1.jpg").write_bytes(b"\xff\xd8 and no more")
    with pytest.raises(UserError, match="1.jpg is damaged"):
        data.load(str(tmp_path))


def test_what_cannot_be_read_is_named_with_a_way(tmp_path, bytes_):
    cases = {
        "a.pkl": (b"\x80\x04K\x01.", "pickle, which could run code"),
        "a.mat": (b"MATLAB 5.0 MAT-file", "scipy.io.loadmat"),
        "a.h5": (b"\x89HDF\r\n\x1a\n", "h5py"),
        "a.csv": (b"label,p1,p2\n7,0,255\n", "np.loadtxt"),
        "a.png": (imageio.imwrite("<bytes>", bytes_[0], extension=".png"), "name the folder"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=said):
            data.load(str(tmp_path / name))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no"):
        data.load(str(tmp_path / "empty"))


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match="pipe or a device"):
            data.load(str(source))


def test_white_shapes_shrink_by_230_and_are_sound(tmp_path):
    rng, x = np.random.default_rng(0), np.zeros((40_000, 64, 64), "uint8")
    for picture in x[::2]:
        top, left = rng.integers(0, 40, 2)
        picture[top : top + 20, left : left + 20] = 255
    np.savez_compressed(tmp_path / "white.npz", imgs=x)
    assert x.nbytes > 150 * os.path.getsize(tmp_path / "white.npz")
    assert len(data.load(str(tmp_path / "white.npz")).x_train) == len(x)


def test_sets_of_keras_by_name(monkeypatch, rng):
    x, y = rng.integers(0, 256, (6, 8, 8, 3)).astype("uint8"), np.arange(6)[:, None]
    monkeypatch.setattr("keras.datasets.cifar10.load_data", lambda: ((x, y), (x, y)))
    found = data.load("cifar10")
    assert found.shape == (8, 8, 3) and found.y_train.tolist() == list(range(6))

    def offline():
        raise Exception("URL fetch failure")

    monkeypatch.setattr("keras.datasets.cifar10.load_data", offline)
    with pytest.raises(UserError, match="could not be downloaded"):
        data.load("cifar10")


# --------------------------------------------------------------------------- colour


def test_pictures_keep_their_shape(tmp_path, bytes_, rng):
    found = data.load(save(tmp_path / "own.npz", x_train=bytes_[..., None]))
    assert found.shape == (4, 6) and np.array_equal(found.x_train, bytes_.reshape(12, 24))
    x = rng.integers(0, 256, (7, 4, 6, 3)).astype("uint8")
    found = data.load(save(tmp_path / "own.npz", x_train=x))
    assert found.shape == (4, 6, 3) and np.array_equal(found.x_train, x.reshape(7, 72))
    for other in (np.moveaxis(x, -1, 1), x.transpose(1, 2, 3, 0)):
        with pytest.raises(UserError, match=r"\(N, H, W, 3\)"):
            data.load(save(tmp_path / "own.npz", x_train=other))


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """A folder with a flow trained on blobs in colour: class 0 red, above; class 1 blue, below."""
    folder, rng = tmp_path_factory.mktemp("blobs"), np.random.default_rng(0)
    y = np.arange(400) % 2
    x = rng.integers(0, 30, (400, 8, 8, 3)).astype("uint8")
    for picture, kind in zip(x, y):
        left = rng.integers(0, 5)
        picture[1 + 4 * kind : 4 + 4 * kind, left : left + 3, 2 * kind] = 250
    path = save(folder / "blobs.npz", x_train=x, y_train=y[:, None])
    flags = "--units 64 --depth 2 --epochs 25 --batch-size 16".split()
    trained = run(path, folder / "out", *flags)
    return folder, trained, x, y


def test_colours_are_learned_drawn_and_kept_right(blobs, monkeypatch):
    folder, trained, x, _ = blobs
    assert trained.shape == (8, 8, 3) and trained.configuration["picture"] == [8, 8, 3]
    assert imageio.imread(folder / "out" / "samples.png").shape == (15 * 8, 15 * 8, 3)
    assert imageio.imread(folder / "out" / "training.gif").shape[1:] == (128, 128, 3)
    weights = ["--weights", folder / "out" / options.TRAINED]
    for kind in (0, 1):
        flags = ["--digit", kind, "--count", 200, "--output", folder / f"{kind}.npz"]
        assert in_process("sample.py", *weights, *flags) == (0, "")
        with np.load(folder / f"{kind}.npz") as file:
            drawn = file["samples"]
        assert drawn.shape == (200, 8, 8, 3)
        mean = drawn.mean(axis=0)
        here, there = mean[1 + 4 * kind : 4 + 4 * kind, :, 2 * kind], mean[..., 2 - 2 * kind]
        assert here.mean() > 60 > 40 > there.mean()  # its colour, in its place, and no other
    assert in_process("sample.py", *weights, "--digits", "--output", folder / "g.png")[0] == 0
    grid = imageio.imread(folder / "g.png")
    assert grid.shape == (2 * 8, 15 * 8, 3)
    assert grid[:8, ..., 0].mean() > 2 * grid[:8, ..., 2].mean()


def test_every_picture_of_a_flow_in_colour(blobs, monkeypatch, capsys):
    folder, trained, *_ = blobs
    source = str(folder / "blobs.npz")
    weights = ["--weights", folder / "out" / options.TRAINED, "--data", source]
    monkeypatch.setattr(explore, "convention", lambda *_: np.zeros((2, 2), "uint8"))
    code, stderr = in_process("explore.py", "all", *weights, "--output", folder / "pictures")
    assert (code, stderr) == (0, "")
    made = {name.removesuffix(".png") for name in os.listdir(folder / "pictures")}
    assert set(explore.NAMES) - made == {"noise"}  # which needs weights of digits
    assert "noise left out" in capsys.readouterr().out
    image = imageio.imread(folder / "pictures" / "neighbours.png")
    reds, blues = ((image[..., a] > 200) & (image[..., 2 - a] < 60) for a in (0, 2))
    assert reds.any() and blues.any()
    code, stderr = in_process("evaluate.py", *weights, "--json", folder / "result.json")
    assert (code, stderr) == (0, "")


def test_a_convolution_knows_the_width_of_a_picture_in_colour():
    encoder, decoder = nice.build(96, couplings=2, network="conv", shape=(4, 8, 3), seed=0)
    assert encoder.maps[2].make_m.width == 8
    x = np.random.default_rng(0).random((5, 96)).astype("float32")
    z = encoder(x)
    assert np.abs(numpy(z) - x[:, ::-1]).max() > 0.01 and np.abs(decoder(z) - x).max() < 1e-5


# ------------------------------------------------- nothing fails after the training


def test_rows_too_wide_for_a_film(tmp_path, rng, capsys):
    x = rng.integers(0, 256, (64, 40_002)).astype("uint8")
    found = data.load(save(tmp_path / "wide.npz", x_train=x))
    assert found.shape == (1, 40_002) and "shown as lines" in capsys.readouterr().out
    frame = pictures.tile(found.x_train, found.shape)
    assert frame.shape == (64, 40_002)  # one below the other: no strip of 320,000 pixels
    pictures.save_film(str(tmp_path / "film.gif"), [frame[:2], frame[:2]])
    assert imageio.imread(tmp_path / "film.gif", index=0).shape[1] <= pictures.SIDE


def test_a_picture_that_fails_costs_no_weights(npz, tmp_path, monkeypatch):
    def fails(*_):
        raise OverflowError("int too big to convert")

    flags = ["--data", npz, "--output", tmp_path, *TINY]
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "save_film", fails)
        code, stderr = in_process("nice.py", *flags)
    assert code == 1 and stderr.count("\n") == 1
    assert "holds the trained weights" in stderr and "int too big" in stderr
    assert nice.load(str(tmp_path / options.TRAINED)).codes is not None
    assert in_process("nice.py", *flags, "--resume") == (0, "")
    assert (tmp_path / "training.gif").exists()
    weights = ["--weights", tmp_path / options.TRAINED, "--output", tmp_path / "x.png"]
    code, stderr = in_process("sample.py", *weights, "--digit", "7")  # there were no labels
    assert code == 2 and "--weights weights/pretrained.safetensors" in stderr


def test_too_many_labels_are_said_before_the_first_step(tmp_path, rng, monkeypatch, capsys):
    def fit(*_, **__):
        raise UserError("the first step")

    x = rng.integers(0, 256, (102, 4, 4)).astype("uint8")
    path = save(tmp_path / "own.npz", x_train=x, y_train=np.arange(102))
    monkeypatch.setattr(training, "fit", fit)
    code, stderr = in_process("nice.py", "--data", path, "--output", tmp_path / "out", *TINY)
    assert code == 2 and "the first step" in stderr
    assert "more than 100 labels" in capsys.readouterr().out


def test_wrong_inputs_are_named_by_the_flow(small, x):
    encoder, decoder = small()
    for wrong in (x.reshape(-1, 3, 4), (255 * x).astype("uint8")):
        with pytest.raises(ValueError, match="rows of floats"):
            encoder(wrong)
    encoder.compile("adam", loss=nice.gaussian)
    with pytest.raises(ValueError, match="rows of floats"):
        encoder.fit((255 * x).astype("uint8"), x, verbose=0)
    assert numpy(encoder(x.astype("float64"))).shape == x.shape
    with pytest.raises(ValueError, match="even number"):
        nice.build(15)
