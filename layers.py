"""The layers of NICE: each one a map and its inverse.

`layer(x)` is the encoder's direction, picture → code; `layer(y, inverse=True)`
the decoder's, code → picture. A flow is a list of such layers. Run forwards it
encodes; run backwards, with `inverse=True`, the same objects decode, so that
training the encoder trains the decoder too. Both directions take and return
one value; between `Split` and `Concat` that value is the pair of halves.

Formula numbers are those of Su Jianlin's article, kexue.fm/archives/5776. Paper:
Dinh, Krueger and Bengio, "NICE: Non-linear Independent Components Estimation",
arXiv 1410.8516. Shapes: B is the batch, D the number of dimensions (784 pixels).
"""

import keras
import numpy as np
from keras import ops

register = keras.saving.register_keras_serializable(package="nice")


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

    Not a member of the flow: decoding must not add noise.

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
        self.width, self.kind, self.seed = width, kind, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    @property
    def bounds(self):
        """Bounds (low, high) of the uniform noise; None where it is Gaussian."""
        return {"negative": (-self.width, 0.0), "positive": (0.0, self.width)}.get(self.kind)

    def call(self, x, training=False):
        if not training:
            return x
        shape, options = ops.shape(x), {"dtype": self.compute_dtype, "seed": self.seed_generator}
        if self.bounds:
            return x + keras.random.uniform(shape, *self.bounds, **options)
        return x + keras.random.normal(shape, 0.0, self.width, **options)

    def draw(self, shape, rng):
        """The noise alone, of a NumPy generator: the same on every backend. float32."""
        if self.bounds:
            return rng.uniform(*self.bounds, shape).astype("float32")
        return (self.width * rng.standard_normal(shape)).astype("float32")

    def get_config(self):
        return {**super().get_config(), "width": self.width, "kind": self.kind, "seed": self.seed}


@register
class Shuffle(keras.layers.Layer):
    """Permutes the dimensions, so that each coupling meets other halves.

    `y = x[:, permutation]`; log-determinant 0. Reversing is the article's
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
        self.mode, self.seed, self.permutation = mode, seed, permutation

    def build(self, input_shape):
        dim = input_shape[-1]
        if self.mode == "random":
            if self.permutation is None:
                # RandomState: its stream is frozen for all NumPy versions to come.
                self.permutation = np.random.RandomState(self.seed).permutation(dim).tolist()
            if len(self.permutation) != dim:
                raise ValueError(
                    f"The permutation has {len(self.permutation)} indices. "
                    f"Received: input_shape={tuple(input_shape)}"
                )

    def call(self, x, inverse=False):
        if self.mode == "reverse":
            return ops.flip(x, axis=-1)  # its own inverse
        order = np.argsort(self.permutation) if inverse else np.array(self.permutation)
        return ops.take(x, order.astype("int32"), axis=-1)

    def get_config(self):
        names = ("mode", "seed", "permutation")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def split(x):
    """Even and odd dimensions of x: (B, D) -> (B, D/2), (B, D/2)."""
    pairs = ops.reshape(x, (-1, x.shape[-1] // 2, 2))  # (B, D) -> (B, D/2, 2)
    return pairs[..., 0], pairs[..., 1]


def concat(halves):
    """The inverse of `split`: (B, D/2), (B, D/2) -> (B, D), interleaved."""
    x1, x2 = halves
    return ops.reshape(ops.stack([x1, x2], axis=-1), (-1, 2 * x1.shape[-1]))


@register
class Split(keras.layers.Layer):
    """Splits the dimensions in two, interleaved: x1 = even indices, x2 = odd.

    Log-determinant 0. An odd D is refused with a `ValueError`.

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
        return concat(x) if inverse else split(x)


@register
class Concat(Split):
    """Interleaves two halves: `Split` the other way round.

    Log-determinant 0.

    Call arguments:
        x: the pair (B, D/2), (B, D/2); with `inverse` the whole, (B, D).
        inverse: split again.
    """

    def call(self, x, inverse=False):
        return super().call(x, inverse=not inverse)


@register
class Couple(keras.layers.Layer):
    """Additive coupling: moves one half by a function of the other.

        h1 = x1;  h2 = x2 + m(x1)        (7)
        x1 = h1;  x2 = h2 - m(h1)        (9)

    Either is the other's inverse whatever the network m is, and the Jacobian
    is triangular with a unit diagonal: log-determinant 0, (8). By the
    article's convention (9) encodes and (7) decodes: m ends in relu, so m ≥ 0
    and the generator leans towards bright pixels. The paper has it the other
    way round, with a linear output.

    Args:
        units: width of the hidden layers of m.
        depth: number of hidden layers, each with relu.
        output_activation: activation of m's last layer, "relu" or "linear".
        convention: "article", (9) encodes; "paper", (7) encodes.
        dropout: share of hidden units left out in training (after each layer).

    Call arguments:
        x: the pair (B, D/2), (B, D/2).
        inverse: the decoder's direction.
        training: whether dropout is on.
    """

    def __init__(self, units=1000, depth=5, output_activation="relu", convention="article",
                 dropout=0.0, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if convention not in ("article", "paper"):
            raise ValueError(f'`convention` must be "article" or "paper". Received: {convention!r}')
        if units < 1 or depth < 0:
            raise ValueError(f"m needs units >= 1, depth >= 0. Received: {units=}, {depth=}")
        self.units, self.depth, self.output_activation = units, depth, output_activation
        self.convention, self.dropout = convention, dropout

    def build(self, input_shape):
        half, other = (shape[-1] for shape in input_shape)
        if half != other:
            raise ValueError(f"The halves must match. Received: input_shape={input_shape}")
        Dense, policy, layers = keras.layers.Dense, self.dtype_policy, []
        for i in range(1, self.depth + 1):
            layers.append(Dense(self.units, "relu", name=f"dense_{i}", dtype=policy))
            if self.dropout:
                dropout = keras.layers.Dropout(self.dropout, name=f"dropout_{i}", dtype=policy)
                layers.append(dropout)
        last = f"dense_{self.depth + 1}"
        layers.append(Dense(half, self.output_activation, name=last, dtype=policy))
        self.m = keras.Sequential(layers, name="m")
        self.m.build((None, half))

    def call(self, x, inverse=False, training=False):
        x1, x2 = x
        m = self.m(x1, training=training)  # (B, D/2) -> (B, D/2)
        adds = (self.convention == "paper") != inverse
        return (x1, x2 + m) if adds else (x1, x2 - m)  # (7) or (9)

    def get_config(self):
        names = ("units", "depth", "output_activation", "convention", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class Scale(keras.layers.Layer):
    """Scales each dimension by a learned positive number.

        z = s ⊗ h,  s = exp(log_scale)   (14)

    The only layer that changes volume: log|det ∂z/∂h| = Σ log s. In the
    encoder's direction it adds -Σ log s to the loss, which makes the prior's
    negative log-density the loss of (15). As s_i = 1/σ_i, this learns the
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
        if not inverse:
            self.add_loss(-self.log_determinant())
        s = ops.exp(-self.log_scale if inverse else self.log_scale)
        return x * ops.cast(s, self.compute_dtype)

    def log_determinant(self):
        """log|det ∂z/∂x| of the whole flow in nats: a scalar, the same for every x."""
        return ops.sum(self.log_scale)
