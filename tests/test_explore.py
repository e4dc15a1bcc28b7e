"""Every picture of a tiny flow: what it must show, read off the picture, and what it claims."""

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import DIM, SHAPE, configuration, identity, save, script

import codes
import explore
import nice
from support import data, inpainting, options, pictures

H, W = SHAPE


def cells(image, columns, factor=2, side=0):
    """The pictures in a grid with margins of 2, `factor` times their size: (rows, columns, H, W).

    `side` 1: of the right one of two grids side by side.
    """
    height, width = factor * (H + 2), factor * (W + 2)
    start = side * (columns * width + 2 * factor + 24)
    rows = (len(image) - 2 * factor) // height
    grid = image[:, start : start + columns * width + 2 * factor]
    assert grid.shape[1] == columns * width + 2 * factor
    return np.array(
        [
            [
                grid[2 * factor + r * height :, 2 * factor + c * width :][
                    : factor * H : factor, : factor * W : factor
                ]
                for c in range(columns)
            ]
            for r in range(rows)
        ]
    )


def are(shown, pixels):
    """Whether pictures shown are those pixels, in this order, to a level."""
    return np.abs(shown.reshape(len(pixels), -1).astype(int) - pixels).max() <= 1


@pytest.fixture
def labelled(pixels):
    """An identity flow with codes of classes 4, 5, 6: each a third of the brightness."""
    flow = identity(np.zeros(DIM))
    kinds = np.arange(80) % 3
    x = (pixels / 255 / 10 + kinds[:, None] / 3 + 0.1).astype("float32")
    flow.codes = codes.fit(x, kinds + 4)
    return flow


def test_digits_shows_a_row_a_class_beside_as_many_of_the_prior(labelled, figures):
    explore.digits(labelled, seed=1, columns=5)
    (shown,) = figures
    assert shown["right"] == ["4", "5", "6"]
    prior, fitted = (cells(shown["image"], 5, side=side) for side in (0, 1))
    assert prior.shape == fitted.shape == (3, 5, H, W)
    means = fitted.mean(axis=(2, 3)) / 255
    assert np.abs(means - [[0.15], [0.48], [0.82]]).max() < 0.12  # a row is of one class
    assert (prior == 0).mean() > 0.3 < (prior > 0).mean()  # N(0, σ²): half of it is clipped


def test_digits_without_labels_shows_a_square(labelled, figures):
    labelled.codes = codes.fit(labelled.codes.sample([4, 5, 6], np.random.default_rng(0)))
    explore.digits(labelled, columns=4)
    assert figures[0]["right"] == [] and cells(figures[0]["image"], 4, side=1).shape[:2] == (4, 4)


def test_temperature_leaves_a_point_along_a_line(labelled, figures):
    """The rows go on from the origin in equal steps, those of fitted codes from their means."""
    explore.temperature(labelled)
    explore.temperature(labelled, seed=2)
    shown = figures[0]
    assert shown["left"][0] == "σ = 0.4" and shown["left"][-1] == "σ = 1.2"
    assert shown["right"][0] == "T = 0.00" and shown["right"][4] == f"T = {options.TEMPERATURE:.2f}"
    prior, fitted = (cells(shown["image"], 10, side=side) / 255 for side in (0, 1))
    inside = (prior[0] > 0) & (prior[-1] < 1)
    assert inside.sum() > 10
    for row, sigma in enumerate(np.arange(4, 13) / 10):
        assert np.abs(prior[row] - prior[0] * sigma / 0.4)[inside].max() < 0.02
    held = labelled.codes
    means = (held.centre + held.means @ held.basis)[np.arange(10) % 3].reshape(10, H, W)
    assert np.abs(fitted[0] - means).max() < 0.01
    spread = np.abs(fitted - fitted[0]).mean(axis=(1, 2, 3))
    assert (np.diff(spread) > -1e-3).all() and spread[-1] > 0.01
    assert not np.array_equal(shown["image"], figures[1]["image"])


@pytest.mark.parametrize("levels", [255, 256])
def test_reduce_keeps_the_widest_dimensions(pixels, figures, levels):
    """Of an identity the rest at 0 is black: what the error must be is known."""
    flow = identity(np.arange(DIM) / 10, levels=levels)  # pixel 0 is the widest
    explore.reduce(flow, pixels, pixels, legible=False, columns=4, kept=(2, 6, DIM))
    (shown,) = figures
    errors = [((pixels[:, k:] / 255.0) ** 2).sum(axis=1).mean() for k in (2, 6)]
    assert shown["left"] == ["true", *(f"{k}:  {e:.1f}" for k, e in zip((2, 6), errors))]
    x = pixels / 255.0
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    for label, k in zip(shown["right"][1:], (2, 6)):
        back = np.clip(x.mean(axis=0) + (x - x.mean(axis=0)) @ axes[:k].T @ axes[:k], 0, 1)
        assert label == f"{k}:  {((back - x) ** 2).sum(axis=1).mean():.1f}"
    true, *kept = cells(shown["image"], 4).reshape(3, 4, DIM)
    assert all((pixels == row).all(axis=1).any() for row in true)
    for row, k in zip(kept, (2, 6)):
        assert are(row, np.where(np.arange(DIM) < k, true, 0))


def test_reduce_says_what_is_still_read(figures):
    mnist = data.load()
    log_scale = -np.linspace(0, 1, 784)  # the lower half is wider
    flow = identity(log_scale, (28, 28), couplings=2, units=4, depth=1)
    explore.reduce(flow, mnist.x_train[:3000], mnist.x_test[:300], columns=4, kept=(5, 783))
    left, right = figures[0]["left"], figures[0]["right"]
    assert left[2] == "783:  0.0,  100 %" and right[2] == "783:  0.0,  100 %"
    assert int(left[1].split()[-2]) < 30 < int(right[1].split()[-2])


def test_interpolation_ends_at_the_digits_and_of_an_identity_is_a_line(pixels, figures):
    _, frames = explore.interpolate(identity(np.ones(DIM)), pixels, pixels, rows=8)
    rows = cells(figures[0]["image"], 11).reshape(8, 11, DIM).astype(int)
    for a, *_, b in rows:
        assert all((pixels == end).all(axis=1).any() for end in (a, b)) and (a != b).any()
    t = np.linspace(0, 1, 11)[:, None]
    assert np.abs(rows - ((1 - t) * rows[:, :1] + t * rows[:, -1:])).max() <= 1
    assert len({frame.shape for frame in frames}) == 1
    for frame, column in ((frames[0], 0), (frames[len(frames) // 2], 10)):  # there, and back
        assert are(cells(frame, 4, factor=3), rows[:, column])


def test_traverse_moves_one_dimension_at_a_time(pixels, figures):
    """Of an identity a pixel by the steps times its σ; the widest first, the narrowest last."""
    flow = identity(3 + np.arange(DIM) / 10)
    explore.traverse(flow, pixels, pixels, rows=3, columns=5)
    shown = figures[0]
    moved = cells(shown["image"], 5).reshape(4, 5, DIM) / 255
    digit = moved[0, 2]
    assert (np.rint(255 * digit) == pixels).all(axis=1).any()
    for row, i in enumerate([0, 1, 2, DIM - 1]):
        sigma = np.exp(-3 - i / 10)
        assert shown["left"][row] == f"#{i}, σ = {sigma:.3f}"
        expected = np.tile(digit, (5, 1))
        expected[:, i] = np.clip(digit[i] + sigma * np.linspace(-8, 8, 5), 0, 1)
        assert np.abs(moved[row] - expected).max() < 0.005


def test_spectrum_counts_the_collapsed(flow, monkeypatch):
    floor = explore.noise_floor(flow)
    sigma = np.r_[np.full(5, floor), np.full(DIM - 5, 10 * floor)].astype("float32")
    flow.encoder.maps[-1].log_scale.assign(-np.log(sigma)[None])
    titles, render = [], pictures.render
    monkeypatch.setattr(
        pictures, "render", lambda f: titles.append(f.axes[0].get_title()) or render(f)
    )
    assert explore.spectrum(flow).std() > 1
    assert titles[0].startswith(f"5 of {DIM} ")
    monkeypatch.setattr(type(flow.prior), "std", None)  # a prior whose width nobody knows
    assert explore.spectrum(flow).std() > 1 and titles[1] == ""


@pytest.mark.parametrize(
    ("choices", "centred"),
    [
        ({"noise_kind": "negative"}, False),  # (9) subtracts m >= 0
        ({"noise_kind": "positive"}, True),
        ({"noise_kind": "negative", "convention": "paper"}, True),
        ({"noise_kind": "positive", "convention": "paper"}, False),
        ({"noise_kind": "negative", "output_activation": "linear"}, True),
    ],
)
def test_noise_floor_knows_what_the_couplings_can_centre(small, choices, centred):
    flow = nice.Trained(*small(**choices), configuration(**choices))
    assert explore.noise_floor(flow) == pytest.approx(0.01 / (12 if centred else 3) ** 0.5)


@pytest.mark.parametrize("couplings", [3, 4])
@pytest.mark.parametrize("shuffle", ["reverse", "random"])
def test_pixel_sigma_follows_the_shuffles(couplings, shuffle):
    """With couplings that add nothing, dimension i is one pixel over its σ."""
    flow = identity(np.arange(DIM) / 10, couplings=couplings, shuffle=shuffle)
    z = flow.encode(np.eye(DIM, dtype="float32"))  # row: pixel; its one entry: 1/σ
    assert np.allclose(z.max(axis=1), 1 / flow.pixel_sigma, rtol=1e-5)


def test_noise_shows_both_flows_and_how_they_were_trained(figures):
    """Left the one without noise: the same codes, and σ of all pixels twice as large."""
    flow, without = identity(np.full(DIM, 1.4)), identity(np.full(DIM, 1.4 - np.log(2)), noise=0.0)
    known, unknown = {"schedule": {"epochs": 3, "weight_decay": 0.3}}, {}
    for each in (flow, without):
        del each.configuration["schedule"]
    held = flow.configuration, without.configuration
    for own, other, same in ((known, known, True), (known, unknown, False),
                             (unknown, unknown, False)):  # fmt: skip
        flow.configuration, without.configuration = {**held[0], **own}, {**held[1], **other}
        explore.noise(flow, without)
        caption = figures[-1]["caption"]
        recorded = (own is known) + (other is known)
        assert ("Only the noise differs." in caption) == same
        assert caption.count("weight decay 0.3") == recorded
        assert caption.count("not recorded") == 2 - recorded
    left, right = (cells(figures[-1]["image"], 10, side=side).astype(int) for side in (0, 1))
    inside = left < 255
    assert (right > 0).mean() > 0.3 and np.abs(left - 2 * right)[inside].max() <= 2


def test_neighbours_finds_them(labelled, pixels, figures):
    explore.neighbours(labelled, pixels, pixels)
    rows = cells(figures[0]["image"], 16).reshape(2, 2, 16, DIM).astype(int)
    samples, nearest = rows.swapaxes(0, 1).reshape(2, 32, DIM)  # of the prior, of fitted codes
    distances = ((samples[:, None] - pixels) ** 2).sum(axis=2)
    chosen = distances[np.arange(32), ((nearest[:, None] - pixels) ** 2).sum(axis=2).argmin(axis=1)]
    assert all((pixels == row).all(axis=1).any() for row in nearest)
    assert (chosen <= distances.min(axis=1) * 1.02 + 99).all()  # the samples shown are rounded


def test_likely_shows_the_extremes(pixels, figures):
    """Of an identity the likelihood falls with the sum of squares."""
    explore.likely(identity(np.zeros(DIM)), pixels, pixels, columns=4)
    rows = cells(figures[0]["image"], 4).reshape(16, DIM)
    order = np.argsort((pixels.astype(float) ** 2).sum(axis=1))
    assert are(rows, pixels[np.r_[order[:8], order[::-1][:8]]])


def test_convention_trains_both_ways(tmp_path, pixels, figures):
    np.savez(tmp_path / "data.npz", x_train=pixels.reshape(-1, H, W))
    source = data.load(str(tmp_path / "data.npz"))
    assert explore.convention(source, units=8, depth=1, epochs=1).std() > 1
    shares = [int(label.split()[2]) for label in figures[0]["top"]]
    assert shares[0] < shares[1]  # (7) decodes by adding m >= 0, (9) by subtracting it


def test_masks_hide_what_they_say():
    found = inpainting.masks(28, 28)
    assert len(found) == 12
    for name, share in (("top", 0.5), ("odd columns", 0.5), ("middle rows", 0.5),
                        ("random 90 %", 0.9)):  # fmt: skip
        assert found[name].mean() == pytest.approx(share, abs=0.03)
    for one, other in [("top", "bottom"), ("left", "right"), ("even rows", "odd rows")]:
        assert np.array_equal(found[one], ~found[other])
    assert found["top"][0].all() and not found["top"][-1].any()


def test_inpainting_moves_hidden_pixels_only_and_uphill(flow, pixels, capsys):
    x = flow.scale(pixels)
    mean = x.mean(axis=0)
    image, frames = explore.inpaint(flow, pixels, pixels, each=2, steps=20, every=5)
    assert image.ndim == 3 and len(frames) == 4 + 20
    assert capsys.readouterr().out.count("0.") >= 2 * 12  # two errors a mask
    triples = cells(frames[-1], 12).reshape(12, 2, 3, DIM)  # true, masked, filled
    for name, (true, masked, filled) in zip(inpainting.masks(*SHAPE), np.moveaxis(triples, 2, 1)):
        hidden = inpainting.masks(*SHAPE)[name].ravel()
        assert np.array_equal(true[:, ~hidden], filled[:, ~hidden]), name
        assert len(np.unique(masked[:, hidden])) <= 1 < len(np.unique(filled)), name
    gradient = inpainting.log_likelihood_gradient(flow.encoder, flow.prior)
    mask = np.tile(np.arange(DIM) % 3 == 0, (len(x), 1))
    quiet = type("Quiet", (), {"standard_normal": staticmethod(np.zeros)})  # no ε: only uphill
    ascent = list(inpainting.ascend(gradient, flow.pixel_sigma, x, mask, mean, quiet, 20))
    first, last = ascent[0], ascent[-1]
    assert len(ascent) == 21 and 0 <= last.min() and last.max() <= 1
    assert all(np.array_equal(y[~mask], x[~mask]) for y in ascent)
    assert flow.log_likelihood(last).mean() > flow.log_likelihood(first).mean() + 0.1


def test_captions_do_not_blur_the_picture():
    image = np.arange(60 * 80, dtype="uint8").reshape(60, 80)
    figure = pictures.captioned(image, "title", "caption", left=["a"], top=["b"])
    windows = np.lib.stride_tricks.sliding_window_view(figure[..., 0], image.shape)
    assert (windows == image).all(axis=(2, 3)).any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_stand_beside_their_rows(side):
    image = np.zeros((60, 80), "uint8")
    figure = pictures.captioned(image, "title", "caption", **{side: ["", "label"]})[..., 0]
    dark = figure < 128
    inside = np.flatnonzero((figure == 0).sum(axis=0) >= 60)
    first, last = inside.min(), inside.max()
    top = np.flatnonzero((figure == 0).sum(axis=1) >= 80).min()
    beside = dark[top : top + 60, :first] if side == "left" else dark[top : top + 60, last + 1 :]
    assert not beside[:30].any() and beside[30:].any()


def test_the_script(small, tmp_path, pixels):
    save(tmp_path / "w.safetensors", small()[0])
    np.savez(tmp_path / "data.npz", x_train=pixels.reshape(-1, H, W))
    flags = ["--weights", "w.safetensors", "--data", "data.npz", "--output", "out"]
    result = script("explore.py", "interpolate", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert imageio.imread(tmp_path / "out" / "interpolate.png").ndim == 3
    assert len(imageio.imread(tmp_path / "out" / "interpolate.gif", index=None)) > 10
