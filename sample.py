"""A grid of digits from a trained flow: codes drawn and decoded.

    python sample.py                  15 × 15 digits, z ~ N(0, 0.75²) -> samples.png
    python sample.py --digits         a row a digit, from where the codes of digits lie
    python sample.py --digit 7        sevens
    python sample.py --count 100000 --output digits.npz

The prior's codes are drawn narrower than it is (the article's annealing): σ = 0.75 trades some
variety for cleaner digits. Fitted codes, see codes.py, know what the prior does not: where the
codes of the training pictures lie, class by class.
"""

import os

from support import cli, options

SIGMA = {"prior": 0.75, "fitted": options.TEMPERATURE}


def parse():
    parser = cli.Parser("Sample pictures.")
    add, number = parser.add_argument, cli.Number
    add("--codes", choices=tuple(SIGMA), help="drawn from the prior, or from codes fitted to "
        "training pictures; fitted if digits are asked for, else the prior")  # fmt: skip
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--digit", type=number(int), help="only pictures of this label")
    asked.add_argument("--digits", action="store_true", help="a row of pictures a label")
    add("--sigma", type=number(float, 0), help="temperature of the codes; if not given, "
        + ", ".join(f"{sigma:g} of the {name}" for name, sigma in SIGMA.items()))  # fmt: skip
    add("--rows", type=number(int, 1, 1000), default=15, help="rows, and columns, of the grid")
    add("--count", type=number(int, 1, 10**8), help="pictures in an .npz; a grid's if not given")
    add("--seed", type=cli.SEED, default=0, help="of the codes")
    options.add_places(parser, "weights", "data")
    add("--output", default="samples.png", help="a grid as .png, or an .npz file with `samples`, "
        "uint8 (N, H, W), and, of fitted codes, `labels`")  # fmt: skip
    args = parser.parse_args()
    end = os.path.splitext(args.output)[1]
    if end not in (".png", ".npz") and (end or os.path.isfile(args.output)):
        parser.error(f"--output must end in .png or .npz, not {end or 'nothing'}")
    if args.count and end != ".npz":
        parser.error("--count needs an --output that ends in .npz; a grid has --rows")
    digits = args.digits or args.digit is not None
    if digits and args.codes == "prior":
        parser.error("the prior knows no digits; leave --codes prior out")
    args.codes = args.codes or ("fitted" if digits else "prior")
    args.sigma = SIGMA[args.codes] if args.sigma is None else args.sigma
    return args


if __name__ == "__main__":
    args = cli.start(parse)

import keras
import numpy as np

import nice
from support import pictures
from support.cli import UserError
from trained import Trained


def labels(codes, args):
    """The labels of the pictures asked for, one after the other: (N,) int32."""
    if (args.digits or args.digit is not None) and not codes.is_labelled:
        raise UserError("these codes have no labels: fitted to data with y_train, they would have.")
    count = args.count or args.rows**2
    if args.digits:
        rows = np.repeat(codes.classes, args.rows)  # a row a class
        return np.resize(rows, args.count) if args.count else rows
    if args.digit is not None:
        return codes.check(np.full(count, args.digit, "int64"))
    return codes.draw_labels(count, np.random.default_rng(args.seed))


def of_labels(flow, labels, sigma, seed, batch_size=1000):
    """Yield a picture of each label in batches: (batch_size, D) in [0, 1]."""
    rng = np.random.default_rng([seed, 1])  # not that of `labels`
    for start in range(0, len(labels), batch_size):
        yield flow.pictures(flow.codes.draw(labels[start : start + batch_size], rng, sigma))


def with_progress(parts, count):
    """Hand the parts on, with a bar for more than two seconds' worth of them."""
    bar = keras.utils.Progbar(count, unit_name="picture") if count > 10_000 else None
    for part in parts:
        yield pictures.to_bytes(part)
        if bar:
            bar.add(len(part))


def main(args):
    flow, drawn = Trained.load(args.weights), {}
    if args.codes == "fitted":
        drawn["labels"] = labels(flow.fitted(args.data), args)
        count = len(drawn["labels"])
        parts = of_labels(flow, drawn["labels"], args.sigma, args.seed)
    else:
        count = args.count or args.rows**2
        parts = nice.samples(flow.decoder, flow.configuration, count, args.sigma, args.seed)
    parts, what = with_progress(parts, count), f"{count // args.rows} x {args.rows}"
    if args.output.endswith(".npz"):
        pictures.save_npz(args.output, parts, count, flow.picture, **drawn)
        what = f"{count:,}"
    else:
        x = np.concatenate(list(parts))
        pictures.save(args.output, pictures.tile(x, flow.picture, args.rows))
    print(f"{what} pictures at sigma {args.sigma:g}: {args.output}")


if __name__ == "__main__":
    cli.run(main, args)
