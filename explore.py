"""Every other picture of the article and the paper, from trained weights.

    python explore.py all --output pictures
    python explore.py temperature

One function a picture: a trained flow and digits in, an image out.
"""

import functools
import os
import time

from support import cli, options

NOISE_FREE, DEEP, PAPER = (  # the first two of one shape
    os.path.join(options.WEIGHTS, name + options.SUFFIX) for name in ("noise-free", "deep", "paper")
)
NAMES = ("digits", "temperature", "interpolate", "traverse", "spectrum", "reduce", "noise",
         "convention", "inpaint", "neighbours", "likely")  # fmt: skip


def parse():
    parser = options.Parser("Make the pictures of the article and the paper.")
    add = parser.add_argument
    add("picture", choices=["all", *NAMES], help="which picture")
    options.add_places(parser, "weights", "data")
    parser.set_defaults(weights=None)
    add("--noise-free", default=NOISE_FREE, help="weights trained without noise, for `noise`")
    add("--seed", type=options.SEED, default=0, help="of codes, choices and noise")
    add("--output", default="pictures", help="folder")
    return parser.parse_args()


if __name__ == "__main__":
    args = cli.start(parse)

import keras
import numpy as np

import codes
import nice
import training
from layers import Couple
from support import data, files, inpainting, pictures, quality
from support.batches import fit, steps
from support.errors import UserError, printable

KEPT = (5, 10, 20, 40, 80, 160, 320)  # dimensions, in `reduce`
NO_MATCH = (
    " NICE's dimensions are no match for PCA here:\n"
    "its loss rewards a likely z, not a z of which a part says what matters."
)

# --------------------------------------------------------------- the pictures


def digits(trained, seed=0, columns=10, sigma=0.75):
    """The article's way to draw beside the fitted codes', of the same weights: a row a class."""
    fitted = trained.codes
    named = fitted.classes if fitted.is_labelled else []
    wanted = np.repeat(named, columns) if len(named) else np.zeros(columns**2, int)
    image = _beside(
        _tile(trained, trained.decode(trained.sample_codes(len(wanted), sigma, seed)), columns),
        _tile(trained, trained.sample_fitted(wanted, np.random.default_rng(seed)), columns),
    )
    return pictures.captioned(
        image,
        "One flow, two ways to draw its codes",
        f"Left: z from the prior at temperature σ = {sigma}, as the article draws.\n"
        "Right: z from Gaussians fitted to the codes of the training pictures"
        + (", a row a class. No weight differs." if len(named) else ". No weight differs."),
        top=["codes from the prior", "codes from where those of digits lie"],
        right=[str(label) for label in named],
    )


def _tile(trained, x, columns, factor=2):
    """Pictures (N, D) as one image, margins between them, `factor` times their size."""
    image = pictures.tile(x, trained.shape, columns, margin=2, background=0.25)
    return pictures.enlarge(image, factor)


def _beside(left, right):
    """Two images of one height, a white gap between them."""
    gap = np.full((len(left), 24, *left.shape[2:]), 255, "uint8")
    return np.hstack([left, gap, right])


def temperature(trained, seed=0, columns=10):
    """The article's annealing: one set of codes z at rising σ, σ·z decoded, a row each.

    Beside it the same for fitted codes, T times as far from their group's mean.
    """
    sigmas, factors = np.arange(4, 13) / 10, options.TEMPERATURE * np.arange(9) / 4
    z = trained.sample_codes(columns, 1.0, seed)
    labels = np.resize(trained.codes.classes, columns)
    fitted = [trained.sample_fitted(labels, np.random.default_rng(seed), T) for T in factors]
    image = _beside(
        _tile(trained, trained.decode(np.concatenate([sigma * z for sigma in sigmas])), columns),
        _tile(trained, np.concatenate(fitted), columns),
    )
    return pictures.captioned(
        image,
        "The same codes at rising temperature",
        "Each column is one z. Left, from the prior: decoded from σ·z. Small σ: clean and alike;\n"
        "large σ: varied and noisy; the article settles on 0.75. Right, fitted codes, T times "
        "as far\nfrom the mean of their group: 0 is the mean itself, "
        f"{options.TEMPERATURE} the default.",
        left=[f"σ = {sigma:.1f}" for sigma in sigmas],
        right=[f"T = {T:.2f}" for T in factors],
        top=["the prior", "fitted codes"],
    )


def interpolate(trained, _, pixels, seed=0, rows=8, columns=11):
    """Straight lines in z between encodings of real digits.

    Returns: `(image, frames)`: a pair a row, and the same lines there and back as a film.
    """
    rng = np.random.default_rng(seed)
    z = trained.encode(
        trained.scale(pixels[rng.choice(len(pixels), 2 * rows, replace=len(pixels) < 2 * rows)])
    )
    a, b = z[:rows], z[rows:]

    def line(t):  # (rows, D) a weight
        return trained.decode((1 - t) * a + t * b)

    x = np.stack([line(t) for t in np.linspace(0, 1, columns)], axis=1).reshape(-1, trained.dim)
    image = pictures.captioned(
        _tile(trained, x, columns),
        "Straight lines between the codes of real digits",
        "Left and right column: test digits. Between them: z = (1 - t) f(a) + t f(b), decoded.",
        top=[f"t = {t:.1f}" for t in np.linspace(0, 1, columns)],
    )
    swing = 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, 40, endpoint=False))  # 0 … 1 … 0
    return image, [_tile(trained, line(t), 4, factor=3) for t in swing]


def traverse(trained, _, pixels, seed=0, rows=8, columns=11, reach=8.0):
    """One code dimension moved at a time over ±reach·σ_i, the widest first.

    "Important" is the article's measure: a dimension with a small s_i, a large
    σ_i = 1/s_i, in which the encoded pictures spread most.
    """
    order = np.argsort(-trained.sigma)
    chosen = [*order[:rows], order[-1]]
    rng = np.random.default_rng(seed)
    z = trained.encode(trained.scale(pixels[rng.choice(len(pixels), 1)]))[0]
    steps = np.linspace(-reach, reach, columns)
    moved = np.repeat(z[None], len(chosen) * columns, axis=0)
    for row, i in enumerate(chosen):
        moved[row * columns : (row + 1) * columns, i] += steps  # z_i = h_i/σ_i: ±1 is ±σ_i of h
    x = trained.decode(moved)
    labels = [f"#{i}, σ = {trained.sigma[i]:.3f}" for i in chosen]
    return pictures.captioned(
        _tile(trained, x, columns),
        "One dimension of the code moved at a time",
        "Rows: the widest dimensions, a large σ = 1/s being important; last row: the narrowest.\n"
        "Middle column: a test digit. Columns: what is added, in the dimension's own σ.",
        left=labels,
        top=[f"{step:+.1f}" for step in steps],
    )


def noise_floor(trained):
    """σ of a pixel that never changes: what the couplings leave of the training noise.

    None where the prior does not say what a standard deviation is to it.
    """
    noise = trained.encoder.noise
    if noise is None or trained.prior.std is None:
        return None
    left = noise.width  # of Gaussian noise, its standard deviation
    if noise.bounds:
        low, high = noise.bounds
        couples = [layer for layer in trained.encoder.maps if isinstance(layer, Couple)]
        # A relu m is m >= 0: (9) subtracts it, and centres positive noise only; (7) negative only.
        one_sided = all(c.is_positive and (c.convention == "article") == (low < 0) for c in couples)
        left = ((high - low) ** 2 / 12 + one_sided * ((low + high) / 2) ** 2) ** 0.5
    return left / trained.prior.std


def spectrum(trained):
    """σ_i sorted, (16)-(17), with the count of collapsed dimensions; and σ_i as a map."""
    from matplotlib.figure import Figure

    sigma = trained.sigma
    floor = noise_floor(trained)
    figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
    chart, image = figure.subplots(1, 2, width_ratios=[1.6, 1])
    chart.bar(np.arange(len(sigma)), np.sort(sigma)[::-1], width=1.0)
    chart.set(
        yscale="log", xlabel="dimension, sorted", ylabel="σ = exp(-log_scale), pixel range = 1"
    )
    if floor:
        collapsed = int((sigma <= 1.5 * floor).sum())
        chart.axhline(1.5 * floor, color="crimson", lw=1)
        chart.set_title(f"{collapsed} of {len(sigma)} dimensions have collapsed\n"
                        f"(σ at most 1.5 times that of noise alone, red line)")  # fmt: skip
    shown = image.imshow(
        np.log10(trained.pixel_sigma).reshape(*trained.shape[:2], -1).mean(axis=2),  # of colours
        interpolation="nearest",
    )
    figure.colorbar(shown, ax=image, label="log10 σ")
    image.set(title="σ of each dimension, at its pixel", xticks=[], yticks=[])
    return pictures.render(figure)


def reduce(trained, known, pixels, legible=True, seed=0, columns=8, kept=KEPT):
    """Pictures rebuilt from their widest dimensions, (16)-(17), beside as many components of PCA.

    Args:
        legible: whether the classifier of `quality` can read them.
        kept: how many dimensions; the others are 0.
    """
    kept, pixels = [k for k in kept if k < trained.dim], pixels[:2000]
    x = quality.scaled(pixels)
    z, order = trained.encode(trained.scale(pixels)), np.argsort(-trained.sigma)
    mean, components = quality.principal(known)
    ways = ([x], [x])
    for k in kept:
        narrowed = np.zeros_like(z)
        narrowed[:, order[:k]] = z[:, order[:k]]
        ways[0].append(trained.pictures(narrowed))
        projected = (x - mean) @ components[:k].T @ components[:k]
        ways[1].append(np.clip(mean + projected, 0, 1))

    errors = [[((y - x) ** 2).sum(axis=1).mean() for y in way[1:]] for way in ways]
    labels = [[f"{k}:  {e:.1f}" for k, e in zip(kept, of_way)] for of_way in errors]
    if legible:
        same = quality.read(x)[0].argmax(axis=1)
        for words, way in zip(labels, ways):
            for i, y in enumerate(way[1:]):
                share = (quality.read(y)[0].argmax(axis=1) == same).mean()
                words[i] += f",  {100 * share:.0f} %"
    shown = np.random.default_rng(seed).choice(len(x), columns, replace=False)
    image = _beside(*(_tile(trained, np.concatenate([y[shown] for y in w]), columns) for w in ways))
    return pictures.captioned(
        image,
        "Rebuilt from a few numbers: NICE's widest dimensions, and PCA",
        f"Left: z of {len(x):,} test pictures with all but the dimensions of largest σ = 1/s set "
        "to 0, decoded.\nRight: as many principal components of the training pictures. Beside "
        "each row: numbers kept,\nsquared error a picture"
        + (", share still read as the same digit." if legible else ".")
        + (NO_MATCH if np.greater(*errors).all() else ""),
        left=["true", *labels[0]],
        right=["true", *labels[1]],
        top=["NICE", "PCA"],
    )


def compare(flows, labels, title, caption, seed=0, rows=10):
    """Two trained flows, one grid of samples each, from the same codes at σ = 0.75."""
    grids = [_tile(f, f.decode(f.sample_codes(rows**2, seed=seed)), rows) for f in flows]
    return pictures.captioned(_beside(*grids), title, caption, top=labels)


def noise(trained, without, seed=0):
    """The article's two figures: training without noise, and with the negative noise."""
    if trained.dim != without.dim:
        raise UserError(
            f"--noise-free has {without.dim} pixels a picture, the other weights {trained.dim}: "
            "train with --noise 0 on the same data."
        )
    held = [f.configuration for f in (trained, without)]
    same = "schedule" in held[0] and held[0]["schedule"] == held[1].get("schedule")
    same = same and len({str({**c["model"], "noise": 0}) for c in held}) == 1
    return compare(
        (without, trained),
        ["trained without noise", "trained with noise"],
        "What noise in training does to the samples",
        "The same codes at σ = 0.75. "
        + ("Only the noise differs." if same else "Not only the noise differs:")
        + f"\nLeft, {without.name}: {schedule(without)}.\nRight, {trained.name}: "
        + f"{schedule(trained)}.",
        seed,
    )


def schedule(trained):
    """How a flow was trained, in words, where its file says so."""
    held = trained.configuration.get("schedule", {})
    shown = ("epochs", "learning_rate", "schedule", "scale_pace", "epsilon", "weight_decay")
    words = [
        f"{name.replace('_', ' ')} {held[name]}" for name in shown if held.get(name) is not None
    ]
    best = trained.configuration.get("best")
    if not held and best:  # a file from before schedules were recorded
        words = [f"its epoch {best['epoch']}, learning rate {best['learning_rate']:.1e} by then"]
    return ", ".join(words) or "schedule not recorded in the file"


def convention(found, seed=0, units=256, depth=2, epochs=2):
    """(9) forward against (7) forward: two short trainings of a smaller flow, two grids.

    Shows the share of negative pixels before clipping: with m >= 0 the decoder
    adds under the article's convention, and subtracts under the paper's.
    """
    flows, labels = [], []
    for name, formula in (("article", "(9)"), ("paper", "(7)")):
        keras.utils.set_random_seed(seed)
        choices = options.recipe(seed=seed, convention=name, units=units, depth=depth)
        configuration = options.configuration(choices, found.x_train.shape[1], found.shape)
        encoder, decoder = nice.build(**configuration["model"])
        adam = training.optimizer(epochs * steps(len(found.x_train), 128))
        encoder.compile(loss=nice.gaussian, optimizer=adam)
        fit(encoder, found.x_train, epochs=epochs, seed=seed, verbose=2)
        flows.append(nice.Trained(encoder, decoder, configuration))
        x = flows[-1].decode(flows[-1].sample_codes(1000))
        labels.append(f"{formula} encodes: {100 * (x < 0).mean():.0f} % negative pixels")
    return compare(
        flows,
        labels,
        "Which way round? The coupling's two conventions",
        f"Two trainings of {epochs} epochs, one seed; m has {depth} hidden layers of {units}, relu "
        "output.\nClipping to [0, 1] hides what is negative.",
        seed,
    )


def neighbours(trained, known, pixels, seed=0, columns=16):
    """Samples above their nearest training digits (L2): new digits, or memories?"""
    rng = np.random.default_rng(seed)
    drawn = {
        "prior": trained.sample(columns, 0.75, seed),
        "fitted codes": trained.sample_fitted(trained.codes.sample_labels(columns, rng), rng),
    }
    rows, distances = [], []
    for x in drawn.values():
        found, of_these = quality.nearest(x, known)
        rows += [x, quality.scaled(known[found])]
        distances.append(f"{of_these.min():.1f} to {of_these.max():.1f}")
    _, usual = quality.nearest(quality.scaled(pixels[:1000]), known)
    return pictures.captioned(
        _tile(trained, np.concatenate(rows), columns),
        "Samples and their nearest training digits",
        f"Euclidean distance, pixel range [0, 1]: {distances[0]} from the prior at σ = 0.75, "
        f"{distances[1]} from fitted codes;\ntest digits to theirs: median "
        f"{np.median(usual):.1f}. A copy would be near 0.",
        left=[word for name in drawn for word in (name, "nearest")],
    )


def likely(trained, _, pixels, columns=16):
    """The most and the least likely pictures, with their nats; and what is likelier than most."""
    x = trained.scale(pixels)
    nats = trained.log_likelihood(x)
    order = np.argsort(-nats)
    best, worst = order[: 2 * columns], order[::-1][: 2 * columns]
    image = _tile(trained, np.concatenate([x[best], x[worst]]), columns)
    black = trained.log_likelihood(np.zeros_like(x[:1]))[0]
    dim, median = np.median(trained.log_likelihood(x / 2)), np.median(nats)
    print(
        f"nats: test digits {median:.0f} (median), at half brightness {dim:.0f}, black {black:.0f}"
    )
    return pictures.captioned(
        image,
        "The most and the least likely test digits",
        f"log p(x) from {nats[best[-1]]:.0f} to {nats[best[0]]:.0f} nats (rows 1-2) and from "
        f"{nats[worst[0]]:.0f} to {nats[worst[-1]]:.0f} (rows 3-4); median {median:.0f}.\n"
        f"Likely is not typical: an all-black picture has {black:.0f} nats, digits at half their "
        f"brightness a median of {dim:.0f}.",
        left=["most", "likely", "least", "likely"],
    )


def inpaint(trained, known, pixels, seed=0, each=24, shown=4, steps=300, every=10):
    """The paper's 5.3: parts of `pixels`, hidden by masks, filled in by ascending the likelihood.

    The ascent starts from the mean training picture. `each` pictures a mask, `shown` of them
    drawn; a frame `every` so many steps. Prints the squared errors of the hidden pixels.

    Returns: `(image, frames)`: true, masked and filled side by side; the ascent.
    """
    mean = trained.scale(known).mean(axis=0)
    hidden = inpainting.masks(*trained.shape[:2], seed)
    x = trained.scale(pixels[np.arange(each * len(hidden)) % len(pixels)])
    colours = trained.dim // hidden["top"].size
    mask = np.repeat([m.ravel().repeat(colours) for m in hidden.values()], each, axis=0)
    gradient = inpainting.log_likelihood_gradient(trained.encoder, trained.prior)
    rng = np.random.default_rng(seed)

    def panel(filled):
        triple = np.stack([x, np.where(mask, 0.3, x), filled], axis=1)  # (N, 3, D)
        triple = triple.reshape(len(hidden), each, 3, trained.dim)[:, :shown]
        return _tile(trained, triple.reshape(-1, trained.dim), 3 * shown)

    ascent = inpainting.ascend(gradient, trained.pixel_sigma, x, mask, mean, rng, steps)
    frames = []
    for i, y in enumerate(ascent):
        if i % every == 0 or i == steps:
            frames.append(panel(y))
    frames += frames[-1:] * 19

    def error(filled):  # of each mask's hidden pixels, a mean over its pictures
        parts = ((filled - x) ** 2 * mask).reshape(len(hidden), -1)
        return parts.sum(axis=1) / mask.reshape(len(hidden), -1).sum(axis=1)

    print("mean squared error of hidden pixels:   filled   mean picture")
    for name, filled, start in zip(hidden, error(y), error(mean)):
        print(f"  {name:<36} {filled:.4f}   {start:.4f}")
    ratios = 100 * error(y) / error(mean)
    image = pictures.captioned(
        frames[-1],
        "Inpainting by gradient ascent on the likelihood",
        f"Test digits: true, masked, filled in. Over {each} digits a mask, the hidden pixels'\n"
        f"squared error is {ratios.min():.0f} to {ratios.max():.0f} % of the mean training "
        "picture's, where it starts.",
        left=list(hidden),
        top=["true", "masked", "filled"] * shown,
    )
    return image, frames


# ----------------------------------------------------------------- the command


@functools.cache
def load(path):
    print(f"weights: {path}")
    return nice.load(path)


class Job:
    """What the pictures need, loaded when first asked for."""

    def __init__(self, args):
        self.args = args
        self.seed = args.seed

    def trained(self, default=None):
        """The flow that was asked for; where none was, the one of the file `default`."""
        return load(self.args.weights or default or options.default_weights())

    @functools.cached_property
    def data(self):
        return data.load(self.args.data)

    def with_codes(self):
        """The flow, its fitted codes in place."""
        codes.fitted(self.trained(), self.args.data)
        return self.trained()

    def with_pixels(self, default=None):
        """A flow with training and new pictures, of its size."""
        trained = self.trained(default)
        data.check_dim(self.data.x_train, trained.dim, self.args.data)
        return trained, self.data.x_train, self.data.x_new


PICTURES = {
    "digits": lambda job: digits(job.with_codes(), job.seed),
    "temperature": lambda job: temperature(job.with_codes(), job.seed),
    "interpolate": lambda job: interpolate(*job.with_pixels(), job.seed),
    "traverse": lambda job: traverse(*job.with_pixels(), job.seed),
    "spectrum": lambda job: spectrum(job.trained()),
    "reduce": lambda job: reduce(*job.with_pixels(), quality.are_digits(job.data), job.seed),
    "noise": lambda job: noise(job.trained(DEEP), load(job.args.noise_free), job.seed),
    "convention": lambda job: convention(job.data, job.seed),
    "inpaint": lambda job: inpaint(*job.with_pixels(PAPER), job.seed),
    "neighbours": lambda job: neighbours(job.with_codes(), *job.with_pixels()[1:], job.seed),
    "likely": lambda job: likely(*job.with_pixels()),
}


def main(args):
    files.check_writable(args.output)
    job = Job(args)
    made, names = 0, NAMES if args.picture == "all" else [args.picture]
    for name in names:
        for end in (".png", ".gif"):
            files.check_output(os.path.join(args.output, name + end), end, [args.data])
    for i, name in enumerate(names, start=1):
        start, path = time.perf_counter(), os.path.join(args.output, name)
        try:
            found = PICTURES[name](job)
        except UserError as error:  # weights of other pictures, say: no reason to end here
            if i == len(names) and not made:
                raise
            print(f"{name} left out: {printable(str(error))}")
            continue
        made += 1
        image, *film = found if isinstance(found, tuple) else (found,)
        pictures.save(path + ".png", image)
        for frames in film:
            pictures.save_gif(path + ".gif", frames)
        print(f"{path}.png{f', {name}.gif' * bool(film)}  ({time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    cli.run(main, args)
