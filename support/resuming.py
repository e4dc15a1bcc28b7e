"""Training that can be killed: after every epoch all it takes to go on lies on the disk.

A folder of training holds, written in this order after every epoch:

    nice.safetensors        the weights of the best epoch, if this was it
    nice.state.safetensors  weights, optimizer, noise generator, history, settings of this epoch
    history.csv             the history, for people

Each is replaced atomically. Killed in between, a run goes on from the state of
the epoch before, repeats the epoch bit by bit, and writes the same files again.
"""

import contextlib
import csv
import io
import math
import os
import shlex
import shutil
import signal
import sys

import keras
import numpy as np

from support import checkpoint, files, pictures
from support.cli import Stopped, UserError
from support.options import SUFFIX, TRAINED, decisive

STATE = "nice.state" + SUFFIX
HISTORY = "history.csv"
PREVIOUS = "nice.previous" + SUFFIX


class Keeper(keras.callbacks.Callback):
    """Keeps a training on the disk, and brings it back. As a context: has the folder to itself.

    Args:
        args: the flags of nice.py.
        on: the devices. Only the first process writes; only a single one keeps a film, and
            lets Ctrl-C wait for the end of a step, for no two would stop at the same one.
    """

    def __init__(self, args, on):
        super().__init__()
        self.args, self.on, self.previous = args, on, False
        self.weights, self.state, self.table = (
            os.path.join(args.output, name) for name in (TRAINED, STATE, HISTORY)
        )
        self.history, self.frames = [], []
        self.signal, self.handlers, self.lock = None, {}, contextlib.ExitStack()

    def __enter__(self):
        if self.on.first:  # Writable? Now, not after the first epoch.
            self.lock.enter_context(files.locked(self.args.output))
        return self

    def __exit__(self, *_):
        self._restore_handlers()
        self.lock.close()

    def begin(self, encoder, configuration, digest, draw):
        """Begin with a compiled `encoder`, or go on with --resume.

        Args:
            configuration: what the weights file is to carry.
            digest: of the pictures.
            draw: function without arguments that draws a frame, (H, W) uint8, with the current
                weights: one is kept before training and after every epoch.

        Returns: whether there is anything left to do, be it the last pictures.
        Raises: `UserError` where the state is damaged or was made with other settings.
        """
        self.encoder, self.configuration = encoder, configuration
        self.draw = draw if self.on.processes == 1 else None
        backend = keras.backend.backend()
        self.settings = {**decisive(self.args), "data": digest, "backend": backend}
        if not self.args.resume:
            self._warn()
            return True
        self.on.check_shared(self.state)
        finished = self._resume(encoder)
        if finished:
            print(f"this run is finished: {self.weights}")
        return not finished

    @property
    def epoch(self):
        """How many epochs are complete."""
        return len(self.history)

    @property
    def best(self):
        """The row of the history with the lowest validation loss; the first of equals."""
        return _best(self.history)

    # -------------------------------------------------------------- going on

    def _resume(self, model):
        """Put the last complete epoch back into `model`. Returns: whether all is done."""
        if not os.path.exists(self.state):
            print(f"nothing to resume in {self.state}: starting from the beginning")
            return False
        held, arrays = self._read()
        self._compare(held)
        self.history = held["history"]
        if not held["finished"]:
            self.frames = list(arrays.pop("frames"))
            checkpoint.assign(_variables(model), arrays, self.state)
            if self.on.first:
                self._write_history()
            print(f"resumed after epoch {self.epoch}: {self.state}")
        return held["finished"]

    def _warn(self):
        """Say what becomes of an earlier run in the folder."""
        try:
            held, _ = self._read()
            best = _best(held["history"])
            # Not where a run that was killed in its first epoch has written its own already.
            same = held["finished"] and checkpoint.read(self.weights)[0].get("best") == best
        except UserError:
            return  # none, or a damaged one
        self.previous = same
        if same:
            print(
                f"{self.weights} is of a finished run, validation loss {best['val_loss']:.2f}: "
                f"after this run's first epoch it is {PREVIOUS}."
            )
        elif not held["finished"]:
            print(
                f"{self.state} is of an unfinished run: it is replaced after this run's first "
                "epoch. To go on with it, stop now and add --resume."
            )

    def _read(self):
        held, arrays = checkpoint.read(self.state)
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
            raise UserError(f"{self.state} is damaged. Leave --resume out to start anew.")
        return held, arrays

    def _compare(self, held):
        for name in dict.fromkeys([*self.settings, *held["settings"]]):
            now, then = self.settings.get(name), held["settings"].get(name)
            if held["diverged"] and name == "learning-rate":
                if now == then:
                    raise UserError(
                        f"this run diverged at --learning-rate {then}: resume it with a lower one."
                    )
            elif now != then:
                raise UserError(
                    f"{self.state} is of a run with {name} {then}, not {now}. Repeat that run's "
                    "command and add --resume, or leave --resume out to start anew."
                )

    # ---------------------------------------------------------------- keeping

    def on_train_begin(self, logs=None):
        if self.on.processes == 1:
            self._install_handlers()
        if self.draw and not self.frames:
            self.frames.append(self.draw())

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "loss": logs["loss"], "val_loss": logs["val_loss"]}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            self._diverge(epoch + 1)
        self.history.append(row)
        if not self.on.first:
            return
        if self.draw:
            self.frames.append(self.draw())
        if self.previous:
            with files.atomic(os.path.join(self.args.output, PREVIOUS)) as temporary:
                shutil.copyfile(self.weights, temporary)
            self.previous = False
        if row is self.best:
            best = {**self.configuration, "best": row}
            checkpoint.save(self.weights, checkpoint.named(self.model), best)
        self._write_state({**_variables(self.model), "frames": np.array(self.frames, "uint8")})
        self._write_history()

    def leave_pictures(self, grid):
        """loss.png of the history, samples.png of the `grid`, training.gif of any frames."""
        names = ("loss.png", "samples.png", "training.gif")
        curve, samples, film = (os.path.join(self.args.output, name) for name in names)
        row = f"{self.best['val_loss']:.2f} at epoch {self.best['epoch']}"
        print(f"best validation loss {row}: {self.weights}")
        pictures.save(curve, pictures.loss_curve(self.history))
        pictures.save(samples, grid)
        if self.frames:
            pictures.save_film(film, self.frames)
        print(f"pictures: {curve}, {samples}" + f", {film}" * bool(self.frames))

    def finish(self):
        """Say that all is done. What only resuming needs goes: 230 MB at full size."""
        self._write_state({}, finished=True)

    def _write_state(self, arrays, finished=False, diverged=False):
        state = {"settings": self.settings, "history": self.history}
        checkpoint.save(self.state, arrays, {**state, "finished": finished, "diverged": diverged})

    def _write_history(self):
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.history[0])
        writer.writeheader()
        writer.writerows(self.history)
        files.write(self.table, text.getvalue())

    def _diverge(self, epoch):
        reason = f"the loss is no longer finite in epoch {epoch}"
        if not self.history:
            raise UserError(f"{reason}. Start again with a lower --learning-rate.")
        if self.on.first:
            _, arrays = checkpoint.read(self.state)
            self._write_state(arrays, diverged=True)
        raise UserError(
            f"{reason}; the weights of epoch {self.best['epoch']} stay in {self.weights}. Go on "
            f"from epoch {self.epoch} with --resume and a lower --learning-rate."
        )

    # --------------------------------------------------------------- stopping

    def _install_handlers(self):
        """From here on Ctrl-C and SIGTERM let the step end; a second one ends at once."""
        self.handlers = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def _restore_handlers(self):
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.handlers = {}

    def _stop(self, number, _):
        self._restore_handlers()
        # Not self.model: on JAX that fetches the weights, which a running step has given away.
        self.signal, self.encoder.stop_training = number, True

    def on_test_begin(self, logs=None):
        self._raise_if_stopped()  # in the middle of an epoch: no reason to validate it

    def on_train_end(self, logs=None):
        self._restore_handlers()
        self._raise_if_stopped()

    def _raise_if_stopped(self):
        if not self.signal:
            return
        said = "no epoch was complete, nothing was written"
        if self.history:
            flags = [flag for flag in sys.argv if flag != "--resume"]
            said = (
                f"{self.epoch} complete epochs are in {self.state}. "
                f"To go on: python {shlex.join(flags)} --resume"
            )
        raise Stopped(f"stopped by {signal.Signals(self.signal).name}; {said}", 128 + self.signal)


def _best(rows):
    return min(rows, key=lambda row: row["val_loss"])


def _variables(model):
    """All that a step changes: weights, noise generators, optimizer. `{name: variable}`.

    Named by position, for Keras numbers some paths by what the process built before. The
    learning rate is a setting.
    """
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    kept = [v for v in variables if v is not model.optimizer._learning_rate]
    return {f"variable_{i}": v for i, v in enumerate(kept)}


def _is_film(frames):
    return frames is not None and frames.dtype == "uint8" and (frames.ndim == 3 or not frames.size)


def _is_row(row, epoch):
    return (
        isinstance(row, dict)
        and list(row) == ["epoch", "loss", "val_loss", "learning_rate"]
        and [type(value) for value in row.values()] == [int, float, float, float]
        and row["epoch"] == epoch
        and all(map(math.isfinite, list(row.values())[1:]))
    )
