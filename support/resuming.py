"""Training that can be killed: all it takes to go on lies on the disk.

A folder of training holds, written in this order after an epoch:

    nice.safetensors        the weights of the best epoch, if this was it
    nice.state.safetensors  weights, optimizer, noise generator, history, settings of this epoch
    history.csv             the history, for people

Each is replaced atomically. Killed in between, a run goes on from the state of
the epoch written last, repeats what came after it bit by bit, and writes the same files again.
Where epochs are short, on a GPU, not each is written: writing takes a tenth of the time at most.

What an earlier run has left there is first kept in run-1, run-2, …: nothing that took minutes is
lost, `sample.py` finds the newest where it always was, and what is in run-1 can be gone on with
or drawn from by its name.
"""

import csv
import filecmp
import io
import itertools
import math
import os
import shlex
import shutil
import signal
import sys
import time

import keras
import numpy as np
from keras import ops

from support import checkpoint, files
from support.errors import Stopped, UserError
from support.options import SUFFIX, TRAINED

STATE = "nice.state" + SUFFIX
HISTORY = "history.csv"
PICTURES = ("loss.png", "samples.png", "training.gif")
SHARE = 0.1  # of the time that writing may take
FILES = (TRAINED, STATE, HISTORY, *PICTURES)
GO_ON = " To go on with it, stop now and add --resume."


def check_folder(folder, reads):
    """Refuse a folder in which a training would replace what no training has written.

    Args:
        folder: of `--output`.
        reads: what the command reads, see `files.check_output`.

    Raises: `UserError`.
    """
    held = [name for name in FILES if os.path.lexists(os.path.join(folder, name))]
    for name in held:
        files.check_output(os.path.join(folder, name), os.path.splitext(name)[1], reads)
    if held and not {TRAINED, STATE} & set(held):
        raise UserError(
            f"{folder} holds {held[0]}, and no {TRAINED} that it would be of: name another "
            "folder with --output, or move it away."
        )


# ---------------------------------------------------------------- the state, on disk


def variables(model):
    """All that a step changes: weights, noise generators, optimizer. `{name: variable}`.

    Named by position, for Keras numbers some paths by what the process built before. The
    learning rate is a setting.
    """
    model.optimizer.build(model.trainable_variables)
    every = [*model.variables, *model.optimizer.variables]
    kept = [v for v in every if v is not model.optimizer._learning_rate]
    return {f"variable_{i}": v for i, v in enumerate(kept)}


def write_state(path, arrays, settings, history, finished=False, diverged=False):
    """Write a state: `variables` of the model and `frames`, nothing if the run is finished."""
    held = {"settings": settings, "history": history}
    checkpoint.save(path, arrays, {**held, "finished": finished, "diverged": diverged})


def read_state(path):
    """Read a state: `(held, arrays)`, see `write_state`. Raises: `UserError` for a damaged one."""
    held, arrays = checkpoint.read(path)
    sound = (
        isinstance(held.get("settings"), dict)
        and isinstance(held.get("finished"), bool)
        and isinstance(held.get("diverged"), bool)
        and isinstance(held.get("history"), list)
        and len(held["history"]) > 0
        and all(_is_row(row, i) for i, row in enumerate(held["history"], start=1))
        and (held["finished"] or _is_film(arrays.get("frames")))
    )
    if not sound:
        raise UserError(f"{path} is damaged. Leave --resume out to start anew.")
    return held, arrays


def restore(model, path, settings):
    """Put a state back into a compiled model, all of it or nothing.

    Returns: `(history, frames, finished)`.
    Raises: `UserError` where the state is damaged or was made with other settings.
    """
    held, arrays = read_state(path)
    for name in dict.fromkeys([*settings, *held["settings"]]):
        now, then = settings.get(name), held["settings"].get(name)
        if held["diverged"] and name == "learning-rate":
            if now == then:
                raise UserError(
                    f"this run diverged at --learning-rate {then}: resume it with a lower one."
                )
        elif now != then:
            raise UserError(
                f"{path} is of a run with {name} {then}, not {now}. Repeat that run's "
                "command and add --resume, or leave --resume out to start anew."
            )
    if held["finished"]:
        return held["history"], [], True
    frames = list(arrays.pop("frames"))
    checkpoint.assign(variables(model), arrays, path)
    return held["history"], frames, False


def best_of(history):
    """The row with the lowest validation loss; the first of equals."""
    return min(history, key=lambda row: row["val_loss"])


def _is_film(frames):
    known = frames is not None and frames.dtype == "uint8"
    return known and (frames.ndim in (3, 4) or not frames.size)


def _is_row(row, epoch):
    return (
        isinstance(row, dict)
        and list(row) == ["epoch", "loss", "val_loss", "learning_rate"]
        and [type(value) for value in row.values()] == [int, float, float, float]
        and row["epoch"] == epoch
        and all(map(math.isfinite, list(row.values())[1:]))
    )


# ------------------------------------------------------------- what a training calls


class Film(keras.callbacks.Callback):
    """Keeps a frame, what `draw(model)` returns, before training and after every epoch."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.frames = []

    def on_train_begin(self, logs=None):
        if not self.frames:
            self.frames.append(self.draw(self.model))

    def on_epoch_end(self, epoch, logs=None):
        if math.isfinite(logs["loss"] + logs["val_loss"]):
            self.frames.append(self.draw(self.model))  # on JAX: asked for, its weights are in place


class Keeper(keras.callbacks.Callback):
    """Keeps a training in its folder, and brings it back.

    What is not written at once waits in the memory of the device, and is written at the end of
    the training, on a signal, and before a divergence ends it.

    Args:
        folder: the folder.
        settings: all that decides the result, `{name: value}`: a resumed run must have the same.
        configuration: what the weights file is to carry.
        film: `Film`, whose frames are kept too.
        check: called before anything is written.
    """

    def __init__(self, folder, settings, configuration, film, check=lambda: None):
        super().__init__()
        self.folder = folder
        self.weights = os.path.join(folder, TRAINED)
        self.state = os.path.join(folder, STATE)
        self.settings = settings
        self.configuration = configuration
        self.film = film
        self.history = []
        self.check = check
        self.earlier = {}  # of another run: {path: where it is to be kept}
        self.waiting = {}  # {path: arrays}, the best weights first
        self.written = time.monotonic()
        self.cost = 0.0  # seconds of the last writing

    def begin(self, encoder, resume):
        """Begin with a compiled encoder, or go on. Returns: whether the run is finished already."""
        if resume and not os.path.exists(self.state):
            print(f"nothing to resume in {self.state}: starting from the beginning")
            resume = False
        if not resume:
            self.earlier = self._earlier()
            return False
        self.history, self.film.frames, finished = restore(encoder, self.state, self.settings)
        self._check_weights()
        if finished:
            print(f"this run is finished: {self.weights}")
            return True
        if self.film.frames and self.film.frames[0].shape != self.film.draw(encoder).shape:
            raise UserError(f"{self.state} is damaged. Leave --resume out to start anew.")
        self._write_history()
        print(f"resumed after epoch {self.epoch}: {self.state}")
        return False

    def _check_weights(self):
        """Refuse weights that are missing, or of another run than the state."""
        held, _ = checkpoint.read(self.weights)
        best = held.pop("best", None)
        ours = best == self.best  # or of a later epoch: the run was killed between the two
        if isinstance(best, dict) and _is_row(best, best.get("epoch")):
            ours = ours or best["epoch"] > self.epoch
        own = self.configuration
        if not ours or {**held, "schedule": None} != {**own, "schedule": None}:
            raise UserError(
                f"{self.weights} is not of the run in {self.state}: put that run's own back, or "
                "leave --resume out to start anew."
            )

    def _earlier(self):
        """Say what becomes of an earlier run in the folder: `{path: where it will be kept}`."""
        here = [name for name in FILES if os.path.exists(os.path.join(self.folder, name))]
        for number in itertools.count(1):
            target = os.path.join(self.folder, f"run-{number}")
            if not here or filecmp.cmpfiles(self.folder, target, here, shallow=False)[0] == here:
                return {}  # kept by a run, say, that then failed to write its first epoch
            if not os.path.exists(target):
                break
        try:
            finished = read_state(self.state)[0]["finished"]
        except UserError:
            finished = True
        print(
            f"{self.folder} holds {'a finished' if finished else 'an unfinished'} run: after this "
            f"one's first epoch it is in {target}." + GO_ON * (not finished)
        )
        return {os.path.join(self.folder, name): os.path.join(target, name) for name in here}

    @property
    def epoch(self):
        """How many epochs are complete."""
        return len(self.history)

    @property
    def best(self):
        """The row of the best epoch."""
        return best_of(self.history)

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "loss": logs["loss"], "val_loss": logs["val_loss"]}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        if not math.isfinite(row["loss"] + row["val_loss"]):
            self._diverge(epoch + 1)
        self.history.append(row)
        if row is self.best:
            self.waiting = {self.weights: checkpoint.named(self.model)}
        self.waiting[self.state] = variables(self.model)
        due = SHARE * (time.monotonic() - self.written) >= self.cost
        if due or epoch + 1 == self.params["epochs"]:
            self.write()
        else:  # the next step overwrites them
            self.waiting = {
                path: {name: ops.copy(v) for name, v in arrays.items()}
                for path, arrays in self.waiting.items()
            }

    def write(self):
        """Write what waits: weights if there was a better epoch, state, history."""
        if not self.waiting:
            return
        start = time.monotonic()
        self.check()
        for path, target in self.earlier.items():
            with files.atomic(target) as temporary:
                shutil.copyfile(path, temporary)
        self.earlier = {}
        if self.weights in self.waiting:
            best = {**self.configuration, "best": self.best}
            checkpoint.save(self.weights, self.waiting[self.weights], best)
        arrays = {**self.waiting[self.state], "frames": np.array(self.film.frames, "uint8")}
        write_state(self.state, arrays, self.settings, self.history)
        self._write_history()
        self.waiting = {}
        self.written = time.monotonic()
        self.cost = self.written - start

    def finish(self):
        """Say that all is done. What only resuming needs goes: 230 MB at full size."""
        write_state(self.state, {}, self.settings, self.history, finished=True)

    def _write_history(self):
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.history[0])
        writer.writeheader()
        writer.writerows(self.history)
        files.write(os.path.join(self.folder, HISTORY), text.getvalue())

    def _diverge(self, epoch):
        reason = f"the loss is no longer finite in epoch {epoch}"
        if not self.history:
            raise UserError(f"{reason}. Start again with a lower --learning-rate.")
        self.write()
        held, arrays = read_state(self.state)
        write_state(self.state, arrays, held["settings"], held["history"], diverged=True)
        raise UserError(
            f"{reason}; the weights of epoch {self.best['epoch']} stay in {self.weights}. Go on "
            f"from epoch {self.epoch} with --resume and a lower --learning-rate."
        )


def go_on():
    """The command that goes on with this run, by the Python that runs it."""
    python = (
        "python" if shutil.which("python") == sys.executable else os.path.relpath(sys.executable)
    )
    flags = [flag for flag in sys.argv if flag != "--resume"]
    return f"To go on: {shlex.join([python, *flags])} --resume"


class Stop(keras.callbacks.Callback):
    """In its context Ctrl-C and SIGTERM wait for the end of a step; a second one ends at once.

    Unless `alone`: of several processes no two would stop at the same step.
    """

    def __init__(self, keeper, alone=True):
        super().__init__()
        self.keeper = keeper
        self.handler = self._stop if alone else signal.SIG_DFL
        self.signal = None
        self.handlers = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number] = signal.signal(number, self.handler)
        return self

    def __exit__(self, *_):
        while self.handlers:
            signal.signal(*self.handlers.popitem())

    def set_model(self, model):
        super().set_model(model)
        self.encoder = model

    def _stop(self, number, _):
        self.__exit__()
        self.signal = number
        # Not self.model: on JAX that fetches the weights, which a running step has given away.
        self.encoder.stop_training = True

    def on_test_begin(self, logs=None):
        self._raise_if_stopped()  # in the middle of an epoch: no reason to validate it

    def on_train_end(self, logs=None):
        self._raise_if_stopped()

    def _raise_if_stopped(self):
        if not self.signal:
            return
        said = "no epoch was complete, nothing was written"
        self.keeper.write()
        if self.keeper.history:
            said = f"{self.keeper.epoch} complete epochs are in {self.keeper.state}. {go_on()}"
        raise Stopped(f"stopped by {signal.Signals(self.signal).name}; {said}", 128 + self.signal)
