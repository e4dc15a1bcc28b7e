"""tools/size.py on tiny flows: it trains once, judges once, and shows what it found."""

import json
import os
import types

import numpy as np
import pytest
import size
from conftest import history

import evaluate
import nice
from support import options
from support.cli import UserError

TINY = ("2x1x8", "4x1x8", "4x1x16")


@pytest.fixture
def args(npz, tmp_path):
    return types.SimpleNamespace(
        only=None, output=str(tmp_path / "sizes"), epochs=2, seed=3, samples=100, steps=1,
        data=npz, markdown=None, picture=None,
    )  # fmt: skip


@pytest.fixture
def runs(args, monkeypatch):
    """`size.train` with its scripts in this process, evaluate.py's figures invented."""
    done = []

    def run(script, flags):
        done.append((script, flags))
        if script == "nice.py":
            nice.train(options.training(flags))
        else:
            path = next(f for f in flags if f.startswith("--json=")).removeprefix("--json=")
            samples = {
                "prior, σ = 0.75": {"distance": 81.0},
                "fitted codes, T = 2": {"distance": 7.25},
            }
            with open(path, "w") as file:
                json.dump({"samples": samples}, file)

    monkeypatch.setattr(size, "FLOWS", TINY)
    monkeypatch.setattr(size, "run", run)
    return done


def test_ten_flows_from_a_tenth_of_a_million_to_the_articles():
    counts = sorted(map(size.parameters, size.FLOWS))
    assert len(counts) == len(set(counts)) == 10
    assert counts[0] == pytest.approx(0.1e6, rel=0.1) and counts[-1] == 19_158_352
    assert max(b / a for a, b in zip(counts, counts[1:])) < 4  # evenly, on a log axis


def test_the_scripts_are_given_flags_they_know(args, monkeypatch):
    flags = options.training(size.training("16x2x128", args))
    assert (flags.couplings, flags.depth, flags.units) == (16, 2, 128)
    assert (flags.epochs, flags.seed, flags.data, flags.resume) == (2, 3, args.data, True)
    default = options.training([])
    assert (flags.noise, flags.prior, flags.learning_rate) == (
        default.noise, default.prior, default.learning_rate
    )  # fmt: skip
    monkeypatch.setattr("sys.argv", ["evaluate.py", *size.judging("16x2x128", args)])
    judged = evaluate.parse()
    assert judged.weights == os.path.join(flags.output, options.TRAINED)
    assert (judged.samples, judged.seed, judged.data) == (100, 3, args.data)


def test_what_is_trained_and_judged_is_not_done_again(args, runs):
    size.train(args)
    assert [script for script, _ in runs] == 3 * ["nice.py", "evaluate.py"]
    before = {name: os.stat(os.path.join(args.output, name)).st_mtime_ns for name in TINY}
    args.only = "4x1x8"
    os.utime(os.path.join(args.output, "4x1x8", size.QUALITY), (0, 0))  # older than the weights
    size.train(args)
    assert [script for script, _ in runs[6:]] == ["nice.py", "evaluate.py"]
    args.only = None
    size.train(args)
    assert [script for script, _ in runs[8:]] == 3 * ["nice.py"]  # each says: finished
    assert before["2x1x8"] == os.stat(os.path.join(args.output, "2x1x8")).st_mtime_ns


def test_the_table_says_what_the_runs_found(args, runs, tmp_path, capsys):
    with pytest.raises(UserError, match="no flow yet"):
        size.table(args)
    args.only = "4x1x16"
    size.train(args)
    args.only = "2x1x8"
    size.train(args)
    os.remove(os.path.join(args.output, "4x1x16", size.QUALITY))
    with open(os.path.join(args.output, size.SECONDS), "w") as file:
        json.dump({"4x1x16": {"median": 12.34}}, file)
    args.markdown, args.picture = str(tmp_path / "t.md"), str(tmp_path / "t.png")
    capsys.readouterr()
    size.table(args)
    text = open(args.markdown, encoding="utf-8").read()
    assert capsys.readouterr().out == text and os.path.getsize(args.picture) > 10_000
    small, large = text.splitlines()[2:]  # the flow that is not trained is left out
    for line, name in ((small, "2x1x8"), (large, "4x1x16")):
        rows = history(tmp_path / "sizes" / name)
        best = min(rows, key=lambda row: row["val_loss"])
        assert f"{size.parameters(name):,}" in line
        assert f"{best['val_loss']:.1f}".replace("-", "−") in line
        assert f"{best['epoch']:.0f} of 2" in line
    assert small.endswith("| 81.0 | 7.2 | not measured |")
    assert large.endswith("| not measured | not measured | 12.3 |")


def test_seconds_an_epoch(args, monkeypatch):
    monkeypatch.setattr(size, "FLOWS", TINY[:1])
    size.measure(args)
    seconds = size.read(os.path.join(args.output, size.SECONDS))["2x1x8"]
    assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]


def test_the_picture_shows_every_flow():
    found = [(name, {"parameters": 10**i, "loss": -i, "prior": 80 + i, "codes": None})
             for i, name in enumerate(TINY, start=5)]  # fmt: skip
    drawn = size.chart(found)
    for i in range(3):
        without = size.chart(found[:i] + found[i + 1 :])
        assert without.shape == drawn.shape and not np.array_equal(without, drawn)
