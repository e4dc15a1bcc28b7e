"""Files written whole or not at all, and folders that one training has to itself."""

import contextlib
import glob
import os
import tempfile
import time

import filelock

from support.errors import UserError

TEMPORARY = ".nice.tmp"
LOCK = ".nice.lock"
# What files of ours hold in their first kilobytes.
KINDS = {".png": b"\x89PNG", ".gif": b"GIF8", ".npz": b"samples.npy", ".json": b'"backend"',
         ".csv": b"epoch,", ".safetensors": b"configuration",
         ".txt": b"\n$ python bench.py"}  # fmt: skip


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
        _sweep(folder, name, age=3600)  # a younger one may be in use
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


def check_output(path, kind, reads=()):
    """Refuse an output that would replace what is not of its kind, or what the command reads.

    Args:
        path: the file to be written; None for that of a flag not given.
        kind: of `KINDS`; of any other nothing is replaced.
        reads: files and folders, as flags name them.

    Raises: `UserError`.
    """
    if path and os.path.isdir(path):
        raise UserError(f"{path} is a folder, and cannot be written: name a file.")
    if not path or not os.path.isfile(path):
        return
    for source in reads:
        source = source if os.path.exists(source) else source.rpartition(":")[0]
        within = os.path.join(os.path.realpath(source), "")
        if os.path.exists(source) and (
            os.path.samefile(path, source) or os.path.realpath(path).startswith(within)
        ):
            raise UserError(f"{path} is what this command reads: name another file to write.")
    with open(path, "rb") as file:
        head = file.read(4096)
        if head and (kind not in KINDS or KINDS[kind] not in head):
            raise UserError(f"{path} is no {kind} file of ours, and stays: name another to write.")


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

    Yields: a function to call before writing: it raises `UserError` where the folder has gone.
    Raises: `UserError` where another run holds the folder, or it cannot be written.
    """
    check_writable(folder)
    path = os.path.join(folder, LOCK)
    lock = filelock.FileLock(path, timeout=0)
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
            _sweep(folder, name)
        held = os.stat(path)

        def check():
            if not os.path.exists(path) or not os.path.samestat(os.stat(path), held):
                raise UserError(  # another training may hold what is called so now
                    f"the folder {folder} was moved or removed: nothing is written to another "
                    "one. What lay in it goes on with --resume and its new name as --output."
                )

        yield check
    finally:
        lock.release()


def _sweep(folder, name, age=0):
    """Remove what killed processes have left half written of `name`, `age` seconds ago or more."""
    for path in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.*{TEMPORARY}")):
        with contextlib.suppress(OSError):
            if time.time() - os.path.getmtime(path) >= age:
                os.remove(path)


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
