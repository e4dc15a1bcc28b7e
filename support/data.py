"""Pixels in, float32 (B, D) in [0, 1] out, with clear errors.

MNIST (LeCun, Cortes and Burges, CC BY-SA 3.0) lies in data/mnist.npz, so that
no network is needed. Any `.npz` of equal pictures will do in its place, and so
will a folder of IDX files, as MNIST and its likes are published.
"""

import gzip
import hashlib
import math
import os
import struct
import zipfile
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from support.errors import UserError
from support.options import MNIST

NAMES = ("x_train", "y_train", "x_test", "y_test")


class Pictures(NamedTuple):
    """A data set. Pixels stay as they came, (N, D) uint8 or float32: `scale` makes them [0, 1].

    `shape` is (height, width) of one; flat rows count as squares, else as one line.
    `x_test` and the labels are None where the file has none.
    """

    x_train: np.ndarray
    y_train: np.ndarray | None
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    shape: tuple[int, int]

    @property
    def x_new(self):
        """The test pictures; where there are none, the training pictures."""
        return self.x_train if self.x_test is None else self.x_test

    def split(self, validation):
        """`(x_train, x_validation)`: "test" validates on the test pictures, as in 2018.

        "heldout", or no test pictures: on the last 10,000 for training, or a sixth of fewer.
        """
        if validation == "test" and self.x_test is not None:
            return self.x_train, self.x_test
        held_out = min(10_000, len(self.x_train) // 6)
        if not held_out:
            raise UserError(f"{len(self.x_train)} pictures are too few to hold some out.")
        return self.x_train[:-held_out], self.x_train[-held_out:]


def digest(*arrays):
    """16 hexadecimal digits that other pixels would change."""
    total = hashlib.sha256()
    for pixels in arrays:
        total.update(repr((pixels.shape, pixels.dtype)).encode())
        total.update(np.ascontiguousarray(pixels))
    return total.hexdigest()[:16]


def load(source=MNIST, dim=None):
    """Load pictures from an `.npz` file or an IDX folder, or "fashion_mnist" (keras.datasets).

    The file holds `x_train` and, optionally, `x_test`, `y_train`, `y_test`;
    pictures are (N, H, W) or (N, D), uint8 in 0–255 or float in [0, 1]. The folder
    holds the like as train-images-idx3-ubyte, …, with or without .gz. `dim` is the number
    of pixels that a flow asks for, if there is one already.

    Returns: `Pictures`.
    Raises: `UserError` for a missing, damaged, pickled or unusable file, or another `dim`.
    """
    arrays = _fashion_mnist() if source == "fashion_mnist" else _read(source)
    shape = arrays["x_train"].shape[1:]
    for name in ("x_train", "x_test"):
        if name in arrays:
            arrays[name] = _check(arrays[name], f"{name} of {source}", shape)
    for images, labels in (("x_train", "y_train"), ("x_test", "y_test")):
        if labels in arrays and (
            images not in arrays or arrays[labels].shape != arrays[images].shape[:1]
        ):
            raise UserError(f"{labels} of {source} must hold one label for each row of {images}.")
    if dim:
        check_dim(arrays["x_train"], dim, source)
    shape = shape if len(shape) == 2 else _square(shape[0])
    return Pictures(*(arrays.get(name) for name in NAMES), shape)


def check_dim(pixels, dim, source):
    """Raise `UserError` unless pictures (N, D) from `source` have the D of a flow."""
    if pixels.shape[1] != dim:
        raise UserError(
            f"{source} has {pixels.shape[1]} pixels a picture, the weights {dim}. Name the data "
            "that they were trained on with --data, or other weights with --weights."
        )


def scale(pixels, levels=255):
    """uint8 k -> float32 k / levels, on any backend; floats in [0, 1] count as k / 255.

    `levels` is 255 in the article; 256 in the paper, whose noise U[0, 1/256]
    then fills the gap up to the next level.
    """
    width = 255 if "float" in keras.backend.standardize_dtype(pixels.dtype) else 1
    return ops.cast(pixels, "float32") * (width / levels)


def _fashion_mnist():
    try:
        (x, y), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises a plain Exception where there is no network
        raise UserError(f"fashion_mnist could not be downloaded: {error}") from None
    return dict(zip(NAMES, (x, y, x_test, y_test)))


def _read(path):
    if not os.path.exists(path):
        raise UserError(f"there is no data file {path}. Give --data an .npz file.")
    try:
        arrays = _idx_folder(path) if os.path.isdir(path) else _npz(path)
    except UserError:
        raise
    except Exception as error:  # zlib, zipfile, gzip and NumPy raise nearly anything
        raise UserError(f"{path} is damaged, or no data file: {error}") from None
    if "x_train" not in arrays:
        raise UserError(f"{path} holds no array x_train.")
    return arrays


def _check_size(claimed, path):
    """A small file must not be able to fill the memory: real pictures shrink by 5 to 20."""
    if claimed > 100 * os.path.getsize(path) + 2**26:
        raise UserError(f"{path} claims to hold {claimed:,} bytes, far too many for its size.")


def _npz(path):
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not an .npz file, or is cut short. Save arrays with numpy.savez."
        )
    with zipfile.ZipFile(path) as file:
        members = {name: name + ".npy" for name in NAMES if name + ".npy" in file.namelist()}
        _check_size(sum(file.getinfo(member).file_size for member in members.values()), path)
    with np.load(path, allow_pickle=False) as file:  # pickled objects could run code
        return {name: np.ascontiguousarray(file[name]) for name in members}


IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
       "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip


def _idx_folder(folder):
    arrays = {}
    for name, base in zip(NAMES, IDX):
        for end, open_ in (("", open), (".gz", gzip.open)):
            path = os.path.join(folder, base + end)
            if os.path.exists(path):
                with open_(path, "rb") as stream:
                    arrays[name] = _idx(stream, path)
                break
    if "x_train" not in arrays:
        raise UserError(f"the folder {folder} holds no {IDX[0]}, nor {IDX[0]}.gz.")
    return arrays


def _idx(stream, path):
    """IDX: two zeros, 8 for uint8, the number of dimensions, the dimensions, the bytes."""
    zeros, kind, dimensions = struct.unpack(">HBB", stream.read(4))
    if zeros or kind != 8 or dimensions not in (1, 3):
        raise UserError(f"{path} is not an IDX file of bytes.")
    shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
    size = math.prod(shape)
    _check_size(size, path)
    content = stream.read(size)
    if len(content) != size or stream.read(1):
        raise UserError(f"{path} does not have the size that it claims.")
    return np.frombuffer(bytearray(content), "uint8").reshape(shape)


def _check(x, name, shape):
    if x.ndim not in (2, 3) or 0 in x.shape:
        raise UserError(f"{name} must be (N, H, W) or (N, D), not empty; its shape is {x.shape}.")
    if x.shape[1:] != shape:
        raise UserError(f"{name} has pictures of {x.shape[1:]}, x_train of {shape}.")
    x = x.reshape(len(x), -1)
    if x.shape[1] % 2:
        raise UserError(
            f"{name} has {x.shape[1]} pixels a picture; two halves need an even number: "
            "add or drop one column."
        )
    if x.dtype == np.uint8:
        return x
    if not np.issubdtype(x.dtype, np.floating):
        raise UserError(f"{name} must be uint8 (0-255) or float (0-1), not {x.dtype}.")
    x = x.astype("float32")
    if not np.isfinite(x).all():
        raise UserError(f"{name} holds NaN or infinite values.")
    if x.min() < 0 or x.max() > 1:
        raise UserError(f"{name} has floats from {x.min():g} to {x.max():g}; scale them to [0, 1].")
    return x


def _square(dim):
    side = round(dim**0.5)
    return (side, side) if side * side == dim else (1, dim)
