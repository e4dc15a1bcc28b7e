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
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli, files, options, pictures

# Couplings x depth x units: the article's four couplings, and as many as pay.
FLOWS = ("4x1x32", "4x2x64", "8x1x64", "4x2x128", "8x2x128", "4x3x256", "16x2x128", "32x2x160",
         "4x5x512", "4x5x1000")  # fmt: skip
QUALITY, SECONDS = "quality.json", "seconds.json"
MISSING = "not measured"


def parse():
    parser = cli.Parser("Train flows of ten sizes, and hold them side by side.")
    add, number = parser.add_argument, cli.Number
    add(
        "what", choices=list(DEEDS), help="train and judge, measure seconds, make table and picture"
    )
    add("--only", choices=FLOWS, help="one flow alone: couplings x depth x units")
    add("--output", default="sizes", help="folder of all flows")
    add("--epochs", type=number(int, 1), default=10, help="passes over the training pictures")
    add("--seed", type=cli.SEED, default=0, help="of weights, order and noise")
    add("--samples", type=number(int, 1), default=4000, help="samples a distance is measured on")
    add("--steps", type=number(int, 1), default=20, help="timed steps a round; seven rounds")
    options.add_places(parser, "data")
    add("--markdown", help="also write the table to this file")
    add("--picture", help="also draw the table into this PNG file")
    return parser.parse_args()


def shape(name):
    """The flags of nice.py that a flow's name stands for: `{"couplings": …}`."""
    return dict(zip(("couplings", "depth", "units"), map(int, name.split("x"))))


def parameters(name):
    return options.parameter_count(784, **shape(name))


def training(name, args):
    """Flags of nice.py."""
    chosen = {**shape(name), "epochs": args.epochs, "seed": args.seed, "data": args.data}
    flags = [f"--{flag}={value}" for flag, value in chosen.items()]
    return [*flags, f"--output={os.path.join(args.output, name)}", "--resume"]


def judging(name, args):
    """Flags of evaluate.py; its log-likelihoods are not asked for here."""
    folder = os.path.join(args.output, name)
    chosen = {
        "weights": os.path.join(folder, options.TRAINED),
        "json": os.path.join(folder, QUALITY),
        "samples": args.samples,
        "seed": args.seed,
        "data": args.data,
        "limit": 1000,
        "repeats": 1,
    }
    return [f"--{flag}={value}" for flag, value in chosen.items()]


def train(args):
    """Train and judge every flow that is not yet, the small ones first."""
    for name in chosen(args):
        print(f"{name}: {parameters(name):,} parameters", flush=True)
        run("nice.py", training(name, args))
        folder = os.path.join(args.output, name)
        weights, judged = (os.path.join(folder, n) for n in (options.TRAINED, QUALITY))
        if not os.path.exists(judged) or os.path.getmtime(judged) < os.path.getmtime(weights):
            run("evaluate.py", judging(name, args))


def chosen(args):
    return sorted([args.only] if args.only else FLOWS, key=parameters)


def run(script, flags):
    """Run one of our scripts to its end; what went wrong it says itself."""
    code = subprocess.run([sys.executable, os.path.join(options.HERE, script), *flags]).returncode
    if code:
        sys.exit(code if code > 0 else 128 - code)


def measure(args):
    """Seconds an epoch of each flow, validation left out, into seconds.json."""
    cli.load_keras()
    import keras

    import bench
    from support import data

    pixels, path = data.load(args.data).x_train, os.path.join(args.output, SECONDS)
    seconds = read(path) or {}
    for name in chosen(args):
        flags = options.training([f"--{flag}={value}" for flag, value in shape(name).items()])
        trainer = bench.Ours(flags, pixels)
        trainer.seconds(5)  # compiles
        steps = data.steps(len(pixels), flags.batch_size)
        rounds = bench.spread([steps * trainer.seconds(args.steps) for _ in range(7)])
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
    for name in sorted(FLOWS, key=parameters):
        with contextlib.suppress(FileNotFoundError):
            with open(os.path.join(folder, name, "history.csv")) as file:
                history = list(csv.DictReader(file))
            best = min(history, key=lambda row: float(row["val_loss"]))
            samples = (read(os.path.join(folder, name, QUALITY)) or {}).get("samples") or {}
            distances = {kind: row["distance"] for kind, row in samples.items()}
            yield (
                name,
                {
                    "parameters": parameters(name),
                    "loss": float(best["val_loss"]),
                    "epoch": f"{best['epoch']} of {len(history)}",
                    "prior": next(
                        (d for k, d in distances.items() if k.endswith("σ = 0.75")), None
                    ),
                    "codes": next(
                        (d for k, d in distances.items() if k.startswith("fitted")), None
                    ),
                    "seconds": seconds.get(name, {}).get("median"),
                },
            )


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
        raise cli.UserError(f"{args.output} holds no flow yet: python tools/size.py train")
    print(markdown(found), end="")
    if args.markdown:
        files.write(args.markdown, markdown(found))
    if args.picture:
        pictures.save(args.picture, chart(found))


DEEDS = {"train": train, "time": measure, "table": table}


def main(args):
    DEEDS[args.what](args)


if __name__ == "__main__":
    cli.run(main, parse())
