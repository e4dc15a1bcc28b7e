"""tools/size.py on tiny flows: it trains once, judges once, and shows what it found."""

import json
import os
import types

import numpy as np
import pytest
import size
from conftest import history

import nice
from support import options
from support.errors import UserError

TINY = ("2x1x8", "4x1x8", "4x1x16")


@pytest.fixture
def args(npz, tmp_path):
    return types.SimpleNamespace(
        only=None, output=str(tmp_path / "sizes"), epochs=2, seed=3, samples=100, steps=1,
        data=npz, markdown=None, picture=None,
    )  # fmt: skip


@pytest.fixture
def judged(monkeypatch):
    """What evaluate.evaluate was asked, its figures invented."""
    asked = []

    def evaluate(weights, source, **choices):
        asked.append({"weights": weights, "data": source, **choices})
        samples = {
            "prior, σ = 0.75": {"distance": 81.0},
            "fitted codes, T = 2": {"distance": 7.25},
        }
        return {"samples": samples}

    monkeypatch.setattr(size, "FLOWS", TINY)
    monkeypatch.setattr(size.evaluate, "evaluate", evaluate)
    return asked


def test_ten_flows_from_a_tenth_of_a_million_to_the_articles():
    counts = sorted(map(size.parameters, size.FLOWS))
    assert len(counts) == len(set(counts)) == 10
    assert counts[0] == pytest.approx(0.1e6, rel=0.1) and counts[-1] == 19_158_352
    assert max(b / a for a, b in zip(counts, counts[1:])) < 4  # evenly, on a log axis


def test_what_is_trained_and_judged_is_not_done_again(args, judged, tmp_path):
    size.train(args)
    assert [os.path.basename(os.path.dirname(one["weights"])) for one in judged] == list(TINY)
    assert {(one["data"], one["seed"], one["count"]) for one in judged} == {(args.data, 3, 100)}
    for name in TINY:
        schedule = nice.load(judged[TINY.index(name)]["weights"]).configuration["schedule"]
        expected = {**options.recipe(epochs=2), "steps_per_execution": 1}  # on a CPU
        assert schedule == options.pick(expected, schedule)
    before = {name: (tmp_path / "sizes" / name / options.TRAINED).read_bytes() for name in TINY}
    os.utime(tmp_path / "sizes" / "4x1x8" / size.QUALITY, (0, 0))  # older than the weights
    size.train(args)
    assert len(judged) == 4 and "4x1x8" in judged[3]["weights"]
    for name in TINY:
        assert (tmp_path / "sizes" / name / options.TRAINED).read_bytes() == before[name]


def test_the_table_says_what_the_runs_found(args, judged, tmp_path, capsys):
    with pytest.raises(UserError, match="no flow yet"):
        size.table(args)
    for args.only in ("4x1x16", "2x1x8"):
        size.train(args)
    with open(os.path.join(args.output, size.SECONDS), "w") as file:
        json.dump({"4x1x16": {"median": 12.34}}, file)
    args.markdown, args.picture = str(tmp_path / "t.md"), str(tmp_path / "t.png")
    capsys.readouterr()
    size.table(args)
    text = open(args.markdown, encoding="utf-8").read()
    assert capsys.readouterr().out == text and os.path.getsize(args.picture) > 10_000
    small, large = text.splitlines()[2:]  # the flow that is not trained is left out
    for line, name in ((small, "2x1x8"), (large, "4x1x16")):
        best = min(history(tmp_path / "sizes" / name), key=lambda row: row["val_loss"])
        assert f"{size.parameters(name):,}" in line
        assert f"{best['val_loss']:.1f}".replace("-", "−") in line
        assert f"{best['epoch']:.0f} of 2" in line
    assert small.endswith("| 81.0 | 7.2 | not measured |") and large.endswith(
        "| 81.0 | 7.2 | 12.3 |"
    )


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
