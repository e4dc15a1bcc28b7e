"""Figures of sample quality against closed forms, SciPy and digits whose answer is known."""

import numpy as np
import pytest
from scipy import linalg

from support import checkpoint, data, options, quality
from support.errors import UserError


@pytest.fixture(scope="module")
def mnist():
    return data.load()


@pytest.fixture(scope="module")
def test_digits(mnist):
    return quality.scaled(mnist.x_test[:1000])


def gaussian(rng, count, mean, root):
    return mean + rng.standard_normal((count, len(mean))) @ root.T


def test_frechet_is_that_of_the_gaussians(rng):
    """Diagonal covariances: ‖μ - ν‖² + Σ (√a_i - √b_i)²."""
    mean, a, b = np.arange(5.0), np.array([1, 2, 3, 0.5, 0]), np.array([2, 2, 1, 0, 0.3])
    found = quality.frechet(
        gaussian(rng, 200_000, mean, np.diag(a)), gaussian(rng, 100_000, 0 * mean, np.diag(b))
    )
    assert found == pytest.approx((mean**2).sum() + ((a - b) ** 2).sum(), rel=0.01)


def test_frechet_agrees_with_the_matrix_root(rng):
    x, y = (gaussian(rng, 500, rng.normal(size=8), rng.normal(size=(8, 8))) for _ in range(2))
    a, b = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    assert quality.frechet(x, y) == pytest.approx(expected, rel=1e-9)
    assert quality.frechet(y, x) == pytest.approx(expected, rel=1e-9)


def test_a_set_is_no_distance_from_itself(rng):
    x = rng.random((100, 64)).astype("float32")  # of deficient rank in parts, as features are
    x[:, ::3] = 0
    assert abs(quality.frechet(x, x[::-1])) < 1e-6


def test_entropy_lies_between_one_digit_and_all():
    assert quality.entropy(np.full(50, 7)) == 0
    assert quality.entropy(np.arange(1000) % 10) == pytest.approx(np.log(10))
    assert quality.entropy(np.arange(1000) % 2) == pytest.approx(np.log(2))


def test_nearest_finds_a_copy_and_what_is_a_step_away(mnist):
    pixels = mnist.x_train[:12_000]  # two parts
    chosen = np.array([3, 10_500])
    x = quality.scaled(pixels[chosen])
    index, distance = quality.nearest(x, pixels)
    assert index.tolist() == chosen.tolist() and (distance == 0).all()
    step = np.zeros_like(x)
    step[:, 400] = 0.25
    index, distance = quality.nearest(x + step, pixels)
    assert index.tolist() == chosen.tolist() and np.allclose(distance, 0.25)


def test_the_classifier_reads_digits_on_every_backend(mnist, test_digits):
    probabilities, features = quality.read(test_digits)
    assert probabilities.shape == (1000, 10) and features.shape == (1000, 64)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5) and (features >= 0).all()
    right = probabilities.argmax(axis=1) == mnist.y_test[:1000]
    assert right.mean() > 0.985
    # What TensorFlow found, on two pictures: other backends find the same.
    assert np.abs(features[:2].sum(axis=1) - [71.4085, 80.4593]).max() < 1e-3
    configuration, arrays = checkpoint.read(quality.CLASSIFIER)
    assert sum(a.size for a in arrays.values()) * 2 < 1e6


def test_precision_and_recall_are_those_of_their_definition(rng):
    """Against plain loops over balls, in float64."""
    fakes, reals = rng.normal(size=(60, 4)), rng.normal(1.0, 1.3, size=(50, 4))

    def share(of, among):
        def reaches(i):
            distances = np.linalg.norm(among - among[i], axis=1)
            return np.sort(np.delete(distances, i))[2]

        inside = [
            any(np.linalg.norm(one - ball) <= reaches(i) for i, ball in enumerate(among))
            for one in of
        ]
        return np.mean(inside)

    expected = share(fakes, reals), share(reals, fakes)
    assert 0.1 < min(expected) and max(expected) < 0.99
    assert quality.precision_recall(fakes, reals) == pytest.approx(expected)
    assert quality.precision_recall(reals, fakes) == pytest.approx(expected[::-1])


def test_a_mode_left_out_costs_recall_and_one_made_up_precision(rng):
    """Two far clusters against one of them: ½."""
    both = rng.normal(size=(2000, 3)) + 100 * (np.arange(2000) % 2)[:, None]
    one = rng.normal(size=(1000, 3))
    precision, recall = quality.precision_recall(one, both)
    assert precision > 0.9 and recall == pytest.approx(0.5, abs=0.05)
    precision, recall = quality.precision_recall(both, one)
    assert recall > 0.9 and precision == pytest.approx(0.5, abs=0.05)


def test_nearer_is_a_half_for_what_knows_neither_set_and_one_for_copies(rng):
    training, test, fresh = (rng.normal(size=(3000, 5)).astype("float32") for _ in range(3))
    expected = [
        np.linalg.norm(training - x, axis=1).min() < np.linalg.norm(test - x, axis=1).min()
        for x in fresh[:300]
    ]
    assert quality.nearer(fresh[:300], training, test) == pytest.approx(np.mean(expected))
    assert quality.nearer(fresh, training, test) == pytest.approx(0.5, abs=0.04)
    assert quality.nearer(training[:500] + 1e-3, training, test) > 0.99
    assert quality.nearer(test[:500], training, test) < 0.01
    assert quality.nearer(fresh, training, training) == 0.5  # ties


def test_figures_of_digits_and_of_noise(mnist, rng):
    test = quality.Reference.of(mnist.x_test[:1000])
    training = quality.Reference.of(mnist.x_train[:1000])
    x, labels = quality.scaled(mnist.x_train[2000:2300]), mnist.y_train[2000:2300]
    found = quality.figures(x, test, training, labels, count=300)
    assert found["as_asked"] > 0.97 and found["confidence"] > 0.97
    assert 2.2 < found["entropy"] <= np.log(10)
    assert found["precision"] > 0.6 < found["recall"]
    assert abs(found["nearer"] - 0.5) < 0.1 > abs(found["nearer_features"] - 0.5)
    copies = quality.figures(training.x[:300], test, training)
    assert copies["nearer"] > 0.99 < copies["nearer_features"]
    other = quality.figures(x, test, None, (labels + 1) % 10, count=300)
    assert other["as_asked"] < 0.03 and other["nearer"] is other["nearer_features"] is None
    noise = quality.figures(rng.random((300, 784), "float32"), test, training, count=300)
    assert noise["distance"] > 5 * found["distance"]
    assert noise["as_asked"] is None


def test_only_digits_are_digits(mnist):
    assert quality.are_digits(mnist)
    assert not quality.are_digits(mnist._replace(y_test=None))
    assert not quality.are_digits(mnist._replace(x_test=None, y_test=None))
    assert not quality.are_digits(mnist._replace(shape=(14, 56)))
    assert not quality.are_digits(mnist._replace(y_test=np.roll(mnist.y_test, 1)))


def test_a_missing_classifier_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(quality, "CLASSIFIER", options.WEIGHTS + "/none.safetensors")
    with pytest.raises(UserError, match="tools/classifier.py"):
        quality.classifier.__wrapped__()


def test_principal_components_are_those_of_the_covariance(rng):
    x = rng.integers(0, 256, (11_000, 6)).astype("uint8")
    x[:, 3] = x[:, 0]
    mean, components = quality.principal(x)
    scaled = x / 255
    assert np.allclose(mean, scaled.mean(axis=0), atol=1e-6)
    spread = ((scaled - mean) @ components.T).var(axis=0)
    assert np.allclose(spread, np.linalg.eigvalsh(np.cov(scaled.T, bias=True))[::-1])
    assert spread[0] > 1.5 * spread[1] and spread[-1] < 1e-5
