"""Which fitted codes are best? A table of what codes.py could have been, on the shipped weights.

    python tools/sweep.py > docs/logs/codes.txt

Fitted to pictures among the first 50,000 training digits and judged against the other 10,000: no
test digit has part in the choice. The shipped flows themselves were trained on all 60,000, so
that the held-out digits are new to the codes, not to the flow. Beside every choice the control:
the same mixture fitted to noisy pixels, without a flow.
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

COUNT, HELD = 4000, 10_000
# Pictures, directions R, basis K, temperature.
OURS = (codes.PICTURES, codes.DIRECTIONS, codes.BASIS, options.TEMPERATURE)
CHOICES = [
    OURS,
    (*OURS[:3], 0.9),
    (*OURS[:3], 1.2),
    (15_000, *OURS[1:]),
    (50_000, *OURS[1:]),
    *((OURS[0], R, *OURS[2:]) for R in (8, 12, 20)),
    (*OURS[:2], 200, OURS[3]),
]
HEAD = "pictures   R    K    T groups contrast Fréchet precision recall as asked nearer features"


def lines(z, sigma, pictures, source, held, choice, seed):
    """Fit to codes z of the first 50,000, draw, measure: at the contrast matched, and at 1."""
    count, R, K, T = choice
    known = np.arange(len(source.x_train) - HELD)
    some = codes.evenly(source.y_train[known], count)
    fitted = codes.fit(z[some], source.y_train[some], sigma, directions=R, basis=K)
    fitted = fitted.matched(pictures, source.x_train)
    rng = np.random.default_rng(seed)
    asked = fitted.sample_labels(COUNT, rng)
    plain = pictures(fitted.sample(asked, rng, T))
    training = quality.Reference.of(source.x_train[rng.permutation(some)[:HELD]])
    for contrast, x in ((fitted.contrast[0], fitted.sharpen(plain)), (1, plain)):
        found = quality.figures(x, held, training, asked)
        yield (
            f"{len(some):8} {R:3} {K:4} {T:4} {len(fitted.labels):6} {contrast:8.2f} "
            f"{found['distance']:7.2f} {found['precision']:9.3f} {found['recall']:6.3f} "
            f"{found['as_asked']:8.3f} {found['nearer']:6.3f} {found['nearer_features']:8.3f}"
        )


def main(args):
    trained, source = nice.load(args.weights), data.load(args.data)
    rng = np.random.default_rng(0)
    x = trained.add_noise(trained.scale(source.x_train), rng)
    z, held = trained.encode(x), quality.Reference.of(source.x_train[-HELD:])
    print(HEAD)
    for choice in CHOICES:
        for line in lines(z, trained.sigma, trained.pictures, source, held, choice, args.seed):
            print(line, flush=True)
    print("without a flow, the same mixture on pixels:")
    for line in lines(x, 1.0, trained.developed, source, held, CHOICES[0], args.seed):
        print(line, flush=True)


if __name__ == "__main__":
    cli.run(main, args)
