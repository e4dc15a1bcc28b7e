"""Arrays on disk: one HDF5 file that carries its configuration, written atomically.

Weights files hold one dataset a variable, named by the variable's path
(`coupling_1/m/dense_1/kernel`), float32 or float16, and one of bytes, `configuration`:
JSON. Plain datasets and JSON hold no code, and the file is read and checked as
a whole before anything uses it. There are no attributes: on damaged ones the
HDF5 library can loop for ever.
"""

import io
import json
import os

import h5py
import numpy as np
from keras import ops

from support.cli import UserError
from support.files import write
from support.options import SUFFIX

CONFIGURATION = "configuration"
DTYPES = ("float16", "float32", "int32", "int64", "uint32", "uint8")


def named(model):
    """A model's weights by their paths, as a weights file has them."""
    return {v.path: v for v in model.weights}


def save(path, arrays, configuration, dtype=None):
    """Write `{name: array or variable}` and a configuration (what JSON can hold) to `path`.

    `dtype="float16"` halves the file: what is shipped, not what training resumes from.

    Raises: `UserError` where the file cannot be written; the one before it stays.
    """
    whole = io.BytesIO()  # on a full disk HDF5 itself would crash
    with h5py.File(whole, "w") as file:
        file[CONFIGURATION] = np.frombuffer(json.dumps(configuration).encode(), "uint8")
        for name, array in arrays.items():
            file[name] = np.asarray(ops.convert_to_numpy(array), dtype=dtype)
    write(path, whole.getbuffer())


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
