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

import distribution

register = keras.saving.register_keras_serializable(package="nice")


@register
class Noise(keras.layers.Layer):
    """Adds noise to the pictures, in training only.

    `x + u`, `u ~ U[low, high]`, or `x + ε`, `ε ~ N(0, stddev²)`. The flow is a
    density on R^D, and pixels are whole numbers: without noise some dimensions
    are constant and the likelihood has no upper bound. The article's noise is
    negative because the generated picture is clipped to [0, 1] afterwards,
    which removes part of it; the paper's is the dequantization U[0, 1/256].

    Not a member of the flow: decoding must not add noise.

    Several devices add the noise that one would: each of TensorFlow's replicas
    draws the whole batch's, all from one seed, and keeps its own rows.

    Args:
        low, high: bounds of the uniform noise, in units of the pixel range
            [0, 1]. Default: the article's [-0.01, 0].
        stddev: standard deviation, same units. Where given, the noise is
            Gaussian and `low` and `high` are not used.
        seed: integer, makes the noise of a run repeatable.

    Call arguments:
        x: (B, D) pictures.
        training: whether to add noise. Default: no.
    """

    def __init__(self, low=-0.01, high=0.0, stddev=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not low <= high:
            raise ValueError(f"`low` must not be above `high`. Received: low={low}, high={high}")
        if stddev is not None and not stddev >= 0:
            raise ValueError(f"`stddev` must not be negative. Received: stddev={stddev}")
        self.low, self.high, self.stddev, self.seed = low, high, stddev, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        if not training:
            return x
        rows, *rest = ops.shape(x)
        replica, replicas = distribution.replica()
        shape, dtype, seed = (replicas * rows, *rest), self.compute_dtype, self.seed_generator
        if self.stddev is None:
            noise = keras.random.uniform(shape, self.low, self.high, dtype=dtype, seed=seed)
        else:
            noise = keras.random.normal(shape, 0.0, self.stddev, dtype=dtype, seed=seed)
        return x + noise[replica * rows : (replica + 1) * rows]

    def get_config(self):
        config = {"low": self.low, "high": self.high, "stddev": self.stddev, "seed": self.seed}
        return {**super().get_config(), **config}


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
        config = {"mode": self.mode, "seed": self.seed, "permutation": self.permutation}
        return {**super().get_config(), **config}


def split(x):
    """Even and odd dimensions of x: (B, D) -> (B, D/2), (B, D/2)."""
    pairs = ops.reshape(x, (-1, x.shape[-1] // 2, 2))  # (B, D) -> (B, D/2, 2)
    return pairs[..., 0], pairs[..., 1]


def concat(halves):
    """The inverse of `split`: (B, D/2), (B, D/2) -> (B, D), interleaved."""
    x1, x2 = halves
    return ops.reshape(ops.stack([x1, x2], axis=-1), (-1, 2 * x1.shape[-1]))


def check_even(input_shape):
    if input_shape[-1] is None or input_shape[-1] % 2:
        raise ValueError(
            "Two halves need an even number of dimensions (add or drop one pixel column). "
            f"Received: input_shape={tuple(input_shape)}"
        )


@register
class Split(keras.layers.Layer):
    """Splits the dimensions in two, interleaved: x1 = even indices, x2 = odd.

    Log-determinant 0. An odd D is refused with a `ValueError`.

    Call arguments:
        x: (B, D); with `inverse` the pair (B, D/2), (B, D/2).
        inverse: interleave the halves again.
    """

    def build(self, input_shape):
        if not isinstance(input_shape[0], (list, tuple)):
            check_even(input_shape)

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
        seed: integer, seeds the dropout.

    Call arguments:
        x: the pair (B, D/2), (B, D/2).
        inverse: the decoder's direction.
        training: whether dropout is on.
    """

    def __init__(
        self,
        units=1000,
        depth=5,
        output_activation="relu",
        convention="article",
        dropout=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if convention not in ("article", "paper"):
            raise ValueError(f'`convention` must be "article" or "paper". Received: {convention!r}')
        if units < 1 or depth < 0:
            raise ValueError(f"m needs units >= 1, depth >= 0. Received: {units=}, {depth=}")
        self.units, self.depth, self.output_activation = units, depth, output_activation
        self.convention, self.dropout, self.seed = convention, dropout, seed

    def build(self, input_shape):
        half, other = (shape[-1] for shape in input_shape)
        if half != other:
            raise ValueError(f"The halves must match. Received: input_shape={input_shape}")
        layers = []
        for i in range(1, self.depth + 1):
            layers.append(keras.layers.Dense(self.units, activation="relu", name=f"dense_{i}"))
            if self.dropout:
                seed = None if self.seed is None else self.seed + i
                layers.append(keras.layers.Dropout(self.dropout, seed=seed, name=f"dropout_{i}"))
        last = f"dense_{self.depth + 1}"
        layers.append(keras.layers.Dense(half, activation=self.output_activation, name=last))
        self.m = keras.Sequential(layers, name="m")
        self.m.build((None, half))

    def call(self, x, inverse=False, training=False):
        x1, x2 = x
        m = self.m(x1, training=training)  # (B, D/2) -> (B, D/2)
        adds = (self.convention == "paper") != inverse
        return (x1, x2 + m) if adds else (x1, x2 - m)  # (7) or (9)

    def get_config(self):
        config = {
            "units": self.units,
            "depth": self.depth,
            "output_activation": self.output_activation,
            "convention": self.convention,
            "dropout": self.dropout,
            "seed": self.seed,
        }
        return {**super().get_config(), **config}


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
            name="log_scale", shape=(1, input_shape[-1]), initializer="zeros"
        )

    def call(self, x, inverse=False):
        if inverse:
            return x * ops.exp(-self.log_scale)
        self.add_loss(-self.log_determinant())
        return x * ops.exp(self.log_scale)

    def log_determinant(self):
        """log|det ∂z/∂x| of the whole flow in nats: a scalar, the same for every x."""
        return ops.sum(self.log_scale)
