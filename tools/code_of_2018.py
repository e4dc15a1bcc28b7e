"""How long the 2018 code takes to a validation loss, under today's tf_keras.

    pip install tf_keras
    python tools/code_of_2018.py FILE --until -1951

FILE is your own copy of nice.py from github.com/bojone/flow: it has no licence, so it is not here.
It runs unchanged, on data/mnist.npz; `keras` means tf_keras to it. Seconds count from the start of
the process, imports included, as in `bench.py --until`.
"""

import os
import runpy
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from support import cli, options


def run(path):
    """Run the script at `path` with tf_keras under the name of Keras."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import numpy as np
    import tf_keras

    sys.modules["keras"] = tf_keras
    for name in ("layers", "models", "datasets", "backend", "callbacks"):
        sys.modules["keras." + name] = getattr(tf_keras, name)
    with np.load(os.path.join(ROOT, "data", "mnist.npz")) as file:
        arrays = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    tf_keras.datasets.mnist.load_data = lambda: (arrays[:2], arrays[2:])
    # keras.layers once handed on NumPy to whoever imported all of it.
    runpy.run_path(path, {"np": np}, run_name="__main__")


def main(args):
    from bench import until

    with tempfile.TemporaryDirectory() as folder:  # the script writes where it stands
        command = [sys.executable, "-u", os.path.abspath(__file__), os.path.abspath(args.file)]
        seconds = until(args.until, command, folder)
    print(f"{seconds:.1f} s to a validation loss of {args.until:g}")


def parse():
    parser = options.Parser("Time the 2018 code.")
    parser.add_argument("file", help="your copy of the script")
    parser.add_argument("--until", type=options.Number(float), help="stop at this validation loss")
    return parser.parse_args()


if __name__ == "__main__":
    args = parse()
    if args.until is None:
        run(args.file)
    else:
        cli.start(lambda: args)
        cli.run(main, args)
