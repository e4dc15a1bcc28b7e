"""How good are pictures of digits? Measured on samples, (N, 784) float32 in [0, 1], black to white.

A small classifier of MNIST (`tools/classifier.py` trained it, on the training images alone) reads
them. Nothing here is a likelihood, and nothing knows where the pictures come from.
"""

import functools
import os

import keras
import numpy as np
from keras import layers, ops

from support import checkpoint, data, options
from support.errors import UserError

PICTURE, CLASSES, FEATURES = (28, 28), 10, 64
CLASSIFIER = os.path.join(options.WEIGHTS, "classifier" + options.SUFFIX)


# ------------------------------------------------------------------------ the classifier


def build():
    """The classifier: (B, 784) in [0, 1] -> (B, 10) probabilities and (B, 64) features >= 0."""
    x = keras.Input((PICTURE[0] * PICTURE[1],))
    h = layers.Reshape((*PICTURE, 1))(x)
    for i, filters in enumerate((16, 32, 64), start=1):  # 28 -> 14 -> 7 -> 3 pixels a side
        h = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv_{i}",
                          data_format="channels_last")(h)  # fmt: skip
        h = layers.MaxPooling2D(2, data_format="channels_last")(h)
    h = layers.Dropout(0.3)(layers.Flatten(data_format="channels_last")(h))
    features = layers.Dense(FEATURES, activation="relu", name="features")(h)
    h = layers.Dropout(0.3)(features)
    probabilities = layers.Dense(CLASSES, activation="softmax", name="classes")(h)
    return keras.Model(x, [probabilities, features], name="classifier")


@functools.cache
def classifier():
    """The classifier with its weights.

    Raises: `UserError` where its file is missing or damaged.
    """
    if not os.path.exists(CLASSIFIER):
        raise UserError(f"there is no {CLASSIFIER}. Make it with: python tools/classifier.py")
    model = build()
    checkpoint.assign(checkpoint.named(model), checkpoint.read(CLASSIFIER)[1], CLASSIFIER)
    return model


def read(x):
    """Read pictures (N, 784): `(probabilities, features)`, (N, 10) and (N, 64) float32."""
    return tuple(classifier().predict(x, batch_size=1000, verbose=0))


# --------------------------------------------------------------------------- the figures


def scaled(pixels):
    """Pixels as in `data.scale` -> [0, 1], black to white: what flows of all levels compare on."""
    return ops.convert_to_numpy(data.scale(pixels))


def figures(x, test, training, asked=None, close=1000):
    """All figures of pictures x, (N, 784), by name; None for what there is not.

    Args:
        test: features of the test digits, (M, 64).
        training: uint8 (K, 784), the training digits; None to leave out the nearest.
        asked: the digit that each of x is to be, (N,).
        close: so many of x are held against the training digits, the first ones.

    Returns: `distance`, Fréchet's to the test digits; `confidence`, the mean of the largest
        probability; `as_asked`, the share read as the digit asked for; `entropy` of the digits
        read, nats; `nearest`, the median distance to the nearest training digit.
    """
    probabilities, features = read(x)
    classes = probabilities.argmax(axis=1)
    return {
        "pictures": len(x),
        "distance": frechet(features, test),
        "confidence": float(probabilities.max(axis=1).mean()),
        "as_asked": None if asked is None else float((classes == asked).mean()),
        "entropy": entropy(classes),
        "nearest": None if training is None else float(np.median(nearest(x[:close], training)[1])),
    }


def frechet(features, others):
    """Fréchet distance of two sets of features, (N, F) and (M, F), taken for N(μ, A), N(ν, B):

        ‖μ - ν‖² + tr(A + B - 2 (A B)^½),   tr (A B)^½ = Σ √λ_i(A^½ B A^½)

    That of Heusel et al., arXiv 1706.08500, whose features are another network's. A few thousand
    pictures read a little too far apart: compare sets of one size.
    """
    (mean, a), (other, b) = (
        (x.mean(axis=0), np.cov(x, rowvar=False))
        for x in (np.asarray(features, "float64"), np.asarray(others, "float64"))
    )
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    mixed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return max(0.0, float(((mean - other) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * mixed))


def entropy(classes):
    """Entropy in nats of the histogram of digits 0 … 9, (N,) integers: at most ln 10 = 2.303."""
    shares = np.bincount(classes, minlength=CLASSES) / len(classes)
    return float(-(shares * np.log(np.where(shares > 0, shares, 1))).sum())


def nearest(x, pixels):
    """The nearest of `pixels` (M, D), see `scaled`, to every row of x, (N, D) in [0, 1].

    Returns: `(indices, distances)`, (N,) each; Euclidean, in units of the pixel range.
    """
    index, least = np.zeros(len(x), int), np.full(len(x), np.inf)
    for start in range(0, len(pixels), 10_000):
        part = scaled(pixels[start : start + 10_000])
        squares = (part**2).sum(axis=1) - 2 * x @ part.T  # and ‖x‖², the same for all
        closest = squares.argmin(axis=1)
        found = squares[np.arange(len(x)), closest]
        closer = found < least
        index[closer], least[closer] = start + closest[closer], found[closer]
    return index, np.linalg.norm(x - scaled(pixels[index]), axis=1)  # exact: 0 for a copy


def are_digits(source, trials=1000):
    """Whether `data.Pictures` are labelled test digits that the classifier can read."""
    x, labels = source.x_test, source.y_test
    if tuple(source.shape) != PICTURE or x is None or labels is None:
        return False
    read_as = read(scaled(x[:trials]))[0].argmax(axis=1)
    return bool((read_as == labels[:trials]).mean() > 0.9)


# ------------------------------------------------------------------------ what PCA can do


def principal(pixels):
    """PCA of uint8 (N, D) by the eigenvectors of its covariance.

    Returns: `(mean, components)`: (D,), and (D, D), a component a row, the widest first.
    """
    mean, moment = np.zeros(pixels.shape[1]), np.zeros((pixels.shape[1],) * 2)
    for start in range(0, len(pixels), 10_000):
        part = scaled(pixels[start : start + 10_000])
        mean += part.sum(axis=0, dtype="float64") / len(pixels)
        moment += part.T @ part / len(pixels)
    _, vectors = np.linalg.eigh(moment - np.outer(mean, mean))
    return mean.astype("float32"), vectors.T[::-1].astype("float32")
