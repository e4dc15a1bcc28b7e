"""NICE, the flow of Su Jianlin's article kexue.fm/archives/5776, in Keras 3.

    python nice.py                    train on MNIST, 20 epochs
    python nice.py --recipe article   as the article's code does
    python nice.py --recipe paper     as the paper does (Dinh et al., arXiv 1410.8516)

In Python, with nothing but Keras:

    encoder, decoder = nice.build()
    encoder.compile("adam", loss=nice.gaussian)
    encoder.fit(x, x, batch_size=128, epochs=20)   # pictures (N, D) in [0, 1]

    encoder, decoder = nice.load("weights/pretrained.safetensors")
    z = encoder(x)                                 # pictures -> codes, (B, D) -> (B, D)
    x = decoder(z)
"""

from support import cli, options

if __name__ == "__main__":
    args = cli.start(options.training)  # before Keras, so that --help is answered at once

import os
import sys

import keras
import numpy as np
from keras import ops

import codes
from layers import Concat, Couple, Noise, Scale, Shuffle, Split, register

# --------------------------------------------------- the flow: (10), crossed as in (13)


@register
class Flow(keras.Model):
    """A list of layers as one map: (10) from x to z, or with `inverse` back again.

        x = h⁽⁰⁾ ↔ h⁽¹⁾ ↔ h⁽²⁾ ↔ … ↔ h⁽ⁿ⁾ = z                                     (10)

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

    def log_determinant(self):
        """log|det ∂z/∂x| in nats, the same for every x: that of its layers, Σ log s."""
        return sum(layer.log_determinant() for layer in self.flow if isinstance(layer, Scale))

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


def build(dim=784, couplings=4, shuffle="reverse", noise=0.01, noise_kind="negative",
          seed=None, **network):  # fmt: skip
    """Build the encoder and the decoder over the same layers.

    (13): the halves cross between couplings, for reversing an even number of dimensions
    turns even indices into odd ones. Without arguments: the article's model, 19,158,352
    parameters. Training either model trains both. `encoder.get_weights()` is coupling 1's
    kernels and biases from input to output, coupling 2's, …, then log_scale.

    Args:
        dim: D, pixels a picture; even.
        couplings: number of couplings.
        shuffle: "reverse" or "random", see `layers.Shuffle`.
        noise: width of the training noise, in units of the pixel range [0, 1]; 0 for none.
        noise_kind: "negative" (the article's), "positive" or "gaussian", see `layers.Noise`.
        seed: integer, of the noise and of random shuffles.
        network: units, depth, output_activation, convention, dropout: see `layers.Couple`.

    Returns: `(encoder, decoder)`, two `keras.Model`s, (B, D) -> (B, D).
    """
    flow = []
    for i in range(1, couplings + 1):
        flow += [
            Shuffle(shuffle, seed=(seed or 0) + i, name=f"shuffle_{i}"),  # (B, D) -> (B, D)
            Split(name=f"split_{i}"),  # (B, D) -> (B, D/2), (B, D/2)
            Couple(**network, name=f"coupling_{i}"),  # one half moved by m of the other
            Concat(name=f"concat_{i}"),  # (B, D/2), (B, D/2) -> (B, D)
        ]
    flow.append(Scale(name="scale"))  # (14)
    noise = Noise(noise, noise_kind, seed, name="noise") if noise else None

    encoder = Flow(flow, noise, name="encoder")
    decoder = Flow(flow, inverse=True, name="decoder")
    for model in (encoder, decoder):
        model(keras.Input((dim,)))  # creates the weights
    return encoder, decoder


# ------------------------------------------- the loss: (15) with its sign changed
#
# Compiled into the encoder a prior gives -log p(z) without its constant; `Scale` adds
# -Σ log s. Their sum, a mean over the batch, is the negative log-likelihood of x in nats:
#
#     loss = ½‖z‖² - Σ log s                                                      (15)
#
# It is negative: a density in 784 dimensions is large where pixels hardly vary.


class Prior(keras.losses.Loss):
    """The distribution of the codes z: `call` is its loss, `constant` what that leaves out."""

    def log_density(self, z):
        """log p(z) with its constant: (N, D) -> (N,) nats, float64 NumPy."""
        loss = ops.convert_to_numpy(self.call(None, ops.convert_to_tensor(z)))
        return -loss.astype("float64") - z.shape[-1] * self.constant

    def get_config(self):
        return {}


@register
class Gaussian(Prior):
    """The article's prior, z ~ N(0, I)."""

    constant = 0.5 * np.log(2 * np.pi)  # nats a dimension; 720.45 for 784

    def call(self, _, z):
        return 0.5 * ops.sum(ops.square(z), axis=-1)  # ½‖z‖²: (B, D) -> (B,) nats

    def draw(self, generator, shape):
        return generator.standard_normal(shape)


@register
class Logistic(Prior):
    """The paper's prior, standard logistic: log p(z) = Σ -softplus(z) - softplus(-z)."""

    constant = 0.0

    def call(self, _, z):
        return ops.sum(ops.softplus(z) + ops.softplus(-z), axis=-1)  # (B, D) -> (B,) nats

    def draw(self, generator, shape):
        return generator.logistic(size=shape)


gaussian, logistic = Gaussian(), Logistic()
PRIORS = {"gaussian": gaussian, "logistic": logistic}


# ---------------------------------------------------------------------- sampling


def draw(prior, shape, sigma, seed):
    """Codes z from the prior, times the temperature sigma (the article's annealing).

    `seed` is an integer, or a NumPy generator to go on drawing from. Returns: float32 NumPy.
    """
    return (sigma * PRIORS[prior].draw(np.random.default_rng(seed), shape)).astype("float32")


def samples(decoder, configuration, count, sigma, seed, batch_size=1000):
    """Yield `count` pictures of temperature sigma in batches: (batch_size, D) in [0, 1]."""
    generator, dim = np.random.default_rng(seed), configuration["model"]["dim"]
    # On several devices predict_on_batch wants parts of equal size.
    decode = decoder if keras.distribution.distribution() else decoder.predict_on_batch
    for start in range(0, count, batch_size):
        shape = (min(batch_size, count - start), dim)
        z = draw(configuration["prior"], shape, sigma, generator)
        x = ops.convert_to_numpy(decode(z)) * (configuration["levels"] / 255)
        yield np.clip(x, 0, 1)


def sample(decoder, configuration, count, sigma=0.75, seed=0):
    """All of `samples` at once: (count, D)."""
    return np.concatenate(list(samples(decoder, configuration, count, sigma, seed)))


# ---------------------------------------------------------------------- training

from support import checkpoint, data, devices, pictures  # noqa: E402
from support.optimizer import adam  # noqa: E402
from support.resuming import Keeper  # noqa: E402


def train(args):
    """`python nice.py`: pictures -> flow -> loss and optimizer -> epochs -> pictures."""
    keras.utils.set_random_seed(args.seed)
    on = devices.start(args)
    with Keeper(args, on) as keeper:
        with on.scope():
            source = data.load(args.data)
            x, x_validation = source.split(args.validation)  # uint8 (N, D)
            configuration = options.configuration(args, x.shape[1], source.picture)
            encoder, decoder = build(**configuration["model"])
            compile_encoder(encoder, args, args.epochs * data.steps(len(x), args.batch_size, on))
            validation = ops.convert_to_numpy(data.scale(x_validation, args.levels))
            if args.validation_noise and args.noise:
                validation = ops.convert_to_numpy(encoder.noise(validation, training=True))
            validation = on.part(on.even(validation))

            def frame():  # of the film: the same codes after every epoch
                return pictures.tile(sample(decoder, configuration, 8 * 8), source.picture)

            if not keeper.begin(encoder, configuration, data.digest(x, x_validation), frame):
                return
            print(
                f"{encoder.count_params():,} parameters; {len(x):,} training pictures, "
                f"{len(x_validation):,} for validation; {keras.backend.backend()}"
            )
            if keeper.epoch < args.epochs:  # else killed before its pictures were drawn
                fit(encoder, x, args, on, keeper.epoch, callbacks=[keeper],
                    validation_data=(validation, validation),
                    validation_batch_size=on.part_size(1000),
                    verbose="auto" if sys.stdout.isatty() else 2)  # fmt: skip
        if on.first:
            leave_pictures(keeper)
            keeper.finish()


def compile_encoder(encoder, args, total_steps):
    """Give the encoder its loss (15) and its optimizer, for `total_steps` steps."""
    encoder.compile(loss=PRIORS[args.prior], optimizer=adam(args, total_steps))


def fit(encoder, x, args, on=devices.ONE, first_epoch=0, **choices):
    """Train a compiled encoder on uint8 (N, D), an order of its own in every epoch."""
    encoder.fit(
        data.batches(x, args.batch_size, args.seed, args.levels, first_epoch, on),
        steps_per_epoch=data.steps(len(x), args.batch_size, on),
        initial_epoch=first_epoch,
        epochs=args.epochs,
        shuffle=False,  # `batches` has shuffled
        **choices,
    )


def leave_pictures(keeper):
    """loss.png of the history, samples.png from the best weights, training.gif of any frames."""
    best, names = keeper.best, ("loss.png", "samples.png", "training.gif")
    print(f"best validation loss {best['val_loss']:.2f} at epoch {best['epoch']}: {keeper.weights}")
    curve, grid, film = (os.path.join(keeper.args.output, name) for name in names)
    pictures.save(curve, pictures.loss_curve(keeper.history))
    _, decoder, configuration = load_with_configuration(keeper.weights)
    x = sample(decoder, configuration, 15 * 15)
    pictures.save(grid, pictures.tile(x, configuration["picture"]))
    if keeper.frames:
        pictures.save_film(film, keeper.frames)
    print(f"pictures: {curve}, {grid}" + f", {film}" * bool(keeper.frames))


def fit_codes(encoder, levels, pixels, labels, batch_size=1000):
    """Fit codes.py's density to training pictures, uint8 (N, D), under the training noise.

    Raises: `UserError` for labels that are no whole numbers.
    """
    rng, z = np.random.default_rng(0), []
    classes = 1 if labels is None else len(np.unique(labels))
    bar = keras.utils.Progbar(-(-len(pixels) // batch_size) + classes, unit_name="part")
    for start in range(0, len(pixels), batch_size):
        x = ops.convert_to_numpy(data.scale(pixels[start : start + batch_size], levels))
        if encoder.noise:
            x = x + encoder.noise.draw(x.shape, rng)
        z.append(ops.convert_to_numpy(encoder.predict_on_batch(x)))
        bar.add(1)
    sigma = ops.convert_to_numpy(ops.exp(-encoder.flow[-1].log_scale))  # (16)
    numbers = min(codes.NUMBERS, encoder.count_params() // 5)
    return codes.fit(np.concatenate(z), labels, sigma, numbers, done=lambda: bar.add(1))


def load(path):
    """Load a weights file: the pair of `build`, with the weights in place.

    Raises: `UserError` where the file is missing, damaged or of another kind.
    """
    return load_with_configuration(path)[:2]


def load_with_configuration(path):
    """Like `load`: `(encoder, decoder, configuration)`."""
    return load_whole(path)[:3]


def load_whole(path):
    """Like `load`: `(encoder, decoder, configuration, codes)`, see `codes.of`."""
    configuration, arrays = checkpoint.read(path)
    own = {name: a for name, a in arrays.items() if not name.startswith(codes.PREFIX)}
    model = options.check(configuration, sum(array.size for array in own.values()), path)
    encoder, decoder = build(**model)
    checkpoint.assign(checkpoint.named(encoder), own, path)
    return encoder, decoder, configuration, codes.of(arrays, model["dim"], path)


if __name__ == "__main__":
    cli.run(train, args)
