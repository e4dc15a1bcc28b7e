"""Killed, stopped, out of space: as users meet it, in processes of their own."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import soak_kills
from conftest import RESULT, ROOT, TINY, history, in_process, result, run

from support import checkpoint, files, resuming


def test_killed_at_random_moments_and_resumed_it_ends_the_same():
    _, _, differing = soak_kills.kills(3)
    assert differing == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_step_and_say_how_to_go_on(npz, tmp_path, number):
    flags = [*TINY, "--epochs", "500", "--data", npz, "--output", str(tmp_path)]
    command = [sys.executable, os.path.join(ROOT, "nice.py"), *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    for line in process.stdout:
        if "Epoch 3/" in line:
            break
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert stderr.count("\n") == 1 and "--resume" in stderr and number.name in stderr
    rows = history(tmp_path)
    assert len(rows) >= 2 and f"{len(rows)} complete epochs" in stderr
    configuration, _ = checkpoint.read(str(tmp_path / resuming.STATE))
    assert len(configuration["history"]) == len(rows)


def test_ctrl_c_in_the_first_epoch_promises_nothing(npz, tmp_path):
    run(npz, tmp_path)
    before = result(tmp_path)
    flags = [*TINY, "--data", npz, "--output", str(tmp_path), "--batch-size", "1", "--noise", "0"]
    process = subprocess.Popen(
        [sys.executable, os.path.join(ROOT, "nice.py"), *flags, "--epochs", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    for line in process.stdout:
        if "Epoch 1/" in line:
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    if "no epoch was complete" in stderr:  # else it was faster than we
        assert process.returncode == 130 and "--resume" not in stderr
        assert result(tmp_path) == before
    else:
        assert "complete epochs" in stderr


def limited(size):
    """In the child: no file may grow beyond `size` bytes."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_file_that_may_not_grow_ends_training_with_one_line(npz, tmp_path):
    run(npz, tmp_path)
    before = result(tmp_path)
    flags = [*TINY, "--units", "300", "--data", npz, "--output", str(tmp_path)]
    command = [sys.executable, os.path.join(ROOT, "nice.py"), *flags]
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited(20_000))
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1 and "could not be written" in ended.stderr
    assert result(tmp_path) == before
    left = set(os.listdir(tmp_path)) - {"data.npz", "run-1"}
    assert left == {*RESULT, resuming.STATE, files.LOCK}


@contextlib.contextmanager
def small_disk(path, size):
    """A file system of so many bytes, where the machine lets us mount one."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield path
    finally:
        time.sleep(0.1)
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_ends_training_with_one_line(npz, tmp_path):
    with small_disk(tmp_path / "disk", 2**20) as disk:
        flags = [*TINY, "--units", "100", "--data", npz, "--output", str(disk)]
        run(npz, disk, "--units", "100")
        before = result(disk)
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - 20_000))
        code, stderr = in_process("nice.py", *flags, "--seed", "1")
        assert code == 2 and stderr.count("\n") == 1 and "No space left" in stderr
        assert result(disk) == before
        (disk / "filler").unlink()
        run(npz, disk, "--units", "100", "--seed", "1")
