"""Every picture on a tiny flow: shape, content, and what its caption claims."""

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import DIM
from test_checkpoint import with_model
from test_scripts import script

import explore
import mnist
import nice
import pictures

H, W = 3, 4


@pytest.fixture
def flow(small):
    return explore.Flow(*small(), with_model())


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (80, DIM)).astype("uint8")


def is_picture(image):
    return image.dtype == np.uint8 and image.ndim == 3 and image.std() > 0


def test_temperature(flow):
    assert is_picture(explore.temperature(flow))
    assert np.array_equal(explore.temperature(flow, 1), explore.temperature(flow, 1))
    assert not np.array_equal(explore.temperature(flow, 1), explore.temperature(flow, 2))


def test_interpolation_ends_at_the_digits(flow, pixels):
    image, frames = explore.interpolate(flow, pixels, rows=8)
    assert is_picture(image) and len({frame.shape for frame in frames}) == 1
    chosen = np.random.default_rng(0).choice(len(pixels), 16, replace=False)
    ends = [flow.tile(flow.scale(pixels[part]), 4, factor=3) for part in (chosen[:8], chosen[8:])]
    for frame, end in zip((frames[0], frames[len(frames) // 2]), ends):
        assert np.abs(frame.astype(int) - end).max() <= 1


def test_traverse_and_spectrum(flow, pixels):
    assert is_picture(explore.traverse(flow, pixels))
    assert is_picture(explore.spectrum(flow))


@pytest.mark.parametrize("couplings", [3, 4])
@pytest.mark.parametrize("shuffle", ["reverse", "random"])
def test_pixel_sigma_follows_the_shuffles(small, couplings, shuffle):
    """With couplings that add nothing, dimension i is one pixel over its σ."""
    choices = {"couplings": couplings, "shuffle": shuffle}
    encoder, decoder = small(**choices)
    for v in encoder.weights[:-1]:
        v.assign(np.zeros(v.shape))
    flow = explore.Flow(encoder, decoder, with_model(**choices))
    z = flow.encode(np.eye(DIM, dtype="float32"))  # row: pixel; its one entry: 1/σ
    assert np.allclose(z.max(axis=1), 1 / flow.pixel_sigma(), rtol=1e-5)


def test_noise_and_neighbours_and_likely(flow, small, pixels):
    other = explore.Flow(*small(noise=0), with_model(noise=0))
    assert is_picture(explore.noise(flow, other))
    assert is_picture(explore.neighbours(flow, pixels))
    assert is_picture(explore.likely(flow, pixels))


def test_convention_trains_both_ways(tmp_path, pixels):
    np.savez(tmp_path / "data.npz", x_train=pixels.reshape(-1, H, W))
    data = mnist.load(str(tmp_path / "data.npz"))
    assert is_picture(explore.convention(data, units=8, depth=1, epochs=1))


def test_masks_hide_what_they_say():
    found = explore.masks(28, 28)
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


def test_inpainting_moves_hidden_pixels_only_and_uphill(flow, pixels):
    x = flow.scale(pixels)
    mean = x.mean(axis=0)
    image, frames, errors = explore.inpaint(flow, pixels, mean, each=2, steps=20, every=5)
    assert image.std() > 0 and len(frames) == 4 + 20 and len(errors) == 12
    gradient = explore.log_density_gradient(flow)(x)
    rise = explore.evaluate.log_likelihood(flow.encoder, flow.configuration, x + 1e-3 * gradient)
    level = explore.evaluate.log_likelihood(flow.encoder, flow.configuration, x)
    assert (rise > level).all()


def test_captions_do_not_blur_the_picture():
    image = np.arange(60 * 80, dtype="uint8").reshape(60, 80)
    figure = pictures.captioned(image, "title", "caption", left=["a"], top=["b"])
    windows = np.lib.stride_tricks.sliding_window_view(figure[..., 0], image.shape)
    assert (windows == image).all(axis=(2, 3)).any()


def test_the_script(small, tmp_path, pixels):
    encoder, _ = small()
    nice.save(tmp_path / "w.weights.h5", encoder, with_model())
    np.savez(tmp_path / "data.npz", x_train=pixels.reshape(-1, H, W))
    flags = ["--weights", "w.weights.h5", "--data", "data.npz", "--output", "out"]
    result = script("explore.py", "interpolate", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert imageio.imread(tmp_path / "out" / "interpolate.png").ndim == 3
    assert len(imageio.imread(tmp_path / "out" / "interpolate.gif", index=None)) > 10
