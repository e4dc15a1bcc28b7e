"""Every picture on a tiny flow: shape, content, and what its caption claims."""

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import DIM
from test_checkpoint import with_model
from test_scripts import script

import codes
import explore
import nice
from support import checkpoint, data, inpainting, options, pictures, quality
from trained import Trained

H, W = 3, 4


@pytest.fixture
def flow(small):
    return Trained(*small(), with_model())


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (80, DIM)).astype("uint8")


def shows(image, *tiles):
    """Whether a figure, (H, W, 3) uint8, holds these images pixel for pixel, none of them flat."""
    assert image.dtype == np.uint8 and image.ndim == 3
    return all(tile.std() > 1 and _position(image[..., 0], tile) for tile in tiles)


def _position(image, tile):
    height, width = tile.shape
    first = tile[height // 2]
    windows = np.lib.stride_tricks.sliding_window_view(image, width, axis=1)
    places = np.argwhere((windows == first).all(axis=-1)) - [height // 2, 0]
    return any(
        y >= 0 and np.array_equal(image[y : y + height, x : x + width], tile) for y, x in places
    )


@pytest.fixture
def drawn(monkeypatch):
    """The tiles that a picture was made of, as they come."""
    tiles, tile = [], pictures.captioned
    monkeypatch.setattr(
        pictures, "captioned", lambda image, *a, **k: tiles.append(image) or tile(image, *a, **k)
    )
    return tiles


@pytest.fixture
def with_codes(flow, pixels):
    """The flow with codes of three classes."""
    flow.codes = codes.fit(flow.encode(flow.scale(pixels)), np.arange(80) % 3 + 4)
    return flow


@pytest.fixture
def labels(monkeypatch):
    """The labels beside the rows of a picture, left and right, as they come."""
    found, captioned = [], pictures.captioned

    def note(*arguments, left=(), right=(), **others):
        found.append((list(left), list(right)))
        return captioned(*arguments, left=left, right=right, **others)

    monkeypatch.setattr(pictures, "captioned", note)
    return found


def test_digits_shows_a_row_a_class_beside_as_many_of_the_prior(with_codes, labels):
    flow, rng = with_codes, np.random.default_rng(1)
    prior = flow.decode(flow.draw(15, 0.75, 1))
    fitted = flow.decode(flow.codes.draw(np.repeat([4, 5, 6], 5), rng))
    image = explore.digits(flow, seed=1, columns=5)
    assert shows(image, flow.tile(prior, 5), flow.tile(fitted, 5))
    assert labels == [([], ["4", "5", "6"])]


def test_digits_without_labels_shows_a_square(flow, pixels, labels):
    flow.codes = codes.fit(flow.encode(flow.scale(pixels)))
    fitted = flow.decode(flow.codes.draw(np.zeros(16), np.random.default_rng(0)))
    assert shows(explore.digits(flow, columns=4), flow.tile(fitted, 4))
    assert labels == [([], [])]


def test_temperature(with_codes, labels):
    flow = with_codes
    x = flow.decode(np.concatenate([s / 10 * flow.draw(10, 1.0, 0) for s in range(4, 13)]))
    wanted, steps = np.resize([4, 5, 6], 10), options.TEMPERATURE * np.arange(9) / 4
    z = [flow.codes.draw(wanted, np.random.default_rng(0), T) for T in steps]
    fitted = flow.decode(np.concatenate(z))
    assert shows(explore.temperature(flow), flow.tile(x, 10), flow.tile(fitted, 10))
    ((left, right),) = labels
    assert left[0] == "σ = 0.4" and right[0] == "T = 0.00"
    assert right[4] == f"T = {options.TEMPERATURE:.2f}" and len(left) == len(right) == 9
    assert not np.array_equal(explore.temperature(flow, 1), explore.temperature(flow, 2))


def identity(picture, log_scale, levels=255):
    """A flow whose code is the picture, dimension by dimension over σ = exp(-log_scale)."""
    dim = picture[0] * picture[1]
    encoder, decoder = nice.build(dim=dim, couplings=2, units=4, depth=1)
    for v in encoder.weights[:-1]:
        v.assign(np.zeros(v.shape))
    encoder.weights[-1].assign(log_scale[None])
    held = with_model(dim=dim, couplings=2, units=4, depth=1)
    return Trained(encoder, decoder, {**held, "picture": picture, "levels": levels})


@pytest.mark.parametrize("levels", [255, 256])
def test_reduce_keeps_the_widest_dimensions(pixels, labels, levels):
    """Of an identity the rest at 0 is black: what the error must be is known."""
    flow = identity((H, W), np.arange(DIM, dtype="float32") / 10, levels)  # pixel 0 is the widest
    image = explore.reduce(flow, pixels, pixels, legible=False, columns=4, kept=(2, 6, DIM))
    ((left, right),) = labels
    errors = [((pixels[:, k:] / 255.0) ** 2).sum(axis=1).mean() for k in (2, 6)]
    assert left == ["true", *(f"{k}:  {error:.1f}" for k, error in zip((2, 6), errors))]
    x = pixels / 255.0
    _, values, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    for label, k in zip(right[1:], (2, 6)):
        back = np.clip(x.mean(axis=0) + (x - x.mean(axis=0)) @ axes[:k].T @ axes[:k], 0, 1)
        assert label == f"{k}:  {((back - x) ** 2).sum(axis=1).mean():.1f}"
    chosen = np.random.default_rng(0).choice(80, 4, replace=False)
    rows = [np.where(np.arange(DIM) < k, x[chosen], 0) for k in (DIM, 2, 6)]
    assert shows(image, flow.tile(np.concatenate(rows).astype("float32"), 4))


def test_reduce_says_what_is_still_read(labels):
    mnist = data.load()
    flow = identity((28, 28), -np.linspace(0, 1, 784, dtype="float32"))  # the lower half is wider
    explore.reduce(flow, mnist.x_train[:3000], mnist.x_test[:300], columns=4, kept=(5, 783))
    ((left, right),) = labels
    assert left[2] == "783:  0.0,  100 %" and right[2] == "783:  0.0,  100 %"
    assert int(left[1].split()[-2]) < 30 < int(right[1].split()[-2])


def test_interpolation_ends_at_the_digits(flow, pixels, drawn):
    image, frames = explore.interpolate(flow, pixels, rows=8)
    (tile,) = drawn
    assert shows(image, tile)
    assert len({frame.shape for frame in frames}) == 1
    chosen = np.random.default_rng(0).choice(len(pixels), 16, replace=False)
    ends = [flow.tile(flow.scale(pixels[part]), 4, factor=3) for part in (chosen[:8], chosen[8:])]
    for frame, end in zip((frames[0], frames[len(frames) // 2]), ends):
        assert np.abs(frame.astype(int) - end).max() <= 1


def test_traverse_moves_one_dimension_at_a_time(flow, pixels, drawn):
    image = explore.traverse(flow, pixels, rows=3, columns=5)
    (tile,) = drawn
    assert shows(image, tile)

    def cell(row, column):  # margins of 2, enlarged twice
        top, left = 2 * (2 + row * (H + 2)), 2 * (2 + column * (W + 2))
        return tile[top : top + 2 * H, left : left + 2 * W]

    for row in range(4):  # three wide dimensions and the narrowest
        assert np.array_equal(cell(row, 2), cell(0, 2))  # the digit itself
        assert not np.array_equal(cell(row, 0), cell(row, 4)) or row == 3


def test_spectrum_counts_the_collapsed(flow, monkeypatch):
    log_scale = flow.encoder.flow[-1].log_scale
    floor = explore.noise_floor(flow)
    sigma = np.r_[np.full(5, floor), np.full(DIM - 5, 10 * floor)].astype("float32")
    log_scale.assign(-np.log(sigma)[None])
    titles = []
    render = pictures.render
    monkeypatch.setattr(
        pictures, "render", lambda f: titles.append(f.axes[0].get_title()) or render(f)
    )
    assert explore.spectrum(flow).std() > 1
    assert titles[0].startswith(f"5 of {DIM} ")


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
    flow = Trained(*small(**choices), with_model(**choices))
    assert explore.noise_floor(flow) == pytest.approx(0.01 / (12 if centred else 3) ** 0.5)


@pytest.mark.parametrize("couplings", [3, 4])
@pytest.mark.parametrize("shuffle", ["reverse", "random"])
def test_pixel_sigma_follows_the_shuffles(small, couplings, shuffle):
    """With couplings that add nothing, dimension i is one pixel over its σ."""
    choices = {"couplings": couplings, "shuffle": shuffle}
    encoder, decoder = small(**choices)
    for v in encoder.weights[:-1]:
        v.assign(np.zeros(v.shape))
    flow = Trained(encoder, decoder, with_model(**choices))
    z = flow.encode(np.eye(DIM, dtype="float32"))  # row: pixel; its one entry: 1/σ
    assert np.allclose(z.max(axis=1), 1 / flow.pixel_sigma(), rtol=1e-5)


def test_noise_says_how_both_were_trained(flow, small, drawn, monkeypatch):
    captions, captioned = [], pictures.captioned
    monkeypatch.setattr(
        pictures, "captioned", lambda *a, **k: captions.append(a[2]) or captioned(*a, **k)
    )
    known, unknown = {"schedule": {"epochs": 3, "weight_decay": 0.3}}, {}
    for own, others, same in ((known, known, True), (known, unknown, False),
                              (unknown, unknown, False)):  # fmt: skip
        flow.configuration = {**with_model(), **own}
        without = Trained(*small(noise=0), {**with_model(noise=0), **others})
        image = explore.noise(flow, without)
        assert shows(image, drawn[-1])
        assert ("Only the noise differs." in captions[-1]) == same
        assert captions[-1].count("weight decay 0.3") == bool(own) + bool(others)
        assert captions[-1].count("not recorded") == (not own) + (not others)
        left, right = (f.tile(f.decode(f.draw(100, 0.75, 0)), 10) for f in (without, flow))
        assert shows(image, left, right)


def test_neighbours_finds_them(flow, pixels):
    x = flow.scale(pixels)
    samples = np.clip(flow.decode(flow.draw(16, 0.75, 0)), 0, 1)
    exact = [((x - row) ** 2).sum(axis=1).argmin() for row in samples]
    assert quality.nearest(samples, pixels)[0].tolist() == exact
    expected = flow.tile(np.concatenate([samples, x[exact]]), 16)
    assert shows(explore.neighbours(flow, pixels, pixels), expected)


def test_likely_shows_the_extremes(flow, pixels):
    x = flow.scale(pixels)
    order = np.argsort(-flow.log_likelihood(x))
    expected = flow.tile(x[np.r_[order[:8], order[::-1][:8]]], 4)
    assert shows(explore.likely(flow, pixels, columns=4), expected)


def test_convention_trains_both_ways(tmp_path, pixels, monkeypatch):
    np.savez(tmp_path / "data.npz", x_train=pixels.reshape(-1, H, W))
    source = data.load(str(tmp_path / "data.npz"))
    shares = []
    captioned = pictures.captioned

    def note(*arguments, top):
        shares.extend(int(label.split()[2]) for label in top)
        return captioned(*arguments, top=top)

    monkeypatch.setattr(pictures, "captioned", note)
    assert explore.convention(source, units=8, depth=1, epochs=1).std() > 1
    assert shares[0] < shares[1]  # (7) decodes by adding m >= 0, (9) by subtracting it


def test_masks_hide_what_they_say():
    found = inpainting.masks(28, 28)
    assert len(found) == 12
    for name, share in {
        "top": 0.5,
        "odd columns": 0.5,
        "middle rows": 0.5,
        "random 90 %": 0.9,
    }.items():
        assert found[name].mean() == pytest.approx(share, abs=0.03)
    for one, other in [("top", "bottom"), ("left", "right"), ("even rows", "odd rows")]:
        assert np.array_equal(found[one], ~found[other])
    assert found["top"][0].all() and not found["top"][-1].any()


def test_inpainting_moves_hidden_pixels_only_and_uphill(flow, pixels, capsys):
    x = flow.scale(pixels)
    mean = x.mean(axis=0)
    image, frames = explore.inpaint(flow, pixels, pixels, each=2, steps=20, every=5)
    assert shows(image, frames[-1]) and len(frames) == 4 + 20
    assert capsys.readouterr().out.count("0.") >= 2 * 12  # two errors a mask
    gradient = inpainting.log_density_gradient(flow.encoder, flow.prior)
    mask = np.tile(np.arange(DIM) % 3 == 0, (len(x), 1))
    quiet = type("Quiet", (), {"standard_normal": staticmethod(np.zeros)})  # no ε: only uphill
    ascent = list(inpainting.ascend(gradient, flow.pixel_sigma(), x, mask, mean, quiet, 20))
    first, last = ascent[0], ascent[-1]
    assert len(ascent) == 21 and 0 <= last.min() and last.max() <= 1
    assert all(np.array_equal(y[~mask], x[~mask]) for y in ascent)
    assert not np.array_equal(first[mask], last[mask])
    assert flow.log_likelihood(last).mean() > flow.log_likelihood(first).mean() + 0.1
    slope = gradient(x)
    assert (flow.log_likelihood(x + 1e-3 * slope) > flow.log_likelihood(x)).all()


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
    encoder, _ = small()
    checkpoint.save(tmp_path / "w.weights.h5", checkpoint.named(encoder), with_model())
    np.savez(tmp_path / "data.npz", x_train=pixels.reshape(-1, H, W))
    flags = ["--weights", "w.weights.h5", "--data", "data.npz", "--output", "out"]
    result = script("explore.py", "interpolate", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert imageio.imread(tmp_path / "out" / "interpolate.png").ndim == 3
    assert len(imageio.imread(tmp_path / "out" / "interpolate.gif", index=None)) > 10
