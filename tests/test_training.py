"""Training as a whole, in one process: it learns, and it repeats."""

import os

import keras
import numpy as np
import pytest
from conftest import RESULT, history, numpy, run

import nice
import training
from support import data, files, options, resuming
from support.errors import UserError


def test_training_leaves_weights_history_and_pictures(npz, tmp_path):
    trained = run(npz, tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == {*RESULT, resuming.STATE, files.LOCK}
    rows = history(tmp_path / "out")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["loss"] < rows[0]["loss"]
    # The weights are those of the best epoch, and say so.
    best = min(row["val_loss"] for row in rows)
    assert trained.configuration["best"]["val_loss"] == best and trained.shape == (4, 4)
    x = numpy(data.scale(data.load(npz).x_test))
    trained.encoder.compile(loss=nice.gaussian)
    assert trained.encoder.evaluate(x, x, verbose=0) == pytest.approx(best, rel=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(npz, tmp_path):
    flags = ["--shuffle", "random", "--dropout", "0.2"]
    first, again = (run(npz, tmp_path / n, *flags).encoder.get_weights() for n in "ab")
    other = run(npz, tmp_path / "c", *flags, "--seed", "1").encoder.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.allclose(first[0], other[0])
    rows = [[r["val_loss"] for r in history(tmp_path / n)] for n in "ab"]
    assert rows[0] == rows[1]


def test_the_papers_recipe(npz, tmp_path):
    trained = run(npz, tmp_path / "out", "--recipe", "paper")
    assert trained.prior is nice.logistic and trained.levels == 256
    assert trained.encoder.noise.bounds == (0.0, 1 / 256)
    coupling = trained.encoder.maps[2]
    assert coupling.convention == "paper" and not coupling.is_positive


def test_recipes_set_defaults_and_flags_win():
    args = options.training(["--recipe", "article"])
    assert (args.scale_pace, args.schedule, args.epochs) == (1.0, "constant", 20)
    assert (args.noise, args.batch_size, args.learning_rate) == (0.01, 128, 1e-3)
    assert options.training(["--recipe", "article", "--noise", "0"]).noise == 0
    assert options.training([]).scale_pace is None


def test_validation_pictures(npz):
    pictures = data.load(npz)
    train, validation = pictures.split("test")
    assert len(train) == 70 and np.array_equal(validation, pictures.x_test)
    train, validation = pictures.split("heldout")
    assert len(train) == 59 and np.array_equal(validation, pictures.x_train[59:])
    with pytest.raises(UserError, match="too few"):
        few = pictures._replace(x_train=pictures.x_train[:5], x_test=None)
        few.split("test")


STEPS = 469  # an epoch of 60,000 pictures


def travelled(steps, rate=1e-3, schedule="cosine"):
    """What the rates of log_scale add up to in a run, whatever their schedule."""
    adam = training.optimizer(steps, learning_rate=rate, schedule=schedule)
    rates = []
    for step in range(steps):
        adam.iterations.assign(step)
        rates.append(float(adam.learning_rate) * adam.scale_pace)
    return sum(rates), max(rates)


@pytest.fixture
def linear(monkeypatch):
    """A schedule of a reader's own: from a quarter up to the whole rate."""
    kind = keras.optimizers.schedules.PolynomialDecay
    monkeypatch.setitem(training.SCHEDULES, "linear", lambda r, steps: kind(r / 4, steps, r))


@pytest.mark.parametrize("schedule", ["cosine", "constant", "linear"])
def test_log_scale_can_travel_its_way_in_however_few_steps(linear, schedule):
    """Its rates add up to three times the way of 5.2, and none exceeds a tenth."""
    for rate in (1e-3, 3e-3):
        way, _ = travelled(STEPS, rate, schedule)
        assert way == pytest.approx(15.6, rel=0.01)
    way, largest = travelled(20, 1e-3, schedule)  # no time for it
    assert way < 2.1 and largest == pytest.approx(0.1, rel=0.1)
    assert training.pace(1e-3, schedule, 100 * STEPS) == 10  # enough, and 2018's tenfold
    assert training.pace(0.05, schedule, 1) == 10


def test_a_pace_that_is_given_wins_and_without_noise_there_is_none():
    for steps in (1, STEPS, 20 * STEPS):
        assert training.optimizer(steps, scale_pace=2.5).scale_pace == 2.5
        assert training.optimizer(steps, noise=False).scale_pace == 1
        assert training.optimizer(steps, noise=False, scale_pace=3.0).scale_pace == 3


def test_the_three_lines_of_its_docstring_train(rng):
    """A flow over pixels, without files, flags or folders."""
    encoder, _ = nice.build(dim=12, couplings=2, units=8, depth=1)
    pixels = rng.integers(0, 256, (70, 12)).astype("uint8")
    encoder.compile(loss=nice.gaussian, optimizer=training.optimizer(steps=3 * 3))
    training.fit(encoder, pixels, epochs=3, batch_size=30, verbose=0)
    losses = encoder.history.history["loss"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert int(encoder.optimizer.iterations) == 9


def test_an_unknown_prior_or_schedule_is_refused_by_name(npz, tmp_path):
    for name in ("prior", "schedule"):
        with pytest.raises(UserError, match=f"--{name} must be one of .*, not uniform"):
            run(npz, tmp_path / "out", f"--{name}", "uniform")
    assert not (tmp_path / "out").exists()
