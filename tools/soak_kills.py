"""Training killed again and again: what takes too long for every test run.

    python tools/soak_kills.py --count 200

Every run that is killed and resumed must leave the same bytes as one that is not. Exit code 1
where one does not. The same function runs a few times in `make test`.
"""

import argparse
import collections
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]

import numpy as np
from conftest import RESULT, result
from safetensors.numpy import load_file

from support import files, options, resuming

FLAGS = "--units 16 --depth 2 --couplings 2 --epochs 6 --batch-size 8 --dropout 0.1".split()
CALLS = {"create": 20, "write": 40, "flush": 40, "rename": 20}  # of one whole run, about


def pictures(folder):
    """A small data set in `folder`: the flags that name it."""
    x = np.random.default_rng(0).integers(0, 256, (300, 4, 4)).astype("uint8")
    path = os.path.join(folder, "data.npz")
    np.savez(path, x_train=x[:250], x_test=x[250:])
    return ["--data", path, *FLAGS]


def start(script, *arguments):
    command = [sys.executable, os.path.join(ROOT, script), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )


def finish(flags):
    """Run nice.py to its end: what it printed."""
    process = start("nice.py", *flags)
    printed = process.communicate(timeout=300)[0]
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {printed}")
    return printed


def kill(flags, rng):
    """Run nice.py and kill it at a random moment: (where, whether it was alive until then)."""
    if rng.random() < 0.5:
        point = str(rng.choice(list(CALLS)))
        n = int(rng.integers(1, CALLS[point] + 1))
        process = start("tools/faulty.py", point, n, *flags)
        process.communicate(timeout=300)
        return point, process.returncode == -signal.SIGKILL
    process = start("nice.py", *flags)
    for line in process.stdout:  # imports are not worth killing
        if "parameters" in line or "finished" in line:
            break
    time.sleep(rng.uniform(0, 4))
    process.kill()
    process.communicate()
    return "any moment", process.returncode == -signal.SIGKILL


def kills(count, seed=0, report=print):
    """Kill and resume until `count` kills are done; every run must end as an unkilled one does.

    Returns: `(Counter of places, runs, differing runs)`.
    """
    rng = np.random.default_rng(seed)
    places, runs, differing = collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        flags = pictures(folder)
        whole = os.path.join(folder, "whole")
        finish([*flags, "--output", whole])
        expected = result(whole)
        while places.total() < count:
            output = os.path.join(folder, "killed")
            command = [*flags, "--output", output, "--resume"]
            for _ in range(min(int(rng.integers(3, 6)), count - places.total())):
                place, killed = kill(command, rng)
                if killed:
                    places[place] += 1
                weights = os.path.join(output, options.TRAINED)
                if os.path.exists(weights):
                    load_file(weights)  # whole, always
            finish(command)
            # Killed after its first weights and before its first state, it finds weights of nobody,
            # and keeps them in run-1.
            left = set(os.listdir(output)) - {*RESULT, resuming.STATE, files.LOCK, "run-1"}
            runs += 1
            if result(output) != expected or left:
                differing += 1
                report(f"run {runs} differs {left or ''}")
            shutil.rmtree(output)
            report(f"{places.total()} kills, {runs} runs, {differing} of them differ")
    return places, runs, differing


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{' '.join(sys.argv[1:])}, backend {os.environ.get('KERAS_BACKEND', 'tensorflow')}")
    places, runs, differing = kills(args.count, args.seed)
    print(f"{places.total()} kills {dict(places)} in {runs} runs: {differing} runs differ")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
