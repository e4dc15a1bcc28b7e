"""What takes too long for every test run: training killed again and again, files mutated.

    python tools/soak.py kills --count 200
    python tools/soak.py mutations --count 20000

Writes a summary to standard output, exit code 1 where anything failed. The same
functions run a few times in `make test`.
"""

import argparse
import collections
import contextlib
import faulthandler
import gzip
import io
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np
from safetensors.numpy import load_file

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]

# ---------------------------------------------------------------------- kills

FLAGS = "--units 16 --depth 2 --couplings 2 --epochs 6 --batch-size 8 --dropout 0.1".split()
RESULT = ("nice.safetensors", "history.csv", "loss.png", "samples.png", "training.gif")
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


def result(folder):
    return {name: open(os.path.join(folder, name), "rb").read() for name in RESULT}


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
                if os.path.exists(os.path.join(output, "nice.safetensors")):
                    load_file(os.path.join(output, "nice.safetensors"))  # whole, always
            finish(command)
            left = set(os.listdir(output)) - {*RESULT, "nice.state.safetensors"}
            runs += 1
            if result(output) != expected or left:
                differing += 1
                report(f"run {runs} differs {left or ''}")
            shutil.rmtree(output)
            report(f"{places.total()} kills, {runs} runs, {differing} of them differ")
    return places, runs, differing


# ------------------------------------------------------------------ mutations


def mutate_often(content, rng):
    """Damage bytes once, twice or three times."""
    other = content
    for _ in range(rng.integers(1, 4)):
        content = mutate(content, rng, other) or b"\0"
    return content


def mutate(content, rng, other):
    """Damage bytes as disks, networks and attackers do."""
    content = bytearray(content)
    size = len(content)
    # Headers are where parsers live: every other mutation aims at the first kilobytes.
    reach = size if rng.random() < 0.5 else min(size, 4096)
    at = int(rng.integers(reach))
    length = int(min(2 ** rng.integers(0, 12), size - at))
    kind = rng.integers(7)
    if kind == 0:
        for _ in range(rng.integers(1, 9)):
            content[rng.integers(reach)] ^= 1 << rng.integers(8)
    elif kind == 1:
        del content[at:]
    elif kind == 2:
        start = int(rng.integers(len(other)))
        content[at : at + length] = other[start : start + length]
    elif kind == 3:
        content[at : at + length] = bytes([rng.choice([0, 255])]) * length
    elif kind == 4:
        del content[at : at + length]
    elif kind == 5:
        content[at:at] = rng.bytes(length)
    else:  # a number of 8, 16, 32 or 64 bits becomes a large or a small one
        width = int(2 ** rng.integers(4))
        value = int(rng.choice([0, 1, 2**7, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1]))
        value &= 2 ** (8 * width) - 1
        content[at : at + width] = value.to_bytes(width, str(rng.choice(["little", "big"])))
    return bytes(content)


ODD = [None, True, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, 1e308, math.nan, math.inf, "", "relu",
       "F64", "I32", "BF16", "\ud800", "x" * 10**5, [], {}, [0, 0], [1, 2**62, 4]]  # fmt: skip


def tamper(content, rng):
    """Damage a safetensors file as somebody would who writes its header anew."""
    size = 8 + int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8:size]), bytearray(content[size:])
    inner = json.loads(header["__metadata__"]["configuration"])
    places = [(header, key) for key in header] + list(walk(header))
    if rng.random() < 0.5:
        places = list(walk(inner))

    def place():
        return places[rng.integers(len(places))]

    (owner, key), kind = place(), rng.integers(7)
    if kind == 0:
        owner[key] = ODD[rng.integers(len(ODD))]
    elif kind == 1:
        del owner[key]
    elif kind == 2:
        other, name = place()
        owner[key], other[name] = other[name], owner[key]
    elif kind == 3 and type(owner[key]) in (int, float):
        owner[key] += rng.choice([-1, 1, 4, owner[key]]).item()
    elif kind == 4 and isinstance(owner, dict):
        owner[str(rng.choice(["", "__metadata__", "codes/means", key + "s"]))] = owner.pop(key)
    elif kind == 5:  # a tensor more, with or without bytes
        shape = [[0], [1], [2, 0], []][rng.integers(4)]
        end = len(data) + 4 * (shape in ([1], []))
        tensor = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), end]}
        header[str(rng.choice(["more", "codes/means", "frames"]))] = tensor
        data += bytes(end - len(data))
    else:
        at = 4 * int(rng.integers(len(data) // 4))
        data[at : at + 4] = np.float32(rng.choice([np.nan, np.inf, 3e38])).tobytes()
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict) and "configuration" in metadata:
        metadata["configuration"] = json.dumps(inner)
    text = json.dumps(header)
    if rng.random() < 0.1:  # a key twice, or lists in lists in lists
        first = next(iter(header), "a")
        again = rng.choice([json.dumps(header.get(first)), "[" * 2000 + "]" * 2000, "[" * 10**5])
        text = "{" + f"{json.dumps(first)}:{again}," + text[1:]
    return len(text).to_bytes(8, "little") + text.encode() + data


def walk(tree):
    """All places in a JSON object, as (dictionary or list, key)."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from walk(value)


class Weights:
    """A weights file, codes and all, through `nice.load_whole`."""

    def __init__(self, folder):
        from conftest import SMALL
        from test_checkpoint import CONFIGURATION

        import codes
        import nice
        from support import checkpoint

        self.path = os.path.join(folder, "flow.safetensors")
        self.load_file = nice.load_whole
        encoder, _ = nice.build(**SMALL)
        pixels = np.random.default_rng(0).integers(0, 256, (40, SMALL["dim"])).astype("uint8")
        arrays = {
            **checkpoint.named(encoder),
            **codes.of_pictures(encoder, 255, pixels, None).arrays(),
        }
        checkpoint.save(self.path, arrays, CONFIGURATION)
        self.content = open(self.path, "rb").read()

    def load(self):
        encoder, _, _, fitted = self.load_file(self.path)
        assert all(np.isfinite(w).all() for w in encoder.get_weights())
        assert fitted is None or len(fitted.draw_labels(3, np.random.default_rng(0))) == 3


class State:
    """A state file, through `Keeper._resume`: all of it, or nothing."""

    def __init__(self, folder):
        import nice
        from support import options

        flags = [*pictures(folder), "--output", folder, "--epochs", "1"]
        self.args = options.training(flags)
        self.model, self.keeper = None, None
        original = nice.Keeper.finish
        nice.Keeper.finish = lambda keeper: setattr(self, "keeper", keeper)
        try:
            nice.train(self.args)
        finally:
            nice.Keeper.finish = original
        self.path, self.model = self.keeper.state, self.keeper.model
        self.content = open(self.path, "rb").read()
        self.before = self.values()

    def values(self):
        from keras import ops

        from support import resuming

        return [ops.convert_to_numpy(v) for v in resuming._variables(self.model).values()]

    def load(self):
        from support.cli import UserError

        try:
            self.keeper._resume(self.model)
        except UserError:
            assert all(map(np.array_equal, self.values(), self.before)), "a partial load"
            raise
        from support import resuming

        assert all(np.isfinite(v).all() for v in self.values())
        for v, value in zip(resuming._variables(self.model).values(), self.before):
            v.assign(value)


class WeightsHeader(Weights):
    """The same, its header written anew."""

    damage = staticmethod(tamper)


class StateHeader(State):
    """The same, its header written anew."""

    damage = staticmethod(tamper)


def check_data(path):
    from support import data

    found = data.load(path)
    assert found.x_train.ndim == 2 and np.isfinite(found.x_train).all()


class Npz:
    """An .npz file, through `data.load`."""

    def __init__(self, folder):
        pictures(folder)
        self.path = os.path.join(folder, "data.npz")
        self.content = open(self.path, "rb").read()

    def load(self):
        check_data(self.path)


class Npy(Npz):
    """The array inside an .npz file, its checksum made right again."""

    def __init__(self, folder):
        super().__init__(folder)
        with zipfile.ZipFile(self.path) as file:
            self.content = file.read("x_train.npy")

    def load(self):
        content = open(self.path, "rb").read()
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("x_train.npy", content)
        check_data(self.path)


class Idx:
    """A folder of IDX files, one of them gzipped and mutated."""

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, "train-images-idx3-ubyte.gz")
        x = np.random.default_rng(0).integers(0, 256, (50, 4, 4)).astype("uint8")
        self.raw = b"\0\0\x08\x03" + np.array(x.shape, ">u4").tobytes() + x.tobytes()
        self.content = gzip.compress(self.raw)

    def load(self):
        check_data(self.folder)


class Header(Idx):
    """The same with the mutation inside, gzipped afterwards."""

    def __init__(self, folder):
        super().__init__(folder)
        self.content = self.raw

    def load(self):
        with open(self.path, "rb") as file:
            content = gzip.compress(file.read())
        with open(self.path, "wb") as file:
            file.write(content)
        check_data(self.folder)


KINDS = (Weights, WeightsHeader, State, StateHeader, Npz, Npy, Idx, Header)
TARGETS = {kind.__name__: kind for kind in KINDS}
SECONDS, MEMORY = 5, 2 * 2**30  # of computing; a busy machine may take longer
HANG = 300  # seconds by the clock


def try_one(target, content):
    """Load one mutated file: "loaded", "refused", or what went wrong."""
    from support.cli import UserError

    def late(*_):
        raise TimeoutError  # caught below, but not as an Exception of the loader's

    with open(target.path, "wb") as file:
        file.write(content)
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(HANG, exit=True)  # where C code hangs
    try:
        target.load()
        return "loaded"
    except UserError as error:
        return "took over 5 s" if isinstance(error.__context__, TimeoutError) else "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()


def mutation(name, target, index):
    """The index-th mutated file of a kind: always the same one."""
    rng = np.random.default_rng([list(TARGETS).index(name), index])
    return getattr(target, "damage", mutate_often)(target.content, rng)


def mutations_of(name, first, last, journal):
    """Worker: try the mutations [first, last) of a kind, each noted in the journal."""
    from support import cli

    cli.load_keras()

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            target = TARGETS[name](folder)
            assert try_one(target, target.content) == "loaded"  # else nothing would be tested
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
        with open(journal, "a") as file:
            for index in range(first, last):
                json.dump([index], file)
                file.flush()
                with contextlib.redirect_stdout(io.StringIO()):
                    outcome = try_one(target, mutation(name, target, index))
                file.write(f" {json.dumps(outcome)}\n")
                file.flush()


def mutations(count, report=print):
    """Try `count` mutated files, each kind the same number: `{kind: Counter of outcomes}`."""
    outcomes = {}
    for name in TARGETS:
        last = -(-count // len(TARGETS))
        outcomes[name], first = collections.Counter(), 0
        while first < last:
            with tempfile.NamedTemporaryFile("r") as journal:
                command = [sys.executable, __file__, "worker", name, first, last, journal.name]
                code = subprocess.run(list(map(str, command))).returncode
                lines = journal.readlines()
                if not lines:
                    raise RuntimeError(f"{name}: the worker tried nothing, exit code {code}")
                for line in lines:
                    index, _, outcome = line.partition(" ")
                    first = json.loads(index)[0] + 1
                    outcome = json.loads(outcome) if outcome else f"crash, exit code {code}"
                    if outcome not in ("loaded", "refused"):
                        report(f"{name} {first - 1}: {outcome}")
                    outcomes[name][outcome] += 1
        report(f"{name}: {dict(outcomes[name])}")
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["kills", "mutations"])
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    begin = time.time()
    print(f"{' '.join(sys.argv[1:])}, backend {os.environ.get('KERAS_BACKEND', 'tensorflow')}")
    if args.what == "kills":
        places, runs, failures = kills(args.count, args.seed)
        print(f"{places.total()} kills {dict(places)} in {runs} runs: {failures} runs differ")
    else:
        outcomes = sum(mutations(args.count).values(), collections.Counter())
        failures = outcomes.total() - outcomes["loaded"] - outcomes["refused"]
        print(f"{outcomes.total()} files: {dict(outcomes)}: {failures} failures")
    print(f"{time.time() - begin:.0f} s")
    sys.exit(failures > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        mutations_of(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        main()
