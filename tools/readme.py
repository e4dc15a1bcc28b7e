"""Run the README's commands, top to bottom, as a new user would: part of `make soak`.

    python tools/readme.py

In a fresh clone whose MNIST has 700 pictures, so that all trainings are short; with the packages of
this Python, so that nothing is installed.
"""

import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np

from support import options

# What installs, never ends, or needs a network.
SKIPPED = ("git clone", "python -m venv", "pip install", "make play", "python nice.py --data fash")
PICTURES = {"train": 600, "test": 100}


def blocks(path):
    """The README's blocks of code in order: `[(language, code)]`."""
    with open(path, encoding="utf-8") as file:
        return re.findall(r"```(bash|python)\n(.*?)```", file.read(), re.DOTALL)


def shorten(path):
    """Keep the first few pictures of a file."""
    with np.load(path) as file:
        arrays = {name: file[name][: PICTURES[name[2:]]] for name in file.files}
    np.savez_compressed(path, **arrays)


def command_of(language, code):
    """What to run for a block of Python, or a line of a shell."""
    if language == "python":
        return [sys.executable, "-c", code]
    if code.startswith("make"):  # which is to take the packages that are here
        code = f"mkdir -p .here && touch -d 2100-01-01 .here/.run && {code} VENV=.here"
        code += f" RUN={sys.executable}"
    return ["bash", "-c", code]


def main():
    with tempfile.TemporaryDirectory() as folder:
        clone = os.path.join(folder, "nice")
        subprocess.run(["git", "clone", "--quiet", options.HERE, clone], check=True)
        shorten(os.path.join(clone, "data", "mnist.npz"))
        path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        for language, code in blocks(os.path.join(clone, "README.md")):
            for part in code.splitlines() if language == "bash" else [code]:
                if not part.strip() or part.startswith(SKIPPED):
                    continue
                print(part.rstrip(), flush=True)
                command = command_of(language, part)
                with open(os.path.join(folder, "log"), "w") as log:
                    ended = subprocess.run(
                        command, cwd=clone, env={**os.environ, "PATH": path}, stdout=log, stderr=log
                    )
                if ended.returncode:
                    raise SystemExit(open(os.path.join(folder, "log")).read()[-2000:])


if __name__ == "__main__":
    main()
