"""A grid of digits from a trained flow: z ~ N(0, σ²), decoded.

    python sample.py                  15 × 15 digits at σ = 0.75 -> samples.png
    python sample.py --count 100000 --output digits.npz

Codes are drawn narrower than the prior (the article's annealing): σ = 0.75
trades some variety for cleaner digits.
"""

import os

import cli
import keras
import numpy as np

import nice
import pictures

PRETRAINED = os.path.join(nice.WEIGHTS, "pretrained.weights.h5")


def default_weights():
    """What `python nice.py` last wrote, else the weights shipped with the code."""
    trained = os.path.join(nice.WEIGHTS, nice.TRAINED)
    return trained if os.path.exists(trained) else PRETRAINED


def parse():
    parser = cli.Parser("Sample pictures.")
    add = parser.add_argument
    add("--sigma", type=cli.number(float, 0), default=0.75, help="temperature of the codes")
    add("--rows", type=cli.number(int, 1, 1000), default=15, help="rows, and columns, of the grid")
    add("--count", type=cli.number(int, 1, 10**8), help="pictures in an .npz; rows² if not given")
    add("--seed", type=cli.SEED, default=0, help="of the codes")
    add("--weights", default=default_weights(), help="weights file")
    add("--output", default="samples.png",
        help="a grid as PNG, or an .npz file with `samples`, uint8 (N, H, W)")  # fmt: skip
    args = parser.parse_args()
    if args.count and not args.output.endswith(".npz"):
        parser.error("--count needs an --output that ends in .npz; a grid has --rows")
    return args


def with_progress(parts, count):
    """Hand the parts on, with a bar for more than two seconds' worth of them."""
    bar = keras.utils.Progbar(count, unit_name="picture") if count > 10_000 else None
    for part in parts:
        yield pictures.to_bytes(part)
        if bar:
            bar.add(len(part))


def main():
    args = parse()
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
    cli.run(main)
