"""(N, D) pictures → tiled images, captioned figures, charts → PNG, GIF and .npz."""

import zipfile

import numpy as np

from support.files import atomic, write

SIDE = 2**16 - 1  # of a GIF, at most


def to_bytes(images):
    """Floats clipped to [0, 1], as the article does -> uint8; uint8 stays as it is."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.rint(np.clip(images, 0, 1) * 255).astype("uint8")


def tile(images, shape, columns=None, margin=0, background=0):
    """Tile pictures row by row into one image.

    Args:
        images: (N, D), see `to_bytes`.
        shape: of one, see `data.Pictures`.
        columns: pictures a row. Default: a square of them; one where they are mere lines.
        margin: pixels of `background`, a brightness in [0, 1], between and around them.

    Returns: (H, W) uint8, or (H, W, 3).
    """
    images = to_bytes(images).reshape(-1, *shape)
    count, height, width, *channels = images.shape
    columns = columns or (1 if width >= 100 * height else int(np.ceil(count**0.5)))
    rows = -(-count // columns)
    whole = rows * (height + margin) + margin, columns * (width + margin) + margin
    canvas = np.full((*whole, *channels), to_bytes(background), dtype="uint8")
    for i, image in enumerate(images):
        top = margin + i // columns * (height + margin)
        left = margin + i % columns * (width + margin)
        canvas[top : top + height, left : left + width] = image
    return canvas


def enlarge(image, factor):
    """Repeat every pixel, so that no viewer blurs it: (H, W, …) -> (factor·H, factor·W, …)."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def captioned(image, title, caption, left=(), top=(), right=()):
    """Set a title above an image, a caption below, labels beside its rows and columns.

    Args:
        image: (H, W) or (H, W, 3) uint8; shown pixel by pixel.
        title, caption: text; the caption may have several lines.
        left, right, top: labels spread evenly over the height and the width.

    Returns: (H', W', 3) uint8.
    """
    from matplotlib.figure import Figure  # slow to load, and rarely needed

    height, width = image.shape[:2]
    line = 22  # pixels a line of text
    lines = caption.split("\n")
    beside, after = (
        16 + 9 * max((len(label) for label in labels), default=0) for labels in (left, right)
    )
    above = line * (3 if top else 2)
    text = max(10 * len(title), *(7 * len(row) for row in lines))
    full_width = max(beside + width + after, text + 32)
    full_height = above + height + line * len(lines) + 12
    start = beside + (full_width - beside - after - width) // 2

    figure = Figure(figsize=((full_width + 0.5) / 100, (full_height + 0.5) / 100), dpi=100)

    def write(x, y, words, size, align, **style):  # x, y in pixels from the top left corner
        x, y = x / full_width, 1 - y / full_height
        figure.text(x, y, words, fontsize=size, ha=align, va="center", **style)

    write(full_width / 2, line, title, 12, "center", weight="bold")
    for labels, x, align in ((left, start - 8, "right"), (right, start + width + 8, "left")):
        for i, label in enumerate(labels):
            write(x, above + (i + 0.5) * height / len(labels), label, 10, align)
    for i, label in enumerate(top):
        write(start + (i + 0.5) * width / len(top), above - 11, label, 10, "center")
    for i, row in enumerate(lines):
        write(full_width / 2, above + height + line * (i + 0.6) + 4, row, 9, "center")
    canvas = render(figure)
    canvas[above : above + height, start : start + width] = image.reshape(height, width, -1)
    return canvas


def render(figure):
    """A matplotlib `Figure` as (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def loss_curve(history, best):
    """Chart rows of `epoch`, `loss`, `val_loss` in nats, one of them the best: (H, W, 3) uint8."""
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(epochs, [row["loss"] for row in history], "o-", ms=3, label="training")
    axes.plot(epochs, [row["val_loss"] for row in history], "o-", ms=3, label="validation")
    axes.axhline(best["val_loss"], color="gray", lw=0.8, ls=":")
    axes.set(xlabel="epoch", ylabel="loss (15), nats a picture (lower is better)")
    axes.set_title(f"best validation loss {best['val_loss']:.1f} at epoch {best['epoch']}")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.legend()
    return render(figure)


def save(path, image):
    """Write an image as PNG, atomically."""
    import imageio.v3 as imageio  # here and below: a quarter of a second that most need not wait

    write(path, imageio.imwrite("<bytes>", image, extension=".png"))


def save_gif(path, frames, seconds=0.1):
    """Write images of one shape as a GIF that loops, `seconds` a frame, atomically."""
    import imageio.v3 as imageio

    data = imageio.imwrite(
        "<bytes>", np.stack(frames), extension=".gif", duration=1000 * seconds, loop=0
    )
    write(path, data)


def save_film(path, frames):
    """Write the frames of a training as a GIF: twice their size, the last one held.

    Of more than a GIF can hold the top left.
    """
    frames = [enlarge(frame[: SIDE // 2, : SIDE // 2], 2) for frame in frames]
    save_gif(path, [*frames, *frames[-1:] * 4], seconds=0.5)


def save_npz(path, parts, count, shape, **others):
    """Write a stream of (n, D) pictures as one array `samples`, uint8 (count, *shape), atomically.

    `others` are small arrays to write beside it.
    """
    with atomic(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            with file.open("samples.npy", "w", force_zip64=True) as member:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
                np.lib.format.write_array_header_1_0(member, header)
                for part in parts:
                    member.write(to_bytes(part).tobytes())
            for name, array in others.items():
                with file.open(name + ".npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array)
