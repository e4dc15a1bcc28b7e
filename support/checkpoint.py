"""Arrays on disk: one safetensors file that carries its configuration, written atomically.

A weights file holds one tensor a variable, named by the variable's path
(`encoder/coupling_1/m/dense_1/kernel`), float32 or float16; tensors named `codes/…`, see
`codes.py`; and in its metadata `configuration`, JSON. The format holds no code, and its reader
refuses tensors that overlap, leave gaps or reach past the end of the file.
"""

import contextlib
import json
import os
import random
import re

import keras
import numpy as np
import safetensors
import safetensors.numpy
from keras import ops
from keras.src.backend.common import global_state

from support.errors import UserError
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
    arrays = {name: np.asarray(_numpy(a), order="C") for name, a in arrays.items()}
    metadata = {"configuration": json.dumps(configuration)}
    write(path, safetensors.numpy.save(arrays, metadata))


def _numpy(array):
    if isinstance(array, np.ndarray):
        return array
    tensor = ops.convert_to_tensor(array)  # a variable is a deprecated argument of NumPy
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return tensor.numpy() if on_tensorflow else ops.convert_to_numpy(tensor)


def read(path):
    """Read a file whole: `(configuration, {name: array})`, float16 as float32.

    Raises: `UserError` for a file that is missing, truncated, of another kind,
        or holds anything but arrays of finite numbers.
    """
    if not os.path.exists(path):
        folder = os.path.dirname(path) or "."
        here = ", ".join(sorted(n for n in _names(folder) if n.endswith(SUFFIX)))
        raise UserError(f"there is no weights file {path}; {folder} has {here or 'none'}.")
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


def _names(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def _checked(array):
    if not np.isfinite(array).all():
        raise ValueError("NaN or infinite numbers")
    return array.astype("float32") if array.dtype == np.float16 else array


class _Waiting(list):
    """Variables without arrays, so many at most: a small file must not ask for a million layers."""

    def __init__(self, most):
        self.most = most

    def append(self, variable):
        if len(self) >= self.most:
            raise ValueError(f"more than {self.most} variables")
        super().append(variable)


@contextlib.contextmanager
def unallocated(most=float("inf")):
    """Models built in here, of so many variables at most, have names and shapes, but no arrays.

    Python's random state stays: Keras draws seeds from it for values that nobody will see.

    Yields: a function; where it is called, they get their arrays after all, as the context ends.
    """
    state = random.getstate()
    with keras.StatelessScope(initialize_variables=False) as scope:
        global_state.set_global_attribute("uninitialized_variables", _Waiting(most))
        try:
            yield lambda: setattr(scope, "initialize_variables", True)
        finally:
            random.setstate(state)
            if not scope.initialize_variables:  # else Keras would allocate them with the next ones
                global_state.set_global_attribute("uninitialized_variables", [])


def check(variables, arrays, path):
    """Hold `{name: array}`, read from `path`, against `{name: variable}`.

    Names may differ in their numbers: of a layer without a name of its own, Keras's depend on
    what the process has built before.

    Returns: the arrays under the names of the variables.
    Raises: `UserError` where names, shapes or dtypes differ.
    """
    pairs = list(zip(sorted(variables, key=_numbered), sorted(arrays, key=_numbered)))
    if len(variables) != len(arrays) or not all(
        [base for base, _ in _numbered(name)] == [base for base, _ in _numbered(other)]
        and tuple(variables[name].shape) == arrays[other].shape
        and variables[name].dtype == arrays[other].dtype.name
        for name, other in pairs
    ):
        raise UserError(f"{path} has arrays of other names or shapes than its configuration.")
    return {name: arrays[other] for name, other in pairs}


def _numbered(name):
    """a/dense_10/kernel -> (a, 0), (dense, 10), (kernel, 0): what sorts dense_2 before dense_10."""
    parts = (re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", part, re.DOTALL) for part in name.split("/"))
    return [(part[1], int(part[2] or 0)) for part in parts]


def assign(variables, arrays, path):
    """Give Keras variables, `{name: variable}`, their values, all or none: see `check`."""
    for name, array in check(variables, arrays, path).items():
        variables[name].assign(array)
