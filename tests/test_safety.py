"""Nothing of anybody's is overwritten, and nothing in a file is believed."""

import json
import os
import random
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import ROOT, TINY, configuration, header, in_process, joined, run, save, script

import nice
from support import checkpoint, cli, errors, files, options, resuming
from support.errors import UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data.npz and, in out, what a tiny training of it leaves."""
    folder, rng = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    x = rng.integers(0, 256, (70, 4, 4)).astype("uint8")
    np.savez(folder / "data.npz", x_train=x, y_train=np.arange(70) % 2)
    run(str(folder / "data.npz"), folder / "out")
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A copy of it, to spoil, as the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != files.LOCK}


OUTPUTS = {
    "weights as json": "evaluate.py --weights {w} --data data.npz --json {w}",
    "data as json": "evaluate.py --weights {w} --data data.npz --json data.npz",
    "a text as json": "evaluate.py --weights {w} --data data.npz --json README.md",
    "another json": "evaluate.py --weights {w} --data data.npz --json other.json",
    "data as samples": "sample.py --weights {w} --data data.npz --output data.npz",
    "other data as samples": "sample.py --weights {w} --output data.npz",
    "a text called png": "sample.py --weights {w} --output text.png",
    "its own weights": "sample.py --weights linked.npz --output linked.npz",
    "samples that it reads": "sample.py --weights {w} --data own.npz --output own.npz",
    "a folder": "sample.py --weights {w} --output folder.png",
    "pictures of somebody": "nice.py --data data.npz --output docs",
    "a folder called history": "nice.py --data data.npz --output blocked",
    "explored over text": "explore.py spectrum --weights {w} --output texts",
}


@pytest.mark.parametrize("command", OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_replaces_nothing_but_its_like(here, command):
    weights = os.path.join("out", options.TRAINED)
    for name in ("docs", "blocked/history.csv", "texts", "folder.png"):
        (here / name).mkdir(parents=True)
    for name in ("README.md", "text.png", "texts/spectrum.png"):
        (here / name).write_text("written by hand")
    (here / "other.json").write_text('{"name": "a package"}')
    shutil.copy(os.path.join("out", "samples.png"), "docs")
    os.link(weights, "linked.npz")
    np.savez("own.npz", samples=np.zeros((4, 4, 4), "uint8"))
    before, start = contents(here), time.monotonic()
    code, stderr = in_process(*command.format(w=weights).split())
    assert code == 2 and stderr.count("\n") == 1, stderr
    assert contents(here) == before and time.monotonic() - start < 10


def test_what_a_command_wrote_it_may_replace(here):
    weights = ["--weights", os.path.join("out", options.TRAINED), "--data", "data.npz"]
    for output in ("x.png", "x.npz"):
        for _ in range(2):
            assert in_process("sample.py", *weights, "--output", output) == (0, "")
    for _ in range(2):
        assert in_process("evaluate.py", *weights, "--json", "x.json") == (0, "")
    assert json.loads((here / "x.json").read_text())["weights"]


def test_weights_without_their_state_are_kept(here, capsys):
    friends = (here / "out" / options.TRAINED).read_bytes()
    (here / "out" / resuming.STATE).unlink()
    run("data.npz", here / "out", "--seed", "1")
    assert (here / "out" / "run-1" / options.TRAINED).read_bytes() == friends
    assert "run-1" in capsys.readouterr().out
    assert (here / "out" / "run-1" / resuming.HISTORY).exists()  # of the same run, surely
    (here / "out" / options.TRAINED).write_bytes(b"no weights at all")
    before = contents(here)
    code, stderr = in_process("nice.py", "--data", "data.npz", "--output", "out", *TINY)
    assert code == 2 and "file of ours" in stderr and contents(here) == before


def test_resume_believes_no_weights_of_another_run(here, killed):
    run("data.npz", here / "other", "--seed", "5")
    shutil.rmtree(here / "out")
    killed("data.npz", here / "out", epochs=1)
    good = here / "out" / options.TRAINED
    for spoil in (lambda: shutil.copy(here / "other" / options.TRAINED, good), good.unlink):
        spoil()
        before = contents(here)
        code, stderr = in_process(
            "nice.py", "--data", "data.npz", "--output", "out", *TINY, "--resume"
        )
        assert code == 2 and options.TRAINED in stderr and contents(here) == before


def test_a_folder_that_was_moved_away_is_not_written_anew(here, monkeypatch):
    write = resuming.Keeper.write

    def moved(self):
        if os.path.exists("new"):
            os.rename("new", "elsewhere")
            os.makedirs("new")
        write(self)

    monkeypatch.setattr(resuming.Keeper, "write", moved)
    code, stderr = in_process("nice.py", "--data", "data.npz", "--output", "new", *TINY)
    assert code == 2 and "moved or removed" in stderr and not os.listdir("new")


def test_frames_of_another_shape_are_refused_before_the_first_step(here, killed):
    shutil.rmtree(here / "out")
    killed("data.npz", here / "out", epochs=1)
    path = str(here / "out" / resuming.STATE)
    held, arrays = checkpoint.read(path)
    checkpoint.save(path, {**arrays, "frames": np.zeros((2, 5, 5), "uint8")}, held)
    code, stderr = in_process("nice.py", "--data", "data.npz", "--output", "out", *TINY, "--resume")
    assert code == 2 and "damaged" in stderr


def test_no_escape_of_a_file_reaches_the_terminal(here):
    found, rest = header((here / "out" / options.TRAINED).read_bytes())
    evil = "\x1b]0;owned\x07\x9b31m\u202e"
    for tensor in list(found):
        if tensor != "__metadata__":
            found[tensor]["dtype"] = evil
    (here / "a.safetensors").write_bytes(joined(json.dumps(found, ensure_ascii=False), rest))
    held, arrays = checkpoint.read(str(here / "out" / options.TRAINED))
    held["model"] = {**held["model"], evil: 1}
    checkpoint.save(str(here / "b.safetensors"), arrays, held)
    for name in ("a", "b"):
        code, stderr = in_process("sample.py", "--weights", f"{name}.safetensors")
        assert code == 2 and stderr.rstrip("\n").isprintable() and stderr.count("\n") == 1
    assert errors.printable("a\x1b[2J\n b\udcff σ") == r"a\x1b[2J b\udcff σ"


def test_huge_configurations_are_refused_at_once(tmp_path, small):
    encoder, _ = small()
    for changes in ({"couplings": 1000, "depth": 100}, {"couplings": 40, "depth": 99},
                    {"couplings": 1, "depth": 100, "units": 10**6},
                    {"couplings": 150, "depth": 100},
                    {"couplings": 1000, "network": "conv"}, {"network": "conv", "kernel": 2},
                    {"couplings": 2, "network": "both", "shuffle": "random"}):  # fmt: skip
        held = configuration()
        held["model"] |= changes
        path, start = save(tmp_path / "huge.safetensors", encoder, held), time.process_time()
        with pytest.raises(UserError):
            nice.load(path)
        assert time.process_time() - start < 2


def test_numbers_that_cannot_be_computed_with_are_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate.py"])
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: np.linalg.cholesky(np.zeros((2, 2))))
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


ABSURD = [
    f"sample.py --digit {10**24}",
    "sample.py --sigma 1e300",
    f"evaluate.py --samples {10**17}",
    f"evaluate.py --draws {10**20}",
    f"nice.py --batch-size {10**20}",
    f"nice.py --epochs {10**41}",
    f"nice.py --seed {10**400}",
    "nice.py --learning-rate 1e300",
    "nice.py --epsilon 1e300",
]


@pytest.mark.parametrize("command", ABSURD, ids=lambda command: command[:24])
def test_absurd_numbers_are_refused_by_their_flags(command):
    code, stderr = in_process(*command.split())
    assert code == 2 and stderr.count("\n") == 1 and command.split()[1] in stderr


def test_a_killed_sample_leaves_nothing_for_long(here):
    command = [sys.executable, os.path.join(ROOT, "sample.py"), "--count", str(10**8), "--weights",
               os.path.join("out", options.TRAINED), "--output", "big.npz"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(here.glob(".big.npz.*")):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    (left,) = here.glob(".big.npz.*")
    files.write("big.npz", b"")
    assert left.exists()  # it could be in use
    os.utime(left, (0, 0))
    files.write("big.npz", b"")
    assert not left.exists()


def test_loading_leaves_the_random_state(tmp_path, small):
    path = save(tmp_path / "small.safetensors", small()[0])
    drawn = []
    for load in (lambda: None, lambda: nice.load(path)):
        keras.utils.set_random_seed(3)
        load()
        drawn.append((random.random(), np.random.rand(), np.array(keras.random.normal((2,)))))
    assert drawn[0][:2] == drawn[1][:2] and np.array_equal(drawn[0][2], drawn[1][2])


def test_another_float_is_named_and_not_the_file_blamed(tmp_path, small):
    path = save(tmp_path / "small.safetensors", small()[0])
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        with pytest.raises(UserError, match="float32"):
            nice.load(path)
    finally:
        keras.config.set_dtype_policy(before)


def test_keras_json_decides_no_floats_and_a_terminal_of_ascii_loses_no_table(here):
    flags = ["--weights", os.path.join("out", options.TRAINED), "--data", "data.npz"]
    (here / "home").mkdir()
    (here / "home" / "keras.json").write_text(json.dumps({"floatx": "float64"}))
    environment = {"KERAS_HOME": str(here / "home"), "PYTHONIOENCODING": "ascii"}
    ended = script("evaluate.py", *flags, cwd=here, **environment)
    assert ended.returncode == 0 and "log-likelihood" in ended.stdout, ended.stderr
    ended = script("sample.py", *flags, cwd=here, KERAS_BACKEND="numpy")
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and "gradients" in ended.stderr


def test_no_warning_of_ours(here):
    flags = [*TINY, "--epochs", "1", "--data", "data.npz", "--output", "new"]
    wrapper = (
        "import warnings, sys; from support import cli, options; cli.load_keras(); import training;"
        "warnings.simplefilter('error', DeprecationWarning);"
        f"sys.argv[1:] = {flags!r}; cli.run(training.main, options.training())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", wrapper],
        cwd=here,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
