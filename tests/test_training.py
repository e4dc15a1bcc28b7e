"""Training as a whole, in one process: it learns, and it repeats."""

import csv
import os

import numpy as np
import pytest
from cli import UserError
from conftest import numpy

import mnist
import nice

TINY = "--units 8 --depth 1 --couplings 2 --batch-size 16 --epochs 2".split()


@pytest.fixture
def data(tmp_path, rng):
    """90 pictures of 4 x 4 whose rows are all alike: something to learn."""
    rows = rng.integers(0, 256, (90, 1, 4)).repeat(4, axis=1).astype("uint8")
    path = str(tmp_path / "data.npz")
    np.savez(path, x_train=rows[:70], x_test=rows[70:])
    return path


def run(data, output, *flags):
    nice.train(nice.parse(["--data", data, "--output", str(output), *TINY, *flags]))
    return nice.load_with_configuration(str(output / nice.TRAINED))


def history(output):
    with open(output / "history.csv") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_training_leaves_weights_history_and_pictures(data, tmp_path):
    encoder, _, configuration = run(data, tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "history.csv", "loss.png", "nice.state.h5", nice.TRAINED, "samples.png", "training.gif"
    ]  # fmt: skip
    rows = history(tmp_path / "out")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["loss"] < rows[0]["loss"]
    # The weights are those of the best epoch, and say so.
    best = min(row["val_loss"] for row in rows)
    assert configuration["best"]["val_loss"] == best and configuration["picture"] == [4, 4]
    x = numpy(mnist.scale(mnist.load(data).x_test))
    encoder.compile(loss=nice.gaussian)
    assert encoder.evaluate(x, x, verbose=0) == pytest.approx(best, rel=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data, tmp_path):
    flags = ["--shuffle", "random", "--dropout", "0.2"]
    first, again = (run(data, tmp_path / n, *flags)[0].get_weights() for n in "ab")
    other = run(data, tmp_path / "c", *flags, "--seed", "1")[0].get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.allclose(first[0], other[0])
    rows = [[r["val_loss"] for r in history(tmp_path / n)] for n in "ab"]
    assert rows[0] == rows[1]


def test_the_papers_recipe(data, tmp_path):
    encoder, _, configuration = run(data, tmp_path / "out", "--recipe", "paper")
    assert configuration["prior"] == "logistic" and configuration["levels"] == 256
    assert (encoder.noise.low, encoder.noise.high) == (0.0, 1 / 256)
    coupling = encoder.flow[2]
    assert (coupling.convention, coupling.output_activation) == ("paper", "linear")


def test_recipes_set_defaults_and_flags_win():
    args = nice.parse(["--recipe", "article"])
    assert (args.scale_pace, args.schedule, args.epochs) == (1.0, "constant", 20)
    assert (args.noise, args.batch_size, args.learning_rate) == (0.01, 128, 1e-3)
    assert nice.parse(["--recipe", "article", "--noise", "0"]).noise == 0
    assert nice.parse([]).scale_pace == 10


def test_validation_pictures(data):
    pictures = mnist.load(data)
    train, validation = nice.split_validation(pictures, nice.parse([]))
    assert len(train) == 70 and np.array_equal(validation, pictures.x_test)
    train, validation = nice.split_validation(pictures, nice.parse(["--validation", "heldout"]))
    assert len(train) == 59 and np.array_equal(validation, pictures.x_train[59:])
    with pytest.raises(UserError, match="too few"):
        few = pictures._replace(x_train=pictures.x_train[:5], x_test=None)
        nice.split_validation(few, nice.parse([]))


def test_cosine_falls_to_zero():
    schedule = nice.learning_rate(nice.parse([]), 100)
    assert float(schedule(0)) == pytest.approx(1e-3)
    assert float(schedule(50)) == pytest.approx(5e-4)
    assert float(schedule(100)) == pytest.approx(0)
