"""(N, D) pictures → one tiled image → PNG."""

import io

import imageio.v3 as imageio
import numpy as np

from checkpoint import atomic


def tile(images, picture, columns=None, margin=0, background=0):
    """Tile pictures row by row into one image.

    Args:
        images: (N, D) floats; clipped to [0, 1], as the article does.
        picture: (height, width) of one, height · width = D.
        columns: pictures a row. Default: a square.
        margin: pixels of `background`, a brightness in [0, 1], between and around them.

    Returns: (H, W) uint8.
    """
    images = np.asarray(images).reshape(-1, *picture)
    count, height, width = images.shape
    columns = columns or int(np.ceil(count**0.5))
    rows = -(-count // columns)
    canvas = np.full((rows * (height + margin) + margin, columns * (width + margin) + margin),
                     background, dtype="float32")  # fmt: skip
    for i, image in enumerate(images):
        top = margin + i // columns * (height + margin)
        left = margin + i % columns * (width + margin)
        canvas[top : top + height, left : left + width] = image
    return np.rint(np.clip(canvas, 0, 1) * 255).astype("uint8")


def enlarge(image, factor):
    """Repeat every pixel, so that no viewer blurs it: (H, W) -> (factor·H, factor·W)."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def save(path, image):
    """Write an image as PNG, atomically."""
    _write(path, imageio.imwrite("<bytes>", image, extension=".png"))


def loss_curve(path, history):
    """Chart a history, rows of `epoch`, `loss` and `val_loss` in nats, as PNG."""
    from matplotlib.figure import Figure  # slow to load, and rarely needed

    epochs = [row["epoch"] for row in history]
    best = min(history, key=lambda row: row["val_loss"])
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(epochs, [row["loss"] for row in history], "o-", ms=3, label="training")
    axes.plot(epochs, [row["val_loss"] for row in history], "o-", ms=3, label="validation")
    axes.axhline(best["val_loss"], color="gray", lw=0.8, ls=":")
    axes.set(xlabel="epoch", ylabel="loss (15), nats a picture (lower is better)")
    axes.set_title(f"best validation loss {best['val_loss']:.1f} at epoch {best['epoch']}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    _write(path, buffer.getvalue())


def _write(path, data):
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
