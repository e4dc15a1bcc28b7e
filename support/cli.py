"""What every script shares: one clear line on stderr, exit code 2, no traceback.

Keras takes seconds to load, so that nothing here imports it: a script asks `start` for its
flags first, and `--help` or a wrong flag is answered at once.
"""

import argparse
import contextlib
import math
import os
import signal
import sys


class UserError(Exception):
    """Something the user can mend; the message says what was wrong and what to do."""


class Stopped(Exception):
    """The user or the system ended a run; `args` are a line to say and the exit code."""


class Parser(argparse.ArgumentParser):
    """argparse with defaults in the help and errors of one line."""

    def __init__(self, description=None, **options):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(
            description=description, formatter_class=formatter, allow_abbrev=False, **options
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help\n")


class Number:
    """An argparse type: a finite int or float in [low, high], and above a number."""

    def __init__(self, kind, low=-math.inf, high=math.inf, above=-math.inf):
        self.kind, self.low, self.high, self.above = kind, low, high, above

    def holds(self, value):
        """Whether a value, of whatever type, is such a number."""
        kinds = (int,) if self.kind is int else (int, float)
        return type(value) in kinds and self._within(value)

    def _within(self, value):
        finite = abs(value) <= sys.float_info.max  # math.isfinite raises for 10**400
        return finite and self.low <= value <= self.high and self.above < value

    def __call__(self, text):
        try:
            value = self.kind(text)
        except ValueError:
            name = "a whole number" if self.kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{name} is needed, not {text!r}") from None
        if not self._within(value):
            limits = {"at least": self.low, "above": self.above, "at most": self.high}
            said = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
            raise argparse.ArgumentTypeError(
                f"must be {' and '.join(said) or 'finite'}, not {text}"
            )
        return value


SEED = Number(int, low=0, high=2**32 - 1)


def start(parse):
    """Parse the flags by `parse()`, then load Keras. Returns: the flags."""
    args = parse()
    with reporting():
        load_keras()
    return args


def load_keras():
    """Load Keras without the page that TensorFlow's C++ side prints before the first useful line.

    Raises: `UserError` where the backend asked for is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import keras

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


def _end(message, code):
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {' '.join(message.split())}\n")
    sys.exit(code)
