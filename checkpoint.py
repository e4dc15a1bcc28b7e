"""Arrays on disk: one HDF5 file that carries its configuration, written atomically.

Weights files hold one dataset a variable, named by the variable's path
(`coupling_1/m/dense_1/kernel`), float32 or float16, and one of bytes, `configuration`:
JSON. Plain datasets and JSON hold no code, and the file is read and checked as
a whole before anything uses it. There are no attributes: on damaged ones the
HDF5 library can loop for ever.
"""

import contextlib
import glob
import io
import json
import os
import tempfile

import h5py
import numpy as np
from cli import UserError
from keras import ops

try:
    import fcntl
except ImportError:  # Windows, where nothing keeps two runs out of one folder
    fcntl = None

SUFFIX = ".weights.h5"
CONFIGURATION = "configuration"
TEMPORARY = ".nice.tmp"
DTYPES = ("float16", "float32", "int32", "int64", "uint32", "uint8")


@contextlib.contextmanager
def atomic(path):
    """Yield a temporary name beside `path`; rename it to `path` when all is written.

    At every moment `path` is the old file or the new one, whole: the new one is
    flushed to disk before the rename, the folder after it.

    Raises: `UserError` where the folder cannot be written or the disk is full.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        if os.path.isdir(path):
            raise IsADirectoryError(21, "it is a folder", path)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=TEMPORARY)
        os.close(handle)
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would surprise in a shared folder
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(folder)
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
def locked(folder):
    """Keep other trainings out of `folder`, as long as this process lives.

    Removes what a killed run may have left half written there.

    Raises: `UserError` where another run holds the folder, or it cannot be written.
    """
    check_writable(folder)
    handle = None if fcntl is None else os.open(folder, os.O_RDONLY)
    try:
        if handle is not None:
            _lock(handle, folder)
        for path in glob.glob(os.path.join(glob.escape(folder), ".*" + TEMPORARY)):
            os.remove(path)
        yield
    finally:
        if handle is not None:
            os.close(handle)  # and with it the lock


def _lock(handle, folder):
    try:
        # The kernel drops the lock when the process ends, however it ends.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"another training is writing to {folder}. Wait for it, or name another folder "
            "with --output."
        ) from None
    except OSError:
        pass  # a network file system without locks: no reason not to train


def _flush(path):
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows has no handle of a folder
    handle = os.open(path, os.O_RDWR if os.path.isfile(path) else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(path, arrays, configuration, dtype=None):
    """Write `{name: array or variable}` and a configuration (what JSON can hold) to `path`.

    `dtype="float16"` halves the file: what is shipped, not what training resumes from.

    Raises: `UserError` where the file cannot be written; the one before it stays.
    """
    with atomic(path) as temporary, _Patient(temporary, "w+b") as disk:
        with h5py.File(disk, "w") as file:
            file[CONFIGURATION] = np.frombuffer(json.dumps(configuration).encode(), "uint8")
            for name, array in arrays.items():
                file[name] = np.asarray(ops.convert_to_numpy(array), dtype=dtype)
        if disk.error:
            raise disk.error


class _Patient(io.FileIO):
    """A file that keeps its first error to itself: HDF5 crashes where a write to it fails."""

    error = None

    def write(self, data):
        rest = memoryview(data)
        try:
            while rest and not self.error:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size=None):
        try:
            return size if self.error else super().truncate(size)
        except OSError as error:
            self.error = error
            return size


def read(path):
    """Read a weights file whole.

    Returns: `(configuration, {name: array})`.
    Float16 comes back as float32; nothing in the file can make it read more than its size.

    Raises: `UserError` for a file that is missing, truncated, of another kind,
        or holds anything but plain arrays of finite numbers.
    """
    if not os.path.exists(path):
        raise UserError(f"there is no weights file {path}. Train one with: python nice.py")
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder; name the {SUFFIX} file inside it.")
    try:
        size = os.path.getsize(path)
        with h5py.File(path, "r") as file:
            names, arrays = [], {}
            file.visit(names.append)
            for name in names:
                if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                    raise UserError(f"{path} holds a link, {name}: refused.")
                if isinstance(file[name], h5py.Dataset):
                    size -= file[name].nbytes
                    if size < 0:
                        raise UserError(f"{path} claims to hold more than its size.")
                    arrays[name] = _array(file[name], path)
        if CONFIGURATION not in arrays:
            raise UserError(f"{path} is not a weights file of this project: no configuration.")
        configuration = json.loads(arrays.pop(CONFIGURATION).tobytes())
        if not isinstance(configuration, dict):
            raise UserError(f"{path} has a damaged configuration.")
    except UserError:
        raise
    except Exception as error:  # HDF5 and h5py raise nearly anything for a damaged file
        raise UserError(
            f"{path} is not a weights file of this project, or is damaged: {error}"
        ) from None
    return configuration, arrays


def assign(variables, arrays, path):
    """Give Keras variables their values, all or none.

    Args:
        variables: `{name: variable}`.
        arrays: `{name: array}`, read from `path`.

    Raises: `UserError` where names, shapes or dtypes differ.
    """
    wanted = {name: (tuple(v.shape), v.dtype) for name, v in variables.items()}
    if wanted != {name: (array.shape, array.dtype.name) for name, array in arrays.items()}:
        raise UserError(f"{path} has arrays of other names or shapes than its configuration.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _array(dataset, path):
    name = dataset.name
    # Stored as one block, a dataset cannot be larger than its file.
    if dataset.dtype.name not in DTYPES or dataset.chunks or dataset.external:
        raise UserError(f"{name} in {path} is not a plain array of numbers.")
    if dataset.is_virtual or dataset.id.get_storage_size() != dataset.nbytes:
        raise UserError(f"{name} in {path} is not stored whole.")
    dtype = "float32" if dataset.dtype == np.float16 else dataset.dtype.name
    array = np.asarray(dataset[()], dtype=dtype)  # in this machine's byte order
    if not np.isfinite(array).all():
        raise UserError(f"{name} in {path} holds NaN or infinite numbers.")
    return array
