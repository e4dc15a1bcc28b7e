"""NICE, the flow of Su Jianlin's article kexue.fm/archives/5776, in Keras 3.

    python nice.py                    train on MNIST, 20 epochs
    python nice.py --recipe article   as the article's code does
    python nice.py --recipe paper     as the paper does (Dinh et al., arXiv 1410.8516)

In Python:

    encoder, decoder = nice.build()
    encoder, decoder = nice.load("weights/pretrained.weights.h5")
    z = encoder(x)                    # pictures (B, D) in [0, 1] -> codes (B, D)
    x = decoder(z)
"""

import contextlib
import hashlib
import os
import sys

import cli
import keras
import numpy as np
from cli import UserError, number
from keras import ops

import checkpoint
import distribution
import mnist
import pictures
from keeper import TRAINED, Keeper
from layers import Concat, Couple, Noise, Scale, Shuffle, Split, register

HERE = os.path.dirname(os.path.abspath(__file__))
WEIGHTS = os.path.join(HERE, "weights")


# ------------------------------------------------------------------ the flow


@register
class Flow(keras.Model):
    """A list of layers as one map: (10) from x to z, or with `inverse` back again.

    Two flows over one list share its weights. Noise stays outside the list, so
    that decoding skips it.

    Args:
        flow: list of layers, each called as `layer(x)` or `layer(x, inverse=True)`.
        noise: a layer that the pictures go through first, or None.
        inverse: run the list from its end, every layer inverted.

    Call arguments:
        x: (B, D) pictures; with `inverse`, codes.
        training: whether noise and dropout are on.

    Returns: (B, D) codes; with `inverse`, pictures.
    """

    def __init__(self, flow, noise=None, inverse=False, **kwargs):
        super().__init__(**kwargs)
        self.flow, self.noise, self.inverse = flow, noise, inverse

    def call(self, x, training=False):
        if self.noise is not None:
            x = self.noise(x, training=training)
        for layer in reversed(self.flow) if self.inverse else self.flow:
            x = layer(x, inverse=self.inverse)
        return x

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        config = {
            "flow": [serialize(layer) for layer in self.flow],
            "noise": serialize(self.noise),
            "inverse": self.inverse,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        read = keras.saving.deserialize_keras_object
        config["flow"] = [read(layer, custom_objects) for layer in config["flow"]]
        config["noise"] = read(config["noise"], custom_objects)
        return cls(**config)


def build(
    dim=784,
    couplings=4,
    units=1000,
    depth=5,
    output_activation="relu",
    convention="article",
    shuffle="reverse",
    noise=0.01,
    noise_kind="negative",
    dropout=0.0,
    seed=None,
):
    """Build the encoder and the decoder over the same layers: (10), crossed as in (13).

    Without arguments: the article's model, 19,158,352 parameters. Training
    either model trains both. `encoder.get_weights()` is coupling 1's kernels
    and biases from input to output, coupling 2's, …, then log_scale.

    Args:
        dim: D, pixels a picture; even.
        couplings: number of couplings.
        units, depth, output_activation, convention, dropout: see `layers.Couple`.
        shuffle: "reverse" or "random", see `layers.Shuffle`.
        noise: width of the training noise, in units of the pixel range [0, 1]; 0 for none.
        noise_kind: "negative", U[-noise, 0] (the article's); "positive", U[0, noise]
            (the paper's, with noise = 1/256); "gaussian", N(0, noise²).
        seed: integer, of the noise and of random shuffles.

    Returns: `(encoder, decoder)`, two `keras.Model`s, (B, D) -> (B, D).
    """
    flow = []
    for i in range(1, couplings + 1):
        flow += [
            Shuffle(shuffle, seed=(seed or 0) + i, name=f"shuffle_{i}"),
            Split(name=f"split_{i}"),
            Couple(units, depth, output_activation, convention, dropout, name=f"coupling_{i}"),
            Concat(name=f"concat_{i}"),
        ]
    flow.append(Scale(name="scale"))

    bounds = {"negative": (-noise, 0.0), "positive": (0.0, noise), "gaussian": (0.0, 0.0)}
    stddev = noise if noise_kind == "gaussian" else None
    noise = Noise(*bounds[noise_kind], stddev=stddev, seed=seed, name="noise") if noise else None

    encoder = Flow(flow, noise, name="encoder")
    decoder = Flow(flow, inverse=True, name="decoder")
    for model in (encoder, decoder):
        model(keras.Input((dim,)))  # creates the weights
    return encoder, decoder


def parameter_count(dim, couplings, units, depth, **_):
    """Parameters of `build(...)`, without building it."""
    widths = [dim // 2] + [units] * depth + [dim // 2]
    m = sum(a * b + b for a, b in zip(widths, widths[1:]))
    return couplings * m + dim


# ------------------------------------------- the loss: (15) with its sign changed
#
# Compiled into the encoder these give -log p(z); `Scale` adds -Σ log s. Their sum
# is the negative log-likelihood of x in nats, a mean over the batch. It is
# negative: a density in 784 dimensions is large where pixels hardly vary.


@register
def gaussian(_, z):
    """-log N(z; 0, I) without its constant D/2·ln 2π: ½‖z‖², (B, D) -> (B,) nats."""
    return 0.5 * ops.sum(ops.square(z), axis=-1)


@register
def logistic(_, z):
    """-log of the paper's standard logistic: Σ softplus(z) + softplus(-z), (B, D) -> (B,) nats."""
    return ops.sum(ops.softplus(z) + ops.softplus(-z), axis=-1)


PRIORS = {"gaussian": gaussian, "logistic": logistic}


def draw(prior, shape, sigma, seed):
    """Codes z from the prior, times the temperature sigma: float32 NumPy.

    `seed` is an integer, or a NumPy generator to go on drawing from.
    """
    generator = np.random.default_rng(seed)
    z = generator.standard_normal(shape) if prior == "gaussian" else generator.logistic(size=shape)
    return (sigma * z).astype("float32")


def samples(decoder, configuration, count, sigma, seed, batch_size=1000):
    """Yield `count` pictures of temperature sigma in batches: (batch_size, D) in [0, 1]."""
    generator, dim = np.random.default_rng(seed), configuration["model"]["dim"]
    # On several devices predict_on_batch would answer once for each, or parts of equal size.
    decode = decoder if distribution.active() else decoder.predict_on_batch
    for start in range(0, count, batch_size):
        shape = (min(batch_size, count - start), dim)
        z = draw(configuration["prior"], shape, sigma, generator)
        x = ops.convert_to_numpy(decode(z)) * (configuration["levels"] / 255)
        yield np.clip(x, 0, 1)


def sample(decoder, configuration, count, sigma, seed):
    """All of `samples` at once: (count, D)."""
    return np.concatenate(list(samples(decoder, configuration, count, sigma, seed)))


# ---------------------------------------------------------------- on the disk


def save(path, encoder, configuration, dtype=None):
    """Write the encoder's weights and `configuration` (see `configure`) to one file."""
    checkpoint.save(path, {v.path: v for v in encoder.weights}, configuration, dtype)


def load(path):
    """Load a weights file: the pair of `build`, with the weights in place.

    Raises: `cli.UserError` where the file is missing, damaged or of another kind.
    """
    return load_with_configuration(path)[:2]


def load_with_configuration(path):
    """Like `load`: `(encoder, decoder, configuration)`."""
    configuration, arrays = checkpoint.read(path)
    model = check(configuration, path)
    held = sum(array.size for array in arrays.values())
    if held != parameter_count(**model):  # before building what a damaged file asks for
        raise UserError(
            f"{path} holds {held:,} numbers, its configuration needs {parameter_count(**model):,}."
        )
    encoder, decoder = build(**model)
    checkpoint.assign({v.path: v for v in encoder.weights}, arrays, path)
    return encoder, decoder, configuration


def configure(args, dim, picture):
    """The configuration a weights file carries: the model, and what its scripts need to know."""
    model = {name: getattr(args, name) for name in MODEL_CHOICES}
    return {
        "model": {"dim": dim, **model},
        "prior": args.prior,
        "levels": args.levels,
        "picture": list(picture),
    }


def is_int(low, high):
    return lambda value: type(value) is int and low <= value <= high


def is_float(low, high):
    return lambda value: type(value) in (int, float) and low <= value <= high


MODEL_CHOICES = {
    "couplings": is_int(1, 1000),
    "units": is_int(1, 10**6),
    "depth": is_int(0, 100),
    "output_activation": ("relu", "linear").__contains__,
    "convention": ("article", "paper").__contains__,
    "shuffle": ("reverse", "random").__contains__,
    "noise": is_float(0, 1),
    "noise_kind": ("negative", "positive", "gaussian").__contains__,
    "dropout": is_float(0, 0.999),
    "seed": is_int(0, 2**32 - 1),
}


def check(configuration, path):
    """Check a configuration read from `path`; returns the arguments for `build`."""
    model, picture = configuration.get("model"), configuration.get("picture")
    rules = {"dim": lambda value: is_int(2, 10**7)(value) and value % 2 == 0, **MODEL_CHOICES}
    sound = (
        isinstance(model, dict)
        and model.keys() == rules.keys()
        and all(isinstance(v, (str, int, float)) and rules[k](v) for k, v in model.items())
        and configuration.get("prior") in tuple(PRIORS)
        and configuration.get("levels") in (255, 256)
        and isinstance(picture, list)
        and [type(side) for side in picture] == [int, int]
        and min(picture) > 0
        and picture[0] * picture[1] == model["dim"]
    )
    if not sound:
        raise UserError(f"{path} has a configuration this version cannot use: {configuration}")
    return model


# ------------------------------------------------------------------- training


@register
class Adam(keras.optimizers.Adam):
    """Adam with a pace of its own for log_scale.

    Adam moves any weight by about one learning rate a step, and log_scale has
    to travel from 0 to ln(1/0.00577) = 5.2: at 1e-3 that alone takes eleven
    epochs. `scale_pace` multiplies the learning rate of log_scale; 1 is plain
    Adam, as in 2018.
    """

    def __init__(self, *args, scale_pace=10.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale_pace = scale_pace
        self.exclude_from_weight_decay(var_names=["log_scale", "bias"])

    def build(self, variables):
        super().build(variables)
        self._paces = [self.scale_pace if v.name == "log_scale" else 1.0 for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        pace = self._paces[self._get_variable_index(variable)]
        if keras.backend.backend() == "tensorflow":
            if self.weight_decay and self._use_weight_decay(variable):
                # Half the memory traffic of Keras's w -= w · decay · rate.
                variable.assign(variable * (1 - learning_rate * self.weight_decay))
            self._fused_update_step(gradient, variable, pace * learning_rate)
        else:
            super().update_step(gradient, variable, pace * learning_rate)

    def _apply_weight_decay(self, variables):
        if keras.backend.backend() != "tensorflow":  # else done in update_step
            super()._apply_weight_decay(variables)

    def _fused_update_step(self, gradient, variable, learning_rate):
        # The same formula in TensorFlow's one kernel, which walks through memory
        # once: a third of the time of Keras's seven operations.
        import tensorflow as tf

        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def get_config(self):
        return {**super().get_config(), "scale_pace": self.scale_pace}


def learning_rate(args, total_steps):
    """The schedule: constant, or a cosine from the learning rate down to 0."""
    if args.schedule == "constant":
        return args.learning_rate
    return keras.optimizers.schedules.CosineDecay(args.learning_rate, total_steps)


def compile_encoder(encoder, args, total_steps):
    """Give the encoder its loss (15) and its optimizer, for `total_steps` steps."""
    optimizer = Adam(
        learning_rate(args, total_steps),
        epsilon=args.epsilon,
        weight_decay=args.weight_decay or None,
        scale_pace=args.scale_pace,
    )
    encoder.compile(loss=PRIORS[args.prior], optimizer=optimizer)


def split_validation(data, args):
    """`(x_train, x_validation)`, (N, D) each: 2018 validates on the test images."""
    if args.validation == "test" and data.x_test is not None:
        return data.x_train, data.x_test
    held_out = min(10_000, len(data.x_train) // 6)
    if not held_out:
        raise UserError(f"{len(data.x_train)} pictures are too few to hold some out.")
    return data.x_train[:-held_out], data.x_train[-held_out:]


def settings(args, x_train, x_validation):
    """All that decides what a training results in, as `{flag: value}`: a resumed one repeats it."""
    digest = hashlib.sha256()
    for pixels in (x_train, x_validation):
        digest.update(repr((pixels.shape, pixels.dtype)).encode())
        digest.update(np.ascontiguousarray(pixels))
    decide = {k.replace("_", "-"): v for k, v in vars(args).items() if k not in UNDECISIVE}
    return {**decide, "data": digest.hexdigest()[:16], "backend": keras.backend.backend()}


UNDECISIVE = ("recipe", "data", "output", "resume", "distribute")


def train(args):
    keras.utils.set_random_seed(args.seed)
    devices = distribution.start(args.batch_size) if args.distribute else distribution.ONE
    # Writable? Now, not after the first epoch.
    with checkpoint.locked(args.output) if devices.first else contextlib.nullcontext():
        with devices.scope():
            keeper = _fit(args, devices)
        if keeper and devices.first:
            best = keeper.best
            print(
                f"best validation loss {best['val_loss']:.2f} at epoch {best['epoch']}: "
                f"{keeper.weights}"
            )
            leave_pictures(args.output, keeper.history, keeper.frames)
            keeper.finish()


def _fit(args, devices):
    """Train: the keeper of what came out, or None where the run was finished before."""
    data = mnist.load(args.data)
    x_train, x_validation = split_validation(data, args)
    configuration = configure(args, x_train.shape[1], data.picture)
    encoder, decoder = build(**configuration["model"])
    steps = mnist.steps(len(x_train), args.batch_size, devices)
    compile_encoder(encoder, args, args.epochs * steps)
    validation = ops.convert_to_numpy(mnist.scale(x_validation, args.levels))
    if args.validation_noise and args.noise:
        noise = encoder.noise
        validation = ops.convert_to_numpy(noise(validation, training=True))
    validation = devices.part(devices.even(validation))

    def frame():  # of the film of the training: the same codes after every epoch
        x = sample(decoder, configuration, 8 * 8, sigma=0.75, seed=0)
        return pictures.tile(x, data.picture)

    decisive = settings(args, x_train, x_validation)
    film = frame if devices.processes == 1 else None
    keeper = Keeper(args.output, configuration, decisive, film, devices.first)
    if not args.resume:
        keeper.warn()
    else:
        devices.check_shared(keeper.state)
        if keeper.resume(encoder):
            print(f"this run is finished: {keeper.weights}")
            return None
    print(
        f"{encoder.count_params():,} parameters; {len(x_train):,} training pictures, "
        f"{len(x_validation):,} for validation; {keras.backend.backend()}"
    )
    first_epoch = len(keeper.history)
    if first_epoch < args.epochs:  # else it was killed before its pictures were drawn
        # No two processes would stop at the same step.
        with keeper if devices.processes == 1 else contextlib.nullcontext():
            encoder.fit(
                mnist.batches(
                    x_train, args.batch_size, args.seed, args.levels, first_epoch, devices
                ),
                steps_per_epoch=steps,
                initial_epoch=first_epoch,
                epochs=args.epochs,
                validation_data=(validation, validation),
                validation_batch_size=devices.part_size(1000),
                shuffle=False,  # `batches` has its own order
                callbacks=[keeper],
                verbose="auto" if sys.stdout.isatty() else 2,  # a log wants one line an epoch
            )
        keeper.raise_if_stopped()
    return keeper


def leave_pictures(folder, history, frames):
    """loss.png of the history, samples.png from the best weights, training.gif of any frames."""
    curve, grid, film = (
        os.path.join(folder, f) for f in ("loss.png", "samples.png", "training.gif")
    )
    pictures.save(curve, pictures.loss_curve(history))
    _, decoder, configuration = load_with_configuration(os.path.join(folder, TRAINED))
    x = sample(decoder, configuration, 15 * 15, sigma=0.75, seed=0)
    pictures.save(grid, pictures.tile(x, configuration["picture"]))
    frames = [pictures.enlarge(frame, 2) for frame in frames]
    if frames:
        pictures.save_gif(film, [*frames, *frames[-1:] * 4], seconds=0.5)
    print(f"pictures: {curve}, {grid}" + f", {film}" * bool(frames))


def parse(argv=None):
    parser = cli.Parser("Train NICE.")
    add = parser.add_argument
    add("--recipe", choices=RECIPES, default="best", help="a set of defaults for all below")
    add("--epochs", type=number(int, 1), default=20, help="passes over the training pictures")
    add("--batch-size", type=number(int, 1), default=128, help="pictures a step")
    add("--learning-rate", type=number(float, above=0), default=1e-3, help="of Adam")
    add("--schedule", choices=["cosine", "constant"], default="cosine",
        help="of the learning rate; cosine falls to 0")  # fmt: skip
    add("--scale-pace", type=number(float, above=0), default=10.0,
        help="learning rate of log_scale, as a multiple; 1 in 2018")  # fmt: skip
    add("--epsilon", type=number(float, above=0), default=1e-4,
        help="of Adam; 1e-7 in 2018, 1e-4 in the paper")  # fmt: skip
    add("--weight-decay", type=number(float, 0), default=0.3, help="of the kernels, as in AdamW")
    add("--dropout", type=number(float, 0, below=1), default=0.0, help="in the hidden layers of m")
    add("--noise", type=number(float, 0, 1), default=0.01,
        help="width of the training noise in units of the pixel range; 0 for none")  # fmt: skip
    add("--noise-kind", choices=["negative", "positive", "gaussian"], default="negative",
        help="U[-width, 0] (article), U[0, width] (paper) or N(0, width²)")  # fmt: skip
    add("--levels", type=int, choices=[255, 256], default=255,
        help="what pixels are divided by; 256 leaves room for dequantization noise")  # fmt: skip
    add("--couplings", type=number(int, 1, 1000), default=4, help="number of couplings")
    add("--units", type=number(int, 1, 10**6), default=1000, help="width of m's hidden layers")
    add("--depth", type=number(int, 0, 100), default=5, help="number of m's hidden layers")
    add("--output-activation", choices=["relu", "linear"], default="relu", help="of m")
    add("--convention", choices=["article", "paper"], default="article",
        help="article: (9) encodes, (7) decodes; paper: the other way round")  # fmt: skip
    add("--shuffle", choices=["reverse", "random"], default="reverse",
        help="of the dimensions before each coupling")  # fmt: skip
    add("--prior", choices=PRIORS, default="gaussian", help="distribution of the code z")
    add("--validation", choices=["test", "heldout"], default="test",
        help="choose the best weights on the test images, as in 2018, "
        "or on the last 10,000 training images (a sixth of a small set)")  # fmt: skip
    add("--validation-noise", action="store_true", help="validate with noise, drawn once")
    add("--seed", type=cli.SEED, default=0, help="of weights, order and noise")
    add("--data", default=mnist.MNIST, help="an .npz file, an IDX folder, or fashion_mnist")
    add("--output", default=WEIGHTS, help="folder for weights, history and pictures")
    add("--resume", action="store_true",
        help="go on after the last complete epoch; all other flags as before")  # fmt: skip
    add("--distribute", action="store_true",
        help="train on all devices, see distribution.py: TensorFlow or JAX")  # fmt: skip
    recipe = parser.parse_known_args(argv)[0].recipe
    parser.set_defaults(**RECIPES[recipe])
    return parser.parse_args(argv)


RECIPES = {
    "best": {},
    "article": {"schedule": "constant", "scale_pace": 1.0, "epsilon": 1e-7, "weight_decay": 0.0},
    "paper": {  # its model, data and selection; the schedule is ours, the paper's took 1500 epochs
        "prior": "logistic",
        "convention": "paper",
        "output_activation": "linear",
        "noise": 1 / 256,
        "noise_kind": "positive",
        "levels": 256,
        "validation": "heldout",
        "validation_noise": True,
        "weight_decay": 1.0,
        "epochs": 24,
    },
}


def main():
    train(parse())


if __name__ == "__main__":
    cli.run(main)
