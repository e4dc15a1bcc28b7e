"""Which fitted codes are best? A table of what codes.py could have been, on the shipped weights.

    python tools/sweep.py > docs/logs/codes.txt

Fitted to the first 50,000 training digits, measured against the other 10,000: no test digit has
part in the choice. Each row at the temperature at which the median sample is as far from its
nearest training digit as the median held-out digit is, for closer samples look better in every
other figure.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli, options


def parse():
    parser = options.Parser("Compare fitted codes.")
    options.add_places(parser, "weights", "data")
    parser.add_argument("--seed", type=options.SEED, default=0, help="of what is drawn")
    return parser.parse_args()


if __name__ == "__main__":
    args = cli.start(parse)

import numpy as np

import codes
import nice
from support import data, quality

COUNT, CLOSE, HELD = 4000, 1000, 10_000
# Numbers stored (1: one group a class), directions R, quantile, k-means on h = σz or on z.
CHOICES = [
    (2_000_000, 26, 0.03, "h"),
    (2_000_000, 26, 0.1, "h"),
    (2_000_000, 26, 0.01, "h"),
    (2_000_000, 26, 0.0, "h"),
    (2_000_000, 26, 0.03, "z"),
    (2_000_000, 12, 0.03, "h"),
    (2_000_000, 45, 0.03, "h"),
    (1, 80, 0.03, "h"),
    (1_000_000, 26, 0.03, "h"),  # those of codes.py
    (3_000_000, 26, 0.03, "h"),
]


def row(trained, z, labels, known, held, choice, usual, seed):
    """Fit, find the temperature, measure: one line of the table."""
    numbers, R, quantile, metric = choice
    sigma = trained.sigma if metric == "h" else 1.0
    fitted = codes.fit(z[:-HELD], labels[:-HELD], sigma, numbers, R, quantile)

    def drawn(count, temperature):
        rng = np.random.default_rng(seed)
        asked = fitted.sample_labels(count, rng)
        return trained.pictures(fitted.sample(asked, rng, temperature)), asked

    def nearest(temperature):
        return float(np.median(quality.nearest(drawn(CLOSE, temperature)[0], known)[1]))

    trials = np.array([1.0, 2.0, 3.0, 4.0, 6.0])
    temperature = float(np.interp(usual, [nearest(t) for t in trials], trials))
    x, asked = drawn(COUNT, temperature)
    found = quality.figures(x, held, known, asked, CLOSE)
    new = z[-HELD:][:CLOSE]
    nats = (fitted.log_density(new) - trained.prior.log_density(new)).mean()
    return (
        f"{len(fitted.labels):6} {R:5} {quantile:6} {metric:>6} {temperature:11.2f} "
        f"{found['distance']:8.2f} {found['confidence']:10.3f} {found['as_asked']:8.3f} "
        f"{found['nearest']:7.2f} {nats:6.0f}"
    )


def main(args):
    trained, source = nice.load(args.weights), data.load(args.data)
    x, labels = source.x_train, source.y_train
    rng = np.random.default_rng(0)
    parts = (trained.scale(part) for part in np.split(x, len(x) // 1000))
    z = np.concatenate([trained.encode(trained.add_noise(part, rng)) for part in parts])
    known, held = x[:-HELD], trained.scale(x[-HELD:])
    features = quality.read(held)[1]
    usual = float(np.median(quality.nearest(held[:CLOSE], known)[1]))
    prior = quality.figures(trained.sample(COUNT, 0.75, args.seed), features, known)
    print(f"held-out digits: nearest {usual:.2f}")
    print(f"the prior at 0.75: distance {prior['distance']:.2f}, "
          f"confidence {prior['confidence']:.3f}, nearest {prior['nearest']:.2f}")  # fmt: skip
    print("groups     R  bounds  means temperature distance confidence as asked nearest  nats")
    for choice in CHOICES:
        print(row(trained, z, labels, known, features, choice, usual, args.seed), flush=True)


if __name__ == "__main__":
    cli.run(main, args)
