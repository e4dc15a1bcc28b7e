"""How fast training is here, and how fast it could be: a much shorter nice.py that measures.

    python bench.py                      a table
    python bench.py --against plain      beside plain Keras `fit` of the same model, interleaved
    python bench.py --scaling            how cost grows with batch, width, depth and dimensions
    python bench.py --until -1951        seconds from `python nice.py` to that validation loss

The limit is what the machine itself does at its best, measured in the same run:
a step's matrix products at the rate of a large one, and 28 bytes a parameter for
Adam (read weight, gradient and two moments, write three of them) at the rate of
a copy. Medians, with the range, of runs that take turns.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import cli
import keras
import numpy as np
from cli import UserError, number
from keras import ops

import checkpoint
import mnist
import nice
import pictures

ADAM_BYTES = 28  # a parameter a step


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
        configuration = nice.configure(args, pixels.shape[1], (1, pixels.shape[1]))
        self.encoder, self.decoder = nice.build(**configuration["model"])
        nice.compile_encoder(self.encoder, args, 10**6)
        self.x = mnist.batches(pixels, args.batch_size, args.seed, args.levels)
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
            nice.learning_rate(args, 10**6), epsilon=args.epsilon, weight_decay=args.weight_decay
        )
        optimizer.exclude_from_weight_decay(var_names=["log_scale", "bias"])
        self.encoder.compile(loss=nice.PRIORS[args.prior], optimizer=optimizer)
        self.x = pixels.astype("float32") / 255
        self.options = {"y": self.x, "batch_size": args.batch_size, "shuffle": True}


# ------------------------------------------------------------------- the limit


def best(function, repeats=5):
    """Seconds of the fastest of some calls: what the machine can do."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def matrix_rate(size=2048):
    """Largest rate of a float32 matrix product, of NumPy's and the backend's: FLOP/s."""
    a = np.random.default_rng(0).random((size, size), dtype="float32")
    b = ops.convert_to_tensor(a)
    ops.convert_to_numpy(ops.matmul(b, b)[0, 0])  # loads kernels
    seconds = best(lambda: a @ a), best(lambda: ops.convert_to_numpy(ops.matmul(b, b)[0, 0]))
    return 2 * size**3 / min(seconds)


def memory_rate(size=2**26):
    """Rate of copies by as many threads as there are cores, read and written: bytes/s."""
    pairs = [(np.ones(size // 4, "float32"), np.ones(size // 4, "float32")) for _ in range(cores())]

    def copy():
        threads = [threading.Thread(target=np.copyto, args=pair) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return 2 * size * len(pairs) / best(copy, 9)


def flops(encoder, batch_size):
    """Floating point operations of a step's matrix products, forwards and backwards."""
    kernels = [v.shape for v in encoder.trainable_variables if v.name == "kernel"]
    products = sum(3 * a * b for a, b in kernels) - kernels[0][0] * kernels[0][1]
    return 2 * batch_size * products  # the pictures themselves need no gradient


def optimizer_seconds(encoder):
    """Seconds of one update of all parameters, on its own; None on PyTorch."""
    variables, backend = encoder.trainable_variables, keras.backend.backend()
    gradients = [ops.zeros(v.shape) for v in variables]
    optimizer = encoder.optimizer
    if backend == "tensorflow":
        import tensorflow as tf

        update = tf.function(lambda: optimizer.apply(gradients, variables))
    elif backend == "jax":
        import jax

        apply = jax.jit(optimizer.stateless_apply, donate_argnums=(0, 2))
        # Copies, for the update consumes what it is given.
        state = [[ops.copy(v.value) for v in vs] for vs in (optimizer.variables, variables)]

        def update():
            weights, moments = apply(state[0], gradients, state[1])
            state[:] = moments, weights
            jax.block_until_ready(weights)
    else:
        return None
    update()
    return best(update, 15)


# ----------------------------------------------------------------- measurement


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(args, flags):
    """Everything in the table: a dictionary of plain numbers, seconds and per second."""
    data = mnist.load(flags.data)
    pixels = data.x_train
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

    ours = trainers[0]
    encoder, decoder, batch = ours.encoder, ours.decoder, args.batch_size
    x = ops.convert_to_numpy(mnist.scale(pixels[:1000]))
    validation = ops.convert_to_numpy(mnist.scale(pixels[:10_000]))

    def evaluate():
        encoder.evaluate(validation, validation, batch_size=1000, verbose=0)

    def sample():
        decoder.predict_on_batch(x)

    def likelihood():
        encoder.predict_on_batch(x)

    for function in (evaluate, sample, likelihood):
        function()  # compiles
    count = encoder.count_params()
    result = {
        "backend": keras.backend.backend(),
        "cores": cores(),
        "batch_size": batch,
        "parameters": count,
        "step": {name: spread(values) for name, values in rounds.items()},
        "first_step": first,
        "validation": best(evaluate, 3),
        "steps_per_epoch": mnist.steps(len(pixels), batch),
        "flops": flops(encoder, batch),
        "matrix_rate": matrix_rate(),
        "memory_rate": memory_rate(),
        "optimizer": optimizer_seconds(encoder),
        "sampling_rate": len(x) / best(sample),
        "likelihood_rate": len(x) / best(likelihood),
        "peak_memory": peak_memory(),
    }
    if flags.against:
        pairs = [a / b for a, b in zip(rounds["ours"], rounds["plain"])]
        result["ratio"] = spread(pairs)
    result["limit"] = result["flops"] / result["matrix_rate"] + (
        ADAM_BYTES * count / result["memory_rate"]
    )
    return result


def peak_memory():
    """Largest resident memory of this process so far, in bytes; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


SCALES = {
    "batch size": ("batch_size", [32, 64, 128, 256, 512]),
    "units": ("units", [250, 500, 1000, 2000]),
    "depth": ("depth", [1, 3, 5, 9]),
    "dimensions": (None, [196, 784, 3136]),
}


def scaling(args, steps=5):
    """Seconds a step as one choice at a time varies: {choice: {value: seconds}}."""
    result, rng = {}, np.random.default_rng(0)
    bar = keras.utils.Progbar(sum(len(v) for _, v in SCALES.values()), unit_name="model")
    for choice, (flag, values) in SCALES.items():
        result[choice] = {}
        for value in values:
            changed = nice.parse(["--seed", str(args.seed)])
            if flag:
                setattr(changed, flag, value)
            pixels = rng.integers(0, 256, (2048, 784 if flag else value)).astype("uint8")
            trainer = Ours(changed, pixels)
            trainer.seconds(2)
            result[choice][value] = statistics.median(trainer.seconds(steps) for _ in range(3))
            bar.add(1)
    return result


def table(result):
    """The result for people."""

    def line(name, value, note=""):
        return f"{name:<34}{value:>12}  {note}".rstrip()

    def ms(s):
        return f"{1000 * s['median']:.1f} ms", f"{1000 * s['min']:.1f} to {1000 * s['max']:.1f}"

    step, batch = result["step"]["ours"], result["batch_size"]
    epoch = step["median"] * result["steps_per_epoch"]
    lines = [line(f"a step of {batch}, {result['backend']}", *ms(step))]
    if "plain" in result["step"]:
        ratio = result["ratio"]
        lines.append(line("  plain Keras fit", *ms(result["step"]["plain"])))
        lines.append(
            line(
                "  ours / plain",
                f"{ratio['median']:.2f}",
                f"{ratio['min']:.2f} to {ratio['max']:.2f}",
            )
        )
    limit = result["limit"]
    lines += [
        line("  the limit", f"{1000 * limit:.1f} ms", "products at peak + Adam at copy speed"),
        line("  share of the limit reached", f"{100 * limit / step['median']:.0f} %"),
        line("pictures a second", f"{batch / step['median']:,.0f}"),
        line("an epoch", f"{epoch:.1f} s"),
        line("  with validation", f"{epoch + result['validation']:.1f} s"),
        line("first step, compilation included", f"{result['first_step']['ours']:.1f} s"),
        line(
            "matrix products of a step",
            f"{result['flops'] / 1e9:.1f} GFLOP",
            f"{result['flops'] / step['median'] / 1e9:.0f} GFLOP/s of "
            f"{result['matrix_rate'] / 1e9:.0f} at 2048³",
        ),
    ]
    if result["optimizer"]:
        rate = ADAM_BYTES * result["parameters"] / result["optimizer"]
        lines.append(
            line(
                "optimizer",
                f"{1000 * result['optimizer']:.1f} ms",
                f"{rate / 1e9:.0f} GB/s of {result['memory_rate'] / 1e9:.0f} when copying",
            )
        )
    lines += [
        line("sampling, pictures a second", f"{result['sampling_rate']:,.0f}"),
        line("likelihoods a second", f"{result['likelihood_rate']:,.0f}"),
    ]
    if result["peak_memory"]:
        lines.append(line("peak memory", f"{result['peak_memory'] / 2**30:.2f} GiB"))
    for choice, values in result.get("scaling", {}).items():
        cells = (f"{value}: {1000 * seconds:.0f} ms" for value, seconds in values.items())
        lines.append(f"a step by {choice:<22}" + ", ".join(cells))
    return "\n".join(lines)


def chart(result):
    """Bars of ms a step beside the limit; with `scaling`, a line for each choice."""
    from matplotlib.figure import Figure

    scales = result.get("scaling", {})
    figure = Figure(figsize=(7, 2.4 + 2.8 * (len(scales) > 0)), dpi=150, layout="constrained")
    top, *bottom = figure.subfigures(2, 1, height_ratios=[2.4, 2.8]) if scales else [figure]
    axes = top.subplots()
    parts = {
        "limit: matrix products": result["flops"] / result["matrix_rate"],
        "limit: Adam": ADAM_BYTES * result["parameters"] / result["memory_rate"],
    }
    left = 0
    for (name, seconds), color in zip(parts.items(), ("tab:green", "tab:olive")):
        axes.barh("limit", 1000 * seconds, left=left, color=color, label=name)
        left += 1000 * seconds
    for name, seconds in result["step"].items():
        error = [
            [1000 * (seconds["median"] - seconds["min"])],
            [1000 * (seconds["max"] - seconds["median"])],
        ]
        label = {"ours": "nice.py", "plain": "plain Keras fit"}[name]
        axes.barh(label, 1000 * seconds["median"], xerr=error, color="tab:blue")
    axes.set(xlabel=f"ms a step of {result['batch_size']}, {result['backend']}")
    axes.legend(loc="upper right", fontsize=8)
    axes.invert_yaxis()
    if scales:
        panels = bottom[0].subplots(1, len(scales), sharey=True)
        for panel, (choice, values) in zip(panels, scales.items()):
            panel.plot(list(values), [1000 * s for s in values.values()], "o-", ms=3)
            panel.set(xlabel=choice, xlim=(0, None))
            panel.grid(lw=0.3)
        panels[0].set_ylim(0)
        bottom[0].supylabel("ms a step", fontsize=9)
    return pictures.render(figure)


def until(target, flags):
    """Run nice.py and time it until validation reaches `target`: seconds, imports included.

    It writes into a folder of its own, for it is killed in the end.
    """
    script = os.path.join(nice.HERE, "nice.py")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", script, "--output", folder, *flags]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
        try:
            for line in process.stdout:
                seconds = time.perf_counter() - start
                print(f"{seconds:7.1f} s  {line}", end="", flush=True)
                if "val_loss:" in line and float(line.split("val_loss:")[1]) <= target:
                    return seconds
        finally:
            process.kill()
            process.wait()
    raise UserError(f"training ended before its validation loss reached {target:g}.")


def parse():
    timer = cli.Parser("Time nice.py.")
    timer.add_argument("--until", type=number(float))
    timed, rest = timer.parse_known_args([flag for flag in sys.argv[1:] if flag not in HELP])
    if timed.until is not None:
        nice.parse(rest)  # refuses wrong flags at once
        return timed, rest
    parser = cli.Parser("Measure the speed of training, sampling and likelihoods.")
    add = parser.add_argument
    add("--until", help="only time nice.py, which gets all other flags, until this validation loss")
    add("--against", choices=["plain"], help="take turns with plain Keras fit of the same model")
    add("--scaling", action="store_true", help="also vary batch size, width, depth, dimensions")
    add("--steps", type=number(int, 1), default=20, help="steps a round")
    add("--repeats", type=number(int, 1), default=7, help="rounds")
    add("--batch-size", type=number(int, 1), default=128, help="pictures a step")
    add("--data", default=mnist.MNIST, help="an .npz file, an IDX folder, or fashion_mnist")
    add("--json", help="also write the numbers to this file")
    add("--picture", help="also draw them into this PNG file")
    return parser.parse_args(), []


HELP = ("-h", "--help")


def main():
    flags, rest = parse()
    if flags.until is not None:
        print(f"{until(flags.until, rest):.1f} s to a validation loss of {flags.until:g}")
        return
    args = nice.parse(["--batch-size", str(flags.batch_size)])
    result = measure(args, flags)
    if flags.scaling:
        result["scaling"] = scaling(args)
    print(table(result))
    if flags.json:
        checkpoint.write(flags.json, json.dumps(result, indent=1))
    if flags.picture:
        pictures.save(flags.picture, chart(result))


if __name__ == "__main__":
    cli.run(main)
