"""Files written whole or not at all, and folders that one training has to itself."""

import contextlib
import glob
import os
import shutil
import tempfile
import zipfile

import filelock

from support.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TEMPORARY = ".nice.tmp"
LOCK = ".nice.lock"
# What files of ours hold in their first kilobytes.
KINDS = {".png": b"\x89PNG", ".gif": b"GIF8", ".npz": b"PK", ".json": b'"weights"',
         ".csv": b"epoch,", ".safetensors": b"configuration"}  # fmt: skip


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
        _sweep(folder, name)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=TEMPORARY)
        with _in_use(handle):
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


def keep(source, target):
    """Have a file under a second name; that takes no room, where the disk knows links."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)


def check_output(path, kind, reads=()):
    """Refuse an output that would replace what is not of its kind, or what the command reads.

    Args:
        path: the file to be written.
        kind: of `KINDS`.
        reads: files and folders, as flags name them.

    Raises: `UserError`.
    """
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, and cannot be written: name a file.")
    if not os.path.isfile(path):
        return
    own = os.path.realpath(path)
    for other in [*reads, *(source.rpartition(":")[0] for source in reads)]:
        other = os.path.realpath(other) if other else None
        if other and (own == other or own.startswith(os.path.join(other, "")) or (
            os.path.isfile(other) and os.path.samefile(own, other))):  # fmt: skip
            raise UserError(f"{path} is what this command reads: name another file to write.")
    if os.path.getsize(path) and not _is_of(kind, path):
        raise UserError(f"{path} is no {kind} file of ours, and stays: name another to write.")


def _is_of(kind, path):
    with open(path, "rb") as file:
        head = file.read(4096)
    if kind == ".npz":
        try:
            with zipfile.ZipFile(path) as file:
                return "samples.npy" in file.namelist()
        except (zipfile.BadZipFile, OSError, ValueError):
            return False
    return KINDS[kind] in (head if kind in (".json", ".safetensors") else head[:8])


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
        held = _identity(path)

        def check():
            if _identity(path) != held:  # another training may hold what is called so now
                raise UserError(
                    f"the folder {folder} was moved or removed: nothing is written to another "
                    "one. What lay in it goes on with --resume and its new name as --output."
                )

        yield check
    finally:
        lock.release()


def _identity(path):
    try:
        return os.stat(path).st_dev, os.stat(path).st_ino
    except OSError:
        return None


@contextlib.contextmanager
def _in_use(handle):
    """In here a temporary file, open as `handle`, is one that `_sweep` spares."""
    try:
        if fcntl:
            with contextlib.suppress(OSError):  # a network file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    finally:
        os.close(handle)
    if not fcntl:  # Windows renames nothing that is open
        yield


def _sweep(folder, name):
    """Remove what killed processes have left half written of the file called `name`."""
    for path in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.*{TEMPORARY}")):
        with contextlib.suppress(OSError), open(path, "rb+") as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
