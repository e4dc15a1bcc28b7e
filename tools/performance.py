"""How fast training could be: bench.py beside the limit of the machine itself.

    python tools/performance.py --against plain --scaling --json FILE --picture FILE.png

The limit is what the machine does at its best, measured in the same run: a step's matrix
products at the rate of a large one, and 28 bytes a parameter for Adam (read weight,
gradient and two moments, write three of them) at the rate of a copy.
"""

import json
import os
import statistics
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import bench
from support import cli, options


def parse():
    parser = options.Parser("Measure training beside the machine's own limit.")
    bench.add_flags(parser)
    parser.add_argument("--scaling", action="store_true", help="also vary batch, width, depth, D")
    parser.add_argument("--picture", help="also draw the numbers into this PNG file")
    return parser.parse_args()


import keras
import numpy as np
from keras import ops

from bench import best
from support import files, hardware, pictures

ADAM_BYTES = 28  # a parameter a step


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
    """Seconds of one update of all parameters, on its own; None but on TensorFlow."""
    variables, backend = encoder.trainable_variables, keras.backend.backend()
    gradients = [ops.zeros(v.shape) for v in variables]
    optimizer = encoder.optimizer
    if backend == "tensorflow":
        import tensorflow as tf

        update = tf.function(lambda: optimizer.apply(gradients, variables))
    else:
        return None
    update()
    return best(update, 15)


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


def scaling(steps=5):
    """Seconds a step as one choice at a time varies: {choice: {value: seconds}}."""
    result, rng = {}, np.random.default_rng(0)
    bar = hardware.progress(sum(len(v) for _, v in SCALES.values()), "model")
    for choice, (flag, values) in SCALES.items():
        result[choice] = {}
        for value in values:
            choices = options.recipe(**({flag: value} if flag else {}))
            pixels = rng.integers(0, 256, (2048, 784 if flag else value)).astype("uint8")
            trainer = bench.Ours(pixels, choices)
            trainer.seconds(2)
            result[choice][value] = statistics.median(trainer.seconds(steps) for _ in range(3))
            bar.add(1)
    return result


def measure(flags):
    """The result of bench.py, and what the machine could do."""
    result, trainer = bench.measure(flags)
    count = result["parameters"]
    result |= {
        "cores": cores(),
        "flops": flops(trainer.encoder, flags.batch_size),
        "matrix_rate": matrix_rate(),
        "memory_rate": memory_rate(),
        "optimizer": optimizer_seconds(trainer.encoder),
        "peak_memory": peak_memory(),
    }
    result["limit"] = result["flops"] / result["matrix_rate"] + (
        ADAM_BYTES * count / result["memory_rate"]
    )
    return result


def table(result):
    """The result for people."""
    line, step, limit = bench.line, result["step"]["ours"]["median"], result["limit"]
    lines = [
        bench.table(result),
        line("the limit", f"{1000 * limit:.1f} ms", "products at peak + Adam at copy speed"),
        line("  share of the limit reached", f"{100 * limit / step:.0f} %"),
        line(
            "matrix products of a step",
            f"{result['flops'] / 1e9:.1f} GFLOP",
            f"{result['matrix_rate'] / 1e9:.0f} GFLOP/s at 2048³",
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


def main(flags):
    files.check_output(flags.json, ".json", [flags.data])
    files.check_output(flags.picture, ".png", [flags.data])
    result = measure(flags)
    if flags.scaling:
        result["scaling"] = scaling()
    print(table(result))
    if flags.json:
        files.write(flags.json, json.dumps(result, indent=1))
    if flags.picture:
        pictures.save(flags.picture, chart(result))


if __name__ == "__main__":
    cli.run(main, cli.start(parse))
