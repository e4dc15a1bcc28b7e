"""Files damaged again and again: what takes too long for every test run.

    python tools/soak_mutations.py --count 20000

Each must load sound or be refused with one line, in seconds and without filling the memory. Exit
code 1 where one is not. The same functions run a few times in `make test`.
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
import signal
import subprocess
import sys
import tempfile
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "tests")]

import imageio.v3 as imageio
import keras
import numpy as np
from conftest import DIM, SMALL, configuration, header, save

import codes
import nice
from support import data, readers, resuming
from support.errors import UserError

# ------------------------------------------------------------------ what is damaged, and how


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
    found, data = header(content)
    data = bytearray(data)
    inner = json.loads(found["__metadata__"]["configuration"])
    places = [(found, key) for key in found] + list(walk(found))
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
        found[str(rng.choice(["more", "codes/means", "frames"]))] = tensor
        data += bytes(end - len(data))
    else:
        at = 4 * int(rng.integers(len(data) // 4))
        data[at : at + 4] = np.float32(rng.choice([np.nan, np.inf, 3e38])).tobytes()
    metadata = found.get("__metadata__")
    if isinstance(metadata, dict) and "configuration" in metadata:
        metadata["configuration"] = json.dumps(inner)
    text = json.dumps(found)
    if rng.random() < 0.1:  # a key twice, or lists in lists in lists
        first = next(iter(found), "a")
        again = rng.choice([json.dumps(found.get(first)), "[" * 2000 + "]" * 2000, "[" * 10**5])
        text = "{" + f"{json.dumps(first)}:{again}," + text[1:]
    return len(text).to_bytes(8, "little") + text.encode() + data


def walk(tree):
    """All places in a JSON object, as (dictionary or list, key)."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from walk(value)


class Target:
    """A file to damage: its path, its content, and `load()`, which reads it and checks that."""

    damage = staticmethod(mutate_often)

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, self.name)
        self.make()
        with open(self.path, "rb") as file:
            self.content = file.read()


class Weights(Target):
    """A weights file, codes and all, through `nice.load`."""

    name = "flow.safetensors"

    def make(self):
        trained = nice.Trained(*nice.build(**SMALL), configuration())
        pixels = np.random.default_rng(0).integers(0, 256, (40, DIM)).astype("uint8")
        save(self.path, trained.encoder, codes=codes.of_pictures(trained, pixels, None))

    def load(self):
        trained = nice.load(self.path)
        assert all(np.isfinite(w).all() for w in trained.encoder.get_weights())
        if trained.codes is not None:
            assert len(trained.codes.sample_labels(3, np.random.default_rng(0))) == 3


class State(Target):
    """A state file, through `resuming.restore`: all of it, or nothing."""

    name = resuming.STATE
    settings = {"learning-rate": 1e-3}

    def make(self):
        self.model, _ = nice.build(**SMALL)
        self.model.compile("adam", loss=nice.gaussian)
        row = {"epoch": 1, "loss": 1.0, "val_loss": 1.0, "learning_rate": 1e-3}
        arrays = {**resuming.variables(self.model), "frames": np.zeros((2, 4, 4), "uint8")}
        resuming.write_state(self.path, arrays, self.settings, [row])
        self.before = self.values()

    def values(self):
        return [keras.ops.convert_to_numpy(v) for v in resuming.variables(self.model).values()]

    def load(self):
        try:
            resuming.restore(self.model, self.path, self.settings)
        except UserError:
            assert all(map(np.array_equal, self.values(), self.before)), "a partial load"
            raise
        assert all(np.isfinite(v).all() for v in self.values())
        for v, value in zip(resuming.variables(self.model).values(), self.before):
            v.assign(value)


class Npz(Target):
    """An .npz file, through `data.load`."""

    name = "data.npz"

    def make(self):
        self.x = np.random.default_rng(0).integers(0, 256, (250, 4, 4)).astype("uint8")
        np.savez(self.path, x_train=self.x, x_test=self.x[:50])

    def load(self):
        found = data.load(self.path)
        assert found.x_train.ndim == 2 and np.isfinite(found.x_train).all()


class Npy(Npz):
    """The array inside an .npz file, its checksum made right again."""

    def __init__(self, folder):
        super().__init__(folder)
        with zipfile.ZipFile(self.path) as file:
            self.content = file.read("x_train.npy")

    def load(self):
        with open(self.path, "rb") as file:
            content = file.read()
        with zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("x_train.npy", content)
        super().load()


class Bare(Npz):
    """A bare array, which is mapped."""

    name = "data.npy"

    def make(self):
        np.save(self.path, np.random.default_rng(0).integers(0, 256, (250, 4, 4)).astype("uint8"))


class Picture(Npz):
    """One picture of a folder of them."""

    name = "picture.png"

    def make(self):
        x = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype("uint8")
        for name in (self.name, "second.png"):
            imageio.imwrite(os.path.join(self.folder, name), x)

    def load(self):
        found = data.load(self.folder)
        assert found.x_train.ndim == 2 and found.x_train.dtype == "uint8"


class Idx(Target):
    """A folder of IDX files, one of them gzipped and mutated."""

    name = readers.IDX[0] + ".gz"

    def make(self):
        x = np.random.default_rng(0).integers(0, 256, (50, 4, 4)).astype("uint8")
        self.raw = b"\0\0\x08\x03" + np.array(x.shape, ">u4").tobytes() + x.tobytes()
        with open(self.path, "wb") as file:
            file.write(gzip.compress(self.raw))

    def load(self):
        found = data.load(self.folder)
        assert found.x_train.ndim == 2 and found.x_train.dtype == "uint8"


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
        super().load()


# ------------------------------------------------------------------ trying them

ANEW = {"damage": staticmethod(tamper)}  # the same files, their headers written anew
KINDS = (Weights, type("WeightsHeader", (Weights,), ANEW), State,
         type("StateHeader", (State,), ANEW), Npz, Npy, Idx, Header, Bare,
         Picture)  # fmt: skip
TARGETS = {kind.__name__: kind for kind in KINDS}
SECONDS, MEMORY = 5, 2 * 2**30  # of computing; a busy machine may take longer
HANG = 300  # seconds by the clock


def try_one(target, content):
    """Load one mutated file: "loaded", "refused", or what went wrong."""

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
    return target.damage(target.content, rng)


def mutations_of(name, first, last, journal):
    """Worker: try the mutations [first, last) of a kind, each noted in the journal."""
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
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    outcomes = sum(mutations(parser.parse_args().count).values(), collections.Counter())
    failures = outcomes.total() - outcomes["loaded"] - outcomes["refused"]
    print(f"{outcomes.total()} files: {dict(outcomes)}: {failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        mutations_of(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        main()
