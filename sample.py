"""A grid of digits from a trained flow: z ~ N(0, σ²), decoded.

    python sample.py                  15 × 15 digits at σ = 0.75 -> samples.png
    python sample.py --count 100000 --output digits.npz

Codes are drawn narrower than the prior (the article's annealing): σ = 0.75
trades some variety for cleaner digits.
"""

import os

from support import cli, options


def parse():
    parser = cli.Parser("Sample pictures.")
    add = parser.add_argument
    add("--sigma", type=cli.Number(float, 0), default=0.75, help="temperature of the codes")
    add("--rows", type=cli.Number(int, 1, 1000), default=15, help="rows, and columns, of the grid")
    add("--count", type=cli.Number(int, 1, 10**8), help="pictures in an .npz; rows² if not given")
    add("--seed", type=cli.SEED, default=0, help="of the codes")
    options.add_places(parser, "weights")
    add("--output", default="samples.png",
        help="a grid as .png, or an .npz file with `samples`, uint8 (N, H, W)")  # fmt: skip
    args = parser.parse_args()
    end = os.path.splitext(args.output)[1]
    if end not in (".png", ".npz") and (end or os.path.isfile(args.output)):
        parser.error(f"--output must end in .png or .npz, not {end or 'nothing'}")
    if args.count and end != ".npz":
        parser.error("--count needs an --output that ends in .npz; a grid has --rows")
    return args


if __name__ == "__main__":
    args = cli.start(parse)

import keras
import numpy as np

import nice
from support import pictures


def with_progress(parts, count):
    """Hand the parts on, with a bar for more than two seconds' worth of them."""
    bar = keras.utils.Progbar(count, unit_name="picture") if count > 10_000 else None
    for part in parts:
        yield pictures.to_bytes(part)
        if bar:
            bar.add(len(part))


def main(args):
    print(f"weights: {args.weights}")
    _, decoder, configuration = nice.load_with_configuration(args.weights)
    count, picture = args.count or args.rows**2, configuration["picture"]
    parts = nice.samples(decoder, configuration, count, args.sigma, args.seed)
    parts, what = with_progress(parts, count), f"{args.rows} x {args.rows}"
    if args.output.endswith(".npz"):
        pictures.save_npz(args.output, parts, count, picture)
        what = f"{count:,}"
    else:
        pictures.save(args.output, pictures.tile(np.concatenate(list(parts)), picture, args.rows))
    print(f"{what} pictures at sigma {args.sigma:g}: {args.output}")


if __name__ == "__main__":
    cli.run(main, args)
