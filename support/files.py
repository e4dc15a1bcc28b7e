"""Files written whole or not at all, and folders that one training has to itself."""

import contextlib
import glob
import os
import tempfile

from support.cli import UserError

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs out of one folder
    fcntl = None

TEMPORARY = ".nice.tmp"


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary name beside `path`; rename it to `path` when all is written.

    At every moment `path` is the old file or the new one, whole: the new one is
    flushed to disk before the rename, the folder after it. A link stays, and what it
    points to is replaced; a pipe or a device is written to as it is.

    Raises: `UserError` where the folder cannot be written or the disk is full.
    """
    path, temporary, handle = os.path.realpath(path), None, None
    folder, name = os.path.split(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            yield path
            return
        os.makedirs(folder, exist_ok=True)
        if os.path.isdir(path):
            raise IsADirectoryError(21, "it is a folder", path)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=TEMPORARY)
        _lock(handle)  # tells `locked` that somebody is still writing
        os.chmod(temporary, _mode(path))
        yield temporary
        _flush(temporary)
        if os.name == "nt":  # which renames no open file
            handle = os.close(handle)
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
        if handle is not None:
            os.close(handle)


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
def locked(folder):
    """Keep other trainings out of `folder`, as long as this process lives.

    Removes what a killed run may have left half written there.

    Raises: `UserError` where another run holds the folder, or it cannot be written.
    """
    check_writable(folder)
    with _held(folder) as free:
        if not free:
            raise UserError(
                f"another training is writing to {folder}. Wait for it, or name another folder "
                "with --output."
            )
        for path in glob.glob(os.path.join(glob.escape(folder), ".*" + TEMPORARY)):
            with contextlib.suppress(OSError), _held(path) as free:
                if free:
                    os.remove(path)
        yield


@contextlib.contextmanager
def _held(path):
    """Hold a lock on a file or folder: yields whether nobody else does."""
    handle = None if fcntl is None else os.open(path, os.O_RDONLY)
    try:
        yield handle is None or _lock(handle)
    finally:
        if handle is not None:
            os.close(handle)  # and with it the lock


def _lock(handle):
    """Whether an open file is ours now. The kernel drops the lock when the process ends."""
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a network file system without locks: no reason not to train
    return True


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
