"""Digits of 14 x 14 in two random colours each, (N, 14, 14, 3): pixel by pixel, and in planes."""

import numpy as np

with np.load("data/mnist.npz") as file:
    grey = file["x_train"][:12000].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
stroke, ground = np.random.default_rng(0).integers(0, 256, (2, len(grey), 1, 1, 3))
x = (ground + grey[..., None] * (stroke - ground)).round().astype("uint8")
planes = np.moveaxis(x, -1, 1).reshape(len(x), -1)  # rows: all of red, all of green, all of blue
np.savez("pixels.npz", x_train=x[:10000], x_test=x[10000:])
np.savez("planes.npz", x_train=planes[:10000], x_test=planes[10000:])
