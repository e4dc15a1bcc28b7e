"""Training on several devices gives what one device gives; of several processes one speaks.

The devices are virtual CPUs, in processes of their own: a backend cannot be
given others once it has started.
"""

import json
import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import RESULT, ROOT, history, in_process, numpy

from support import batches, checkpoint, files, options, resuming
from support.devices import PROCESSES, Devices

BACKEND = keras.backend.backend()
several = pytest.mark.skipif(BACKEND != "jax", reason="--distribute is for JAX")
# Noise, rate and epsilon so large that another noise, or gradients added up, would be seen.
TINY = (
    "--units 8 --depth 1 --couplings 1 --batch-size 16 --epochs 2 "
    "--noise 0.1 --learning-rate 0.05 --epsilon 0.1 --weight-decay 0.3"
).split()


def start(commands, devices=2, **environment):
    script = os.path.join(ROOT, "tests", "several.py")
    return subprocess.Popen(
        [sys.executable, script, str(devices), json.dumps(commands)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(process):
    """`(exit code, stdout, stderr)` of each command."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    return [json.loads(line)["result"] for line in stdout.splitlines() if line.startswith("{")]


def save(path, train, validation):
    x = np.random.default_rng(0).integers(0, 256, (train + validation, 4, 4)).astype("uint8")
    np.savez(path, x_train=x[:train], x_test=x[train:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data whose last batch is short, 16 + 16 + 14 pictures, or odd as well, 16 + 16 + 13."""
    folder = tmp_path_factory.mktemp("several")
    save(folder / "even.npz", 46, 18)
    save(folder / "odd.npz", 45, 15)
    save(folder / "few.npz", 46, 1)
    return folder


def command(folder, output, *flags, data="even"):
    return ["--data", f"{folder}/{data}.npz", "--output", f"{folder}/{output}", *TINY, *flags]


@pytest.fixture(scope="module")
def runs(folder):
    """What each command printed on two devices, by the folder it trained into."""
    several = "--distribute"
    commands = {
        "one": command(folder, "one"),
        "two": command(folder, "two", several),
        "odd": command(folder, "odd", several, "--recipe", "paper", "--epochs", "1", data="odd"),
        "killed": command(folder, "resumed", several, "--killed"),
        "resumed": command(folder, "resumed", several, "--resume"),
        "killed on one": command(folder, "one to processes", "--killed"),
        "few": command(folder, "few", several, data="few"),
        "indivisible": command(folder, "indivisible", several, "--batch-size", "15"),
    }
    return dict(zip(commands, results(start(list(commands.values())))))


def assert_same_training(folder, name, other):
    _, weights = checkpoint.read(str(folder / name / options.TRAINED))
    _, expected = checkpoint.read(str(folder / other / options.TRAINED))
    for held in (weights, expected):  # directions of equal width are known up to a rotation
        basis = held.pop("codes/basis")
        V = held["codes/directions"] @ basis
        held["codes/directions"] = np.swapaxes(V, 1, 2) @ V
        held["codes/means"] = held["codes/means"] @ basis
    contrast = expected.pop("codes/contrast")  # of what is drawn along directions of either sign
    assert weights.pop("codes/contrast") == pytest.approx(contrast, rel=0.02)
    for path, array in expected.items():
        assert np.abs(weights[path] - array).max() <= 1e-4 * np.abs(array).max() + 1e-6, path
    rows, expected = history(folder / name), history(folder / other)
    assert len(rows) == len(expected) == 2
    assert all(row == pytest.approx(other, rel=1e-4) for row, other in zip(rows, expected))


@several
def test_two_devices_train_as_one(folder, runs):
    code, stdout, stderr = runs["two"]
    assert code == 0, stderr
    assert "training on 2 devices, process 1 of 1\n" in stdout and "best validation loss" in stdout
    assert "devices" not in runs["one"][1]
    assert_same_training(folder, "two", "one")
    assert sorted(os.listdir(folder / "two")) == sorted(os.listdir(folder / "one"))


@several
def test_two_devices_resume(folder, runs):
    assert runs["killed"][0] == "killed"
    code, stdout, stderr = runs["resumed"]
    assert code == 0, stderr
    assert "resumed after epoch 1" in stdout and "training on 2 devices" in stdout
    assert_same_training(folder, "resumed", "one")


@several
def test_odd_sets_leave_pictures_out(folder, runs):
    code, _, stderr = runs["odd"]
    assert code == 0, stderr
    rows = history(folder / "odd")
    assert len(rows) == 1 and np.isfinite([rows[0]["loss"], rows[0]["val_loss"]]).all()


@several
def test_what_two_devices_cannot_share_is_refused(folder, runs):
    for name, reason in (("indivisible", "not 15"), ("few", "1 pictures")):
        code, _, stderr = runs[name]
        assert code == 2 and stderr.count("\n") == 1
        assert reason in stderr and "2 devices" in stderr


@several
def test_two_processes_train_as_one_and_the_first_writes(folder, runs):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    one = folder / "one to processes"
    processes = []
    for i in range(2):
        commands = [
            command(folder, f"process {i}", "--distribute"),
            command(folder, one.name, "--distribute", "--resume"),
            command(folder, one.name if i else "elsewhere", "--distribute", "--resume"),
        ]
        values = dict(zip(PROCESSES, (address, "2", str(i))))
        processes.append(start(commands, devices=1, **values))
    try:
        first, second = map(results, processes)
    finally:
        for process in processes:
            process.kill()
    for (code, stdout, stderr), (code_2, stdout_2, stderr_2) in zip(first[:2], second):
        assert code == code_2 == 0, stderr + stderr_2
        assert "training on 2 devices, process 1 of 2" in stdout
        assert "best validation loss" in stdout
        assert stdout_2 == "training on 2 devices, process 2 of 2\n"
    assert_same_training(folder, "process 0", "one")
    assert_same_training(folder, one.name, "one")
    left = {*RESULT[:-1], resuming.STATE, files.LOCK}  # without a film
    assert set(os.listdir(folder / "process 0")) == left
    assert not (folder / "process 1").exists()
    for code, _, stderr in (first[2], second[2]):
        assert code == 2 and stderr.count("\n") == 1 and "not all processes see" in stderr


def test_one_device_or_another_backend_is_refused(folder, monkeypatch):
    flags = command(folder, "refused", "--distribute")
    code, stderr = in_process("nice.py", *flags)
    reason = "1 devices" if BACKEND == "jax" else "set KERAS_BACKEND=jax"
    assert code == 2 and stderr.count("\n") == 1 and reason in stderr
    monkeypatch.setenv(PROCESSES[1], "2")
    code, stderr = in_process("nice.py", *flags)
    reason = PROCESSES[0] if BACKEND == "jax" else "set KERAS_BACKEND=jax"
    assert code == 2 and stderr.count("\n") == 1 and reason in stderr
    assert not (folder / "refused").exists()


def first_epoch(pixels, devices):
    stream = iter(batches.batches(pixels, 16, seed=0, devices=devices))
    return [numpy(next(stream)[0]) for _ in range(batches.steps(len(pixels), 16, devices))]


@pytest.mark.skipif(BACKEND == "tensorflow", reason="--distribute is for JAX")
def test_each_device_gets_equally_many_pictures(rng):
    pixels = rng.random((46, 2), dtype="float32")
    one, four = first_epoch(pixels, Devices()), first_epoch(pixels, Devices(4))
    assert [len(batch) for batch in one] == [16, 16, 14]
    assert [len(batch) for batch in four] == [16, 16, 12]
    assert np.array_equal(np.concatenate(one)[:44], np.concatenate(four))
    parts = [first_epoch(pixels, Devices(4, processes=2, process=i)) for i in range(2)]
    assert all(np.array_equal(np.concatenate(p), b) for *p, b in zip(*parts, four))
