"""Every other picture of the article and the paper, from trained weights.

    python explore.py all --output pictures
    python explore.py temperature

One function a picture: a trained flow and digits in, an image out.
"""

import functools
import os
import time

import cli
import keras
import numpy as np
from keras import ops

import checkpoint
import evaluate
import mnist
import nice
import pictures
import sample
from layers import Shuffle

MARGIN = {"margin": 2, "background": 0.25}


class Flow:
    """A trained flow over NumPy arrays: what the pictures below need of it."""

    def __init__(self, encoder, decoder, configuration):
        self.encoder, self.decoder, self.configuration = encoder, decoder, configuration
        self.picture, self.prior = configuration["picture"], configuration["prior"]
        self.levels, self.dim = configuration["levels"], configuration["model"]["dim"]

    @classmethod
    def load(cls, weights):
        return cls(*nice.load_with_configuration(weights))

    @classmethod
    def train(cls, args, data):
        """Train from the flags of nice.py, in memory, without validation."""
        keras.utils.set_random_seed(args.seed)
        configuration = nice.configure(args, data.x_train.shape[1], data.picture)
        encoder, decoder = nice.build(**configuration["model"])
        steps = mnist.steps(len(data.x_train), args.batch_size)
        nice.compile_encoder(encoder, args, args.epochs * steps)
        batches = mnist.batches(data.x_train, args.batch_size, args.seed, args.levels)
        encoder.fit(batches, steps_per_epoch=steps, epochs=args.epochs, shuffle=False, verbose=2)
        return cls(encoder, decoder, configuration)

    def scale(self, pixels):
        """uint8 (N, D) -> float32 (N, D) in [0, 1], as in training."""
        return ops.convert_to_numpy(mnist.scale(pixels, self.levels))

    def encode(self, x):
        """Pictures (N, D) -> codes (N, D), without noise."""
        return self.encoder.predict(x, batch_size=1000, verbose=0)

    def decode(self, z):
        """Codes (N, D) -> pictures (N, D), not yet clipped."""
        return self.decoder.predict(np.asarray(z, "float32"), batch_size=1000, verbose=0)

    def draw(self, count, sigma, seed):
        """`count` codes from the prior, at temperature sigma."""
        return nice.draw(self.prior, (count, self.dim), sigma, seed)

    def sigma(self):
        """(16): σ_i = 1/s_i = exp(-log_scale_i), (D,), in units of the pixel range."""
        return np.exp(-ops.convert_to_numpy(self.encoder.flow[-1].log_scale))[0]

    def pixel_sigma(self):
        """σ of each pixel, (D,): the dimension that the shuffles take it to."""
        pixel = np.arange(self.dim)[None]
        for layer in self.encoder.flow:
            if isinstance(layer, Shuffle):
                pixel = ops.convert_to_numpy(layer(pixel))
        sigma = np.empty(self.dim, "float32")
        sigma[pixel[0].astype(int)] = self.sigma()
        return sigma

    def tile(self, x, columns, factor=2):
        return pictures.enlarge(pictures.tile(x, self.picture, columns, **MARGIN), factor)


# --------------------------------------------------------------- the pictures


def temperature(flow, seed=0, columns=12):
    """The article's annealing: one set of codes z at rising σ, σ·z decoded, a row each."""
    sigmas = np.arange(4, 13) / 10
    z = flow.draw(columns, 1.0, seed)
    x = flow.decode(np.concatenate([sigma * z for sigma in sigmas]))
    return pictures.captioned(
        flow.tile(x, columns),
        "The same codes at rising temperature",
        "Each column is one z, decoded from σ·z. Small σ: clean and alike.\n"
        "Large σ: varied and noisy. The article settles on 0.75.",
        left=[f"σ = {sigma:.1f}" for sigma in sigmas],
    )


def interpolate(flow, pixels, seed=0, rows=8, columns=11):
    """Straight lines in z between encodings of real digits.

    Returns: `(image, frames)`: a pair a row, and the same lines there and back as a film.
    """
    rng = np.random.default_rng(seed)
    z = flow.encode(flow.scale(pixels[rng.choice(len(pixels), 2 * rows, replace=False)]))
    a, b = z[:rows], z[rows:]

    def line(t):  # (rows, D) a weight
        return flow.decode((1 - t) * a + t * b)

    x = np.stack([line(t) for t in np.linspace(0, 1, columns)], axis=1).reshape(-1, flow.dim)
    image = pictures.captioned(
        flow.tile(x, columns),
        "Straight lines between the codes of real digits",
        "Left and right column: test digits. Between them: z = (1 - t) f(a) + t f(b), decoded.",
        top=[f"t = {t:.1f}" for t in np.linspace(0, 1, columns)],
    )
    swing = 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi, 40, endpoint=False))  # 0 … 1 … 0
    return image, [flow.tile(line(t), 4, factor=3) for t in swing]


def traverse(flow, pixels, seed=0, rows=8, columns=11, reach=8.0):
    """One code dimension moved at a time over ±reach·σ_i, the widest first.

    "Important" is the article's measure: a dimension with a small s_i, a large
    σ_i = 1/s_i, in which the encoded pictures spread most.
    """
    order = np.argsort(-flow.sigma())
    chosen = [*order[:rows], order[-1]]
    rng = np.random.default_rng(seed)
    z = flow.encode(flow.scale(pixels[rng.choice(len(pixels), 1)]))[0]
    steps = np.linspace(-reach, reach, columns)
    moved = np.repeat(z[None], len(chosen) * columns, axis=0)
    for row, i in enumerate(chosen):
        moved[row * columns : (row + 1) * columns, i] += steps  # z_i = h_i/σ_i: ±1 is ±σ_i of h
    x = flow.decode(moved)
    labels = [f"#{i}, σ = {flow.sigma()[i]:.3f}" for i in chosen]
    return pictures.captioned(
        flow.tile(x, columns),
        "One dimension of the code moved at a time",
        "Rows: the widest dimensions, a large σ = 1/s being important; last row: the narrowest.\n"
        "Middle column: a test digit. Columns: what is added, in the dimension's own σ.",
        left=labels,
        top=[f"{step:+.1f}" for step in steps],
    )


def noise_floor(configuration):
    """σ of a pixel that never changes: the root mean square of the training noise alone."""
    model = configuration["model"]
    width, kind = model["noise"], model["noise_kind"]
    if kind == "gaussian":
        return width
    # A relu m, m >= 0, cannot centre the article's noise; a linear m can.
    centred = model["output_activation"] == "linear"
    return width / (12 if centred else 3) ** 0.5


def spectrum(flow):
    """σ_i sorted, (16)-(17), with the count of collapsed dimensions; and σ_i as a map."""
    from matplotlib.figure import Figure

    sigma = flow.sigma()
    floor = noise_floor(flow.configuration)
    if flow.prior == "logistic":
        floor *= 3**0.5 / np.pi  # the scale of a logistic of that standard deviation
    collapsed = int((sigma <= 1.5 * floor).sum())
    figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
    chart, image = figure.subplots(1, 2, width_ratios=[1.6, 1])
    chart.bar(np.arange(len(sigma)), np.sort(sigma)[::-1], width=1.0)
    chart.set(
        yscale="log", xlabel="dimension, sorted", ylabel="σ = exp(-log_scale), pixel range = 1"
    )
    if floor:
        chart.axhline(1.5 * floor, color="crimson", lw=1)
        chart.set_title(f"{collapsed} of {len(sigma)} dimensions have collapsed\n"
                        f"(σ at most 1.5 times that of noise alone, red line)")  # fmt: skip
    shown = image.imshow(
        np.log10(flow.pixel_sigma()).reshape(flow.picture), interpolation="nearest"
    )
    figure.colorbar(shown, ax=image, label="log10 σ")
    image.set(title="σ of each dimension, at its pixel", xticks=[], yticks=[])
    return pictures.render(figure)


def compare(flows, labels, title, caption, seed=0, rows=10, sigma=0.75):
    """Two flows, one grid of samples each, from the same codes."""
    x = [flow.decode(flow.draw(rows**2, sigma, seed)) for flow in flows]
    tiles = [flow.tile(part, rows) for flow, part in zip(flows, x)]
    gap = np.full((len(tiles[0]), 24), 255, "uint8")
    return pictures.captioned(np.hstack([tiles[0], gap, tiles[1]]), title, caption, top=labels)


def noise(flow, without, seed=0):
    """The article's two figures: training without noise, and with the negative noise."""
    return compare(
        (without, flow),
        ["trained without noise", "trained with noise"],
        "What noise in training does to the samples",
        "Two trainings of the same model, the same codes at σ = 0.75.",
        seed,
    )  # fmt: skip


def convention(data, seed=0, units=256, depth=2, epochs=2):
    """(9) forward against (7) forward: two short trainings of a smaller flow, two grids.

    Shows the share of negative pixels before clipping: with m >= 0 the decoder
    adds under the article's convention, and subtracts under the paper's.
    """
    flows, labels = [], []
    for name in ("article", "paper"):
        flags = f"--convention {name} --units {units} --depth {depth} --epochs {epochs}"
        flow = Flow.train(nice.parse([*flags.split(), "--seed", str(seed)]), data)
        x = flow.decode(flow.draw(1000, 0.75, seed))
        flows.append(flow)
        formula = "(9)" if name == "article" else "(7)"
        labels.append(f"{formula} encodes: {100 * (x < 0).mean():.0f} % negative pixels")
    return compare(
        flows,
        labels,
        "Which way round? The coupling's two conventions",
        f"Two trainings of {epochs} epochs, one seed; m has {depth} hidden layers of {units}, relu "
        "output.\nClipping to [0, 1] hides what is negative.",
        seed,
    )


def neighbours(flow, pixels, seed=0, columns=16):
    """Samples above their nearest training digits (L2): new digits, or memories?"""
    x = np.clip(flow.decode(flow.draw(columns, 0.75, seed)), 0, 1)
    nearest, distances = [], []
    for row in x:
        best = np.inf, 0
        for start in range(0, len(pixels), 10_000):
            part = flow.scale(pixels[start : start + 10_000])
            d = ((part - row) ** 2).sum(axis=1)
            best = min(best, (float(d.min()), start + int(d.argmin())))
        nearest.append(best[1])
        distances.append(best[0] ** 0.5)
    found = flow.scale(pixels[nearest])
    image = flow.tile(np.concatenate([x, found]), columns)
    return pictures.captioned(
        image,
        "Samples and their nearest training digits",
        f"Euclidean distance {min(distances):.1f} to {max(distances):.1f}, pixel range [0, 1]: "
        "close in shape, but no copies.",
        left=["sample", "nearest"],
    )


def likely(flow, pixels, columns=16):
    """The most and the least likely pictures, with their nats."""
    x = flow.scale(pixels)
    nats = evaluate.log_likelihood(flow.encoder, flow.configuration, x)
    order = np.argsort(-nats)
    best, worst = order[: 2 * columns], order[::-1][: 2 * columns]
    image = flow.tile(np.concatenate([x[best], x[worst]]), columns)
    return pictures.captioned(
        image,
        "The most and the least likely test digits",
        f"log p(x) from {nats[best[-1]]:.0f} to {nats[best[0]]:.0f} nats (rows 1-2) and from "
        f"{nats[worst[0]]:.0f} to {nats[worst[-1]]:.0f} (rows 3-4); median {np.median(nats):.0f}.\n"
        "A flow can tell; neither a GAN nor a VAE has this number.",
        left=["most", "likely", "least", "likely"],
    )


# ------------------------------------------------------------- the paper's 5.3


def masks(height, width, seed=0):
    """The paper's twelve masks: name -> (height, width) bool, True where a pixel is hidden."""
    rows, columns = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)

    def middle(i, n):
        return (n // 4 <= i) & (i < n - n // 4)

    return {
        "top": rows < height // 2,
        "bottom": rows >= height // 2,
        "left": columns < width // 2,
        "right": columns >= width // 2,
        "even rows": rows % 2 == 0,
        "odd rows": rows % 2 == 1,
        "even columns": columns % 2 == 0,
        "odd columns": columns % 2 == 1,
        "middle rows": middle(rows, height),
        "middle columns": middle(columns, width),
        "random 75 %": rng.random((height, width)) < 0.75,
        "random 90 %": rng.random((height, width)) < 0.90,
    }


def log_density_gradient(flow):
    """A compiled function x -> ∂ log p(x)/∂x, (N, D) -> (N, D), on any backend."""
    loss = nice.PRIORS[flow.prior]

    def total(x):
        return -ops.sum(loss(None, flow.encoder(x)))  # log_scale does not depend on x

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = total(x)
            return tape.gradient(y, x)

    elif backend == "jax":
        import jax

        gradient = jax.jit(jax.grad(total))
    else:
        import torch

        def gradient(x):
            x = x.detach().requires_grad_()
            return torch.autograd.grad(total(x), x)[0]

    return lambda x: ops.convert_to_numpy(gradient(ops.convert_to_tensor(x)))


def inpaint(flow, pixels, mean, seed=0, each=24, shown=4, steps=300, every=10):
    """Fill in hidden pixels by projected gradient ascent on log p(x), as the paper's 5.3.

        x_H <- x_H + α_i σ_H² (∂log p(x)/∂x_H + ε),  ε ~ N(0, I),  α_i = 10/(100 + i)

    then back into [0, 1]. The σ² is not the paper's, which had smoother densities: here a
    border pixel has ∂²log p/∂x² near -1/σ² = -30,000, on which a step of 0.1 diverges, so
    that each pixel's step is measured in its own σ (16).

    Args:
        flow: the trained flow.
        pixels: (N, D) pictures to hide parts of, `each` of them a mask.
        mean: (D,) the mean training picture: what the ascent starts from.
        shown: how many of each mask's pictures are drawn.
        steps, every: number of steps, and steps between frames.

    Returns: `(image, frames, errors)`: true, masked and filled side by side; the ascent; and
        {mask: (squared error of the hidden pixels, that of the mean picture)}.
    """
    hidden = masks(*flow.picture, seed)
    x = flow.scale(pixels[: each * len(hidden)])
    mask = np.repeat([m.ravel() for m in hidden.values()], each, axis=0)
    gradient, sigma = log_density_gradient(flow), flow.pixel_sigma()
    rng = np.random.default_rng(seed)
    y, frames = np.where(mask, mean, x).astype("float32"), []

    def panel(filled):
        triple = np.stack([x, np.where(mask, 0.3, x), filled], axis=1)  # (N, 3, D)
        triple = triple.reshape(len(hidden), each, 3, flow.dim)[:, :shown]
        return flow.tile(triple.reshape(-1, flow.dim), 3 * shown)

    bar = keras.utils.Progbar(steps, unit_name="step")
    for i in range(steps):
        if i % every == 0:
            frames.append(panel(y))
        step = 10 / (100 + i) * sigma**2 * (gradient(y) + rng.standard_normal(x.shape))
        y = np.where(mask, np.clip(y + step, 0, 1), x).astype("float32")
        bar.add(1)
    frames += [panel(y)] * 20

    def error(filled):  # of each mask's hidden pixels, a mean over its pictures
        parts = ((filled - x) ** 2 * mask).reshape(len(hidden), -1)
        return parts.sum(axis=1) / mask.reshape(len(hidden), -1).sum(axis=1)

    errors = dict(zip(hidden, zip(error(y).tolist(), error(mean).tolist())))
    image = pictures.captioned(
        frames[-1],
        "Inpainting by gradient ascent on the likelihood",
        f"Test digits: true, masked, filled in. Over {each} digits a mask, the hidden pixels'\n"
        f"squared error is {_range(errors)} of the mean training picture's, where it starts.",
        left=list(hidden),
        top=["true", "masked", "filled"] * shown,
    )
    return image, frames, errors


def _range(errors):
    ratios = [filled / mean for filled, mean in errors.values()]
    return f"{100 * min(ratios):.0f} to {100 * max(ratios):.0f} %"


# ----------------------------------------------------------------- the command


NOISE_FREE = os.path.join(nice.WEIGHTS, "noise-free.weights.h5")
PAPER = os.path.join(nice.WEIGHTS, "paper.weights.h5")


def parse():
    parser = cli.Parser("Make the pictures of the article and the paper.")
    add = parser.add_argument
    add("picture", choices=["all", *COMMANDS], help="which picture")
    add("--weights", default=sample.default_weights(),
        help="weights file; inpaint takes the paper's unless given another")  # fmt: skip
    add("--noise-free", default=NOISE_FREE, help="weights trained without noise, for `noise`")
    add("--data", default=mnist.MNIST, help="an .npz file, an IDX folder, or fashion_mnist")
    add("--seed", type=cli.SEED, default=0, help="of codes, choices and noise")
    add("--output", default="pictures", help="folder")
    return parser.parse_args()


class Job:
    """What the commands need, loaded when first asked for."""

    def __init__(self, args):
        self.args, self.seed = args, args.seed

    @functools.cached_property
    def flow(self):
        return Flow.load(self.args.weights)

    @functools.cached_property
    def noise_free(self):
        return Flow.load(self.args.noise_free)

    @functools.cached_property
    def paper(self):
        given = self.args.weights != sample.default_weights()
        return self.flow if given else Flow.load(PAPER)

    @functools.cached_property
    def data(self):
        return mnist.load(self.args.data)

    @property
    def test(self):
        return self.data.x_train if self.data.x_test is None else self.data.x_test


def make_inpaint(job):
    x = job.paper.scale(job.data.x_train)
    image, frames, errors = inpaint(job.paper, job.test, x.mean(axis=0), job.seed)
    print("mean squared error of hidden pixels:   filled   mean picture")
    for name, (filled, mean) in errors.items():
        print(f"  {name:<36} {filled:.4f}   {mean:.4f}")
    return {"inpaint.png": image, "inpaint.gif": frames}


def make_interpolate(job):
    image, frames = interpolate(job.flow, job.test, job.seed)
    return {"interpolate.png": image, "interpolate.gif": frames}


COMMANDS = {
    "temperature": lambda job: {"temperature.png": temperature(job.flow, job.seed)},
    "interpolate": make_interpolate,
    "traverse": lambda job: {"traverse.png": traverse(job.flow, job.test, job.seed)},
    "spectrum": lambda job: {"spectrum.png": spectrum(job.flow)},
    "noise": lambda job: {"noise.png": noise(job.flow, job.noise_free, job.seed)},
    "convention": lambda job: {"convention.png": convention(job.data, job.seed)},
    "inpaint": make_inpaint,
    "neighbours": lambda job: {"neighbours.png": neighbours(job.flow, job.data.x_train, job.seed)},
    "likely": lambda job: {"likely.png": likely(job.flow, job.test)},
}


def main():
    args = parse()
    checkpoint.check_writable(args.output)
    print(f"weights: {args.weights}")
    job = Job(args)
    for name in COMMANDS if args.picture == "all" else [args.picture]:
        start = time.perf_counter()
        for file, image in COMMANDS[name](job).items():
            path = os.path.join(args.output, file)
            (pictures.save_gif if file.endswith(".gif") else pictures.save)(path, image)
            print(f"{path}  ({time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    cli.run(main)
