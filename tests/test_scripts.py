"""The scripts as users run them: subprocesses, tiny settings, wrong arguments."""

import argparse
import glob
import json
import os
import shlex
import shutil
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import ROOT, in_process, script

import explore

TINY = "--units 8 --depth 1 --couplings 2 --epochs 1 --batch-size 8".split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with what one tiny training of 6 x 4 pictures, in nobody's folder, leaves."""
    folder = tmp_path_factory.mktemp("trained")
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 4)).astype("uint8")
    np.savez(folder / "data.npz", x_train=x)
    result = script("nice.py", *TINY, "--data", "data.npz", "--output", "out", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "best validation loss" in result.stdout
    return folder


def test_train_then_sample(trained):
    for name in ("nice.safetensors", "history.csv"):
        assert (trained / "out" / name).stat().st_size > 0
    assert imageio.imread(trained / "out" / "samples.png").shape == (15 * 6, 15 * 4)
    assert imageio.imread(trained / "out" / "loss.png").ndim == 3
    weights = ("--weights", trained / "out" / "nice.safetensors")
    images = []
    for flags in ([], ["--seed", 1]):
        flags = [*weights, "--rows", 3, *flags]
        result = script("sample.py", *flags, cwd=trained)
        assert result.returncode == 0 and "nice.safetensors" in result.stdout
        images.append(imageio.imread(trained / "samples.png"))
    assert images[0].shape == (18, 12) and images[0].dtype == np.uint8
    assert not np.array_equal(images[0], images[1])


def test_samples_stream_into_an_npz_file(trained):
    weights = ("--weights", trained / "out" / "nice.safetensors", "--seed", 3)
    flags = [*weights, "--count", 2500, "--output", "many.npz"]
    assert script("sample.py", *flags, cwd=trained).returncode == 0
    with np.load(trained / "many.npz") as file:
        many = file["samples"]
    assert many.shape == (2500, 6, 4) and many.dtype == np.uint8
    assert not np.array_equal(many[:1000], many[1000:2000])  # each batch has codes of its own
    assert script("sample.py", *weights, "--rows", 50, cwd=trained).returncode == 0
    grid = imageio.imread(trained / "samples.png").reshape(50, 6, 50, 4).transpose(0, 2, 1, 3)
    assert np.array_equal(grid.reshape(2500, 6, 4), many)


def test_the_bench_measures(tmp_path):
    flags = "--against plain --steps 1 --repeats 2 --json b.json --picture b.png".split()
    x = np.random.default_rng(0).integers(0, 256, (300, 4, 4)).astype("uint8")
    np.savez(tmp_path / "data.npz", x_train=x)
    result = script("tools/performance.py", *flags, "--data", "data.npz", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "ours / plain" in result.stdout and imageio.imread(tmp_path / "b.png").ndim == 3
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["steps_per_epoch"] == 3 and set(found["step"]) == {"ours", "plain"}
    widths = [8, *5 * [1000], 8]  # 784 pixels would be 392
    products = 4 * 3 * sum(a * b for a, b in zip(widths, widths[1:])) - 8 * 1000
    assert found["flops"] == 2 * 128 * products


def test_the_time_to_a_loss(trained):
    flags = ["--data", "data.npz", "--output", "timed", *TINY]
    result = script("bench.py", "--until", -1000, *flags, cwd=trained)
    assert result.returncode == 2 and "val_loss" in result.stdout
    assert result.stderr.count("\n") == 1 and "ended before" in result.stderr


def test_shipped_weights_give_digits(tmp_path):
    weights = os.path.join(ROOT, "weights", "pretrained.safetensors")
    result = script("sample.py", "--weights", weights, "--output", tmp_path / "digits.png")
    assert result.returncode == 0, result.stderr
    image = imageio.imread(tmp_path / "digits.png")
    assert image.shape == (420, 420)
    # Black borders around bright strokes, which no untrained flow draws.
    digits = image.reshape(15, 28, 15, 28).transpose(0, 2, 1, 3).reshape(-1, 28, 28)
    assert digits[:, :2].mean() < 10 and digits[:, 8:20, 8:20].mean() > 50


SCRIPTS = ["nice.py", "sample.py", "evaluate.py", "explore.py", "bench.py"]
WITH_FLAGS = [  # performance.py takes those of bench.py, and Keras with them
    os.path.relpath(path, ROOT)
    for path in sorted(glob.glob(os.path.join(ROOT, "tools", "*.py")))
    if "def parse(" in open(path, encoding="utf-8").read() and "performance" not in path
]


@pytest.mark.parametrize("name", SCRIPTS + WITH_FLAGS)
def test_help_and_wrong_flags_do_not_wait_for_keras(name):
    result = script(name, "--help", KERAS_BACKEND="none such")
    assert result.returncode == 0 and "options:" in result.stdout
    result = script(name, "--nose", KERAS_BACKEND="none such")
    assert result.returncode == 2 and "none such" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_shows_the_defaults_of_the_recipe():
    for recipe, epochs in (("best", 20), ("paper", 36)):
        shown = script("nice.py", "--recipe", recipe, "--help").stdout
        assert f"passes over the training pictures (default: {epochs})" in " ".join(shown.split())


def test_a_missing_backend_is_one_clear_line(tmp_path):
    missing = tmp_path / "jax"
    missing.mkdir()
    (missing / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'jax'\")")
    for name, said in (("jax", "No module named 'jax'"), ("none such", "none such")):
        result = script("sample.py", KERAS_BACKEND=name, PYTHONPATH=str(tmp_path), cwd=tmp_path)
        assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
        assert said in result.stderr and "KERAS_BACKEND" in result.stderr


def test_a_training_on_jax_loads_no_tensorflow(trained, tmp_path):
    (tmp_path / "tensorflow").mkdir()  # who imports it is stopped
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('for nothing')")
    flags = [*TINY, "--data", "data.npz", "--output", tmp_path / "out"]
    result = script("nice.py", *flags, cwd=trained, KERAS_BACKEND="jax", PYTHONPATH=str(tmp_path))
    assert result.returncode == 0 and result.stderr == "", result.stderr


def test_a_closed_pipe_is_no_failed_file(trained):
    command = [sys.executable, os.path.join(ROOT, "sample.py"), "--count", "30000", "--weights",
               "out/nice.safetensors", "--output", "closed.npz"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=trained, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 141
    assert not list(trained.glob("*closed*"))


def test_inpaint_names_the_weights_it_takes(capsys):
    args = argparse.Namespace(weights=None, seed=0)
    assert explore.Job(args).trained(explore.PAPER).configuration["prior"] == "logistic"
    assert capsys.readouterr().out == f"weights: {explore.PAPER}\n"


def test_every_bad_input_is_one_clear_line_and_exit_code_2(trained, tmp_path, monkeypatch):
    good = trained / "out" / "nice.safetensors"
    whole = good.read_bytes()
    (tmp_path / "truncated.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "foreign.safetensors").write_bytes(b"not safetensors")
    np.savez(tmp_path / "nan.npz", x_train=np.full((9, 4, 4), np.nan))
    np.savez(tmp_path / "other.npz", x_train=np.zeros((9, 4, 4), "uint8"))
    np.savez(tmp_path / "odd.npz", x_train=np.zeros((9, 3, 3), "uint8"))
    np.savez(tmp_path / "objects.npz", x_train=np.array([None, {}], dtype=object))
    (tmp_path / "file").write_text("in the way")
    cases = [
        ("sample.py --weights missing.safetensors", "no weights file"),
        ("sample.py --weights truncated.safetensors", "truncated.safetensors"),
        ("sample.py --weights foreign.safetensors", "foreign.safetensors"),
        (f"sample.py --weights {tmp_path}", "is a folder"),
        (f"sample.py --weights {good} --sigma -1", "--sigma"),
        (f"sample.py --weights {good} --sigma nan", "--sigma"),
        (f"sample.py --weights {good} --rows 0", "--rows"),
        (f"sample.py --weights {good} --rows 2 --output file/x.png", "could not be written"),
        (f"sample.py --weights {good} --count 9", "--count"),
        (f"sample.py --weights {good} --count 9 --output file/x.npz", "could not be written"),
        ("evaluate.py --weights missing.safetensors", "no weights file"),
        (f"evaluate.py --weights {good} --draws 0", "--draws"),
        (f"evaluate.py --weights {good} --data odd.npz", "even number"),
        (f"evaluate.py --weights {good} --data other.npz", "16 pixels"),
        *(
            (f"explore.py {name} --weights {good} --data other.npz --output .", "16 pixels")
            for name in ("likely", "neighbours", "interpolate", "traverse", "inpaint")
        ),
        (f"explore.py noise --weights {good} --output .", "784 pixels"),
        (f"sample.py --weights {good} --output x.jpg", ".png or .npz"),
        (f"explore.py likely --weights {good} --data missing.npz --output .", "no data file"),
        ("explore.py everything --output .", "everything"),
        (f"explore.py temperature --weights {good} --output file/x", "file/x"),
        ("bench.py --steps 0", "--steps"),
        ("bench.py --data nan.npz", "NaN"),
        ("bench.py --until -1951 --nose 0", "--nose"),
        ("nice.py --epochs 0", "--epochs"),
        ("nice.py --epochs many", "whole number"),
        ("nice.py --recipe none", "--recipe"),
        ("nice.py --nose 0", "--nose"),
        ("nice.py --data missing.npz", "no data file"),
        ("nice.py --data nan.npz", "NaN"),
        ("nice.py --data odd.npz", "even number"),
        ("nice.py --data objects.npz", "pickle"),
        ("nice.py --data foreign.safetensors", "not an .npz"),
        (f"nice.py --data {trained}/data.npz --output file/out", "file/out"),
    ]

    monkeypatch.chdir(tmp_path)
    before = set(os.listdir(tmp_path))
    for i, (command, reason) in enumerate(cases):
        code, stderr = in_process(*command.split())
        assert code == 2, (command, stderr)
        assert stderr.count("\n") == 1 and reason in stderr, (command, stderr)
        if i % 8 == 0:  # and, for some, as users see it
            result = script(*command.split(), cwd=tmp_path)
            assert (result.returncode, result.stderr) == (code, stderr)
            assert "Traceback" not in result.stdout
    assert set(os.listdir(tmp_path)) == before


def test_what_is_piped_holds_no_backspaces(trained, tmp_path):
    weights = trained / "out" / "nice.safetensors"
    flags = ["--weights", weights, "--codes", "prior", "--count", 10_001]
    result = script("sample.py", *flags, "--output", tmp_path / "x.npz")
    assert result.returncode == 0 and "\b" not in result.stdout and "\r" not in result.stdout


def test_what_follows_a_training_can_be_interrupted(trained, tmp_path, monkeypatch):
    """Ctrl-C while codes are fitted: the weights are there, and the line says how to go on."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.codes.of_pictures", interrupted)
    flags = [*TINY, "--data", trained / "data.npz", "--output", tmp_path]
    code, said = in_process("nice.py", *flags)
    python, *command = shlex.split(said.partition("To go on: ")[2])
    assert code == 130 and shutil.which(python) and os.path.exists(tmp_path / "nice.safetensors")
    monkeypatch.undo()
    assert in_process(*command)[0] == 0
    assert os.path.exists(tmp_path / "samples.png")


def test_a_mistyped_name_is_shown_what_there_is():
    code, said = in_process("sample.py", "--weights", "weights/pretraned.safetensors")
    assert code == 2 and "pretrained.safetensors" in said


def test_make_says_what_it_can_do_and_knows_a_python_it_cannot_use(tmp_path):
    def make(*flags):
        return subprocess.run(["make", *flags], cwd=ROOT, capture_output=True, text=True)

    assert "make sample: " in make().stdout and make().stdout == make("help").stdout
    old = tmp_path / "python"
    code = "import sys; sys.version_info = (3, 9, 1); exec(sys.argv[2])"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    old.chmod(0o755)
    result = make("sample", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}")
    assert result.returncode and "not 3.9" in result.stderr and not (tmp_path / "venv").exists()
