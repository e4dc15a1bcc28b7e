"""Convolutions for m: as invertible, exact and storable as the article's dense network."""

import types

import keras
import numpy as np
import pytest
from conftest import TINY, in_process, jacobian, numpy, randomize, result, run

import nice
from networks import Convolution
from support import checkpoint, options

SHAPE = (4, 6)
CONV = {"dim": 24, "shape": SHAPE, "couplings": 4, "channels": 5, "seed": 1, "units": 8, "depth": 1}
FLAGS = ["--channels", "5", "--couplings", "4", "--output-activation", "linear"]


@pytest.fixture(params=["conv", "both"])
def flow(request):
    encoder, decoder = nice.build(network=request.param, **CONV)
    randomize(encoder)
    return encoder, decoder


@pytest.fixture
def x(rng):
    return rng.random((9, 24), dtype="float32")


def test_decoder_inverts_encoder_and_volume_is_the_scales_alone(flow, x):
    encoder, decoder = flow
    assert not np.allclose(numpy(encoder(x)), x, atol=0.1)
    assert np.abs(numpy(decoder(encoder(x))) - x).max() <= 1e-5
    _, log_det = encoder.map(x)
    exact = np.linalg.slogdet(jacobian(encoder, x[0]))[1]
    assert exact == pytest.approx(float(np.reshape(numpy(log_det), -1)[0]), abs=1e-4)
    assert exact == pytest.approx(numpy(encoder.maps[-1].log_scale).sum(), abs=1e-4)


def test_a_pixel_moves_its_neighbours_only_and_the_picture_stays_one():
    """x1 is the even columns, x2 the odd: of the whole picture, as the decoder will show it."""
    encoder, _ = nice.build(dim=168, shape=(12, 14), couplings=2, network="conv", channels=5)
    randomize(encoder)
    reach = np.abs(jacobian(encoder, np.full(168, 0.5, "float32"))) > 1e-7
    rows, columns = np.divmod(np.arange(168), 14)
    for i, moved in enumerate(reach):
        assert moved[i]  # two reversals: code i lies at pixel i
        near = np.abs(rows[moved] - rows[i]).max(), np.abs(columns[moved] - columns[i]).max()
        assert near[0] <= 4 and near[1] <= 10  # two couplings of a 3 x 4 and a 3 x 3 kernel


def test_a_convolution_is_the_same_everywhere():
    m = Convolution(width=28, channels=3)(14 * 28)
    for v in m.weights:
        v.assign(np.random.default_rng(0).standard_normal(v.shape))
    x = np.zeros((2, 28, 14), "float32")
    x[0, 10, 5] = x[1, 13, 7] = 1
    y = numpy(m(x.reshape(2, -1))).reshape(2, 28, 14)
    assert np.allclose(y[0, 5:16, 2:10], y[1, 8:19, 4:12], atol=1e-6)
    assert not np.allclose(y[0, 5:16, 2:10], y[0, 20, 12])


def test_both_has_convolutions_near_the_picture():
    encoder, _ = nice.build(network="both", **CONV)
    kinds = {}
    for _, coupling, _, layer, _ in (v.path.split("/") for v in encoder.weights[:-1]):
        kinds.setdefault(coupling, set()).add(layer.split("_")[0])
    assert list(kinds.values()) == [{"conv"}, {"conv"}, {"dense"}, {"dense"}]


@pytest.mark.parametrize("network", ["conv", "both"])
def test_a_training_is_kept_resumed_and_loaded(tmp_path, killed, network, rng):
    pixels = rng.integers(0, 256, (90, *SHAPE)).astype("uint8")
    npz = str(tmp_path / "data.npz")
    np.savez(npz, x_train=pixels[:70], x_test=pixels[70:])
    flags = [*FLAGS, "--network", network]
    trained = run(npz, tmp_path / "whole", *flags)
    killed(npz, tmp_path / "killed", *flags)
    run(npz, tmp_path / "killed", *flags, "--resume")
    assert result(tmp_path / "whole") == result(tmp_path / "killed")
    x = pixels[:5].reshape(5, -1).astype("float32") / 255
    assert np.abs(trained.decode(trained.encode(x)) - x).max() <= 1e-5
    configuration, _ = checkpoint.read(str(tmp_path / "whole" / options.TRAINED))
    assert configuration["model"]["network"] == network


def test_keras_own_file_format(flow, x, tmp_path):
    for model in flow:
        model.save(tmp_path / "flow.keras")
        again = keras.models.load_model(tmp_path / "flow.keras")
        assert np.allclose(numpy(again(x)), numpy(model(x)), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "flags", "reason"),
    [
        ((6, 5), [], "even width"),
        (SHAPE, ["--kernel", "4"], "odd size"),
        (SHAPE, ["--shuffle", "random"], "--shuffle reverse"),
    ],
)
def test_what_breaks_a_picture_is_refused_before_training(tmp_path, rng, shape, flags, reason):
    np.savez(tmp_path / "data.npz", x_train=rng.integers(0, 256, (40, *shape)).astype("uint8"))
    flags = ["--data", tmp_path / "data.npz", "--network", "conv", *FLAGS, *flags]
    code, stderr = in_process("nice.py", *flags, "--output", tmp_path / "out")
    assert code == 2 and stderr.count("\n") == 1 and reason in stderr
    assert not (tmp_path / "out" / options.TRAINED).exists()


@pytest.fixture
def trained(tmp_path, rng):
    """The data and the weights of a flow of two dense couplings."""
    npz = str(tmp_path / "data.npz")
    np.savez(npz, x_train=rng.integers(0, 256, (70, *SHAPE)).astype("uint8"))
    run(npz, tmp_path / "dense", "--couplings", "2")
    return npz, str(tmp_path / "dense" / options.TRAINED)


def test_before_a_trained_flow_convolutions_learn_with_it(trained, tmp_path, killed):
    npz, path = trained
    flags = ["--couplings", "4", "--network", "both", "--channels", "5", "--before", path]
    run(npz, tmp_path / "whole", *flags)
    killed(npz, tmp_path / "killed", *flags)
    run(npz, tmp_path / "killed", *flags, "--resume")
    assert result(tmp_path / "whole") == result(tmp_path / "killed")
    known, whole = (nice.load(p) for p in (path, str(tmp_path / "whole" / options.TRAINED)))
    for a, b in zip(known.encoder.maps[-2::-1], whole.encoder.maps[-2::-1]):
        for v, w in zip(a.get_weights(), b.get_weights()):
            assert 0 < np.abs(v - w).max() < 0.1  # they began where that flow had ended


def test_before_a_trained_flow_new_couplings_begin_near_the_identity(trained, rng):
    known = nice.load(trained[1])
    encoder, _ = nice.build(**{**known.configuration["model"], "couplings": 4, "network": "both"},
                            shape=SHAPE)  # fmt: skip
    nice.put_before(known, encoder)
    x = rng.random((5, 24), dtype="float32")
    assert np.abs(numpy(encoder(x)) - known.encode(x)).mean() < 0.2
    for coupling in (1, 2):
        last = [v for v in encoder.weights if f"coupling_{coupling}/m/conv_3" in v.path]
        for v in last:
            v.assign(np.zeros(v.shape))
    assert np.allclose(numpy(encoder(x)), known.encode(x), atol=1e-5)


def test_random_shuffles_would_give_a_trained_flow_other_pixels(rng):
    two, four = (nice.build(dim=24, couplings=n, shuffle="random", units=8)[0] for n in (2, 4))
    with pytest.raises(ValueError, match="reverse"):
        nice.put_before(types.SimpleNamespace(encoder=two), four)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--couplings", "3"], "even number of couplings"),
        (["--couplings", "2"], "even number of couplings"),
        (["--couplings", "4", "--units", "9"], "has --units 8, this run 9"),
        (["--couplings", "4", "--prior", "logistic"], "has --prior gaussian, this run logistic"),
        (["--couplings", "4", "--before", "missing.safetensors"], "no weights file"),
    ],
)
def test_what_cannot_come_before_is_refused_before_the_training(trained, tmp_path, flags, reason):
    npz, path = trained
    flags = ["--data", npz, "--output", tmp_path / "new", *TINY, "--before", path, *flags]
    code, said = in_process("nice.py", *flags)
    assert code == 2 and reason in said and said.count("\n") == 1
    assert not (tmp_path / "new" / options.TRAINED).exists()
