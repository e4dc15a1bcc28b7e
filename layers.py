"""The layers of NICE: each one a map, its inverse, and what it does to volume.

    y, log_det = layer(x)                   encodes: picture → code
    x, log_det = layer(y, inverse=True)     decodes: code → picture

log_det is log|det| of the Jacobian of the direction taken, in nats: a scalar, or (B,) where it
depends on x. A flow is a list of such maps (`nice.Flow`). Run forwards it encodes and adds the
log-determinants up; run backwards, the same objects decode, so that training the encoder trains
the decoder too. Between `Split` and `Concat` the one value is the pair of halves.

Formula numbers are those of Su Jianlin's article, kexue.fm/archives/5776. Paper:
Dinh, Krueger and Bengio, "NICE: Non-linear Independent Components Estimation",
arXiv 1410.8516. Shapes: B is the batch, D the number of dimensions (784 pixels).
"""

import keras
import numpy as np
from keras import ops

from networks import dense, register


class Map(keras.layers.Layer):
    """What the maps below share: shapes stay, and log_det is a float32 scalar.

    Nothing here is needed of a reader's own layer: any that returns `(y, log_det)` is a map.
    """

    def compute_output_spec(self, x, inverse=False, training=None):
        """The shapes of what `call` returns, without running it."""
        specs = [keras.KerasTensor(shape, self.compute_dtype) for shape in self._shapes(x)]
        y = specs[0] if len(specs) == 1 else tuple(specs)
        return y, keras.KerasTensor((), "float32")

    def _shapes(self, x):
        return [half.shape for half in x] if isinstance(x, (list, tuple)) else [x.shape]


def zero():
    """log_det of what keeps volume. A tensor: Keras's functional models take no bare 0.0."""
    return ops.zeros((), "float32")


@register
class Noise(keras.layers.Layer):
    """Adds noise to the pictures, in training only.

        x + u,  u ~ U[-width, 0]    "negative": the article's, width 0.01
                u ~ U[0, width]     "positive": the paper's, width 1/256
                u ~ N(0, width²)    "gaussian"

    The flow is a density on R^D, and pixels are whole numbers: without noise
    some dimensions are constant and the likelihood has no upper bound. The
    article's noise is negative because the generated picture is clipped to
    [0, 1] afterwards, which removes part of it; the paper's is dequantization.

    Not a map, and no member of the flow: decoding must not add noise.

    Args:
        width: in units of the pixel range [0, 1].
        kind: "negative" (default), "positive" or "gaussian".
        seed: integer, makes the noise of a run repeatable.

    Call arguments:
        x: (B, D) pictures.
        training: whether to add noise. Default: no.
    """

    def __init__(self, width=0.01, kind="negative", seed=None, **kwargs):
        super().__init__(**kwargs)
        if not width >= 0:
            raise ValueError(f"`width` must not be negative. Received: width={width}")
        if kind not in ("negative", "positive", "gaussian"):
            raise ValueError(
                f'`kind` must be "negative", "positive" or "gaussian". Received: kind={kind!r}'
            )
        self.width = width
        self.kind = kind
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    @property
    def bounds(self):
        """Bounds (low, high) of the uniform noise; None where it is Gaussian."""
        return {"negative": (-self.width, 0.0), "positive": (0.0, self.width)}.get(self.kind)

    def call(self, x, training=False):
        if not training:
            return x
        options = {"dtype": self.compute_dtype, "seed": self.seed_generator}
        if self.bounds:
            return x + keras.random.uniform(ops.shape(x), *self.bounds, **options)
        return x + keras.random.normal(ops.shape(x), 0.0, self.width, **options)

    def compute_output_shape(self, input_shape):
        return input_shape

    def sample(self, shape, rng):
        """The noise alone, of a NumPy generator: the same on every backend. float32."""
        if self.bounds:
            return rng.uniform(*self.bounds, shape).astype("float32")
        return (self.width * rng.standard_normal(shape)).astype("float32")

    def get_config(self):
        return {**super().get_config(), "width": self.width, "kind": self.kind, "seed": self.seed}


@register
class Shuffle(Map):
    """Permutes the dimensions, so that each coupling meets other halves.

    `y = x[:, permutation]`; log_det = 0. Reversing is the article's
    choice: with an even D it also swaps the parities, and what one coupling
    left alone the next one moves.

    Args:
        mode: "reverse" (default) or "random".
        seed: integer; the random permutation is a function of it and of D.
        permutation: the permutation itself, a list of D indices. Drawn when
            the layer is built unless given; kept in the configuration.

    Call arguments:
        x: (B, D).
        inverse: undo the permutation.
    """

    def __init__(self, mode="reverse", seed=0, permutation=None, **kwargs):
        super().__init__(**kwargs)
        if mode not in ("reverse", "random"):
            raise ValueError(f'`mode` must be "reverse" or "random". Received: mode={mode!r}')
        if permutation is not None and sorted(permutation) != list(range(len(permutation))):
            raise ValueError(f"`permutation` must hold every index once. Received: {permutation}")
        self.mode = mode
        self.seed = seed
        self.permutation = permutation

    def build(self, input_shape):
        dim = input_shape[-1]
        if self.mode == "random" and self.permutation is None:
            # RandomState: its stream is frozen for all NumPy versions to come.
            self.permutation = np.random.RandomState(self.seed).permutation(dim).tolist()
        if self.mode == "random" and len(self.permutation) != dim:
            raise ValueError(
                f"The permutation has {len(self.permutation)} indices. "
                f"Received: input_shape={tuple(input_shape)}"
            )

    def call(self, x, inverse=False):
        if self.mode == "reverse":
            return ops.flip(x, axis=-1), zero()  # its own inverse
        order = np.argsort(self.permutation) if inverse else np.array(self.permutation)
        return ops.take(x, order.astype("int32"), axis=-1), zero()

    def get_config(self):
        names = ("mode", "seed", "permutation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class Split(Map):
    """Splits the dimensions in two, interleaved: x1 = even indices, x2 = odd.

    log_det = 0. An odd D is refused with a `ValueError`.

    Call arguments:
        x: (B, D); with `inverse` the pair (B, D/2), (B, D/2).
        inverse: interleave the halves again.
    """

    def build(self, input_shape):
        whole = not isinstance(input_shape[0], (list, tuple))
        if whole and (input_shape[-1] is None or input_shape[-1] % 2):
            raise ValueError(
                "Two halves need an even number of dimensions (add or drop one pixel column). "
                f"Received: input_shape={tuple(input_shape)}"
            )

    def call(self, x, inverse=False):
        if inverse:
            x1, x2 = x
            pairs = ops.stack([x1, x2], axis=-1)  # (B, D/2), (B, D/2) -> (B, D/2, 2)
            return ops.reshape(pairs, (-1, 2 * x1.shape[-1])), zero()
        pairs = ops.reshape(x, (-1, x.shape[-1] // 2, 2))  # (B, D) -> (B, D/2, 2)
        return (pairs[..., 0], pairs[..., 1]), zero()

    def _shapes(self, x):
        if isinstance(x, (list, tuple)):
            return [(*x[0].shape[:-1], 2 * x[0].shape[-1])]
        return 2 * [(*x.shape[:-1], x.shape[-1] // 2)]


@register
class Concat(Split):
    """Interleaves two halves: `Split` the other way round.

    log_det = 0.

    Call arguments:
        x: the pair (B, D/2), (B, D/2); with `inverse` the whole, (B, D).
        inverse: split again.
    """

    def call(self, x, inverse=False):
        return super().call(x, inverse=not inverse)


@register
class Couple(Map):
    """Additive coupling: moves one half by a function of the other.

        h1 = x1;  h2 = x2 + m(x1)        (7)
        x1 = h1;  x2 = h2 - m(h1)        (9)

    Either is the other's inverse whatever the network m is, and the Jacobian
    is triangular with a unit diagonal: log_det = 0, (8). By the
    article's convention (9) encodes and (7) decodes: m ends in relu, so m ≥ 0
    and the generator leans towards bright pixels. The paper has it the other
    way round, with a linear output.

    Args:
        m: function of D/2 that makes any Keras layer or model (B, D/2) -> (B, D/2). Default:
            `networks.dense`, the article's.
        convention: "article", (9) encodes; "paper", (7) encodes.
        units, depth, output_activation, dropout: of the article's network.

    Call arguments:
        x: the pair (B, D/2), (B, D/2).
        inverse: the decoder's direction.
        training: whether dropout is on.
    """

    def __init__(self, m=None, convention="article", units=1000, depth=5,
                 output_activation="relu", dropout=0.0, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if convention not in ("article", "paper"):
            raise ValueError(f'`convention` must be "article" or "paper". Received: {convention!r}')
        self.make_m = m
        self.convention = convention
        self.network = {"units": units, "depth": depth, "output_activation": output_activation,
                        "dropout": dropout}  # fmt: skip

    def build(self, input_shape):
        half, other = (shape[-1] for shape in input_shape)
        if half != other:
            raise ValueError(f"The halves must match. Received: input_shape={input_shape}")
        if self.make_m:
            self.m = self.make_m(half)
        else:
            self.m = dense(half, **self.network, dtype=self.dtype_policy)
        shape = self.m(keras.KerasTensor((None, half), self.compute_dtype)).shape
        if tuple(shape) != (None, half):
            raise ValueError(f"m must map (B, {half}) to (B, {half}). Received: output {shape}")

    def call(self, x, inverse=False, training=False):
        x1, x2 = x
        m = self.m(x1, training=training)  # (B, D/2) -> (B, D/2)
        adds = (self.convention == "paper") != inverse
        return (x1, x2 + m if adds else x2 - m), zero()  # (7) or (9); (8)

    @property
    def is_positive(self):
        """Whether m >= 0 is known: of the article's network, which ends in relu."""
        return self.make_m is None and self.network["output_activation"] == "relu"

    def get_config(self):
        m = self.make_m and keras.saving.serialize_keras_object(self.make_m)
        return {**super().get_config(), "m": m, "convention": self.convention, **self.network}

    @classmethod
    def from_config(cls, config):
        m = config["m"] and keras.saving.deserialize_keras_object(config["m"])
        return cls(**{**config, "m": m})


@register
class Scale(Map):
    """Scales each dimension by a learned positive number.

        z = s ⊗ h,  s = exp(log_scale);  log_det = Σ log s   (14)

    The only layer here that changes volume. As s_i = 1/σ_i, this learns the
    standard deviation σ_i of the prior instead, (16)-(17); a dimension with a
    small σ has collapsed: the pictures hardly use it.

    The weight has shape (1, D), as in the article's code, whose weights
    `set_weights` therefore takes.

    Call arguments:
        x: (B, D).
        inverse: divide by s.
    """

    def build(self, input_shape):
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(1, input_shape[-1]),
            initializer="zeros",
            autocast=False,  # Σ log s runs to thousands of nats: too much for half precision
        )

    def call(self, x, inverse=False):
        log_scale = -self.log_scale if inverse else self.log_scale
        return x * ops.cast(ops.exp(log_scale), self.compute_dtype), ops.sum(log_scale)
