"""What every script shares: one clear line on stderr, exit code 2, no traceback.

Import it before Keras: it loads Keras's backend without the page that
TensorFlow's C++ side would print before the first useful line.
"""

import argparse
import contextlib
import math
import os
import sys


@contextlib.contextmanager
def _quiet():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


with _quiet():
    import keras  # noqa: F401


class UserError(Exception):
    """Something the user can mend; the message says what was wrong and what to do."""


class Stopped(Exception):
    """The user or the system ended a run; `args` are a line to say and the exit code."""


class Parser(argparse.ArgumentParser):
    """argparse with defaults in the help and errors of one line."""

    def __init__(self, description):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(description=description, formatter_class=formatter, allow_abbrev=False)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help\n")


def number(kind, low=-math.inf, high=math.inf, above=-math.inf, below=math.inf):
    """An argparse type: a finite int or float in [low, high], and inside (above, below)."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            name = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{name} is needed, not {text!r}") from None
        if not (low <= value <= high and above < value < below and math.isfinite(value)):
            bounds = []
            if math.isfinite(low):
                bounds.append(f"at least {low:g}")
            if math.isfinite(above):
                bounds.append(f"above {above:g}")
            if math.isfinite(high):
                bounds.append(f"at most {high:g}")
            if math.isfinite(below):
                bounds.append(f"below {below:g}")
            raise argparse.ArgumentTypeError(
                f"must be {' and '.join(bounds) or 'finite'}, not {text}"
            )
        return value

    return parse


SEED = number(int, low=0, high=2**32 - 1)


def run(main):
    """Run a script's `main()`: `UserError` becomes one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        _end(str(error), 2)
    except Stopped as stop:
        _end(*stop.args)
    except KeyboardInterrupt:
        _end("interrupted", 130)


def _end(message, code):
    sys.stdout.flush()
    sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {' '.join(message.split())}\n")
    sys.exit(code)
