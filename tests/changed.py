"""In a changed copy of the project: train, resume, sample, evaluate, by flags of nice.py.

    python changed.py [flags]

Prints JSON: what must be true of the copy, see test_change.py.
"""

import json
import os
import sys

sys.path.insert(0, os.getcwd())

from support import cli, options

cli.load_keras()

import numpy as np
import tensorflow as tf

import evaluate
import nice
import training
from support import resuming
from support.errors import UserError


class Killed(BaseException):
    pass


class Deadly(resuming.Keeper):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.epoch == 1:
            raise Killed


def train(folder, *flags):
    training.main(options.training(["--data", "data.npz", "--output", folder, *flags]))


def log_likelihood(trained, x):
    """log p of a picture (D,), by the determinant of the Jacobian and the prior's own density."""
    row = tf.constant(x[None])
    with tf.GradientTape() as tape:
        tape.watch(row)
        z = trained.encoder(row)
    jacobian = tape.jacobian(z, row).numpy().reshape(len(x), len(x)).astype("float64")
    return trained.prior.log_density(z.numpy())[0] + np.linalg.slogdet(jacobian)[1]


flags = sys.argv[1:]
train("whole", *flags)
keeper, resuming.Keeper = resuming.Keeper, Deadly
try:
    train("killed", *flags)
except Killed:
    resuming.Keeper = keeper
train("killed", *flags, "--resume")
whole, killed = (os.path.join(folder, options.TRAINED) for folder in ("whole", "killed"))
trained, other = map(nice.load, (whole, killed))
weights = zip(trained.encoder.get_weights(), other.encoder.get_weights())
x = np.load("data.npz")["x_test"].reshape(-1, 64).astype("float32") / 255
exact = [log_likelihood(trained, row) for row in x[:3]]
evaluated = evaluate.evaluate(whole, "data.npz", repeats=1, limit=3)["test"]
trained.encoder.compile(loss=trained.prior)
loss = trained.encoder.evaluate(x[:3], x[:3], verbose=0)
try:  # a file from before the change
    older = np.abs(nice.load("older.safetensors").encode(x[:1])).sum()
except UserError as error:
    older = str(error)
constant = 64 * trained.prior.constant
result = {
    "resumed alike": all(np.array_equal(a, b) for a, b in weights),
    "likelihood": np.abs(trained.log_likelihood(x[:3]) - exact).max(),
    "evaluated": abs(evaluated["loss_without_noise"] + constant + np.mean(exact)),
    "compiled": abs(loss + constant + np.mean(exact)),
    "round trip": float(np.abs(trained.decode(trained.encode(x)) - x).max()),
    "parameters": trained.encoder.count_params(),
    "older file": older,
    "samples": list(trained.sample(4).shape),
}
print(json.dumps(result, default=float))
