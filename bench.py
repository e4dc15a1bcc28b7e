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
    timer = cli.Parser(add_help=False)
    target = "only time nice.py, which gets all other flags, until this validation loss"
    timer.add_argument("--until", type=cli.Number(float), help=target)
    timed, rest = timer.parse_known_args()
    if timed.until is not None:
        options.training(rest)  # refuses wrong flags at once
        return timed, rest
    parser = cli.Parser("Measure the speed of training, sampling, likelihoods.", parents=[timer])
    add_flags(parser)
    return parser.parse_args(), []


def add_flags(parser):
    """What tools/performance.py asks for, too."""
    add, number = parser.add_argument, cli.Number
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
from support import data, files
from support.cli import UserError
from support.optimizer import learning_rate


class Clock(keras.callbacks.Callback):
    """Times the last epoch of a `fit`; the ones before warm up."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.start


class Ours:
    """The training of nice.py."""

    name = "ours"

    def __init__(self, args, pixels):
        dim = pixels.shape[1]
        model = options.configuration(args, dim, (1, dim))["model"]
        self.encoder, self.decoder = nice.build(**model)
        nice.compile_encoder(self.encoder, args, 10**6)
        self.x = data.batches(pixels, args.batch_size, args.seed, args.levels)
        self.options = {"shuffle": False}

    def fit(self, steps, clock):
        self.encoder.fit(
            self.x, **self.options, steps_per_epoch=steps, epochs=2, verbose=0, callbacks=[clock]
        )

    def seconds(self, steps):
        """Seconds a step, over so many steps."""
        clock = Clock()
        self.fit(steps, clock)
        return clock.seconds / steps


class Plain(Ours):
    """The same model and update under plain Keras: its own Adam, its `fit` on an array."""

    name = "plain"

    def __init__(self, args, pixels):
        super().__init__(args, pixels)
        optimizer = keras.optimizers.Adam(
            learning_rate(args, 10**6), epsilon=args.epsilon, weight_decay=args.weight_decay
        )
        optimizer.exclude_from_weight_decay(var_names=["log_scale", "bias"])
        self.encoder.compile(loss=nice.PRIORS[args.prior], optimizer=optimizer)
        self.x = pixels.astype("float32") / 255
        self.options = {"y": self.x, "batch_size": args.batch_size, "shuffle": True}


def best(function, repeats=5):
    """Seconds of the fastest of some calls: what the machine can do."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(flags):
    """Everything in the table: `(result, trainer)`, plain numbers in seconds and per second."""
    args = options.training(["--batch-size", str(flags.batch_size)])
    pixels = data.load(flags.data).x_train
    if pixels.dtype != np.uint8:
        raise UserError("the bench needs pictures of whole numbers: uint8.")
    trainers = [Ours(args, pixels)] + ([Plain(args, pixels)] if flags.against else [])
    first = {}
    for trainer in trainers:
        start = time.perf_counter()
        trainer.fit(1, Clock())
        first[trainer.name] = time.perf_counter() - start
        trainer.seconds(5)
    rounds = {trainer.name: [] for trainer in trainers}
    bar = keras.utils.Progbar(flags.repeats, unit_name="round")
    for i in range(flags.repeats):
        for trainer in trainers if i % 2 else reversed(trainers):  # neither always goes first
            rounds[trainer.name].append(trainer.seconds(flags.steps))
        bar.add(1)
    encoder, decoder = trainers[0].encoder, trainers[0].decoder
    x = ops.convert_to_numpy(data.scale(pixels[:1000]))
    validation = ops.convert_to_numpy(data.scale(pixels[:10_000]))
    tasks = {
        "validation": lambda: encoder.evaluate(validation, validation, batch_size=1000, verbose=0),
        "sampling": lambda: decoder.predict_on_batch(x),
        "likelihood": lambda: encoder.predict_on_batch(x),
    }
    for task in tasks.values():
        task()  # compiles
    result = {
        "backend": keras.backend.backend(),
        "batch_size": args.batch_size,
        "parameters": encoder.count_params(),
        "step": {name: spread(values) for name, values in rounds.items()},
        "first_step": first,
        "validation": best(tasks["validation"], 3),
        "steps_per_epoch": data.steps(len(pixels), args.batch_size),
        "sampling_rate": len(x) / best(tasks["sampling"]),
        "likelihood_rate": len(x) / best(tasks["likelihood"]),
    }
    if flags.against:
        result["ratio"] = spread([a / b for a, b in zip(rounds["ours"], rounds["plain"])])
    return result, trainers[0]


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
