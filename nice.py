"""NICE, the flow of Su Jianlin's article kexue.fm/archives/5776, in Keras 3.

    python nice.py                    train on MNIST, 20 epochs: training.py
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

if __name__ == "__main__":
    from support import cli, options

    args = cli.start(options.training)  # before Keras, so that --help is answered at once
    import training

    raise SystemExit(cli.run(training.main, args))

import functools
import inspect
import os

import keras
import numpy as np
from keras import ops

from layers import Concat, Couple, Noise, Scale, Shuffle, Split, register
from networks import of_couplings
from support import checkpoint, data, hardware, options
from support.errors import UserError

# --------------------------------------------------- the flow: (10), crossed as in (13)


@register
class Flow(keras.Model):
    """A list of maps as one map: (10) from x to z, or with `inverse` back again.

        x = h⁽⁰⁾ ↔ h⁽¹⁾ ↔ h⁽²⁾ ↔ … ↔ h⁽ⁿ⁾ = z                                     (10)
        log|det ∂z/∂x| = Σ log|det ∂h⁽ⁱ⁾/∂h⁽ⁱ⁻¹⁾|

    The encoder adds minus the mean of that sum to its loss, so that with the prior compiled
    into it the loss is (15), whatever the maps are. Two flows over one list share its weights.
    Noise stays outside the list, so that decoding skips it.

    Args:
        maps: list of layers, each called as `layer(x)` or `layer(x, inverse=True)`, which
            returns `(y, log_det)`: see `layers`.
        noise: a layer that the pictures go through first, or None.
        inverse: run the list from its end, every layer inverted.

    Call arguments:
        x: (B, D) pictures; with `inverse`, codes.
        training: whether noise and dropout are on.

    Returns: (B, D) codes; with `inverse`, pictures.
    """

    def __init__(self, maps, noise=None, inverse=False, **kwargs):
        super().__init__(**kwargs)
        for layer in maps:
            if "inverse" not in inspect.signature(layer.call).parameters:
                raise ValueError(NO_MAP.format(layer.name, "a `call` without `inverse`"))
        self.maps = list(maps)
        self.noise = noise
        self.inverse = inverse

    def build(self, input_shape):
        x = keras.KerasTensor(input_shape, self.compute_dtype)
        if self.noise is not None:
            x = self.noise(x)
        if not all(layer.built for layer in self.maps):  # else the summary would show the inverse
            self.map(x)

    def call(self, x, training=False):
        _check_rows(x)
        if self.noise is not None:
            x = self.noise(x, training=training)
        y, log_det = self.map(x)
        if not self.inverse:
            self.add_loss(-ops.mean(log_det))
        return y

    def map(self, x):
        """`(y, log_det)`, without noise: (B, D), and a float32 scalar or (B,) in nats."""
        total = 0.0
        for layer in reversed(self.maps) if self.inverse else self.maps:
            pair = layer(x, inverse=self.inverse)
            if not _is_map(pair):
                raise ValueError(NO_MAP.format(layer.name, pair))
            x, log_det = pair
            total = total + ops.cast(log_det, "float32")
        return x, total

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        config = {
            "maps": [serialize(layer) for layer in self.maps],
            "noise": serialize(self.noise),
            "inverse": self.inverse,
        }
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        def read(layer):
            return keras.saving.deserialize_keras_object(layer, custom_objects)

        own = {"maps": [read(layer) for layer in config["maps"]], "noise": read(config["noise"])}
        return cls(**{**config, **own})


def _check_rows(x):
    if len(x.shape) != 2 or "float" not in keras.backend.standardize_dtype(x.dtype):
        raise ValueError(
            "A flow takes rows of floats, pictures in [0, 1] as (B, D): reshape them, and divide "
            f"bytes by 255. Received: {x.dtype} of shape {tuple(x.shape)}"
        )


NO_MAP = (
    "{} is no map: called as `layer(x)` or `layer(x, inverse=True)` it must return `(y, log_det)`, "
    "log_det a scalar or (B,), in nats (ops.zeros(()) where volume stays). Received: {}"
)


def _is_map(pair):
    return isinstance(pair, tuple) and len(pair) == 2 and len(getattr(pair[1], "shape", "no")) < 2


def build(dim=784, couplings=4, shuffle="reverse", noise=0.01, noise_kind="negative", seed=None,
          m=None, network="dense", shape=None, channels=32, kernel=3, **coupling):  # fmt: skip
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
        m: function of D/2 that makes the network m of a coupling, any Keras layer or model
            (B, D/2) -> (B, D/2); or a list of such functions, one a coupling.
        network, channels, kernel: what m is otherwise, see `networks`; "dense" is the article's.
        shape: of a picture, see `data.Pictures`, for convolutions. Default: a square.
        coupling: convention, units, depth, output_activation, dropout: see `layers.Couple`.

    Returns: `(encoder, decoder)`, two `keras.Model`s, (B, D) -> (B, D).
    """
    if dim % 2:
        raise ValueError(f"A flow needs an even number of dimensions. Received: dim={dim}")
    if m is None:
        square = 2 * (round(dim**0.5),)
        m = of_couplings(network, couplings, shape or square, shuffle, channels, kernel)
    networks = m if isinstance(m, (list, tuple)) else [m] * couplings
    if len(networks) != couplings:
        raise ValueError(f"One m a coupling, please. Received: {len(networks)} for {couplings}")
    maps = []
    for i, m in enumerate(networks, start=1):
        maps += [
            Shuffle(shuffle, seed=(seed or 0) + i, name=f"shuffle_{i}"),  # (B, D) -> (B, D)
            Split(name=f"split_{i}"),  # (B, D) -> (B, D/2), (B, D/2)
            Couple(m, **coupling, name=f"coupling_{i}"),  # one half moved by m of the other
            Concat(name=f"concat_{i}"),  # (B, D/2), (B, D/2) -> (B, D)
        ]
    maps.append(Scale(name="scale"))  # (14)
    noise = Noise(noise, noise_kind, seed, name="noise") if noise else None

    encoder = Flow(maps, noise, name="encoder")
    decoder = Flow(maps, inverse=True, name="decoder")
    for model in (encoder, decoder):
        model(keras.Input((dim,)))  # creates the weights
    return encoder, decoder


def put_before(trained, encoder):
    """Put new couplings between the picture and a trained flow.

    The last maps of `encoder` get the weights of the flow, and learn on with the new ones.

    Args:
        trained: `Trained`.
        encoder: with an even number of couplings more, so that reversed pixels come in the same
            order.

    Raises: `ValueError` where they do not, or the last maps have weights of other shapes.
    """
    known = trained.encoder.maps
    if any(isinstance(layer, Shuffle) and layer.mode != "reverse" for layer in encoder.maps):
        raise ValueError("before a trained flow there must be --shuffle reverse: others mix pixels")
    if (len(encoder.maps) - len(known)) % 8 or len(encoder.maps) <= len(known):
        raise ValueError("an even number of couplings must come before those of the trained flow")
    for layer, source in zip(encoder.maps[-len(known) :], known):
        layer.set_weights(source.get_weights())


# ------------------------------------------- the loss: (15) with its sign changed
#
# Compiled into the encoder a prior gives -log p(z) without its constant; `Flow` adds
# -log|det ∂z/∂x|. Their sum, a mean over the batch, is the negative log-likelihood of x in nats:
#
#     loss = ½‖z‖² - Σ log s                                                      (15)
#
# It is negative: a density in 784 dimensions is large where pixels hardly vary.


class Prior(keras.losses.Loss):
    """The distribution of the codes z, each dimension alike and on its own.

    A prior has `call(_, z)`, its loss: (B, D) -> (B,) nats; `constant`, what that leaves out, in
    nats a dimension; `sample(shape, rng)`, NumPy; and, if it is known, `std`, the standard
    deviation of a dimension.
    """

    std = None

    def log_density(self, z):
        """log p(z) with its constant: (N, D) -> (N,) nats, float64 NumPy."""
        loss = ops.convert_to_numpy(self.call(None, ops.convert_to_tensor(z)))
        return -loss.astype("float64") - z.shape[-1] * self.constant

    def get_config(self):
        return {}


@register
class Gaussian(Prior):
    """The article's prior, z ~ N(0, I)."""

    constant = 0.5 * np.log(2 * np.pi)  # 720.45 for 784 dimensions
    std = 1.0

    def call(self, _, z):
        return 0.5 * ops.sum(ops.square(z), axis=-1)  # ½‖z‖²: (B, D) -> (B,) nats

    def sample(self, shape, rng):
        return rng.standard_normal(shape)


@register
class Logistic(Prior):
    """The paper's prior, standard logistic: log p(z) = Σ -softplus(z) - softplus(-z)."""

    constant = 0.0
    std = np.pi / 3**0.5

    def call(self, _, z):
        return ops.sum(ops.softplus(z) + ops.softplus(-z), axis=-1)  # (B, D) -> (B,) nats

    def sample(self, shape, rng):
        return rng.logistic(size=shape)


gaussian, logistic = Gaussian(), Logistic()
PRIORS = {"gaussian": gaussian, "logistic": logistic}

# --------------------------------------------- a trained flow: likelihood, sampling, (16)


class Trained:
    """A flow and what its weights file says of it: `encoder, decoder = trained`.

    NumPy in, NumPy out. N pictures or codes of D dimensions; pictures count in [0, 1].

    Args:
        encoder, decoder: of `build`.
        configuration: see `options.configuration`.
        codes: see `codes.Codes`; None where the file has none.
        name: what to call it in captions.
    """

    def __init__(self, encoder, decoder, configuration, codes=None, name=""):
        self.encoder = encoder
        self.decoder = decoder
        self.configuration = configuration
        self.codes = codes
        self.name = name
        self.prior = PRIORS[configuration["prior"]]
        self.levels = configuration["levels"]
        self.shape = tuple(configuration["picture"])  # of a picture
        self.dim = configuration["model"]["dim"]

    def __iter__(self):
        return iter((self.encoder, self.decoder))

    def scale(self, pixels):
        """uint8 (N, D) -> float32 (N, D) in [0, 1], as in training."""
        return ops.convert_to_numpy(data.scale(pixels, self.levels))

    def add_noise(self, x, rng):
        """Pictures with the noise of the flow's training, drawn in NumPy."""
        noise = self.encoder.noise
        return x if noise is None else x + noise.sample(x.shape, rng)

    def map(self, x):
        """Pictures (N, D) -> `(z, log_det)`, codes (N, D) and log|det ∂z/∂x| (N,) in nats."""
        z, log_det = _in_batches(self._map, x)
        return z, log_det.astype("float64")

    @functools.cached_property
    def _map(self):
        x = keras.Input((self.dim,))
        z, log_det = self.encoder.map(x)
        return keras.Model(x, [z, log_det + ops.zeros_like(x[:, 0], dtype="float32")])

    def encode(self, x):
        """Pictures (N, D) -> codes (N, D), without noise."""
        return self.map(x)[0]

    def decode(self, z):
        """Codes (N, D) -> pictures (N, D), not yet clipped."""
        return _in_batches(self.decoder, np.asarray(z, "float32"))

    def log_likelihood(self, x, density=None):
        """Exact log p(x) = log p(z) + log|det ∂z/∂x| in nats, constants included.

        Args:
            x: pictures as they are, (N, D) float32.
            density: what `log_density(z)` to take for p(z); the flow's prior unless given.

        Returns: (N,) float64.
        """
        z, log_det = self.map(x)
        return (density or self.prior).log_density(z) + log_det

    def sample_codes(self, count, sigma=0.75, seed=0):
        """Codes from the prior, times the temperature sigma (the article's annealing): (count, D).

        `seed` is an integer, or a NumPy generator to go on drawing from.
        """
        rng = np.random.default_rng(seed)
        return (sigma * self.prior.sample((count, self.dim), rng)).astype("float32")

    def developed(self, x):
        """Pictures (N, D) as the flow has them -> [0, 1], clipped as the article does."""
        return np.clip(x * (self.levels / 255), 0, 1)

    def pictures(self, z):
        """Codes (N, D) -> pictures (N, D) in [0, 1]."""
        return self.developed(self.decode(z))

    def sample(self, count, sigma=0.75, seed=0):
        """Pictures (count, D) of codes from the prior, see `sample_codes`."""
        return self.pictures(self.sample_codes(count, sigma, seed))

    def sample_fitted(self, labels, rng, temperature=options.TEMPERATURE):
        """A picture of each of `labels`, (N,) -> (N, D) in [0, 1], of its fitted codes."""
        return self.codes.sharpen(self.pictures(self.codes.sample(labels, rng, temperature)))

    @property
    def sigma(self):
        """(16): σ_i = 1/s_i = exp(-log_scale_i), (D,), in units of the pixel range."""
        scale = self.encoder.maps[-1]
        if not isinstance(scale, Scale):
            return np.ones(self.dim, "float32")
        return np.exp(ops.convert_to_numpy(-scale.log_scale))[0]

    @property
    def pixel_sigma(self):
        """σ of each pixel, (D,): the dimension that the shuffles take it to."""
        pixel = np.arange(self.dim, dtype="float32")[None]
        for layer in self.encoder.maps:
            if isinstance(layer, Shuffle):
                pixel = ops.convert_to_numpy(layer(pixel)[0])
        sigma = np.empty(self.dim, "float32")
        sigma[pixel[0].astype(int)] = self.sigma
        return sigma


def _in_batches(model, x, size=1000):
    """What a model makes of the rows of x, in NumPy: an array, or a list of them."""
    # On several devices predict_on_batch wants parts of equal size.
    run = model if keras.distribution.distribution() else model.predict_on_batch
    with hardware.exact():
        parts = [run(x[start : start + size]) for start in range(0, len(x), size)]
    if not isinstance(parts[0], list):
        return np.concatenate([ops.convert_to_numpy(part) for part in parts])
    return [np.concatenate([ops.convert_to_numpy(p) for p in of_one]) for of_one in zip(*parts)]


def load(path, m=None):
    """Load a weights file: `Trained`.

    What the file's configuration builds is held against its arrays first, without allocating it.

    Args:
        path: the file.
        m: as it was given to `build`, where it was.

    Raises: `UserError` where the file is missing, damaged or of another kind.
    """
    import codes

    if keras.config.dtype_policy().variable_dtype != "float32":
        raise UserError('weights are float32: call keras.config.set_dtype_policy("float32") first.')
    configuration, arrays = checkpoint.read(path)
    own = {name: a for name, a in arrays.items() if not name.startswith(codes.PREFIX)}
    model = options.check(configuration, PRIORS, path)
    if m is None and model["couplings"] > 4 * len(own):
        raise UserError(f"{path} has fewer arrays than its configuration asks for.")
    with checkpoint.unallocated(1.5 * len(own) + 9) as allocate:  # more: of noise and dropout
        try:
            encoder, decoder = build(**model, m=m, shape=configuration["picture"])
        except ValueError as error:
            raise UserError(f"{path} has a configuration that its arrays do not fit.") from error
        checkpoint.check(checkpoint.named(encoder), own, path)
        allocate()
    checkpoint.assign(checkpoint.named(encoder), own, path)
    fitted = codes.of(arrays, model["dim"], path)
    return Trained(encoder, decoder, configuration, fitted, os.path.basename(path))
