"""Training as a whole, in one process: it learns, and it repeats."""

import os

import numpy as np
import pytest
from conftest import history, numpy, run

import nice
from support import data, options, resuming
from support.cli import UserError
from support.optimizer import adam, learning_rate, scale_pace


def test_training_leaves_weights_history_and_pictures(npz, tmp_path):
    encoder, _, configuration = run(npz, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "history.csv", "loss.png", options.TRAINED, resuming.STATE, "samples.png", "training.gif"
    ]  # fmt: skip
    rows = history(tmp_path / "out")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["loss"] < rows[0]["loss"]
    # The weights are those of the best epoch, and say so.
    best = min(row["val_loss"] for row in rows)
    assert configuration["best"]["val_loss"] == best and configuration["picture"] == [4, 4]
    x = numpy(data.scale(data.load(npz).x_test))
    encoder.compile(loss=nice.gaussian)
    assert encoder.evaluate(x, x, verbose=0) == pytest.approx(best, rel=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(npz, tmp_path):
    flags = ["--shuffle", "random", "--dropout", "0.2"]
    first, again = (run(npz, tmp_path / n, *flags)[0].get_weights() for n in "ab")
    other = run(npz, tmp_path / "c", *flags, "--seed", "1")[0].get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.allclose(first[0], other[0])
    rows = [[r["val_loss"] for r in history(tmp_path / n)] for n in "ab"]
    assert rows[0] == rows[1]


def test_the_papers_recipe(npz, tmp_path):
    encoder, _, configuration = run(npz, tmp_path / "out", "--recipe", "paper")
    assert configuration["prior"] == "logistic" and configuration["levels"] == 256
    assert encoder.noise.bounds == (0.0, 1 / 256)
    coupling = encoder.flow[2]
    assert (coupling.convention, coupling.output_activation) == ("paper", "linear")


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


def test_cosine_falls_to_zero():
    schedule = learning_rate(options.training([]), 100)
    assert float(schedule(0)) == pytest.approx(1e-3)
    assert float(schedule(50)) == pytest.approx(5e-4)
    assert float(schedule(100)) == pytest.approx(0)


STEPS = 469  # an epoch of 60,000 pictures


def test_log_scale_can_travel_its_way_in_however_few_steps():
    """The mean rate of log_scale, times the steps, is three times the way of 5.2."""
    args = options.training([])
    assert scale_pace(args, 20 * STEPS) == 10  # enough, and 2018's tenfold
    paces = [scale_pace(args, epochs * STEPS) for epochs in (1, 2, 3, 6)]
    ways = [5e-4 * pace * epochs * STEPS for pace, epochs in zip(paces, (1, 2, 3, 6))]
    assert paces == sorted(paces, reverse=True) and min(paces) > 10
    assert ways == pytest.approx([15.6] * 4)
    constant = options.training(["--schedule", "constant"])  # whose mean rate is twice as large
    assert scale_pace(constant, STEPS) == pytest.approx(paces[0] / 2)


def test_log_scale_never_moves_by_more_than_a_tenth_a_step():
    for rate in ("1e-4", "1e-3", "5e-3"):
        pace = scale_pace(options.training(["--learning-rate", rate]), 1)
        assert pace * float(rate) == pytest.approx(0.1)
    assert scale_pace(options.training(["--learning-rate", "0.05"]), 1) == 10


def test_without_noise_log_scale_keeps_the_pace_of_all_weights():
    for steps in (1, STEPS, 20 * STEPS):
        assert scale_pace(options.training(["--noise", "0"]), steps) == 1
        assert scale_pace(options.training(["--noise", "0", "--scale-pace", "3"]), steps) == 3


def test_a_pace_that_is_given_wins():
    for steps in (1, STEPS, 20 * STEPS):
        args = options.training(["--scale-pace", "2.5"])
        assert scale_pace(args, steps) == adam(args, steps).scale_pace == 2.5
        assert adam(options.training([]), steps).scale_pace == scale_pace(
            options.training([]), steps
        )
