"""The flow as a whole: inverse, likelihood, shared weights, the article's numbers."""

import copy
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import DIM, ROOT, SMALL, configuration, jacobian, log_det, numpy, randomize
from keras import ops
from scipy import stats

import nice
from layers import Concat, Scale, Shuffle, Split
from support import inpainting, options
from support.optimizer import Adam


@pytest.mark.parametrize("convention", ["article", "paper"])
@pytest.mark.parametrize("shuffle", ["reverse", "random"])
def test_decoder_inverts_encoder(small, x, shuffle, convention):
    encoder, decoder = small(shuffle=shuffle, convention=convention)
    z = encoder(x)
    assert not np.allclose(numpy(z), x, atol=0.1)
    assert np.abs(numpy(decoder(z)) - x).max() <= 1e-5
    assert np.abs(numpy(encoder(decoder(x))) - x).max() <= 1e-5


def test_log_determinant_is_that_of_the_jacobian(small, x):
    encoder, _ = small()
    for row in x[:3]:  # the same for every x
        _, stated = encoder.map(row[None])
        assert log_det(encoder, row) == pytest.approx(float(stated), abs=1e-4)
        assert float(stated) == pytest.approx(numpy(encoder.weights[-1]).sum(), abs=1e-5)


def test_every_dimension_is_moved(small, x):
    """(13): crossed couplings leave no half of x untouched, as (12) would."""
    encoder, _ = small(output_activation="linear")
    touched = np.abs(jacobian(encoder, x[0])) > 1e-7
    assert (touched.sum(axis=0) > 1).all() and (touched.sum(axis=1) > 1).all()


@pytest.mark.parametrize("prior", ["gaussian", "logistic"])
def test_loss_is_formula_15_as_a_batch_mean(small, x, prior):
    encoder, _ = small()
    encoder.compile(loss=nice.PRIORS[prior])
    loss = encoder.evaluate(x, x, batch_size=20, verbose=0)  # 20 and then 12
    z = numpy(encoder(x)).astype("float64")
    log_density = {
        "gaussian": stats.norm.logpdf(z).sum(axis=1) + 0.5 * DIM * np.log(2 * np.pi),
        "logistic": stats.logistic.logpdf(z).sum(axis=1),
    }[prior]
    log_determinant = numpy(encoder.weights[-1]).astype("float64").sum()
    assert loss == pytest.approx(-(log_density + log_determinant).mean(), rel=1e-5)


def test_encoder_and_decoder_share_their_weights(small, x):
    encoder, decoder = small()
    assert {id(v) for v in encoder.weights} == {id(v) for v in decoder.weights}
    before = numpy(decoder(x))
    randomize(encoder, seed=1)
    assert not np.allclose(before, numpy(decoder(x)))


def test_training_the_encoder_trains_the_decoder(small, x):
    encoder, decoder = small()
    encoder.compile(loss=nice.gaussian, optimizer=Adam(1e-2))
    before = numpy(decoder(x))
    encoder.fit(x, x, epochs=2, verbose=0)
    assert not np.allclose(before, numpy(decoder(x)))
    assert np.abs(numpy(decoder(encoder(x))) - x).max() <= 1e-5


def test_three_lines_of_keras_train_a_flow(rng):
    """The module docstring's, to the letter, on pictures of strokes that have a density."""
    lines = [line.split("#")[0].strip() for line in nice.__doc__.splitlines()]
    start = lines.index("encoder, decoder = nice.build()")
    build, *train = lines[start : start + 3]
    names = {"nice": nice, "x": rng.random((256, 784), dtype="float32").round(1) / 10}
    exec(build, names)
    assert names["encoder"].count_params() == 19_158_352
    small = nice.build(units=16, depth=1)  # the article's takes too long here
    names["encoder"], names["decoder"] = small
    for line in train:
        exec(line.replace("epochs=20", "epochs=3, verbose=0"), names)
    losses = names["encoder"].history.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    x = names["x"][:9]
    assert np.abs(numpy(small[1](small[0](x))) - x).max() <= 1e-5


def test_dropout_acts_through_the_flow_in_training_only(small, x):
    encoder, decoder = small(dropout=0.5, noise=0)
    assert np.array_equal(numpy(encoder(x)), numpy(encoder(x)))
    assert not np.allclose(numpy(encoder(x)), numpy(encoder(x, training=True)))
    encoder, _ = small(dropout=0.0, noise=0)
    assert np.array_equal(numpy(encoder(x)), numpy(encoder(x, training=True)))


def test_defaults_of_the_flags_are_the_articles_model():
    """`nice.build()` and `python nice.py` build the same flow."""
    model = options.configuration(vars(options.training([])), 784, (28, 28))["model"]
    flows = [nice.build(**choices)[0].get_config() for choices in (model, {"seed": 0})]
    for flow in flows:
        flow.pop("name")
    assert flows[0] == flows[1]


def test_noise_is_on_in_training_only_and_never_in_the_decoder(small, x):
    encoder, decoder = small(noise=0.1)
    assert np.array_equal(numpy(encoder(x)), numpy(encoder(x)))
    assert not np.allclose(numpy(encoder(x)), numpy(encoder(x, training=True)))
    assert np.array_equal(numpy(decoder(x)), numpy(decoder(x, training=True)))
    encoder, _ = small(noise=0)
    assert np.array_equal(numpy(encoder(x)), numpy(encoder(x, training=True)))


@pytest.mark.parametrize("kind", ["negative", "positive", "gaussian"])
def test_noise_kinds(kind):
    encoder, _ = nice.build(**{**SMALL, "noise": 0.1, "noise_kind": kind})
    noise = numpy(encoder.noise(np.zeros((200, DIM), "float32"), training=True))
    low, high = {"negative": (-0.1, 0), "positive": (0, 0.1), "gaussian": (-0.6, 0.6)}[kind]
    assert low <= noise.min() and noise.max() <= high and noise.std() > 0.02
    assert (noise.min() < 0) == (kind != "positive") and (noise.max() > 0) == (kind != "negative")


def test_the_articles_model():
    encoder, decoder = nice.build()
    assert encoder.count_params() == 19_158_352
    m = [(392, 1000), (1000,)] + [(1000, 1000), (1000,)] * 4 + [(1000, 392), (392,)]
    assert [w.shape for w in encoder.get_weights()] == 4 * m + [(1, 784)]
    order = [f"coupling_{i}/m/dense_{j}" for i in (1, 2, 3, 4) for j in range(1, 7)]
    found = [v.path.split("/", 1)[1] for v in encoder.weights]
    assert found == [f"{n}/{k}" for n in order for k in ("kernel", "bias")] + ["scale/log_scale"]
    assert encoder.noise.bounds == (-0.01, 0.0)
    assert decoder.noise is None
    for i in range(1, 5):
        layer = encoder.maps[4 * i - 2]
        assert layer.is_positive and layer.convention == "article"


def test_scale_pace_moves_log_scale_and_nothing_else(small, x):
    moved = {}
    for pace in (1.0, 10.0):
        encoder, _ = small(noise=0)
        before = encoder.get_weights()
        encoder.compile(loss=nice.gaussian, optimizer=Adam(1e-4, scale_pace=pace))
        encoder.fit(x, x, epochs=1, verbose=0)  # one step
        moved[pace] = [after - b for after, b in zip(encoder.get_weights(), before)]
    assert np.allclose(moved[10.0][-1], 10 * moved[1.0][-1], rtol=0.01, atol=0)
    for slow, fast in zip(moved[1.0][:-1], moved[10.0][:-1]):
        assert np.allclose(slow, fast, atol=1e-7)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_at_pace_1_is_keras_adam(small, x, amsgrad):
    weights, choices = [], {"weight_decay": 0.1, "epsilon": 1e-4, "amsgrad": amsgrad}
    for kind in (Adam, keras.optimizers.Adam):
        encoder, _ = small(noise=0)
        own = {"scale_pace": 1.0} if kind is Adam else {}
        optimizer = kind(1e-2, **choices, **own)
        if kind is not Adam:
            optimizer.exclude_from_weight_decay(var_names=["log_scale", "bias"])
        encoder.compile(loss=nice.gaussian, optimizer=optimizer)
        encoder.fit(x, x, epochs=5, batch_size=8, shuffle=False, verbose=0)
        weights.append(encoder.get_weights())
    for ours, theirs in zip(*weights):
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prior", nice.PRIORS)
def test_codes_follow_the_prior_and_the_seed(small, prior):
    trained = nice.Trained(*small(), configuration(prior=prior))
    z = trained.sample_codes(4000, 0.75, seed=0)
    assert z.dtype == np.float32
    assert z.std() == pytest.approx(0.75 * trained.prior.std, rel=0.02)
    assert np.array_equal(z, trained.sample_codes(4000, 0.75, seed=0))
    assert not np.array_equal(z, trained.sample_codes(4000, 0.75, seed=1))


# ------------------------------------------------------------------- a reader's own maps


class Affine(keras.layers.Layer):
    """RealNVP's coupling: its log-determinant depends on x."""

    def build(self, shape):
        self.m = keras.layers.Dense(shape[0][-1], "tanh")
        self.s = keras.layers.Dense(shape[0][-1], "tanh")

    def call(self, x, inverse=False):
        x1, x2 = x
        s = self.s(x1)
        x2 = (x2 - self.m(x1)) * ops.exp(-s) if inverse else x2 * ops.exp(s) + self.m(x1)
        return (x1, x2), ops.sum(-s if inverse else s, axis=-1)


def own(make):
    """A flow with couplings of one's own."""
    maps = [Shuffle(), Split(), make(), Concat(), Shuffle(), Split(), make(), Concat(), Scale()]
    pair = nice.Flow(maps), nice.Flow(maps, inverse=True)
    for model in pair:
        model.build((None, DIM))
    return pair


def test_the_loss_of_an_own_layer_is_that_of_its_jacobian(x):
    """(15) from nothing but z and the Jacobian, in training, evaluation and likelihoods."""
    encoder, decoder = own(Affine)
    randomize(encoder)
    x = x[:4]
    z = numpy(encoder(x)).astype("float64")
    log_dets = np.array([log_det(encoder, row) for row in x])
    assert log_dets.std() > 0.1
    expected = 0.5 * (z**2).sum(axis=1) - log_dets
    encoder.compile(loss=nice.gaussian, optimizer=Adam(1e-3))
    assert encoder.evaluate(x, x, verbose=0) == pytest.approx(expected.mean(), abs=1e-3)
    trained = nice.Trained(encoder, decoder, configuration())
    nats = -expected - DIM * nice.gaussian.constant
    assert np.abs(trained.log_likelihood(x) - nats).max() <= 1e-3
    back, undone = decoder.map(encoder(x))
    assert np.abs(numpy(back) - x).max() <= 1e-5
    assert np.abs(numpy(undone) + log_dets).max() <= 1e-3
    gradient = inpainting.log_likelihood_gradient(encoder, nice.gaussian)(x)
    step = 1e-2 * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    ahead, behind = (trained.log_likelihood((x + s).astype("float32")) for s in (step, -step))
    assert (ahead - behind) / 2e-2 == pytest.approx(np.linalg.norm(gradient, axis=1), rel=1e-2)
    before = encoder.evaluate(x, x, verbose=0)
    loss = encoder.fit(x, x, batch_size=len(x), verbose=0).history["loss"][0]
    assert loss == pytest.approx(before, rel=1e-5)  # of one step, before it is taken


class Alone(keras.layers.Layer):
    def call(self, x, inverse=False):
        return x


class Wide(keras.layers.Layer):
    def call(self, x, inverse=False):
        return x, x  # a log-determinant for every dimension


@pytest.mark.parametrize("layer", [Alone, Wide, keras.layers.Identity])
def test_what_is_no_map_is_refused(layer, x):
    with pytest.raises(ValueError, match=r"mine is no map.*\(y, log_det\).*Received"):
        nice.Flow([Scale(), layer(name="mine")])(x)


def test_one_configuration_makes_any_number_of_flows(small, x):
    encoder, _ = small(shuffle="random")
    config = encoder.get_config()
    before = copy.deepcopy(config)
    for _ in range(2):
        again = nice.Flow.from_config(config)
        again(x)
        again.set_weights(encoder.get_weights())
        assert np.allclose(numpy(again(x)), numpy(encoder(x)), atol=1e-6)
        assert config == before


@pytest.mark.parametrize("m", [lambda half: keras.layers.Dense(half + 1), lambda half: None])
def test_an_m_that_does_not_fit_is_refused(m):
    with pytest.raises((ValueError, TypeError)):
        nice.build(dim=DIM, couplings=1, m=m)


def test_a_list_of_m_must_be_one_a_coupling():
    with pytest.raises(ValueError, match="3 for 2"):
        nice.build(dim=DIM, couplings=2, m=3 * [keras.layers.Dense])


def test_the_summary_shows_shapes_and_parameters(small, capsys):
    small()[0].summary(line_length=120)
    said = capsys.readouterr().out
    whole, half = f"(None, {DIM})", f"(None, {DIM // 2})"
    shapes = {"shuffle_1": [whole], "split_4": 2 * [half], "coupling_2": 2 * [half],
              "concat_3": [whole], "scale": [whole], "noise": [whole]}  # fmt: skip
    for name, expected in shapes.items():
        (line,) = (line for line in said.splitlines() if f" {name} (" in line)
        assert re.findall(r"\(None, \d+\)", line) == expected, line


def test_importing_nice_loads_the_article_alone():
    """No files, pictures, devices, flags or charts."""
    others = ("support.resuming", "support.pictures", "support.devices", "support.cli",
              "training", "codes", "matplotlib", "imageio")  # fmt: skip
    new = f"[m for m in {others} if m in sys.modules and m not in before]"  # Keras loads its own
    code = f"import sys, keras; before = set(sys.modules); import nice; print({new})"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stdout + found.stderr
