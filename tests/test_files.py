"""Files are replaced whole, and nothing else is: links, pipes, devices and modes stay."""

import os
import stat
import threading

import pytest

from support import files
from support.errors import UserError


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    return path


def test_a_link_stays_and_its_target_is_replaced(old, tmp_path):
    link = tmp_path / "link.bin"
    link.symlink_to(old)
    files.write(str(link), b"new")
    assert link.is_symlink() and old.read_bytes() == b"new"


def test_a_pipe_stays_a_pipe(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    files.write(str(pipe), b"new")
    reader.join(10)
    assert got == [b"new"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_stays_a_device(tmp_path):
    device = tmp_path / "null"  # not /dev/null: a failing test must not cost the machine its own
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.stat(os.devnull).st_rdev)
    except PermissionError:
        pytest.skip("needs the right to make a device")
    files.write(str(device), b"new")
    assert stat.S_ISCHR(device.stat().st_mode)


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_a_new_file_obeys_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write(str(tmp_path / "new"), b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask


def test_a_replaced_file_keeps_its_mode(old):
    old.chmod(0o640)
    files.write(str(old), b"new")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


def test_a_broken_pipe_is_not_taken_for_a_full_disk(old):
    with pytest.raises(BrokenPipeError), files.atomic(str(old)):
        raise BrokenPipeError
    with pytest.raises(UserError, match="untouched"), files.atomic(str(old)):
        raise OSError(28, "No space left on device")
    assert old.read_bytes() == b"old" and len(list(old.parent.iterdir())) == 1


def test_a_training_removes_what_is_left_and_spares_what_is_being_written(old):
    left = old.parent / f".weights.left{files.TEMPORARY}"
    left.write_bytes(b"half")
    with files.atomic(str(old)) as temporary:
        with files.locked(str(old.parent), ["weights"]):
            assert not left.exists() and os.path.exists(temporary)
        open(temporary, "wb").write(b"new")
    assert old.read_bytes() == b"new"
