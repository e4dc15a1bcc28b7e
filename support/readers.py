"""The files in which people have pictures: arrays out, and no code of theirs is run.

mnist.npz                           x_train, …, or other usual names; any other: FILE:NAME
x.npy
train-images-idx3-ubyte.gz          IDX, the labels and test pictures beside it
a folder                            of IDX files, or of .png and .jpg, a folder in it a label
cifar10, fashion_mnist, …           keras.datasets, which downloads them
"""

import glob
import gzip
import math
import os
import re
import struct
import zipfile

import keras
import numpy as np

from support.errors import UserError

NAMES = ("x_train", "y_train", "x_test", "y_test")
DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
# What arrays are called: pictures, and the labels that go with them; the first that there is.
TRAIN = (
    (("x_train", "train_images", "train_x", "train_data"),
     ("y_train", "train_labels", "train_y", "train_targets")),
    (("x", "images", "imgs", "data", "samples", "arr_0"),
     ("y", "labels", "label", "targets", "target")),
)  # fmt: skip
TEST = (
    (("x_test", "test_images", "test_x", "test_data"),
     ("y_test", "test_labels", "test_y", "test_targets")),
    (("x_val", "val_images", "val_x"), ("y_val", "val_labels", "val_y")),
)  # fmt: skip
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
       "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
LARGEST = 10**7  # numbers a picture
RATIO = 500  # real pictures shrink by 5 to 250; what zlib can do at most is 1032
SAVE = "python -c \"import numpy as np, {0}; {1}; np.savez('data.npz', x_train={2}, y_train={3})\""
# What other files begin with, what they are, and the way from there.
OTHERS = (
    (b"\x80", "a pickle, which could run code. Where you trust it, load it and save its arrays: "
     "numpy.savez('data.npz', x_train=x, y_train=y)"),
    (b"MATLAB", "a MATLAB file. If it is like SVHN's: " + SAVE.format(
        "scipy.io", "m = scipy.io.loadmat('{0}')", "np.moveaxis(m['X'], -1, 0)", "m['y'] % 10")),
    (b"\x89HDF", "an HDF5 file. With the names that it has: " + SAVE.format(
        "h5py", "f = h5py.File('{0}')", "f['x'][:]", "f['y'][:]")),
    (b"PAR1", "a Parquet file: read it with pandas, and numpy.savez('data.npz', x_train=x)"),
    (b"\x89PNG", "a single picture: name the folder that holds them all"),
    (b"\xff\xd8", "a single picture: name the folder that holds them all"),
)  # fmt: skip
TABLE = "text. If it is a table, the label first: " + SAVE.format(
    "sys", "a = np.loadtxt('{0}', delimiter=',', skiprows=1)", "a[:, 1:]", "a[:, 0]"
)


def read(source):
    """Read what `--data` names: a file, FILE:NAME, a folder, or a set of keras.datasets.

    Returns: `{name: array}`, names of `NAMES`, x_train at least; arrays as they lie there.
    Raises: `UserError` for what is missing, damaged or of another kind, and what to do.
    """
    path, name = source, None
    if not os.path.exists(path):
        if source in DATASETS:
            return _dataset(source)
        path, _, name = source.rpartition(":")
        if not os.path.isfile(path):
            raise UserError(f"there is no data file {source}. Give --data an .npz file.")
    try:
        if os.path.isdir(path):
            return _folder(path)
        if not os.path.isfile(path):  # a pipe or a device may never end
            raise UserError(f"{path} is a pipe or a device: give --data a file or a folder.")
        return _file(path, name)
    except UserError:
        raise
    except Exception as error:  # zlib, zipfile, gzip, NumPy and Pillow raise nearly anything
        raise UserError(f"{path} is damaged, or no data file: {error}") from None


def _dataset(name):
    try:
        (x, y), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a plain Exception where there is no network
        raise UserError(f"{name} could not be downloaded: {error}") from None
    return dict(zip(NAMES, (x, y, x_test, y_test)))


def _file(path, name):
    with open(path, "rb") as file:
        head = file.read(256)
    if zipfile.is_zipfile(path):
        return _npz(path, name)
    if head.startswith(b"\x93NUMPY"):
        # Mapped: what is read of 2 GB lies in the disk's cache, and no second time here.
        x = np.load(path, mmap_mode="c", allow_pickle=False)
        return {"x_train": np.ascontiguousarray(x)}
    if head.startswith((b"\x1f\x8b", b"\0\0\x08")):
        folder, base = os.path.split(os.path.abspath(path))
        nested = base == os.path.basename(folder)  # as Kaggle unpacks them
        return _idx_set(_idx_files(os.path.dirname(folder) if nested else folder), path)
    for start, what in OTHERS:
        if head.startswith(start):
            raise UserError(f"{path} is not an .npz file: it is {what.format(path)}")
    what = "cut short, or of a kind unknown here. Save arrays with numpy.savez."
    if head and head.isascii() and re.match(rb"[\w\"', .;-]+\r?\n", head + b"\n"):
        what = TABLE.format(path)
    raise UserError(f"{path} is not an .npz file: it is {what}")


def _check_size(claimed, path):
    """A small file must not be able to fill the memory."""
    if claimed > RATIO * os.path.getsize(path) + 2**26:
        raise UserError(
            f"{path} claims to hold {claimed:,} bytes, far too many for its size. If it is sound, "
            "save it without compression: numpy.savez."
        )


def _npz(path, name):
    """`.npz`: of usual names, or the array called `name` and its labels."""
    with zipfile.ZipFile(path) as file:
        held = [member[:-4] for member in file.namelist() if member.endswith(".npy")]
        chosen = _choose(held, name)
        if not chosen:
            known = ", ".join(held[:10]) or "no arrays; unpack it, and name the folder"
            raise UserError(
                f"{path} holds no array {name or 'x_train'}, but {known}. "
                f"Name one: --data {path}:NAME"
            )
        _check_size(sum(file.getinfo(key + ".npy").file_size for key in chosen.values()), path)
    left = [key for key in held if key not in chosen.values()]
    if any(key.lower() != ours for ours, key in chosen.items()):
        taken = ", ".join(f"{key} as {ours}" for ours, key in chosen.items())
        print(f"{path}: {taken}" + f"; left: {', '.join(left[:10])}" * bool(left))
    with np.load(path, allow_pickle=False) as file:  # pickled objects could run code
        return {ours: np.ascontiguousarray(file[key]) for ours, key in chosen.items()}


def _choose(held, name):
    """Which arrays are which: `{name of NAMES: name in the file}`, {} for none."""
    lower = {key.lower(): key for key in reversed(held)}

    def first(names):
        return next((lower[n] for n in names if n in lower), None)

    if name:
        labels = [first(group[1]) for group in TRAIN + TEST if name.lower() in group[0]]
        pair = ("x_train", name), ("y_train", labels[0] if labels else None)
        return {ours: key for ours, key in pair if key} if name in held else {}
    chosen = {}
    for ours, groups in ((NAMES[:2], TRAIN), (NAMES[2:], TEST)):
        found = next((group for group in groups if first(group[0])), ())
        chosen |= {o: first(names) for o, names in zip(ours, found) if first(names)}
    if not chosen and len(held) == 1:
        return {"x_train": held[0]}
    return chosen if "x_train" in chosen else {}


# ----------------------------------------------------------------------- folders, and IDX


def _folder(folder):
    files = _idx_files(folder)
    if any(map(_is_images, files)):
        return _idx_set(files, folder)
    arrays = _pictures(folder)
    if not arrays:
        held = ", ".join(sorted(os.listdir(folder))[:10]) or "nothing"
        raise UserError(
            f"the folder {folder} holds no {IDX[0]}, nor pictures ({', '.join(PICTURES)}), "
            f"but {held}."
        )
    return arrays


def _is_images(name):
    return re.search(r"images[.-]idx\d-ubyte$", name) is not None


def _idx_files(folder):
    """IDX files in a folder and the folders in it: `{name without .gz: path}`."""
    found = {}
    for pattern in ("*ubyte", "*ubyte.gz"):
        for place in ("", "*"):
            for path in sorted(glob.glob(os.path.join(glob.escape(folder), place, pattern))):
                if os.path.isfile(path):
                    found.setdefault(os.path.basename(path).removesuffix(".gz"), path)
    return found


def _idx_set(files, source):
    """Pictures, with the labels and test pictures that are called alike."""
    name = os.path.basename(source).removesuffix(".gz")
    if os.path.isdir(source):
        sets = [n for n in files if _is_images(n) and "train" in n] or list(
            filter(_is_images, files)
        )
        if len(sets) > 1:
            raise UserError(f"{source} holds several sets: name one of {', '.join(sets)}.")
        name = sets[0]
    else:
        files = {**files, name: source}

    def labels(name):
        return re.sub(r"images([.-])idx\d", r"labels\1idx1", name)

    pairs = {"x_train": name}
    if _is_images(name):
        pairs["y_train"] = labels(name)
        for other in ("test", "t10k"):
            test = other.join(name.rsplit("train", 1))
            if test != name and test in files:
                pairs |= {"x_test": test, "y_test": labels(test)}
    return {ours: _idx(files[base]) for ours, base in pairs.items() if base in files}


def _idx(path):
    """IDX: two zeros, 8 for uint8, the number of dimensions, the dimensions, the bytes."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with (gzip.open if zipped else open)(path, "rb") as stream:
        zeros, kind, dimensions = struct.unpack(">HBB", stream.read(4))
        if zeros or kind != 8 or dimensions not in (1, 3, 4):
            raise UserError(f"{path} is not an IDX file of bytes. Unpack it, if it is an archive.")
        shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
        size = math.prod(shape)
        _check_size(size, path)
        content = stream.read(size)
        if len(content) != size or stream.read(1):
            raise UserError(f"{path} does not have the size that it claims.")
    return np.frombuffer(bytearray(content), "uint8").reshape(shape)


# --------------------------------------------------------------------- folders of pictures


def _pictures(folder):
    """A folder of equal pictures, folders in it being labels; or two such, train and test."""
    within = {n.lower(): os.path.join(folder, n) for n in sorted(os.listdir(folder))}
    parts = [
        next((within[n] for n in names if os.path.isdir(within.get(n, ""))), None)
        for names in (("train", "training"), ("test", "testing", "val"))
    ]
    if parts[0] is None:
        parts = [folder, None]
    arrays = {}
    for images, labels, part in zip(NAMES[::2], NAMES[1::2], parts):
        paths, kinds = _listed(part) if part else ([], [])
        if paths:
            arrays[images] = _decoded(paths)
            if any(kinds):
                arrays[labels] = np.array(kinds)
    return arrays if "x_train" in arrays else {}


def _listed(folder):
    """Paths of pictures in order, and the folder of each within `folder`; "" for itself."""
    found = []
    for kind in ["", *sorted(e.name for e in os.scandir(folder) if e.is_dir())]:
        inner = os.path.join(folder, kind)
        for name in sorted(os.listdir(inner)):
            if name.lower().endswith(PICTURES) and not name.startswith("."):
                found.append((os.path.join(inner, name), kind))
    if len({bool(kind) for _, kind in found}) > 1:
        raise UserError(f"{folder} holds pictures, and folders of pictures: one or the other.")
    return list(zip(*found)) if found else ([], [])


def _decoded(paths):
    """Pictures of one size: uint8 (N, H, W), or (N, H, W, 3) where one has colours."""
    from PIL import Image  # slow to load, and rarely needed

    bar, found = keras.utils.Progbar(len(paths), unit_name="picture"), []
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")) or 3 * math.prod(image.size) > LARGEST:
                    raise UserError(f"{path} has too many pixels, or more than 8 bits for each.")
                grey = image.mode in ("1", "L", "LA")
                found.append(np.asarray(image.convert("L" if grey else "RGB")))
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path} is damaged, or no picture: {error}") from None
        (height, width), other = found[0].shape[:2], found[-1].shape[:2]
        if other != (height, width):
            raise UserError(
                f"{paths[0]} has {width} x {height} pixels, {path} {other[1]} x {other[0]}. Make "
                f"them equal, with ImageMagick: mogrify -resize {width}x{height}! FILES"
            )
        bar.add(1)
    if len({x.ndim for x in found}) > 1:
        found = [x if x.ndim == 3 else np.stack(3 * [x], axis=-1) for x in found]
    return np.stack(found)
