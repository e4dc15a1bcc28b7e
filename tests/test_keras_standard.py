"""The layers under the tests that Keras's own layers pass, and in Keras's own file formats."""

import keras
import numpy as np
import pytest
from conftest import DIM, SMALL, numpy, randomize
from keras.src import testing

import nice
from layers import Concat, Couple, Noise, Scale, Shuffle, Split
from support.optimizer import Adam

pytestmark = pytest.mark.filterwarnings("ignore:.*(shuffle=True|trainable weights)")
BACKEND = keras.backend.backend()
WHOLE, HALF = (4, DIM), (4, DIM // 2)
BOTH = (HALF, HALF)
LAYERS = {
    "Noise": (Noise, {"seed": 1}, WHOLE, WHOLE, 0, 1, 0),
    "Gaussian noise": (Noise, {"width": 0.1, "kind": "gaussian"}, WHOLE, WHOLE, 0, 1, 0),
    "Shuffle": (Shuffle, {}, WHOLE, (WHOLE, ()), 0, 0, 0),
    "random Shuffle": (Shuffle, {"mode": "random", "seed": 3}, WHOLE, (WHOLE, ()), 0, 0, 0),
    "Split": (Split, {}, WHOLE, (BOTH, ()), 0, 0, 0),
    "Concat": (Concat, {}, BOTH, (WHOLE, ()), 0, 0, 0),
    "Couple": (Couple, {"units": 5, "depth": 2}, BOTH, (BOTH, ()), 6, 0, 0),
    "the paper's Couple with dropout": (
        Couple,
        {"units": 5, "depth": 1, "output_activation": "linear", "convention": "paper",
         "dropout": 0.2},
        BOTH, (BOTH, ()), 4, 1, 0,
    ),
    "Scale": (Scale, {}, WHOLE, (WHOLE, ()), 1, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
def test_keras_own_layer_test(case):
    layer, arguments, given, expected, weights, generators, losses = case
    testing.TestCase().run_layer_test(
        layer,
        init_kwargs=arguments,
        input_shape=given,
        expected_output_shape=expected,
        expected_num_trainable_weights=weights,
        expected_num_seed_generators=generators,
        expected_num_losses=losses,
        supports_masking=None,
        run_training_check=layer is Noise,  # of the others a part, log_det, is no batch
    )


def test_maps_are_parts_of_functional_models(x):
    """Their log-determinants too, in training."""
    y, total = given = keras.Input((DIM,)), 0.0
    for layer in (Shuffle(), Split(), Couple(units=5, depth=1), Concat(), Scale()):
        y, log_det = layer(y)
        total = total + log_det
    model = keras.Model(given[0], [y, y * 0 + total])
    model.compile(Adam(1e-2), loss=[nice.gaussian, "mse"])
    before = model.get_weights()
    model.fit(x, [x, x], verbose=0)
    assert all(not np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_flow_trains_in_half_precision(policy, x):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        encoder, decoder = nice.build(**SMALL)
        encoder.compile(loss=nice.gaussian, optimizer=Adam(1e-3))
        start = encoder.get_weights()
        encoder.fit(x, x, batch_size=16, epochs=1, verbose=0)  # two steps
        assert keras.backend.standardize_dtype(encoder(x).dtype) == policy.removeprefix("mixed_")
        # 5.7 a dimension: in half precision their sum would be wrong by whole nats.
        encoder.maps[-1].log_scale.assign(np.linspace(5.0, 5.7, DIM)[None])
        exact = np.linspace(5.0, 5.7, DIM, dtype="float64").sum()
        z, log_det = encoder.map(x)
        loss = nice.gaussian(x, encoder(x))
        for value in (log_det, -encoder.losses[-1]):
            assert float(value) == pytest.approx(exact, rel=1e-6)
        for value in (loss, log_det, *(layer(z)[1] for layer in encoder.maps[::4])):
            assert keras.backend.standardize_dtype(value.dtype) == "float32"
    finally:
        keras.config.set_dtype_policy(before)
    assert all(np.isfinite(w).all() and w.dtype == np.float32 for w in encoder.get_weights())
    assert any(not np.array_equal(a, b) for a, b in zip(start, encoder.get_weights()))
    again = numpy(decoder(encoder(x))).astype("float32")
    assert np.isfinite(again).all()


def test_half_precision_agrees_with_single(x):
    pair = {}
    for policy in ("float32", "mixed_bfloat16"):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            encoder, _ = nice.build(**SMALL)
            randomize(encoder)
            pair[policy] = numpy(encoder(x)).astype("float32")
        finally:
            keras.config.set_dtype_policy(before)
    error = np.abs(pair["mixed_bfloat16"] - pair["float32"]).max()
    assert 0 < error < 0.05 * np.abs(pair["float32"]).max()


@pytest.mark.parametrize("shuffle", ["reverse", "random"])
def test_flows_survive_keras_own_file_format(small, x, tmp_path, shuffle):
    for model in small(shuffle=shuffle):
        model.save(tmp_path / "flow.keras")
        again = keras.models.load_model(tmp_path / "flow.keras")
        assert np.allclose(numpy(again(x)), numpy(model(x)), atol=1e-6)


def test_a_compiled_flow_survives_too(small, x, tmp_path):
    encoder, _ = small(noise=0)
    encoder.compile(loss=nice.logistic, optimizer=Adam(1e-2, scale_pace=3.0))
    encoder.fit(x, x, verbose=0)
    encoder.save(tmp_path / "flow.keras")
    again = keras.models.load_model(tmp_path / "flow.keras")
    assert again.optimizer.scale_pace == 3.0
    losses = [model.evaluate(x, x, verbose=0) for model in (encoder, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_clone_model(small, x):
    encoder, _ = small(shuffle="random")
    clone = keras.models.clone_model(encoder)
    clone(x)
    assert not {id(v) for v in clone.weights} & {id(v) for v in encoder.weights}
    clone.set_weights(encoder.get_weights())
    assert np.allclose(numpy(clone(x)), numpy(encoder(x)), atol=1e-6)


def test_model_checkpoint(small, x, tmp_path):
    encoder, _ = small(noise=0)
    encoder.compile("adam", loss=nice.gaussian)
    path = tmp_path / "best.weights.h5"
    keep = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    encoder.fit(x, x, epochs=2, verbose=0, callbacks=[keep])
    expected = encoder.get_weights()
    randomize(encoder)
    encoder.load_weights(path)
    assert all(map(np.array_equal, encoder.get_weights(), expected))


@pytest.mark.skipif(BACKEND == "torch", reason="Keras exports through TensorFlow")
def test_export(small, x, tmp_path):
    import tensorflow as tf

    for model in small():
        model.export(tmp_path / model.name, verbose=False)
        served = tf.saved_model.load(tmp_path / model.name)
        assert np.allclose(served.serve(x).numpy(), numpy(model(x)), atol=1e-5)
