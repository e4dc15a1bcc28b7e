"""How big must it be: flows from 0.1 to 19 million parameters, trained alike and held side by side.

    python tools/size.py train --epochs 10        trains and judges each; again: goes on
    python tools/size.py train --only 4x3x256     one of them: couplings x depth x units of m
    python tools/size.py time                     seconds an epoch, on a quiet machine
    python tools/size.py table --markdown FILE.md --picture FILE.png

Noise, loss and schedule are the article's and nice.py's defaults. All lies in the folder of
--output, one for each flow: what nice.py leaves, and quality.json of evaluate.py --samples.
"""

import contextlib
import csv
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli, options

# Couplings x depth x units: the article's four couplings, and as many as pay.
FLOWS = ("4x1x32", "4x2x64", "8x1x64", "4x2x128", "8x2x128", "4x3x256", "16x2x128", "32x2x160",
         "4x5x512", "4x5x1000")  # fmt: skip
QUALITY, SECONDS = "quality.json", "seconds.json"
MISSING = "not measured"


def parse():
    parser = options.Parser("Train flows of ten sizes, and hold them side by side.")
    add, number = parser.add_argument, options.Number
    add("what", choices=("train", "time", "table"), help="train and judge, measure, or show")
    add("--only", choices=FLOWS, help="one flow alone: couplings x depth x units")
    add("--output", default="sizes", help="folder of all flows")
    add("--epochs", type=number(int, 1), default=10, help="passes over the training pictures")
    add("--seed", type=options.SEED, default=0, help="of weights, order and noise")
    add("--samples", type=number(int, 1), default=4000, help="samples a distance is measured on")
    add("--steps", type=number(int, 1), default=20, help="timed steps a round; seven rounds")
    options.add_places(parser, "data")
    add("--markdown", help="also write the table to this file")
    add("--picture", help="also draw the table into this PNG file")
    return parser.parse_args()


if __name__ == "__main__":
    args = cli.start(parse)

import keras

import bench
import evaluate
import nice
import training
from support import checkpoint, data, files, pictures
from support.batches import steps
from support.errors import UserError


def shape(name):
    """The choices that a flow's name stands for: `{"couplings": …}`."""
    return dict(zip(("couplings", "depth", "units"), map(int, name.split("x"))))


def parameters(name):
    """How many a flow has, without allocating them."""
    with checkpoint.unallocated():
        encoder, _ = nice.build(**shape(name))
        return encoder.count_params()


def train(args):
    """Train and judge every flow that is not yet, the small ones first."""
    for name in [args.only] if args.only else FLOWS:
        print(f"{name}", flush=True)
        folder = os.path.join(args.output, name)
        choices = options.recipe(**shape(name), epochs=args.epochs, seed=args.seed)
        training.train(args.data, folder, choices, resume=True)
        weights, judged = (os.path.join(folder, n) for n in (options.TRAINED, QUALITY))
        if not os.path.exists(judged) or os.path.getmtime(judged) < os.path.getmtime(weights):
            found = evaluate.evaluate(
                weights, args.data, repeats=1, limit=1000, seed=args.seed, count=args.samples
            )
            files.write(judged, json.dumps(found, indent=1))
        keras.utils.clear_session()


def measure(args):
    """Seconds an epoch of each flow, validation left out, into seconds.json."""
    pixels, path = data.load(args.data).x_train, os.path.join(args.output, SECONDS)
    seconds = read(path) or {}
    for name in [args.only] if args.only else FLOWS:
        trainer = bench.Ours(pixels, options.recipe(**shape(name)))
        trainer.seconds(5)  # compiles
        epoch = steps(len(pixels), trainer.batch_size)
        rounds = bench.spread([epoch * trainer.seconds(args.steps) for _ in range(7)])
        seconds[name] = {**rounds, "backend": keras.backend.backend()}
        print(f"{name}: {rounds['median']:.1f} s, {rounds['min']:.1f} to {rounds['max']:.1f}")
        files.write(path, json.dumps(seconds, indent=1))


def read(path):
    """What a JSON file of ours holds; None where there is none."""
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        return json.load(file)


def rows(folder):
    """What is known of each flow, `(name, figures)`; those not trained are left out."""
    seconds = read(os.path.join(folder, SECONDS)) or {}
    for name in FLOWS:
        judged = read(os.path.join(folder, name, QUALITY))
        if judged is None:
            continue
        with open(os.path.join(folder, name, "history.csv")) as file:
            history = list(csv.DictReader(file))
        best = min(history, key=lambda row: float(row["val_loss"]))
        distances = {kind: row["distance"] for kind, row in judged["samples"].items()}
        figures = {
            "parameters": parameters(name),
            "loss": float(best["val_loss"]),
            "epoch": f"{best['epoch']} of {len(history)}",
            "prior": next(d for kind, d in distances.items() if kind.endswith("σ = 0.75")),
            "codes": next(d for kind, d in distances.items() if kind.startswith("fitted")),
            "seconds": seconds.get(name, {}).get("median"),
        }
        yield name, figures


def markdown(found):
    """The table."""
    heads = ("couplings × m's layers", "parameters", "best validation loss, nats", "epoch",
             "Fréchet distance, prior at σ = 0.75", "with fitted codes", "s an epoch")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + len(heads) * "---|"]
    for name, row in found:
        size = "{couplings} × ({depth} × {units})".format(**shape(name))
        figures = [row[kind] for kind in ("prior", "codes", "seconds")]
        figures = (MISSING if figure is None else f"{figure:.1f}" for figure in figures)
        cells = (size, f"{row['parameters']:,}", f"{row['loss']:.1f}", row["epoch"], *figures)
        lines.append("| " + " | ".join(cells).replace("-", "−") + " |")
    return "\n".join(lines) + "\n"


def chart(found):
    """Loss and distances over the number of parameters: (H, W, 3) uint8."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(8, 7), dpi=150, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    four = [(name, row) for name, row in found if shape(name)["couplings"] == 4]
    rest = [(name, row) for name, row in found if shape(name)["couplings"] != 4]
    # The lines fall: names are clear of them above to the right, and below to the left.
    for of, color, said, beside, side in (
        (four, "tab:blue", "4", (2, 5), "left"),
        (rest, "tab:orange", "8 to 32", (-2, -14), "right"),
    ):
        sizes = [row["parameters"] for _, row in of]
        top.plot(sizes, [row["loss"] for _, row in of], "o-", color=color, label=said)
        for kind, style, source in (
            ("prior", "o--", "prior, σ = 0.75"),
            ("codes", "s-", "fitted codes"),
        ):
            known = [(row["parameters"], row[kind]) for _, row in of if row[kind] is not None]
            if known:
                bottom.plot(*zip(*known), style, color=color, label=f"{said}: {source}")
        for name, row in of:
            at, text = (row["parameters"], row["loss"]), name.replace("x", "×")
            style = {"ha": side, "fontsize": 8, "color": color}
            top.annotate(text, at, beside, textcoords="offset points", **style)
    top.set(ylabel="best validation loss (15), nats\n(lower is better)", xscale="log")
    top.margins(y=0.15)
    bottom.margins(x=0.14)  # of both: room for the last name
    bottom.set(ylabel="Fréchet distance to the test digits\n(lower is better)", yscale="log")
    bottom.set(xlabel="parameters, millions")
    bottom.xaxis.set_major_formatter(lambda x, _: f"{x / 1e6:g}")
    bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bottom.yaxis.set_major_formatter("{x:g}")
    bottom.yaxis.set_minor_formatter("")
    for axes in (top, bottom):
        axes.grid(lw=0.3, which="both")
        if axes.lines:
            axes.legend(fontsize=8, title="couplings", title_fontsize=8)
    return pictures.render(figure)


def table(args):
    """Print the table of what is trained; write table and picture where asked."""
    found = list(rows(args.output))
    if not found:
        raise UserError(f"{args.output} holds no flow yet: python tools/size.py train")
    print(markdown(found), end="")
    if args.markdown:
        files.write(args.markdown, markdown(found))
    if args.picture:
        pictures.save(args.picture, chart(found))


def main(args):
    files.check_output(args.markdown, ".md", [args.data])
    files.check_output(args.picture, ".png", [args.data])
    {"train": train, "time": measure, "table": table}[args.what](args)


if __name__ == "__main__":
    cli.run(main, args)
