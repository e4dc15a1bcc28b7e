"""Log-likelihoods of a trained flow, with their units, and how far to trust them; its samples.

    python evaluate.py --weights weights/pretrained.safetensors
    python evaluate.py --draws 100 --json result.json
    python evaluate.py --samples

log p(x) = log p(z) + log|det ∂z/∂x| in nats, exact, constants included: a density of
x on the [0, 1] scale. Pixels are whole numbers, so noise comes first: where it
is uniform and fills the gap between two levels, E log p(x + u) is a lower bound
on the log-probability of the whole numbers (dequantization; Theis, van den Oord
and Bethge, arXiv 1511.01844), and log mean exp over K draws is a tighter one
(Burda, Grosse and Salakhutdinov, arXiv 1509.00519). Only then are bits/dim

    (D ln levels - log p) / (D ln 2)

an upper bound on what compression needs, 1/levels being the gap between two
pixel values; other noise gets a warning instead.

How good samples of digits are is another question, and --samples answers it: see
support/quality.py.
"""

import json

from support import cli, options


def parse():
    parser = options.Parser("Evaluate the likelihood of a trained flow, and its samples.")
    add, number = parser.add_argument, options.Number
    options.add_places(parser, "weights", "data")
    some = number(int, 1, 10**6)
    add("--repeats", type=some, default=5, help="draws of the noise, for mean ± sd")
    add("--draws", type=some, default=1, help="draws for the tighter log mean exp bound")
    add("--limit", type=number(int, 1), default=10_000, help="pictures of each part, at most")
    add(
        "--samples",
        nargs="?",
        metavar="N",
        type=number(int, 100, 10**6),
        const=4000,
        help="also measure so many samples of digits, 4000 if no number is given",
    )
    add("--controls", action="store_true", help="also what models without a flow have")
    add("--seed", type=options.SEED, default=0, help="of the noise, and of the samples")
    add("--json", help="also write the numbers to this file")
    return parser.parse_args()


if __name__ == "__main__":
    args = cli.start(parse)

import keras
import numpy as np

import codes
import nice
from support import data, files, hardware, quality
from support.errors import UserError

MIXTURE = {"numbers": 2_000_000, "directions": 26}  # 63 Gaussians of MNIST
SIGMAS = (0.5, 0.75, 1.0)  # of the prior's samples; the article's is the second


def bits_per_dimension(nats, dim, levels):
    """(D ln levels - log p) / (D ln 2), from nats on the [0, 1] scale."""
    return (dim * np.log(levels) - nats) / (dim * np.log(2))


def is_bound(noise, levels):
    """Whether the noise, `layers.Noise` or None, is a dequantization: uniform, level to level."""
    if noise is None or not noise.bounds:
        return False
    return bool(np.isclose((noise.bounds[1] - noise.bounds[0]) * levels, 1, rtol=1e-6))


def noisy(trained, x, repeats, draws, seed, bar=None):
    """log p under noise, of every picture.

    Returns: `(nats, tight, fitted)`: (repeats, N), one independent draw of the noise a
        row; (N,), log mean exp over `draws` of them, or None for one draw; and (N,), of the
        first draw, with the fitted codes' density for p(z), or None for a flow without.
    """
    rng = np.random.default_rng(seed)
    rows, tight, fitted = [], np.full(len(x), -np.inf), None
    for i in range(max(repeats, draws)):
        z, log_det = trained.map(trained.add_noise(x, rng))
        nats = trained.prior.log_density(z) + log_det
        if i == 0 and trained.codes:
            fitted = trained.codes.log_density(z) + log_det
        if i < repeats:
            rows.append(nats)
        if i < draws:
            tight = np.logaddexp(tight, nats)
        if bar is not None:
            bar.add(1)
    return np.stack(rows), tight - np.log(draws) if draws > 1 else None, fitted


def round_trip(trained, x):
    """Largest and mean |decoder(encoder(x)) - x|, in units of the pixel range."""
    error = np.abs(trained.decode(trained.encode(x)) - x)
    return {"max": float(error.max()), "mean": float(error.mean())}


def numerical_log_determinant(trained, x, step=1e-3):
    """log|det| of the encoder's Jacobian at one picture (D,), by central differences."""
    shifts = step * np.eye(len(x), dtype="float32")
    ahead, behind = (trained.encode(x + s) for s in (shifts, -shifts))
    return float(np.linalg.slogdet((ahead - behind).astype("float64") / (2 * step))[1])


def mixture_on_pixels(trained, pixels, labels):
    """The control: what is fitted to codes, fitted to noisy pixels instead, as if z = x.

    With as many numbers, as many pictures, the same noise, and a contrast of its own. What is
    drawn from it are pictures x, in the flow's units.
    """
    labels = np.zeros(len(pixels), int) if labels is None else labels[: len(pixels)]
    some = codes.evenly(labels, codes.PICTURES)
    x = trained.add_noise(trained.scale(pixels[some]), np.random.default_rng(0))
    mixture = codes.fit(x, labels[some])
    return mixture.matched(trained.developed, pixels[some])


def controls(trained, found, limit=10_000, seed=0):
    """Nats of the first pictures to judge by what has no flow, fitted to the training pictures.

    Returns: `{name: nats}`: the mixture of codes.py on noisy pixels, as if z = x, in a basis of
        all D dimensions; and, where the noise is a dequantization of whole numbers, a histogram
        of each pixel on its own, log P(k) + D ln levels.
    """
    rng, new = np.random.default_rng(seed), found.x_new[:limit]
    validation = trained.configuration.get("schedule", {}).get("validation", "test")
    known, _ = found.split(validation)  # what the flow was trained on
    labels = None if found.y_train is None else found.y_train[: len(known)]
    mixture = codes.fit(trained.add_noise(trained.scale(known), rng), labels, **MIXTURE,
                        basis=trained.dim)  # fmt: skip
    noisy = trained.add_noise(trained.scale(new), rng)
    result = {"no flow: mixture on pixels": float(mixture.log_density(noisy).mean())}
    if is_bound(trained.encoder.noise, trained.levels) and known.dtype == np.uint8:
        counts = np.stack([np.bincount(pixel, minlength=256) for pixel in known.T])  # (D, 256)
        shares = np.log((counts + 1) / (len(known) + 256))
        nats = shares[np.arange(trained.dim), new].sum(axis=1).mean()
        result["no flow: a histogram a pixel"] = float(nats + trained.dim * np.log(trained.levels))
    return result


def sample_quality(trained, found, count, seed=0):
    """`quality.figures` of digits and of samples, `count` of each: `{name: figures}`.

    Beside the fitted codes stands `mixture_on_pixels`, which has no flow.

    Args:
        trained: `nice.Trained`, with its codes.
        found: `data.Pictures` of digits.
    """
    rng = np.random.default_rng(seed)
    fitted_to = rng.permutation(codes.evenly(found.y_train, codes.PICTURES))
    known = fitted_to[: min(len(found.x_test), len(fitted_to) // 2)]
    some = rng.permutation(np.setdiff1d(np.arange(len(found.x_train)), known))[:count]
    test, training = (quality.Reference.of(x) for x in (found.x_test, found.x_train[known]))
    control = mixture_on_pixels(trained, found.x_train, found.y_train)
    asked = trained.codes.sample_labels(count, rng)
    plain = trained.pictures(trained.codes.sample(asked, rng))
    without = trained.developed(control.sample(asked, rng))

    def rows():  # pictures, and what they are to be
        yield "training digits", quality.scaled(found.x_train[some]), found.y_train[some]
        for sigma in SIGMAS:
            yield f"prior, σ = {sigma:g}", trained.sample(count, sigma, seed), None
        yield "fitted codes", trained.codes.sharpen(plain), asked
        yield "  at contrast 1", plain, asked
        yield "no flow: pixels fitted", control.sharpen(without), asked
        yield "  no flow, at contrast 1", without, asked

    bar, result = hardware.progress(5 + len(SIGMAS), "row"), {}
    for name, pictures, wanted in rows():
        result[name] = quality.figures(pictures, test, training, wanted)
        bar.add(1)
    return result


def evaluate(weights, source=options.MNIST, repeats=5, draws=1, limit=10_000, seed=0, count=None,
             beside=False):  # fmt: skip
    """Everything this script prints, as a dictionary of plain numbers.

    Args:
        weights: weights file.
        source: data, see `data.load`.
        repeats: independent draws of the noise for mean ± standard deviation.
        draws: draws for the log mean exp bound; 1 leaves it out.
        limit: at most this many test, and as many training, pictures.
        seed: of the noise and the samples.
        count: samples to measure; None for none. Digits only: fits codes that are missing.
        beside: whether to fit the `controls`, too.

    Raises: `UserError` for samples of what are not MNIST's digits.
    """
    print(f"weights: {weights}")
    trained = nice.load(weights)
    found = data.load(source, trained.dim)
    if count:
        if not quality.are_digits(found):
            raise UserError(
                f"--samples measures digits: {source} is not MNIST or its like, 28 x 28 and "
                "labelled 0 to 9, with test pictures. Leave --samples out."
            )
        codes.fitted(trained, source)
    parts = {"test": (found.x_test, found.y_test), "train": (found.x_train, found.y_train)}
    parts = {name: part for name, part in parts.items() if part[0] is not None}
    noise = trained.encoder.noise
    if noise is None:
        repeats = draws = 1  # nothing to draw
    constant = trained.dim * trained.prior.constant
    configuration = trained.configuration
    result = {
        "weights": weights,
        "data": source,
        "backend": keras.backend.backend(),
        "is_bound": is_bound(noise, trained.levels),
        "constant": constant,
        **options.pick(configuration, ("prior", "levels")),
        **options.pick(configuration["model"], ("dim", "noise", "noise_kind")),
    }
    first, *others = parts
    plan = {first: (repeats, draws), **dict.fromkeys(others, (1, 1))}
    bar = hardware.progress(sum(max(p) + 1 for p in plan.values()), "pass")
    for name, (tries, k) in plan.items():
        pixels, labels = (part if part is None else part[:limit] for part in parts[name])
        x = trained.scale(pixels)
        nats, tight, fitted = noisy(trained, x, tries, k, seed, bar)
        clean = trained.log_likelihood(x)
        bar.add(1)
        means = nats.mean(axis=1)
        result[name] = {
            "pictures": len(x),
            "draws": k,
            "nats": float(means.mean()),
            "nats_sd": float(means.std(ddof=1)) if tries > 1 else None,
            "nats_error": float(nats.mean(axis=0).std() / len(x) ** 0.5),
            "nats_tight": None if tight is None else float(tight.mean()),
            "nats_fitted_codes": None if fitted is None else float(fitted.mean()),
            "loss": float(-means.mean() - constant),
            "loss_without_noise": float(-clean.mean() - constant),
            "classes": None,
        }
        if labels is not None:
            classes = {str(c): float(nats[:, labels == c].mean()) for c in np.unique(labels)}
            result[name]["classes"] = classes
    x = trained.scale(parts[first][0][:1000])
    result["round_trip"] = round_trip(trained, x)
    result["log_determinant"] = float(trained.map(x[:1])[1][0])
    result["log_determinant_numerical"] = numerical_log_determinant(trained, x[0])
    result["controls"] = controls(trained, found, limit, seed) if beside else {}
    result["samples"] = sample_quality(trained, found, count, seed) if count else None
    return result


def table(result):
    """The result for people."""
    parts = [result[name] for name in ("test", "train") if name in result]
    heads = [
        f"{name} ({result[name]['pictures']:,})" for name in ("test", "train") if name in result
    ]
    lines = []

    def line(name, *values, form=".2f"):
        cells = (format(v, form) for v in values if v is not None)
        lines.append(f"{name:<34}" + "".join(f"{cell:>18}" for cell in cells))

    def row(name, key):
        if parts[0][key] is not None:
            line(name, *(part[key] for part in parts))
            in_bits = key.startswith("nats") and not key.endswith(("_sd", "_error"))
            if result["is_bound"] and in_bits:
                nats = [part[key] for part in parts if part[key] is not None]
                bits = (bits_per_dimension(n, result["dim"], result["levels"]) for n in nats)
                line("  bits/dim", *bits, form=".4f")

    line("", *heads, form="")
    row("log-likelihood, nats", "nats")
    row("  sd over draws of the noise", "nats_sd")
    row("  standard error over pictures", "nats_error")
    row(f"log mean exp, {parts[0]['draws']} draws, nats", "nats_tight")
    row("the article's loss, with noise", "loss")
    row("  without noise", "loss_without_noise")
    row("another model: codes fitted, nats", "nats_fitted_codes")
    for name, nats in result["controls"].items():
        line(name + ", nats", nats)
        if result["is_bound"]:
            line(
                "  bits/dim", bits_per_dimension(nats, result["dim"], result["levels"]), form=".4f"
            )
    for label, nats in (parts[0]["classes"] or {}).items():
        line(f"  nats of class {label}", nats, form=".1f")
    line("round trip, largest and mean error", *result["round_trip"].values(), form=".1e")
    line("log-determinant, and numerically", result["log_determinant"],
         result["log_determinant_numerical"])  # fmt: skip
    if not result["is_bound"]:
        lines.append(
            f"Note: the noise, {result['noise_kind']} of width {result['noise']:g}, is not uniform "
            "from one level to the next;\nno bits/dim: these nats are no bound on compression."
        )
    if parts[0]["nats_fitted_codes"] is not None:
        lines.append(
            "Another model: the same flow, its prior replaced by the density of codes.py, fitted "
            "to the\ncodes of the training pictures and their labels; no test label is used."
        )
    return "\n".join(lines)


COLUMNS = {  # of `sample_table`: what of `quality.figures`, and its decimals
    "Fréchet": ("distance", 2),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "as asked": ("as_asked", 3),
    "entropy": ("entropy", 3),
    "nearer": ("nearer", 3),
    "by features": ("nearer_features", 3),
}


def sample_table(rows):
    """The quality of samples for people."""
    lines = [f"{'':<26}" + "".join(f"{name:>12}" for name in COLUMNS)]
    for name, row in rows.items():
        cells = ("" if row[k] is None else f"{row[k]:.{n}f}" for k, n in COLUMNS.values())
        lines.append(f"{name:<26}" + "".join(f"{cell:>12}" for cell in cells))
    lines.append(
        "Fréchet: distance to the test digits, of a classifier's 64 features; that of training "
        "digits is the\nleast to expect. Precision: share of samples among test digits; recall: "
        "of test digits among samples.\nAs asked: read as the digit meant. Entropy of the digits "
        "read, nats, at most 2.303. Nearer: share of\nsamples nearer to training digits than to "
        "as many test digits, in pixels and by features; copies\nwould have 1. No flow: the same "
        "mixture, of as many numbers, fitted to noisy pixels. Contrast: see\ndocs/codes.md."
    )
    return "\n".join(lines)


def main(args):
    files.check_output(args.json, ".json", [args.weights, args.data])
    result = evaluate(args.weights, args.data, args.repeats, args.draws, args.limit, args.seed,
                      args.samples, args.controls)  # fmt: skip
    print(table(result))
    if result["samples"]:
        print("\n" + sample_table(result["samples"]))
    if args.json:
        files.write(args.json, json.dumps(result, indent=1))


if __name__ == "__main__":
    cli.run(main, args)
