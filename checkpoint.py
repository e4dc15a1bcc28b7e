"""Weights on disk: one HDF5 file that carries its configuration, written atomically.

The file holds one dataset a variable, named by the variable's path
(`coupling_1/m/dense_1/kernel`), float32 or float16, and one root attribute,
`configuration`: JSON. Plain datasets and JSON hold no code, and the file is
read and checked as a whole before anything uses it.
"""

import contextlib
import json
import os
import tempfile

import h5py
import numpy as np
from cli import UserError

SUFFIX = ".weights.h5"
ATTRIBUTE = "configuration"


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
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.", suffix=".tmp")
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


def _flush(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(path, arrays, configuration, dtype="float32"):
    """Write `{name: array}` and its configuration (anything JSON can hold) to `path`.

    `dtype="float16"` halves the file: what is shipped, not what training resumes from.
    """
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs[ATTRIBUTE] = json.dumps(configuration)
        for name, array in arrays.items():
            file[name] = np.asarray(array, dtype=dtype)


def read(path):
    """Read a weights file whole.

    Returns: `(configuration, {name: array})`.
    Raises: `UserError` for a file that is missing, truncated, of another kind,
        or holds anything but finite float16 or float32 numbers.
    """
    if not os.path.exists(path):
        raise UserError(f"there is no weights file {path}. Train one with: python nice.py")
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder; name the {SUFFIX} file inside it.")
    try:
        with h5py.File(path, "r") as file:
            configuration = _configuration(file, path)
            names = []
            file.visit(names.append)
            arrays = {}
            for name in names:
                if isinstance(file.get(name, getlink=True), (h5py.SoftLink, h5py.ExternalLink)):
                    raise UserError(f"{path} holds a link, {name}: refused.")
                if isinstance(file[name], h5py.Dataset):
                    arrays[name] = _array(file[name], path)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not a weights file of this project, or is damaged: {error}"
        ) from None
    return configuration, arrays


def _configuration(file, path):
    text = file.attrs.get(ATTRIBUTE)
    if not isinstance(text, str):
        raise UserError(f"{path} is not a weights file of this project: no configuration in it.")
    configuration = json.loads(text)
    if not isinstance(configuration, dict):
        raise UserError(f"{path} has a damaged configuration.")
    return configuration


def _array(dataset, path):
    name = dataset.name
    # Stored as one block, a dataset cannot be larger than its file.
    if dataset.dtype not in (np.float32, np.float16) or dataset.chunks or dataset.external:
        raise UserError(f"{name} in {path} is not a plain float16 or float32 array.")
    if dataset.is_virtual or dataset.id.get_storage_size() != dataset.nbytes:
        raise UserError(f"{name} in {path} is not stored whole.")
    array = dataset[()].astype("float32")
    if not np.isfinite(array).all():
        raise UserError(f"{name} in {path} holds NaN or infinite numbers.")
    return array
