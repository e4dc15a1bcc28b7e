"""Pixels in, float32 (B, D) in [0, 1] out, with clear errors.

MNIST (LeCun, Cortes and Burges, CC BY-SA 3.0) lies in data/mnist.npz, so that no network is
needed. Equal pictures of any other kind will do in its place: see `readers`, and data/README.md.
"""

import hashlib
import math
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from support.errors import UserError, printable
from support.options import COLOURS, MNIST
from support.readers import NAMES, read

ROUNDING = 1e-5  # so far beyond [0, 1] what was resized may lie
KINDS = "biufUS"  # of labels: NumPy's letters for numbers and words
DARK = 100  # whole numbers up to this are hardly bytes
PART = 2**24  # numbers checked at a time: of 2 GB no second copy is made


class Pictures(NamedTuple):
    """A data set. Pixels are rows (N, D), uint8 or float32: `scale` makes them [0, 1].

    `shape` is that of a picture: (height, width), or (height, width, 3) in colour. A row has its
    numbers as they lie there, the colours of a pixel side by side. `x_test` and the labels, (N,)
    whole numbers, are None where the file has none.
    """

    x_train: np.ndarray
    y_train: np.ndarray | None
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    shape: tuple

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
    """Load pictures from a file, a folder, or a set of keras.datasets: see `readers.read`.

    Pictures are (N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, D): whole numbers from 0 to 255 of
    any type, bool, or floats in [0, 1]. `dim` is the number of pixels that a flow asks for, if
    there is one already.

    Returns: `Pictures`.
    Raises: `UserError` for a missing, damaged, pickled or unusable file, or another `dim`.
    """
    arrays, shape = read(source), None
    for name in ("x_train", "x_test"):
        if name in arrays:
            x = _numbers(_shaped(arrays[name], f"{name} of {source}"), f"{name} of {source}",
                         name == "x_train")  # fmt: skip
            if shape not in (None, x.shape[1:]):
                raise UserError(f"x_test of {source} has pictures of {x.shape[1:]}, x_train of "
                                f"{shape}.")  # fmt: skip
            shape = x.shape[1:]
            arrays[name] = x.reshape(len(x), -1)
    _set_labels(arrays, source)
    if dim:
        check_dim(arrays["x_train"], dim, source)
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        shape = (side, side) if side * side == shape[0] else (1, *shape)
        if shape[0] == 1:
            print(f"rows of {shape[1]:,} numbers are no squares: shown as lines. Pictures saved as "
                  "(N, height, width) or (N, height, width, 3) keep their shape.")  # fmt: skip
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


def _shaped(x, name):
    """An array as (N, D), (N, H, W) or (N, H, W, 3), D even."""
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.ndim not in (2, 3, 4) or 0 in x.shape or x.ndim == 4 and x.shape[3] != COLOURS:
        raise UserError(
            f"{name} must be (N, H, W), (N, H, W, 3) or (N, D), not empty; its shape is {x.shape}. "
            "Of (N, 3, H, W), as PyTorch has it, save x.transpose(0, 2, 3, 1)."
        )
    dim = math.prod(x.shape[1:])
    if dim % 2:
        mend = "add or drop one column."
        if x.ndim == 2 and math.isqrt(dim - 1) ** 2 == dim - 1:  # 785, as tables have them
            mend = (
                "the first or the last is a label, or so it seems. Save it apart: "
                "numpy.savez('data.npz', x_train=x[:, 1:], y_train=x[:, 0])"
            )
        raise UserError(
            f"{name} has {dim} pixels a picture; two halves need an even number: {mend}"
        )
    return x


def _numbers(x, name, training):
    """Pixels as uint8 or as float32 in [0, 1]; what would train, but wrongly, is refused."""
    if x.dtype == bool:
        return x * np.uint8(255)
    if x.dtype.kind not in "iuf":
        raise UserError(f"{name} must hold numbers, 0 to 255 or floats from 0 to 1, not {x.dtype}.")
    low, high, floats = float(x.min()), float(x.max()), x.dtype.kind == "f"
    if not math.isfinite(high - low):
        raise UserError(f"{name} holds NaN or infinite values.")
    if floats and -ROUNDING <= low and high <= 1 + ROUNDING:
        x = x.astype("float32", copy=False)
        return x if 0 <= low and high <= 1 else np.clip(x, 0, 1)
    parts = np.array_split(x, 1 + x.size // PART) if floats else []
    if low < 0 or high > 255 or not all((part % 1 == 0).all() for part in parts):
        mend = f"(x - {low:g}) / {high - low:g}" if low < 0 else f"x / {high:g}"
        raise UserError(
            f"{name} has {'floats' if floats else 'whole numbers'} from {low:g} to {high:g}; scale "
            f"them to [0, 1]: save {mend}"
        )
    if training and 0 < high <= DARK:
        raise UserError(
            f"{name} has whole numbers from {low:g} to {high:g}: as bytes, up to 255, nearly "
            f"black. Save x / {high:g} where {high:g} is white, or x / 255 where they are so dark."
        )
    return x.astype("uint8", copy=False)


def _set_labels(arrays, source):
    """Make labels (N,) int32: of (N, 1) and one-hot ones; words, and fractions, are counted."""
    names = [name for name in ("y_train", "y_test") if name in arrays]
    for name in names:
        images, y = name.replace("y", "x"), arrays[name]
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        elif y.ndim == 2 and y.size and y.dtype.kind in "biuf":
            one_hot = (np.sort(y)[:, :-1] == 0).all() and (y.max(axis=1) == 1).all()
            y = y.argmax(axis=1) if one_hot else y
        if images not in arrays or y.shape != arrays[images].shape[:1] or y.dtype.kind not in KINDS:
            raise UserError(
                f"{name} of {source} must hold one label for each row of {images}, a number or a "
                f"word; its shape is {y.shape}."
            )
        arrays[name] = y
    if not names:
        return
    every = np.concatenate([arrays[name] for name in names])
    try:
        with np.errstate(invalid="ignore"):
            numbers = every.astype("int32")  # "7" is 7, too
        if every.dtype.kind in "iuf" and (numbers != every).any():
            raise ValueError
    except (ValueError, OverflowError):
        kinds, numbers = np.unique(every, return_inverse=True)
        shown = [f"{number} {kind}" for number, kind in enumerate(kinds[:20])]
        print(printable(f"labels: {', '.join(shown)}{', …' * (len(kinds) > 20)}"))
    ends = np.cumsum([len(arrays[name]) for name in names])[:-1]
    arrays.update(zip(names, np.split(numbers.astype("int32"), ends)))
