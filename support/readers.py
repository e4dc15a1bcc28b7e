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
import struct
import zipfile

import keras
import numpy as np

from support import hardware
from support.errors import UserError, printable

DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
USUAL = {  # what arrays are called; the first that there is
    "x_train": "x_train train_images train_x train_data x images imgs data arr_0",
    "y_train": "y_train train_labels train_y train_targets y labels label targets",
    "x_test": "x_test test_images test_x test_data x_val val_images",
    "y_test": "y_test test_labels test_y test_targets y_val val_labels",
}
NAMES = tuple(USUAL)
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
       "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
LARGEST = 10**7  # numbers a picture
RATIO = 500  # real pictures shrink by 5 to 250; what zlib can do at most is 1032
SAVE = "python -c \"import numpy as np, {0}; np.savez('data.npz', x_train={1}, y_train={2})\""
# What other files begin with, what they are, and the way from there.
OTHERS = (
    (b"\x80", "a pickle, which could run code. Where you trust it, load it and save its arrays: "
     "numpy.savez('data.npz', x_train=x, y_train=y)"),
    (b"MATLAB", "a MATLAB file. One like SVHN's: " + SAVE.format(
        "scipy.io; m = scipy.io.loadmat('{0}')", "np.moveaxis(m['X'], -1, 0)", "m['y'] % 10")),
    (b"\x89HDF", "an HDF5 file. With the names that it has: " + SAVE.format(
        "h5py; f = h5py.File('{0}')", "f['x'][:]", "f['y'][:]")),
    ((b"\x89PNG", b"\xff\xd8"), "a single picture: name the folder that holds them all"),
)  # fmt: skip
TABLE = "text. If it is a table, the label first: " + SAVE.format(
    "sys; a = np.loadtxt('{0}', delimiter=',', skiprows=1)", "a[:, 1:]", "a[:, 0]"
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
        if not os.path.isfile(path):  # it may never end
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
        nested = os.path.basename(folder) == base  # as Kaggle unpacks them
        base = base.removesuffix(".gz")
        return _idx_set({**_idx_files(os.path.dirname(folder) if nested else folder), base: path},
                        base)  # fmt: skip
    what = "cut short, or of a kind unknown here. Save arrays with numpy.savez."
    if b"," in head and head.isascii():
        what = TABLE.format(path)
    what = next((said.format(path) for start, said in OTHERS if head.startswith(start)), what)
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
        if "x_train" not in chosen:
            known = ", ".join(held[:10]) or "no arrays; unpack it, and name the folder"
            raise UserError(
                f"{path} holds no array {name or 'x_train'}, but {known}. "
                f"Name one: --data {path}:NAME"
            )
        _check_size(sum(file.getinfo(key + ".npy").file_size for key in chosen.values()), path)
    if any(key.lower() != ours for ours, key in chosen.items()):
        taken = ", ".join(f"{key} as {ours}" for ours, key in chosen.items())
        left = [key for key in held if key not in chosen.values()][:10]
        print(printable(f"{path}: {taken}" + f"; left: {', '.join(left)}" * bool(left)))
    with np.load(path, allow_pickle=False) as file:  # pickled objects could run code
        return {ours: np.ascontiguousarray(file[key]) for ours, key in chosen.items()}


def _choose(held, name):
    """Which arrays are which: `{name of NAMES: name in the file}`."""
    lower = {key.lower(): key for key in reversed(held)}
    found = {ours: [lower[n] for n in names.split() if n in lower] for ours, names in USUAL.items()}
    chosen = {ours: keys[0] for ours, keys in found.items() if keys}
    if name:
        pairs = {chosen.get(NAMES[i]): chosen.get(NAMES[i + 1]) for i in (0, 2)}
        named = {"x_train": name, "y_train": pairs.get(name)}
        return {ours: key for ours, key in named.items() if key in held}
    return {"x_train": held[0]} if len(held) == 1 and not chosen else chosen


# ----------------------------------------------------------------------- folders, and IDX


def _folder(folder):
    found = _idx_files(folder)
    sets = [name for name in found if "train-images" in name]
    if len(sets) > 1:
        raise UserError(f"{folder} holds several sets: name one of {', '.join(sets)}.")
    if sets:
        return _idx_set(found, sets[0])
    inner = (glob.glob(os.path.join(glob.escape(folder), *part)) for part in ("*", ("*", "*")))
    paths = sorted(path for part in inner for path in part if path.lower().endswith(PICTURES))
    if not paths:
        held = ", ".join(sorted(os.listdir(folder))[:10]) or "nothing"
        raise UserError(
            f"the folder {folder} holds no {IDX[0]}, nor pictures ({', '.join(PICTURES)}), "
            f"nor folders of them, but {held}."
        )
    labels = [os.path.relpath(os.path.dirname(path), folder) for path in paths]
    if os.curdir in labels and len(set(labels)) > 1:
        raise UserError(f"{folder} holds pictures, and folders of pictures: one or the other.")
    x = _decoded(paths)
    return {"x_train": x} if labels[0] == os.curdir else {"x_train": x, "y_train": np.array(labels)}


def _idx_files(folder):
    """IDX files in a folder and the folders in it: `{name without .gz: path}`."""
    found = {}
    for place in ("*ubyte", "*ubyte.gz", "*/*ubyte", "*/*ubyte.gz"):
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), place))):
            if os.path.isfile(path):
                found.setdefault(os.path.basename(path).removesuffix(".gz"), path)
    return found


def _idx_set(found, name):
    """Pictures, with the labels and test pictures that are called alike."""
    pairs = {"x_train": name}
    for other in ("test", "t10k"):
        if (test := name.replace("train-images", f"{other}-images")) != name and test in found:
            pairs["x_test"] = test
    for images, image in [*pairs.items()]:
        label = image.replace("images", "labels").replace("idx3", "idx1")
        pairs |= {images.replace("x", "y"): label} if label != image else {}
    return {ours: _idx(found[base]) for ours, base in pairs.items() if base in found}


def _idx(path):
    """IDX: two zeros, 8 for uint8, the number of dimensions, the dimensions, the bytes."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with (gzip.open if zipped else open)(path, "rb") as stream:
        zeros, kind, dimensions = struct.unpack(">HBB", stream.read(4))
        if zeros or kind != 8 or dimensions not in (1, 3):
            raise UserError(f"{path} is not an IDX file of bytes. Unpack it, if it is an archive.")
        shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
        size = math.prod(shape)
        _check_size(size, path)
        content = stream.read(size)
        if len(content) != size or stream.read(1):
            raise UserError(f"{path} does not have the size that it claims.")
    return np.frombuffer(bytearray(content), "uint8").reshape(shape)


def _decoded(paths):
    """Pictures of one size: uint8 (N, H, W), or (N, H, W, 3) where one has colours."""
    from PIL import Image  # slow to load, and rarely needed

    bar, found = hardware.progress(len(paths), "picture"), []
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")) or 3 * math.prod(image.size) > LARGEST:
                    raise UserError(f"{path} has too many pixels, or more than 8 bits for each.")
                found.append(np.asarray(image.convert("RGB")))
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path} is damaged, or no picture: {error}") from None
        (height, width, _), other = found[0].shape, found[-1].shape
        if other != found[0].shape:
            raise UserError(
                f"{paths[0]} has {width} x {height} pixels, {path} {other[1]} x {other[0]}. Make "
                f"them equal, with ImageMagick: mogrify -resize {width}x{height}! FILES"
            )
        bar.add(1)
    x = np.stack(found)
    return x[..., 0] if (x == x[..., :1]).all() else x
