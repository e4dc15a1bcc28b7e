"""All that a GPU should be asked, in one text file: make gpu. Needs JAX and a card, no network.

    python tools/gpu.py --output gpu.txt
    python tools/gpu.py --flags="--units 8 --depth 1 --epochs 2"     a trial on a CPU

Speed beside plain Keras, a whole training from the start of its process to its pictures, how
exact likelihoods and inverse are, whether a killed run ends with the same bytes, and the deep
recipe. Under 6 minutes on a fast card.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from support import cli, files, options

RESULT = ("nice.safetensors", "history.csv", "loss.png", "samples.png", "training.gif")
DETERMINISTIC = {"XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}


def parse():
    parser = options.Parser("Check and measure everything on a GPU.")
    parser.add_argument("--output", default="gpu.txt", help="text file")
    parser.add_argument("--flags", default="", help="for every training, of nice.py")
    options.add_places(parser, "data")
    return parser.parse_args()


def start(script, *flags, **environment):
    command = [sys.executable, "-u", os.path.join(ROOT, script), *flags]
    environment = {**os.environ, "KERAS_BACKEND": "jax", **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, bufsize=1)  # fmt: skip


def content(folder):
    return {name: open(os.path.join(folder, name), "rb").read() for name in RESULT}


def main(args):
    files.check_output(args.output, ".txt", [args.data])
    output, flags = open(args.output, "w", buffering=1), shlex.split(args.flags)

    def say(text):
        print(text, flush=True)
        output.write(text + "\n")

    def run(script, *more, **environment):
        """Run a script to its end, its words into the file; seconds of the whole process."""
        say(f"\n$ python {script} {shlex.join(more)}")
        begin = time.perf_counter()
        process = start(script, *more, **environment)
        for line in process.stdout:
            say(line.split("\b")[-1].rstrip())
        code = process.wait()
        say(f"exit code {code}, {time.perf_counter() - begin:.1f} s from the start of the process")

    def train(folder, *more, **environment):
        run("nice.py", "--data", args.data, "--output", folder, *flags, *more, **environment)

    import jax
    import keras

    say(f"Keras {keras.__version__}, JAX {jax.__version__}, {jax.devices()[0].device_kind}")
    run("bench.py", "--against", "plain", "--steps", "52", "--data", args.data)
    with tempfile.TemporaryDirectory() as folder:
        default, whole, killed, deep = (os.path.join(folder, name) for name in "abcd")
        train(default)
        paper = os.path.join(options.WEIGHTS, "paper.safetensors")
        run("evaluate.py", "--weights", paper, "--data", args.data, "--limit", "2000")
        train(deep, "--recipe", "deep", "--epochs", "3")
        say("\nkilled in its second epoch and resumed, with deterministic kernels")
        train(whole, "--epochs", "3", **DETERMINISTIC)
        process = start("nice.py", "--data", args.data, "--output", killed, *flags,
                        "--epochs", "3", **DETERMINISTIC)  # fmt: skip
        for line in process.stdout:
            if "Epoch 2/" in line:
                process.send_signal(signal.SIGKILL)
        process.wait()
        train(killed, "--epochs", "3", "--resume", **DETERMINISTIC)
        same = content(whole) == content(killed)
        say("the same bytes" if same else "OTHER BYTES")
    print(args.output)


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"
    cli.run(main, cli.start(parse))
