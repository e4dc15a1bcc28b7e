"""Networks m for the couplings: from half the dimensions, (B, D/2), to as many.

Any Keras layer or model will do: a coupling inverts whatever m is. Here are the article's, and a
convolution, which its last section leaves for others to try.
"""

import keras

register = keras.saving.register_keras_serializable(package="nice")


def dense(half, units=1000, depth=5, output_activation="relu", dropout=0.0, dtype=None, name="m"):
    """The article's m: Dense `half` → `depth` × `units` relu → `half`.

    Args:
        half: D/2, what it takes and gives.
        units: width of the hidden layers.
        depth: number of hidden layers, each with relu.
        output_activation: of the last layer, "relu" or "linear".
        dropout: share of hidden units left out in training (after each layer).
    """
    if units < 1 or depth < 0:
        raise ValueError(f"m needs units >= 1, depth >= 0. Received: {units=}, {depth=}")
    layers = []
    for i in range(1, depth + 1):
        layers.append(keras.layers.Dense(units, "relu", name=f"dense_{i}", dtype=dtype))
        if dropout:
            layers.append(keras.layers.Dropout(dropout, name=f"dropout_{i}", dtype=dtype))
    last = keras.layers.Dense(half, output_activation, name=f"dense_{depth + 1}", dtype=dtype)
    return keras.Sequential([*layers, last], name=name)


@register
class Convolution:
    """m as a convolution over half a picture: every other column, H × W/2.

        K × (K+1) → `channels` relu → 1 × 1 → `channels` relu → K × K → 1, or 3 in colour, linear

    A small network on each pixel's neighbourhood, the same everywhere. Reversing turns the picture
    by 180° and so makes odd columns even: in the picture as it then lies x1 is again the even
    columns, x2 the ones to their right. A first kernel of even width reaches as far to the left
    of x2 as to its right. The last kernel starts at a tenth of its usual size, so that the flow
    starts near the identity. In colour a half has three of the six numbers of two pixels side by
    side.

    Args:
        width: W, of the whole picture; even.
        channels: of the hidden layers.
        kernel: K, odd.
        colours: numbers a pixel.
    """

    def __init__(self, width, channels=32, kernel=3, colours=1):
        if width % 2 or not kernel % 2:
            raise ValueError(
                "A convolution for m needs pictures of even width and a kernel of odd size. "
                f"Received: {width=}, {kernel=}"
            )
        self.width = width
        self.channels = channels
        self.kernel = kernel
        self.colours = colours

    def __call__(self, half):
        small = keras.initializers.VarianceScaling(0.01, "fan_avg", "uniform")
        side = self.kernel

        def convolve(number, channels, kernel, activation, **options):
            return keras.layers.Conv2D(
                channels, kernel, padding="same", activation=activation, name=f"conv_{number}",
                data_format="channels_last", **options
            )  # fmt: skip

        layers = [
            keras.layers.Reshape((-1, self.width // 2, self.colours)),
            convolve(1, self.channels, (side, side + 1), "relu"),
            convolve(2, self.channels, 1, "relu"),
            convolve(3, self.colours, side, "linear", kernel_initializer=small),
            keras.layers.Flatten(data_format="channels_last"),
        ]
        return keras.Sequential(layers, name="m")

    def get_config(self):
        return dict(vars(self))

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def of_couplings(network, couplings, shape, shuffle, channels, kernel):
    """The networks of a flow's couplings, by name: a list of functions of D/2, None for `dense`.

    "dense" or "conv" for all of them; "both": convolutions near the picture, as many dense
    networks near the code.
    """
    if network == "dense":
        return [None] * couplings
    if shuffle != "reverse":
        raise ValueError("A convolution for m needs --shuffle reverse: others tear pictures apart.")
    _, width, *colours = shape
    convolution = Convolution(width, channels, kernel, *colours)
    near = couplings if network == "conv" else couplings // 2
    return [convolution] * near + [None] * (couplings - near)
