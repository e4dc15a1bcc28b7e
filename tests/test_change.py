"""Every patch of docs/change.md on a copy of the project, and that no number lies there."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, configuration, numpy, randomize, save

import nice

PAGE = open(os.path.join(ROOT, "docs", "change.md"), encoding="utf-8").read()
PATCHES = dict(re.findall(r"^## (.*?)\n.*?^```diff\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
FLAGS = {
    "The same, by a flag": ["--rows", "3"],
    "Another prior": ["--prior", "laplace"],
    "Another schedule": ["--schedule", "linear"],
}
TINY = "--units 8 --depth 2 --couplings 2 --batch-size 16 --epochs 2".split()


def copy_of_the_project(folder):
    for name in os.listdir(ROOT):
        if name.endswith(".py"):
            shutil.copy(os.path.join(ROOT, name), folder)
    shutil.copytree(os.path.join(ROOT, "support"), folder / "support")
    x = np.random.default_rng(0).integers(0, 256, (90, 8, 4)).repeat(2, axis=2).astype("uint8")
    np.savez(folder / "data.npz", x_train=x[:70], x_test=x[70:])
    model = {"dim": 64, "couplings": 2, "units": 8, "depth": 2}
    encoder, _ = nice.build(**model)
    randomize(encoder)
    save(folder / "older.safetensors", encoder, configuration((8, 8), **model))
    return np.abs(numpy(encoder(x[70:71].reshape(1, 64).astype("float32") / 255))).sum()


def added(patch):
    return [line for line in patch.splitlines() if re.match(r"\+(?!\+\+ )", line)]


def test_the_page_has_a_patch_for_each_change():
    assert list(PATCHES) == [
        "An affine coupling", "Another m", "The same, by a flag", "Another prior",
        "Another schedule",
    ]  # fmt: skip
    for name, patch in PATCHES.items():
        assert len(added(patch)) <= 12
        assert patch.count("\n+++ ") == (3 if name == "The same, by a flag" else 1)


@pytest.mark.parametrize("name", PATCHES)
def test_a_changed_copy_tells_the_truth(name, tmp_path):
    older = copy_of_the_project(tmp_path)
    apply = ["git", "apply", "-"]
    subprocess.run(apply, input=PATCHES[name], cwd=tmp_path, text=True, check=True)
    script = os.path.join(ROOT, "tests", "changed.py")
    done = subprocess.run(
        [sys.executable, script, *TINY, *FLAGS.get(name, [])],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["resumed alike"]
    for kind in ("likelihood", "evaluated", "compiled"):
        assert found[kind] < 1e-3, kind
    assert found["round trip"] < 1e-5
    assert found["samples"] == [4, 64]
    dense = 2 * (2 * 32 * 8 + 8 * 8 + 8 + 8 + 32) + 64
    if name in ("An affine coupling", "Another m"):
        assert "other names or shapes" in found["older file"]
    else:
        assert found["older file"] == pytest.approx(older, rel=1e-4)
    assert (found["parameters"] == dense) == (name in ("Another prior", "Another schedule"))
