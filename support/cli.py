"""What every script shares: one clear line on stderr, exit code 2, no traceback.

Keras takes seconds to load, so that nothing here imports it: a script asks `start` for its
flags first, and `--help` or a wrong flag is answered at once.
"""

import contextlib
import os
import signal
import sys

from support.errors import Stopped, UserError, printable

BACKENDS = ("tensorflow", "jax", "torch")


def start(parse):
    """Parse the flags by `parse()`, then load Keras. Returns: the flags."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # σ to a terminal of ASCII
    args = parse()
    with reporting():
        load_keras()
    return args


def load_keras():
    """Load Keras without the page that TensorFlow's C++ side prints before the first useful line.

    Floats are float32 whatever ~/.keras/keras.json says: weights files hold nothing else.

    Raises: `UserError` where the backend asked for is not installed, or cannot train.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # not 75 % of a GPU at once
    # NumPy has small products here: on a busy machine two threads take ten times as long as one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import keras

        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        if keras.backend.backend() not in BACKENDS:
            raise ValueError(f"the backend {keras.backend.backend()} has no gradients")
        if keras.backend.backend() != "tensorflow" and "tensorflow" not in sys.modules:
            # Keras would load it all the same, to seed its generator: seconds, and lines on stderr.
            sys.modules["tensorflow"] = None
            keras.utils.set_random_seed(0)  # finds no TensorFlow, and never looks for it again
            del sys.modules["tensorflow"]
    except (ModuleNotFoundError, ValueError) as error:  # not installed; no backend's name
        raise UserError(
            f"{error}. Install what is missing with pip, or set KERAS_BACKEND to tensorflow, jax "
            "or torch."
        ) from None
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def run(main, *arguments):
    """Run a script: `UserError` becomes one line on stderr and exit code 2."""
    with reporting():
        main(*arguments)
        sys.stdout.flush()


@contextlib.contextmanager
def reporting():
    """Turn what the user can mend, and what the user did, into a line and an exit code."""
    try:
        yield
    except UserError as error:
        _end(str(error), 2)
    except Stopped as stop:
        _end(*stop.args)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:  # a reader of our output, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if type(error).__name__ == "LinAlgError":  # NumPy's, which is not loaded yet
            _end(f"the numbers in these weights are no numbers to compute with: {error}", 2)
        if not _is_out_of_memory(error):
            raise
        _end("out of memory: lower --batch-size, --units, --rows or --limit, what there is", 2)


def _is_out_of_memory(error):
    """Each backend has an exception of its own for it."""
    named = type(error).__name__ in ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError")
    return named or "RESOURCE_EXHAUSTED" in str(error)


def _end(message, code):
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {printable(message)}\n")
    sys.exit(code)
