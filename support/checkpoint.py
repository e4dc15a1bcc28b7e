"""Arrays on disk: one safetensors file that carries its configuration, written atomically.

A weights file holds one tensor a variable, named by the variable's path
(`encoder/coupling_1/m/dense_1/kernel`), float32 or float16; tensors named `codes/…`, see
`codes.py`; and in its metadata `configuration`, JSON. The format holds no code, and its reader
refuses tensors that overlap, leave gaps or reach past the end of the file.
"""

import json
import os

import numpy as np
import safetensors
import safetensors.numpy
from keras import ops

from support.cli import UserError
from support.files import write
from support.options import SUFFIX


def named(model):
    """A model's weights by their paths, as a weights file has them."""
    return {v.path: v for v in model.weights}


def save(path, arrays, configuration):
    """Write `{name: array or variable}` and a configuration (what JSON can hold) to `path`.

    The same arrays give the same bytes, in whatever order they come.

    Raises: `UserError` where the file cannot be written; the one before it stays.
    """
    arrays = {n: np.asarray(ops.convert_to_numpy(a), order="C") for n, a in arrays.items()}
    metadata = {"configuration": json.dumps(configuration)}
    write(path, safetensors.numpy.save(arrays, metadata))


def read(path):
    """Read a file whole: `(configuration, {name: array})`, float16 as float32.

    Raises: `UserError` for a file that is missing, truncated, of another kind,
        or holds anything but arrays of finite numbers.
    """
    if not os.path.exists(path):
        raise UserError(f"there is no weights file {path}. Train one with: python nice.py")
    if not os.path.isfile(path):  # of a pipe the reader would wait for ever
        raise UserError(f"{path} is a folder, a pipe or a device; name a {SUFFIX} file.")
    if not os.access(path, os.R_OK):  # the reader would say that there is none
        raise UserError(f"{path} may not be read: no permission.")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            configuration = json.loads((file.metadata() or {})["configuration"])
            arrays = {name: _checked(file.get_tensor(name)) for name in file.keys()}
        if not isinstance(configuration, dict):
            raise ValueError("its configuration is no object")
    except Exception as error:  # the reader, json and NumPy raise nearly anything
        reason = "no configuration" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path} is not a weights file of this project, or is damaged: {reason}"
        ) from None
    return configuration, arrays


def _checked(array):
    if not np.isfinite(array).all():
        raise ValueError("NaN or infinite numbers")
    return array.astype("float32") if array.dtype == np.float16 else array


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
