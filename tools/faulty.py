"""nice.py with a fault in it: dies by SIGKILL at the n-th call of a function that writes.

python tools/faulty.py FUNCTION N [flags of nice.py]
"""

import os
import signal
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli, options

cli.load_keras()

import h5py

import nice

POINTS = {
    "create": (tempfile, "mkstemp"),
    "write": (h5py.Group, "__setitem__"),
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
    cli.run(nice.train, options.training())
