"""A grid of digits from a trained flow: codes sampled and decoded.

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
    parser = options.Parser("Sample pictures.")
    add, number = parser.add_argument, options.Number
    add("--codes", choices=tuple(SIGMA), help="drawn from the prior, or from codes fitted to "
        "training pictures; fitted if digits are asked for, else the prior")  # fmt: skip
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--digit", type=number(int, -1e18, 1e18), help="only pictures of this label")
    asked.add_argument("--digits", action="store_true", help="a row of pictures a label")
    add("--sigma", type=number(float, 0, 1e6), help="temperature of the codes; if not given, "
        + ", ".join(f"{sigma:g} of the {name}" for name, sigma in SIGMA.items()))  # fmt: skip
    add("--rows", type=number(int, 1, 1000), default=15, help="rows, and columns, of the grid")
    add("--count", type=number(int, 1, 10**8), help="pictures in an .npz; a grid's if not given")
    add("--seed", type=options.SEED, default=0, help="of the codes")
    options.add_places(parser, "weights", "data")
    add("--output", default="samples.png", help="a grid as .png, or an .npz file with `samples`, "
        "uint8 (N, H, W) or (N, H, W, 3), and, of fitted codes, `labels`")  # fmt: skip
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

import numpy as np

import codes
import nice
from support import files, hardware, pictures
from support.errors import UserError


def wanted_labels(fitted, args):
    """The labels of the pictures asked for, one after the other: (N,) int32."""
    if (args.digits or args.digit is not None) and not fitted.is_labelled:
        raise UserError(
            f"the codes of {args.weights} know no labels: its data had none, or more than "
            f"{codes.CLASSES}. For digits: --weights weights/pretrained.safetensors"
        )
    count = args.count or args.rows**2
    if args.digits:
        rows = np.repeat(fitted.classes, args.rows)  # a row a class
        return np.resize(rows, args.count) if args.count else rows
    if args.digit is not None:
        return fitted.check(np.full(count, args.digit, "int64"))
    return fitted.sample_labels(count, np.random.default_rng(args.seed))


def with_progress(parts, count):
    """Hand the parts on, with a bar for more than two seconds' worth of them."""
    bar = hardware.progress(count, "picture") if count > 10_000 else None
    for part in parts:
        yield pictures.to_bytes(part)
        if bar:
            bar.add(len(part))


def main(args, batch_size=1000):
    files.check_output(args.output, args.output[-4:], [args.weights, args.data])
    print(f"weights: {args.weights}")
    trained = nice.load(args.weights)
    count, beside = args.count or args.rows**2, {}
    if args.codes == "fitted":
        beside["labels"] = wanted_labels(codes.fitted(trained, args.data), args)
        count = len(beside["labels"])

    def parts():
        rng = np.random.default_rng([args.seed, 1] if beside else args.seed)
        for start in range(0, count, batch_size):
            if beside:
                labels = beside["labels"][start : start + batch_size]
                yield trained.sample_fitted(labels, rng, args.sigma)
            else:
                yield trained.sample(min(batch_size, count - start), args.sigma, rng)

    streamed, what = with_progress(parts(), count), f"{count // args.rows} x {args.rows}"
    if args.output.endswith(".npz"):
        pictures.save_npz(args.output, streamed, count, trained.shape, **beside)
        what = f"{count:,}"
    else:
        x = np.concatenate(list(streamed))
        pictures.save(args.output, pictures.tile(x, trained.shape, args.rows))
    print(f"{what} pictures at sigma {args.sigma:g}: {args.output}")


if __name__ == "__main__":
    cli.run(main, args)
