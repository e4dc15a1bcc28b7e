"""Files written whole or not at all, and folders that one training has to itself."""

import contextlib
import glob
import os
import tempfile

import filelock

from support.errors import UserError

TEMPORARY = ".nice.tmp"
LOCK = ".nice.lock"


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary name beside `path`; rename it to `path` when all is written.

    At every moment `path` is the old file or the new one, whole: the new one is
    flushed to disk before the rename, the folder after it. A link stays, and what it
    points to is replaced; a pipe or a device is written to as it is.

    Raises: `UserError` where the folder cannot be written or the disk is full.
    """
    path, temporary = os.path.realpath(path), None
    folder, name = os.path.split(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            yield path
            return
        os.makedirs(folder, exist_ok=True)
        if os.path.isdir(path):
            raise IsADirectoryError(21, "it is a folder", path)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=TEMPORARY)
        os.close(handle)
        os.chmod(temporary, _mode(path))
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(folder)
    except BrokenPipeError:
        raise  # stdout's, or the pipe's own: no file has failed
    except OSError as error:
        raise UserError(
            f"{path} could not be written: {error.strerror or error}. "
            "What was there before is untouched."
        ) from None
    finally:
        if temporary and os.path.exists(temporary):
            os.remove(temporary)


def write(path, content):
    """Write text or bytes to `path`, atomically. Raises: `UserError`, see `atomic`."""
    content = content.encode() if isinstance(content, str) else content
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(content)


def check_writable(folder):
    """Create `folder` if need be, and raise `UserError` where nothing can be written to it."""
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be written: {error.strerror or error}. "
            "Name another one with --output."
        ) from None


@contextlib.contextmanager
def locked(folder, names=()):
    """Keep other trainings out of `folder`, as long as this process lives.

    Removes what a killed run may have left half written there of the files called `names`.

    Raises: `UserError` where another run holds the folder, or it cannot be written.
    """
    check_writable(folder)
    lock = filelock.FileLock(os.path.join(folder, LOCK), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"another training is writing to {folder}. Wait for it, or name another folder "
            "with --output."
        ) from None
    except (NotImplementedError, OSError):
        pass  # a network file system without locks: no reason not to train
    try:
        for name in names:
            for path in glob.glob(os.path.join(glob.escape(folder), f".{name}.*{TEMPORARY}")):
                os.remove(path)
        yield
    finally:
        lock.release()


def _mode(path):
    """The permissions of the file that is replaced; of a new one, the user's umask."""
    if os.path.exists(path):
        return os.stat(path).st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def _flush(path):
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows has no handle of a folder
    handle = os.open(path, os.O_RDWR if os.path.isfile(path) else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
