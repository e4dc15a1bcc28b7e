"""How fast training is here: a much shorter nice.py that measures.

    python bench.py                      seconds a step, pictures a second
    python bench.py --against plain      beside plain Keras `fit` of the same model, interleaved
    python bench.py --until -1951        seconds from `python nice.py` to that validation loss

Medians, with the range, of runs that take turns. How near that is to what the machine
could do at its best: tools/performance.py.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from support import cli, options


def parse():
    timer = options.Parser(add_help=False)
    target = "only time nice.py, which gets all other flags, until this validation loss"
    timer.add_argument("--until", type=options.Number(float), help=target)
    timed, rest = timer.parse_known_args()
    if timed.until is not None:
        options.training(rest)  # refuses wrong flags at once
        return timed, rest
    parser = options.Parser(
        "Measure the speed of training, sampling, likelihoods.", parents=[timer]
    )
    add_flags(parser)
    return parser.parse_args(), []


def add_flags(parser):
    """What tools/performance.py asks for, too."""
    add, number = parser.add_argument, options.Number
    add("--against", choices=["plain"], help="take turns with plain Keras fit of the same model")
    add("--steps", type=number(int, 1), default=20, help="steps a round")
    add("--repeats", type=number(int, 1), default=7, help="rounds")
    add("--batch-size", type=number(int, 1), default=128, help="pictures a step")
    options.add_places(parser, "data")
    add("--json", help="also write the numbers to this file")


if __name__ == "__main__":
    parsed = cli.start(parse)

import keras
import numpy as np
from keras import ops

import nice
import training
from support import data, files, hardware
from support.batches import fit
from support.batches import steps as steps_an_epoch
from support.errors import UserError


class Clock(keras.callbacks.Callback):
    """Times the last epoch of a `fit`; the ones before warm up."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.start


class Ours:
    """The training of nice.py, of such pixels and by such choices: see `options.recipe`."""

    def __init__(self, pixels, choices):
        model = options.configuration(choices, pixels.shape[1], (1, pixels.shape[1]))["model"]
        self.pixels = pixels
        self.batch_size = choices["batch_size"]
        self.block = hardware.block(choices["steps_per_execution"])
        self.encoder, self.decoder = nice.build(**model)
        adam = training.optimizer(10**6, **options.pick(choices, training.LEARNING))
        self.compile(nice.PRIORS[choices["prior"]], adam)

    def compile(self, prior, adam):
        self.encoder.compile(loss=prior, optimizer=adam)

    def run(self, **options):
        options["steps_per_execution"] = self.block
        fit(self.encoder, self.pixels, batch_size=self.batch_size, **options)

    def seconds(self, steps):
        """Seconds a step, over so many steps or a few more: whole blocks."""
        clock, blocks = Clock(), -(-steps // self.block)
        self.run(steps_per_epoch=blocks, epochs=2, verbose=0, callbacks=[clock])
        return clock.seconds / (blocks * self.block)


class Plain(Ours):
    """The same model and update under plain Keras: its own Adam, its `fit` on an array."""

    def compile(self, prior, adam):
        names = ("learning_rate", "epsilon", "weight_decay")
        plain = keras.optimizers.Adam.from_config(options.pick(adam.get_config(), names))
        plain.exclude_from_weight_decay(var_names=["log_scale", "bias"])
        super().compile(prior, plain)
        self.x = self.pixels.astype("float32") / 255
        self.block = 1

    def run(self, **options):
        self.encoder.fit(self.x, self.x, batch_size=self.batch_size, **options)


def seconds_of(function):
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def best(function, repeats=5):
    """Seconds of the fastest of some calls: what the machine can do."""
    return min(seconds_of(function) for _ in range(repeats))


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(flags):
    """Everything in the table: `(result, trainer)`, plain numbers in seconds and per second."""
    pixels = data.load(flags.data).x_train
    if pixels.dtype != np.uint8:
        raise UserError("the bench needs pictures of whole numbers: uint8.")
    choices = options.recipe(batch_size=flags.batch_size)
    kinds = {"ours": Ours, "plain": Plain} if flags.against else {"ours": Ours}
    trainers = {name: kind(pixels, choices) for name, kind in kinds.items()}
    first = {name: seconds_of(lambda t=t: t.seconds(1)) for name, t in trainers.items()}
    for trainer in trainers.values():
        trainer.seconds(5)
    rounds = {name: [] for name in trainers}
    bar = hardware.progress(flags.repeats, "round")
    for i in range(flags.repeats):
        for name in list(trainers)[:: 1 if i % 2 else -1]:  # neither always goes first
            rounds[name].append(trainers[name].seconds(flags.steps))
        bar.add(1)
    ours = trainers["ours"]
    x = ops.convert_to_numpy(data.scale(pixels[:10_000]))
    tasks = {
        "validation": lambda: ours.encoder.evaluate(x, x, batch_size=1000, verbose=0),
        "sampling": lambda: ours.decoder.predict_on_batch(x[:1000]),
        "likelihood": lambda: ours.encoder.predict_on_batch(x[:1000]),
    }
    for task in tasks.values():
        task()  # compiles
    result = {
        "backend": keras.backend.backend(),
        "batch_size": flags.batch_size,
        "parameters": ours.encoder.count_params(),
        "step": {name: spread(values) for name, values in rounds.items()},
        "first_step": first,
        "validation": best(tasks["validation"], 3),
        "steps_per_epoch": steps_an_epoch(len(pixels), flags.batch_size),
        "sampling_rate": len(x[:1000]) / best(tasks["sampling"]),
        "likelihood_rate": len(x[:1000]) / best(tasks["likelihood"]),
    }
    if flags.against:
        result["ratio"] = spread([a / b for a, b in zip(rounds["ours"], rounds["plain"])])
    return result, ours


def line(name, value, note=""):
    """A row of the table."""
    return f"{name:<34}{value:>12}  {note}".rstrip()


def table(result):
    """The result for people."""

    def ms(s):
        return f"{1000 * s['median']:.1f} ms", f"{1000 * s['min']:.1f} to {1000 * s['max']:.1f}"

    step, batch = result["step"]["ours"]["median"], result["batch_size"]
    epoch = step * result["steps_per_epoch"]
    lines = [line(f"a step of {batch}, {result['backend']}", *ms(result["step"]["ours"]))]
    if "ratio" in result:
        low, middle, high = (f"{result['ratio'][name]:.2f}" for name in ("min", "median", "max"))
        lines.append(line("  plain Keras fit", *ms(result["step"]["plain"])))
        lines.append(line("  ours / plain", middle, f"{low} to {high}"))
    lines += [
        line("pictures a second", f"{batch / step:,.0f}"),
        line("an epoch", f"{epoch:.1f} s"),
        line("  with validation", f"{epoch + result['validation']:.1f} s"),
        line("first step, compilation included", f"{result['first_step']['ours']:.1f} s"),
        line("sampling, pictures a second", f"{result['sampling_rate']:,.0f}"),
        line("likelihoods a second", f"{result['likelihood_rate']:,.0f}"),
    ]
    return "\n".join(lines)


def until(target, command, folder=None):
    """Run a training in `folder` and time it until validation reaches `target`, then kill it.

    Returns: seconds since the start of its process, imports included.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=folder)
    try:
        for line in process.stdout:
            seconds = time.perf_counter() - start
            if "Epoch" in line or "val_loss:" in line or "parameters;" in line:
                line = line.split("\b")[-1]  # Keras overwrites its progress
                print(f"{seconds:7.1f} s  {line}", end="", flush=True)
            if "val_loss:" in line and float(line.split("val_loss:")[1].split()[0]) <= target:
                return seconds
    finally:
        process.kill()
        process.wait()
    raise UserError(f"training ended before its validation loss reached {target:g}.")


def main(parsed):
    flags, rest = parsed
    if flags.until is None:
        files.check_output(flags.json, ".json", [flags.data])
    if flags.until is not None:
        with tempfile.TemporaryDirectory() as folder:  # not over the user's weights
            script = os.path.join(options.HERE, "nice.py")
            command = [sys.executable, "-u", script, "--output", folder, *rest]
            seconds = until(flags.until, command)
        print(f"{seconds:.1f} s to a validation loss of {flags.until:g}")
        return
    result, _ = measure(flags)
    print(table(result))
    if flags.json:
        files.write(flags.json, json.dumps(result, indent=1))


if __name__ == "__main__":
    cli.run(main, parsed)
