"""Each layer: its formula, its inverse, its log-determinant, its configuration."""

import keras
import numpy as np
import pytest
from conftest import DIM, jacobian, log_det, numpy

from layers import Concat, Couple, Noise, Scale, Shuffle, Split


@keras.saving.register_keras_serializable("tests")
def own_m(half):
    return keras.layers.Dense(half)


def couple(**choices):
    """A coupling with weights that matter, biases included."""
    layer = Couple(**{"units": 16, "depth": 2, **choices})
    layer.build([(None, DIM // 2)] * 2)
    rng = np.random.default_rng(0)
    for v in layer.weights:
        v.assign(rng.standard_normal(v.shape) * v.shape[0] ** -0.5)
    return layer


def scale():
    layer = Scale()
    layer.build((None, DIM))
    layer.log_scale.assign(np.linspace(-1, 5.2, DIM)[None])
    return layer


def halves(x):
    return x[:, 0::2], x[:, 1::2]


ONE_TO_ONE = {
    "reverse": Shuffle,
    "random": lambda: Shuffle("random", seed=3),
    "scale": scale,
}


@pytest.mark.parametrize("make", ONE_TO_ONE.values(), ids=ONE_TO_ONE)
def test_round_trip_and_log_determinant(make, x):
    layer = make()
    y, stated = layer(x)
    back, undone = layer(y, inverse=True)
    assert np.abs(numpy(back) - x).max() <= 1e-5
    assert np.abs(numpy(layer(layer(x, inverse=True)[0])[0]) - x).max() <= 1e-5
    assert not np.allclose(numpy(y), x)
    assert log_det(lambda row: layer(row)[0], x[0]) == pytest.approx(float(stated), abs=1e-4)
    assert float(undone) == -float(stated)


def test_shuffle_reverses(x):
    assert np.array_equal(numpy(Shuffle()(x)[0]), x[:, ::-1])


def test_shuffle_keeps_its_random_permutation_in_its_configuration(x):
    layer = Shuffle("random", seed=3)
    y = numpy(layer(x)[0])
    permutation = layer.get_config()["permutation"]
    assert sorted(permutation) == list(range(DIM)) and permutation != list(range(DIM))
    assert np.array_equal(y, x[:, permutation])
    assert not np.array_equal(y, numpy(Shuffle("random", seed=4)(x)[0]))
    # The permutation, not the seed, is what counts once it is drawn.
    other = Shuffle.from_config({**layer.get_config(), "seed": 99})
    assert np.array_equal(numpy(other(x)[0]), y)


@pytest.mark.parametrize("bad", [{"mode": "sideways"}, {"permutation": [0, 0, 1]}])
def test_shuffle_refuses(bad):
    with pytest.raises(ValueError, match="Received"):
        Shuffle(**bad)


def test_split_interleaves_and_concat_undoes_it(x):
    (x1, x2), _ = Split()(x)
    assert np.array_equal(numpy(x1), x[:, 0::2]) and np.array_equal(numpy(x2), x[:, 1::2])
    for whole, _ in (Concat()((x1, x2)), Split()((x1, x2), inverse=True)):
        assert np.array_equal(numpy(whole), x)
    (y1, y2), _ = Concat()(x, inverse=True)
    assert np.array_equal(numpy(y1), x[:, 0::2]) and np.array_equal(numpy(y2), x[:, 1::2])


@pytest.mark.parametrize("call", [lambda x: Split()(x), lambda x: Concat()(x, inverse=True)])
def test_an_odd_number_of_dimensions_is_refused(call, x):
    with pytest.raises(ValueError, match="even number of dimensions"):
        call(x[:, :-1])


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("convention", ["article", "paper"])
def test_couple_round_trip_and_unit_determinant(convention, activation, x):
    layer = couple(convention=convention, output_activation=activation)
    split = Split()
    y, stated = layer(halves(x))
    assert not np.allclose(numpy(y[1]), x[:, 1::2])
    back, undone = layer(y, inverse=True)
    assert np.abs(numpy(split(back, inverse=True)[0]) - x).max() <= 1e-5

    def function(row):
        return split(layer(split(row)[0])[0], inverse=True)[0]

    sign, log_determinant = np.linalg.slogdet(jacobian(function, x[0]))
    assert sign == 1 and log_determinant == pytest.approx(0, abs=1e-4)
    assert float(stated) == float(undone) == 0  # (8)


def test_formula_9_encodes_and_formula_7_decodes(x):
    layer = couple()
    m = numpy(layer.m(x[:, 0::2]))
    assert (m >= 0).all() and (m > 0).any()  # m ends in relu
    (h1, h2), _ = layer(halves(x))
    assert np.array_equal(numpy(h1), x[:, 0::2])
    assert np.allclose(numpy(h2), x[:, 1::2] - m, atol=1e-6)  # (9)
    (h1, h2), _ = layer(halves(x), inverse=True)
    assert np.array_equal(numpy(h1), x[:, 0::2])
    assert np.allclose(numpy(h2), x[:, 1::2] + m, atol=1e-6)  # (7)


def test_the_papers_convention_is_the_other_way_round(x):
    layer = couple(convention="paper", output_activation="linear")
    m = numpy(layer.m(x[:, 0::2]))
    assert (m < 0).any()  # linear output
    assert np.allclose(numpy(layer(halves(x))[0][1]), x[:, 1::2] + m, atol=1e-6)
    assert np.allclose(numpy(layer(halves(x), inverse=True)[0][1]), x[:, 1::2] - m, atol=1e-6)


def test_couple_network_has_the_width_and_depth_asked_for():
    kernels = [v.shape for v in couple(units=7, depth=3).weights if v.name == "kernel"]
    assert kernels == [(DIM // 2, 7), (7, 7), (7, 7), (7, DIM // 2)]


def test_couple_dropout_acts_in_training_only(x):
    layer = couple(dropout=0.5)
    first, again = (numpy(layer(halves(x))[0][1]) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, numpy(layer(halves(x), training=True)[0][1]))


@pytest.mark.parametrize("bad", [{"convention": "neither"}, {"units": 0}, {"depth": -1}])
def test_couple_refuses(bad, x):
    with pytest.raises(ValueError, match="Received"):
        Couple(**bad)(halves(x))


def test_scale_multiplies_by_s(x):
    y, stated = scale()(x)
    log_scale = np.linspace(-1, 5.2, DIM)
    assert np.allclose(numpy(y), x * np.exp(log_scale), rtol=1e-5)  # (14)
    assert float(stated) == pytest.approx(log_scale.sum(), rel=1e-6)


def test_noise_is_uniform_within_its_bounds_and_in_training_only(x):
    layer = Noise(seed=0)
    assert np.array_equal(numpy(layer(x)), x)
    noise = numpy(layer(x, training=True)) - x
    assert -0.01 - 1e-6 <= noise.min() and noise.max() <= 1e-6
    assert noise.mean() == pytest.approx(-0.005, abs=5e-4)
    assert noise.std() == pytest.approx(0.01 / 12**0.5, rel=0.1)
    assert not np.array_equal(noise, numpy(layer(x, training=True)) - x)


def test_noise_repeats_with_its_seed(x):
    first, second, other = (numpy(Noise(seed=s)(x, training=True)) for s in (5, 5, 6))
    assert np.array_equal(first, second) and not np.array_equal(first, other)


def test_gaussian_noise_has_its_width(x):
    noise = numpy(Noise(0.1, "gaussian", seed=0)(x, training=True)) - x
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(0.1, rel=0.1) and noise.max() > 0.15


@pytest.mark.parametrize("bad", [{"width": -0.1}, {"width": float("nan")}, {"kind": "loud"}])
def test_noise_refuses(bad):
    with pytest.raises(ValueError, match="Received"):
        Noise(**bad)


@pytest.mark.parametrize(
    "layer",
    [
        Noise(0.02, "positive", seed=4, name="noise"),
        Noise(0.1, "gaussian"),
        Shuffle(),
        Shuffle("random", seed=8),
        Split(),
        Concat(),
        Couple(None, "paper", 7, 3, "linear", 0.2),
        Couple(own_m),
        Scale(),
    ],
    ids=lambda layer: layer.__class__.__name__,
)
def test_configuration_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
