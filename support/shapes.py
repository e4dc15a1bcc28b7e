"""The shape of a picture, the one law: (height, width), or (height, width, 3) in colour.

A flow takes rows of D numbers, D = height · width · channels, plane by plane: all of red, then all
of green, then blue. So the interleaved halves of `layers.Split` are every other column, whole
pixels of it; in the order red, green, blue, red, … they would part the colours of each pixel.
"""

import math

import numpy as np

COLOURS = 3


def flat(pictures):
    """Pictures (N, *shape) -> rows (N, D); no copy of what has no colours."""
    if pictures.ndim == 4:
        pictures = np.moveaxis(pictures, -1, 1)  # (N, H, W, C) -> (N, C, H, W)
    return pictures.reshape(len(pictures), -1)


def whole(rows, shape):
    """Rows (N, D) -> pictures (N, *shape)."""
    height, width, *channels = shape
    if not channels:
        return rows.reshape(-1, height, width)
    return np.moveaxis(rows.reshape(-1, *channels, height, width), 1, -1)


def of_rows(dim):
    """What rows of D numbers count as: a square, else one line."""
    side = math.isqrt(dim)
    return (side, side) if side * side == dim else (1, dim)


def fits(shape, dim):
    """Whether `shape`, of whatever type, is that of a picture of D numbers."""
    return (
        isinstance(shape, (list, tuple))
        and all(type(side) is int and side > 0 for side in shape)
        and (len(shape) == 2 or len(shape) == 3 and shape[2] == COLOURS)
        and math.prod(shape) == dim
    )
