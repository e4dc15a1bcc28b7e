"""The machine: what it computes on, how exactly, and what to do where a card lies idle."""

import contextlib
import os
import shutil
import sys

import keras

BLOCK = 52  # steps of a call on a GPU: a tenth of a second or less
INSTALL = {
    "jax": 'pip install "jax[cuda13]" (or cuda12)',
    "tensorflow": 'pip install "tensorflow[and-cuda]"',
    "torch": "a PyTorch with CUDA",
}


def accelerator():
    """The name of the GPU or TPU that Keras computes on; None where it is a CPU."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details(found[0]) if found else {}
        return details.get("device_name", "GPU") if found else None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def block(asked=None, alone=True):
    """Steps a call: as many as asked for, else what the device gains by; `alone`: the only one."""
    return asked or (BLOCK if alone and accelerator() else 1)


def describe():
    """What a training says first: the backend and its device. And a line about an idle card."""
    backend, name = keras.backend.backend(), accelerator()
    if name is None and (os.path.exists("/dev/nvidia0") or shutil.which("nvidia-smi")):
        print(f"there is a GPU here that {backend} does not see: {INSTALL[backend]}")
    if name and backend == "torch":
        print("on PyTorch Keras leaves a GPU waiting for it: KERAS_BACKEND=jax is far faster")
    return f"{backend} on {name or 'CPU'}"


@contextlib.contextmanager
def exact():
    """Matrix products in full float32 in here, where a GPU would round to TF32 (10 bits).

    A step of training may: its gradient is a sample anyway. The inverse and the likelihood of a
    trained flow are exact, and stay so.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        with jax.default_matmul_precision("highest"):
            yield
    elif backend == "tensorflow":
        from tensorflow.config import experimental as config

        before = config.tensor_float_32_execution_enabled()
        config.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            config.enable_tensor_float_32_execution(before)
    else:
        from torch.backends import cudnn  # for products PyTorch does not, for convolutions it does

        with cudnn.flags(allow_tf32=False):
            yield


def progress(total, unit):
    """A bar of Keras's; where nobody watches, a line at its end."""
    return keras.utils.Progbar(total, unit_name=unit, verbose=1 if sys.stdout.isatty() else 2)
