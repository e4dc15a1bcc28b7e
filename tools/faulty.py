"""nice.py with a fault in it: dies by SIGKILL at the n-th call of a function that writes.

python tools/faulty.py create|write|flush|rename N [flags of nice.py]

Bytes are written in two halves, and each half counts as a write.
"""

import io
import os
import signal
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli, files, options

cli.load_keras()

import training


class Halves(io.FileIO):
    """A file that is written in two halves: either can be the last thing a process does."""

    def write(self, content):
        half = len(content) // 2
        return self.put(content[:half]) + self.put(content[half:])

    def put(self, content):
        return super().write(content)


files.open = Halves  # in front of the builtin
POINTS = {
    "create": (tempfile, "mkstemp"),
    "write": (Halves, "put"),
    "flush": (os, "fsync"),
    "rename": (os, "replace"),
}


def plant(point, n):
    """Make the n-th call of the function deadly."""
    owner, name = POINTS[point]
    function, calls = getattr(owner, name), iter(range(1, n + 1))

    def deadly(*arguments, **options):
        if next(calls, n) == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(owner, name, deadly)


if __name__ == "__main__":
    plant(sys.argv[1], int(sys.argv[2]))
    sys.argv[:] = ["nice.py", *sys.argv[3:]]
    cli.run(training.main, options.training())
