"""A grid of digits from a trained flow: z ~ N(0, σ²), decoded.

    python sample.py                  15 × 15 digits at σ = 0.75 -> samples.png

Codes are drawn narrower than the prior (the article's annealing): σ = 0.75
trades some variety for cleaner digits.
"""

import os

import cli

import nice
import pictures

PRETRAINED = os.path.join(nice.WEIGHTS, "pretrained.weights.h5")


def default_weights():
    """What `python nice.py` last wrote, else the weights shipped with the code."""
    trained = os.path.join(nice.WEIGHTS, nice.TRAINED)
    return trained if os.path.exists(trained) else PRETRAINED


def parse():
    parser = cli.Parser("Sample a grid of pictures.")
    add = parser.add_argument
    add("--sigma", type=cli.number(float, 0), default=0.75, help="temperature of the codes")
    add("--rows", type=cli.number(int, 1, 1000), default=15, help="rows, and columns, of the grid")
    add("--seed", type=cli.SEED, default=0, help="of the codes")
    add("--weights", default=default_weights(), help="weights file")
    add("--output", default="samples.png", help="PNG file to write")
    return parser.parse_args()


def main():
    args = parse()
    print(f"weights: {args.weights}")
    _, decoder, configuration = nice.load_with_configuration(args.weights)
    x = nice.sample(decoder, configuration, args.rows**2, args.sigma, args.seed)
    pictures.save(args.output, pictures.tile(x, configuration["picture"]))
    print(f"{args.rows} x {args.rows} pictures at sigma {args.sigma:g}: {args.output}")


if __name__ == "__main__":
    cli.run(main)
