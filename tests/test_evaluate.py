"""Likelihoods against SciPy, and against a flow whose likelihood is known in closed form."""

import json
import os

import numpy as np
import pytest
import safetensors.numpy
from conftest import DIM, SMALL, configuration, identity, numpy, save, script
from scipy import stats

import codes
import evaluate
import nice
from layers import Noise
from support import checkpoint, data, options
from support.errors import UserError


def reference(weights, x, prior, depth, convention, couplings=4, output_activation="relu",
              shuffle="reverse", seed=0, **_):  # fmt: skip
    """log p(x) in NumPy, float64, from nothing but the article's formulas and a list of weights."""
    weights = [w.astype("float64") for w in weights]
    h = x.astype("float64")
    for i in range(couplings):
        drawn = np.random.RandomState(seed + i + 1).permutation(h.shape[1])
        h = h[:, ::-1] if shuffle == "reverse" else h[:, drawn]
        x1, x2 = h[:, 0::2], h[:, 1::2]
        m = x1
        for j in range(depth + 1):
            kernel, bias = weights[2 * (i * (depth + 1) + j) :][:2]
            m = m @ kernel + bias
            if j < depth or output_activation == "relu":
                m = np.maximum(m, 0)
        x2 = x2 - m if convention == "article" else x2 + m
        h = np.stack([x1, x2], axis=2).reshape(h.shape)
    z = h * np.exp(weights[-1])
    density = {"gaussian": stats.norm, "logistic": stats.logistic}[prior]
    return density.logpdf(z).sum(axis=1) + weights[-1].sum()


def alone(path, pixels):
    """log p of pixels, (N, D) uint8, from a weights file without any of the project's code."""
    arrays = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "numpy") as file:
        configuration = json.loads(file.metadata()["configuration"])
    model = configuration["model"]
    names = [
        f"encoder/coupling_{i}/m/dense_{j}/{kind}"
        for i in range(1, model["couplings"] + 1)
        for j in range(1, model["depth"] + 2)
        for kind in ("kernel", "bias")
    ]
    weights = [arrays[name] for name in [*names, "encoder/scale/log_scale"]]
    x = pixels / np.float32(configuration["levels"])
    return reference(weights, x, configuration["prior"], **model)


FORMATS = {
    "the article's": {},
    "the paper's": {"convention": "paper", "output_activation": "linear"},
    "random": {"shuffle": "random", "couplings": 5, "depth": 1},
}


@pytest.mark.parametrize("choices", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_weights_file_says_all_without_the_project(small, tmp_path, rng, choices, dtype):
    path = str(tmp_path / "w.safetensors")
    encoder, _ = small(**choices)
    arrays = {name: numpy(v).astype(dtype) for name, v in checkpoint.named(encoder).items()}
    checkpoint.save(path, arrays, configuration(prior="logistic", levels=256, **choices))
    pixels = rng.integers(0, 256, (20, DIM)).astype("uint8")
    found = nice.load(path).log_likelihood(numpy(data.scale(pixels, 256)))
    assert np.abs(found - alone(path, pixels)).max() <= 1e-3


@pytest.mark.parametrize("name", ["pretrained", "paper", "noise-free", "deep"])
def test_shipped_weights_say_all_without_the_project(name):
    path = os.path.join(options.WEIGHTS, name + options.SUFFIX)
    flow, pixels = nice.load(path), data.load().x_test[:100]
    error = flow.log_likelihood(flow.scale(pixels)) - alone(path, pixels)
    assert abs(error.mean()) <= 1e-3 and np.abs(error).max() <= 3e-3  # float32 against float64


@pytest.mark.parametrize("convention", ["article", "paper"])
@pytest.mark.parametrize("prior", ["gaussian", "logistic"])
def test_log_likelihood_is_that_of_an_independent_computation(small, x, prior, convention):
    encoder, decoder = small(convention=convention)
    held = configuration(prior=prior, convention=convention)
    found = nice.Trained(encoder, decoder, held).log_likelihood(x)
    expected = reference(encoder.get_weights(), x, prior, SMALL["depth"], convention)
    assert np.abs(found - expected).max() <= 1e-3


def test_dequantization_bounds_approach_the_closed_form_from_below():
    """Whole numbers k under a density p: P(k) = F((k+1)/256) - F(k/256), exactly."""
    log_scale = 5.0  # a standard deviation of 1.7 levels: the density varies within a level
    flow = identity(log_scale, noise=1 / 256, noise_kind="positive", levels=256)
    k = np.random.default_rng(0).integers(0, 4, (200, DIM)).astype("uint8")
    scale = np.exp(-log_scale)
    cdf = stats.norm(scale=scale).cdf
    exact = np.log(cdf((k + 1) / 256) - cdf(k / 256)).sum(axis=1).mean()
    x = numpy(data.scale(k, 256))
    cells = DIM * np.log(256)  # a density of 1 on the [0, 1] scale is 1/256 a level

    def bound(draws):
        nats, tight, _ = evaluate.noisy(flow, x, 20, draws, 0)
        return nats.mean() - cells, None if tight is None else tight.mean() - cells

    plain, _ = bound(1)
    bounds = [bound(draws)[1] for draws in (2, 10, 100)]
    assert plain < bounds[0] < bounds[1] < bounds[2] < exact + 0.01
    assert exact - plain > 0.1 and exact - bounds[2] < 0.1


def test_bits_per_dimension():
    # The paper: 1980.50 nats on MNIST.
    assert evaluate.bits_per_dimension(1980.50, 784, 256) == pytest.approx(4.356, abs=1e-3)
    assert evaluate.bits_per_dimension(0.0, 784, 256) == 8.0  # a uniform density: eight bits


@pytest.mark.parametrize("levels", [255, 256])
def test_bits_never_fall_below_the_entropy_of_the_levels(levels):
    """A density of exactly `levels` in one cell of width 1/levels a dimension: 0 bits."""
    assert evaluate.bits_per_dimension(10 * np.log(levels), 10, levels) == pytest.approx(0)


@pytest.mark.parametrize(
    ("choices", "levels", "expected"),
    [
        ({"noise": 1 / 256, "noise_kind": "positive"}, 256, True),
        ({"noise": 1 / 255, "noise_kind": "negative"}, 255, True),
        ({"noise": 0.01, "noise_kind": "negative"}, 255, False),
        ({"noise": 0.001, "noise_kind": "positive"}, 256, False),
        ({"noise": 1 / 256, "noise_kind": "gaussian"}, 256, False),
        ({"noise": 0.0, "noise_kind": "positive"}, 256, False),
    ],
)
def test_only_noise_from_level_to_level_gives_a_bound(choices, levels, expected):
    width, kind = choices.values()
    noise = Noise(width, kind) if width else None
    assert evaluate.is_bound(noise, levels) == expected


def test_the_numerical_log_determinant_sees_the_scales(flow, x):
    expected = float(numpy(flow.encoder.weights[-1]).sum())
    assert evaluate.numerical_log_determinant(flow, x[0]) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("noise", [0.01, 0.0])
def test_the_script(small, tmp_path, rng, noise):
    choices = {"noise": noise}
    encoder, _ = small(**choices)
    weights, npz = tmp_path / "w.safetensors", tmp_path / "data.npz"
    save(weights, encoder, configuration(**choices))
    x = rng.integers(0, 256, (50, 3, 4)).astype("uint8")
    np.savez(npz, x_train=x, y_train=np.arange(50) % 10, x_test=x[:20], y_test=np.arange(20) % 10)
    flags = ["--weights", weights, "--data", npz, "--draws", 3, "--json", "r.json"]
    result = script("evaluate.py", *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "no bits/dim" in result.stdout and "log-likelihood" in result.stdout
    found = json.loads((tmp_path / "r.json").read_text())
    clean = numpy(data.scale(x[:20].reshape(20, -1)))
    expected = reference(encoder.get_weights(), clean, "gaussian", 2, "article").mean()
    assert -found["test"]["loss_without_noise"] - found["constant"] == pytest.approx(
        expected, abs=1e-3
    )
    assert set(found["test"]["classes"]) == {str(i) for i in range(10)}
    assert (found["test"]["nats_tight"] is None) == (noise == 0)
    assert found["test"]["nats_fitted_codes"] is found["samples"] is None
    assert found["round_trip"]["max"] < 1e-4


def test_fitted_codes_are_a_mixture_for_a_prior(flow, x, monkeypatch):
    """On the first draw of the noise, against SciPy; and nothing is encoded twice."""
    fitted = codes.fit(flow.encode(x), np.arange(len(x)) % 2)
    flow.codes = fitted
    drawn = flow.add_noise(x, np.random.default_rng(3))
    z, expected = flow.encode(drawn), -np.inf
    basis = fitted.basis.astype("float64")
    for g in range(len(fitted.labels)):
        V, mean = fitted.directions[g] @ basis, fitted.centre + fitted.means[g] @ basis
        covariance = V.T @ V + np.diag(fitted.rest[g].astype("float64") ** 2)
        density = stats.multivariate_normal(mean, covariance).logpdf(z)
        expected = np.logaddexp(expected, density + np.log(fitted.shares[g]))
    _, log_det = flow.map(drawn)
    seen, encode = [], flow.map
    monkeypatch.setattr(flow, "map", lambda x: seen.append(x) or encode(x))
    nats, _, found = evaluate.noisy(flow, x, 3, 1, 3)
    assert len(seen) == 3
    assert np.allclose(found, expected + log_det, rtol=1e-4, atol=1e-2)
    flow.codes = None
    again, _, none = evaluate.noisy(flow, x, 3, 1, 3)
    assert none is None and np.array_equal(nats, again)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with a small flow of 28 x 28 and some of MNIST."""
    folder, mnist = tmp_path_factory.mktemp("digits"), data.load()
    held = configuration((28, 28), dim=784, couplings=2, units=8, depth=1, seed=0)
    save(folder / "w.safetensors", nice.build(**held["model"])[0], held)
    x, x_test = mnist.x_train[:600].reshape(-1, 28, 28), mnist.x_test[:300].reshape(-1, 28, 28)
    labels = {"y_train": mnist.y_train[:600], "y_test": mnist.y_test[:300]}
    np.savez(folder / "digits.npz", x_train=x, x_test=x_test, **labels)
    np.savez(folder / "unlabelled.npz", x_train=x, x_test=x_test)
    return folder


def test_controls_are_what_has_no_flow(flow, rng, monkeypatch):
    """Pixels of known frequencies: the histograms' nats are their entropy, below no mixture's."""
    k = rng.choice([0, 255], (4000, DIM), p=[0.7, 0.3]).astype("uint8")
    found = data.Pictures(k, None, k[:1000], None, (3, 4))
    noise = {"noise": 1 / 256, "noise_kind": "positive"}
    held = {**configuration(**noise), "levels": 256}
    flow = nice.Trained(*nice.build(**{**SMALL, **noise}), held)
    nats = evaluate.controls(flow, found)
    entropy = -(0.7 * np.log(0.7) + 0.3 * np.log(0.3))
    assert list(nats) == ["no flow: mixture on pixels", "no flow: a histogram a pixel"]
    assert nats["no flow: a histogram a pixel"] == pytest.approx(
        DIM * (np.log(256) - entropy), rel=0.02
    )
    assert nats["no flow: mixture on pixels"] < nats["no flow: a histogram a pixel"]
    flow = nice.Trained(*nice.build(**SMALL), configuration())  # whose noise is no dequantization
    assert list(evaluate.controls(flow, found)) == ["no flow: mixture on pixels"]


def test_samples_are_measured(digits, monkeypatch, capsys):
    monkeypatch.chdir(digits)
    flags = "--weights w.safetensors --data digits.npz --repeats 1 --limit 50 --json r.json"
    monkeypatch.setattr("sys.argv", ["evaluate.py", *flags.split(), "--samples", "100"])
    evaluate.main(evaluate.parse())
    said = capsys.readouterr().out
    assert "fitted codes" in said and "Another model" in said
    found = json.loads((digits / "r.json").read_text())
    assert found["test"]["nats_fitted_codes"] > found["test"]["nats"]
    rows = found["samples"]
    assert len(rows) == 8 and "no flow: pixels fitted" in rows and "nearer" in said
    training, *prior, fitted, plain, control, plain_control = rows.values()
    assert training["as_asked"] > 0.97 and training["distance"] < fitted["distance"]
    assert [row["pictures"] for row in rows.values()] == 8 * [100]
    assert [row["as_asked"] for row in prior] == 3 * [None]
    assert fitted["distance"] < prior[1]["distance"] and fitted != plain
    assert control["distance"] < plain_control["distance"]  # contrast is what pixels lack most
    assert all(0 <= row["recall"] <= 1 and 0 <= row["nearer"] <= 1 for row in rows.values())


def test_samples_of_anything_but_digits_are_refused(digits, small, tmp_path, rng):
    with pytest.raises(UserError, match="--samples measures digits"):
        evaluate.evaluate(str(digits / "w.safetensors"), str(digits / "unlabelled.npz"), count=100)
    save(tmp_path / "w.safetensors", small()[0])
    x = rng.integers(0, 256, (50, 3, 4)).astype("uint8")
    np.savez(tmp_path / "data.npz", x_train=x, y_train=np.arange(50) % 10)
    with pytest.raises(UserError, match="--samples measures digits"):
        evaluate.evaluate(str(tmp_path / "w.safetensors"), str(tmp_path / "data.npz"), count=100)


def test_the_shipped_weights_beat_the_paper():
    """On 1,000 of the test images, one draw of the noise; the paper's figure is 1980.50."""
    path = os.path.join(options.WEIGHTS, "paper.safetensors")
    result = evaluate.evaluate(path, repeats=1, limit=1000)
    assert result["is_bound"] and result["test"]["nats"] > 1980.50
    assert result["log_determinant_numerical"] == pytest.approx(result["log_determinant"], abs=0.1)
    assert result["round_trip"]["max"] < 1e-5
