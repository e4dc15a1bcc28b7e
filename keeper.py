"""Training that can be killed: after every epoch all it takes to go on lies on the disk.

A folder of training holds, written in this order after every epoch:

    nice.weights.h5   the weights of the best epoch, if this was it
    nice.state.h5     weights, optimizer, noise generator, history and settings of this epoch
    history.csv       the history, for people

Each is replaced atomically. Killed in between, a run goes on from the state of
the epoch before, repeats the epoch bit by bit, and writes the same files again.
"""

import csv
import io
import math
import os
import shlex
import signal
import sys

import keras
import numpy as np
from cli import Stopped, UserError

import checkpoint

TRAINED = "nice" + checkpoint.SUFFIX
STATE = "nice.state.h5"
HISTORY = "history.csv"


class Keeper(keras.callbacks.Callback):
    """Keeps a training on the disk, and brings it back.

    Args:
        folder: where.
        configuration: what the weights file is to carry.
        settings: `{flag: value}`, all that decides the result; what a resumed run must repeat.
        draw: function without arguments that draws a frame, (H, W) uint8, with the current
            weights: one is kept before training and after every epoch. None: no frames.
        writes: whether this process does; of several, one.
    """

    def __init__(self, folder, configuration, settings, draw, writes=True):
        super().__init__()
        self.writes = writes
        self.configuration, self.settings, self.draw = configuration, settings, draw
        self.weights, self.state, self.table = (
            os.path.join(folder, name) for name in (TRAINED, STATE, HISTORY)
        )
        self.history, self.frames = [], []
        self.signal = self.handlers = None

    @property
    def best(self):
        """The row of the history with the lowest validation loss; the first of equals."""
        return min(self.history, key=lambda row: row["val_loss"])

    # -------------------------------------------------------------- going on

    def resume(self, model):
        """Put the last complete epoch back into a compiled `model`.

        Returns: whether the run is finished, pictures and all.
        Raises: `UserError` where the state is damaged or was made with other settings.
        """
        if not os.path.exists(self.state):
            print(f"nothing to resume in {self.state}: starting from the beginning")
            return False
        held, arrays = checkpoint.read(self.state)
        self._check(held, arrays)
        self.history = held["history"]
        if not held["finished"]:
            self.frames = list(arrays.pop("frames"))
            checkpoint.assign(_variables(model), arrays, self.state)
            if self.writes:
                self._write_history()
            print(f"resumed after epoch {len(self.history)}: {self.state}")
        return held["finished"]

    def warn(self):
        """Say so where an unfinished run lies in the folder, and is about to be replaced."""
        try:
            held = checkpoint.read(self.state)[0] if os.path.exists(self.state) else {}
        except UserError:
            return
        if held and not held.get("finished"):
            print(
                f"{self.state} is of an unfinished run: it is replaced after this run's first "
                "epoch. To go on with it, stop now and add --resume."
            )

    def _check(self, held, arrays):
        sound = (
            isinstance(held.get("settings"), dict)
            and isinstance(held.get("finished"), bool)
            and isinstance(held.get("diverged"), bool)
            and isinstance(held.get("history"), list)
            and len(held["history"]) > 0
            and all(_is_row(row, i) for i, row in enumerate(held["history"], start=1))
            and (held["finished"] or "frames" in arrays)
        )
        if not sound:
            raise UserError(f"{self.state} is damaged. Leave --resume out to start anew.")
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
        if self.draw and not self.frames:
            self.frames.append(self.draw())

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "loss": logs["loss"], "val_loss": logs["val_loss"]}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        if not (math.isfinite(row["loss"]) and math.isfinite(row["val_loss"])):
            self._diverge(epoch + 1)
        self.history.append(row)
        if not self.writes:
            return
        if self.draw:
            self.frames.append(self.draw())
        if row is self.best:
            variables = {v.path: v for v in self.model.weights}
            checkpoint.save(self.weights, variables, {**self.configuration, "best": row})
        self._write_state({**_variables(self.model), "frames": np.array(self.frames, "uint8")})
        self._write_history()

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
        checkpoint.write(self.table, text.getvalue())

    def _diverge(self, epoch):
        reason = f"the loss is no longer finite in epoch {epoch}"
        if not self.history:
            raise UserError(f"{reason}. Start again with a lower --learning-rate.")
        if self.writes:
            _, arrays = checkpoint.read(self.state)
            self._write_state(arrays, diverged=True)
        raise UserError(
            f"{reason}; the weights of epoch {self.best['epoch']} stay in {self.weights}. Go on "
            f"from epoch {len(self.history)} with --resume and a lower --learning-rate."
        )

    # --------------------------------------------------------------- stopping

    def __enter__(self):
        """From here on Ctrl-C and SIGTERM let the step end; a second one ends at once."""
        self.handlers = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_):
        self._restore_handlers()

    def _restore_handlers(self):
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _stop(self, number, _):
        self._restore_handlers()
        self.signal, self.model.stop_training = number, True

    def on_test_begin(self, logs=None):
        if self.signal:  # in the middle of an epoch: no reason to validate it
            self.raise_if_stopped()

    def raise_if_stopped(self):
        """Raises `cli.Stopped` after a signal."""
        if not self.signal:
            return
        done = len(self.history)
        saved = f"{done} complete epochs are in {self.state}" if done else "no epoch was complete"
        flags = [flag for flag in sys.argv if flag != "--resume"]
        raise Stopped(
            f"stopped by {signal.Signals(self.signal).name}; {saved}. "
            f"To go on: python {shlex.join(flags)} --resume",
            128 + self.signal,
        )


def _variables(model):
    """All that a step changes: weights, noise generators, optimizer. `{name: variable}`.

    Named by position, for Keras numbers some paths by what the process built before. The
    learning rate is a setting.
    """
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    kept = [v for v in variables if v is not model.optimizer._learning_rate]
    return {f"variable_{i}": v for i, v in enumerate(kept)}


def _is_row(row, epoch):
    return (
        isinstance(row, dict)
        and list(row) == ["epoch", "loss", "val_loss", "learning_rate"]
        and row["epoch"] == epoch
        and all(type(value) in (int, float) and math.isfinite(value) for value in row.values())
    )
