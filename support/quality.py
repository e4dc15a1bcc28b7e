"""How good are pictures of digits? Measured on samples, (N, 784) float32 in [0, 1], black to white.

A small classifier of MNIST (`tools/classifier.py` trained it, on the training images alone) reads
them. Nothing here is a likelihood, and nothing knows where the pictures come from.
"""

import functools
import os
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops

import codes
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


def figures(x, test, training=None, asked=None, count=4000):
    """All figures of pictures x, (N, 784), by name; None for what there is not.

    Args:
        test: `Reference` of the test digits.
        training: `Reference` of training digits; None to leave the comparison out. Of both as
            many count as the fewer have.
        asked: the digit that each of x is to be, (N,).
        count: pictures of each side that precision and recall are taken of, the first ones.

    Returns: `distance`, Fréchet's to the test digits; `precision` and `recall`, of features;
        `as_asked`, the share read as the digit asked for; `confidence`, the mean of the largest
        probability; `entropy` of the digits read, nats; `nearer` and `nearer_features`, the
        share that lies nearer to the training digits than to the test digits, in pixels and in
        features.
    """
    probabilities, features = read(x)
    classes = probabilities.argmax(axis=1)
    precision, recall = precision_recall(features[:count], test.features[:count])
    pixels = of_features = None
    if training is not None:
        equal = min(len(training.x), len(test.x))
        pixels = nearer(x, training.x[:equal], test.x[:equal])
        of_features = nearer(features, training.features[:equal], test.features[:equal])
    return {
        "pictures": len(x),
        "distance": frechet(features, test.features),
        "precision": precision,
        "recall": recall,
        "as_asked": None if asked is None else float((classes == asked).mean()),
        "confidence": float(probabilities.max(axis=1).mean()),
        "entropy": entropy(classes),
        "nearer": pixels,
        "nearer_features": of_features,
    }


class Reference(NamedTuple):
    """Digits that samples are held against."""

    x: np.ndarray  # (M, 784) float32 in [0, 1]
    features: np.ndarray  # (M, 64)

    @classmethod
    def of(cls, pixels):
        """uint8 (M, 784) -> their pictures and features."""
        x = scaled(pixels)
        return cls(x, read(x)[1])


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


def nearer(x, training, test):
    """Share of x, (N, F), that is nearer to training digits, (M, F), than to test digits, (M, F).

    Samples that know no more of one set than of the other have ½; copies of training digits
    have 1 (Meehan, Chaudhuri and Dasgupta, arXiv 2004.05675). Ties, as of blank pictures, count
    half.
    """
    one, other = (_closest(x, digits) for digits in (training, test))
    return float((one < other).mean() + (one == other).mean() / 2)


def precision_recall(fakes, reals, k=3):
    """Improved precision and recall of features (N, F) and (M, F), `(precision, recall)`.

    Precision: the share of fakes within the ball of some real one that reaches to its k-th
    nearest other. Recall: the share of reals within such balls of the fakes (Kynkäänniemi et
    al., arXiv 1904.06991). Both depend on the counts: compare sets of one size.
    """
    distances = _squares(fakes, reals)  # (N, M)
    of_fakes, of_reals = _radii(fakes, k), _radii(reals, k)
    precision = (distances <= of_reals).any(axis=1).mean()
    recall = (distances <= of_fakes[:, None]).any(axis=0).mean()
    return float(precision), float(recall)


def _radii(x, k):
    """Squared distance of each row of x to its k-th nearest other one: (N,)."""
    squares = _squares(x, x)
    np.fill_diagonal(squares, np.inf)  # no row is its own neighbour; its duplicate is
    return np.partition(squares, k - 1, axis=1)[:, k - 1]


def _squares(x, others):
    """Squared distances by ‖a‖² - 2ab + ‖b‖²: (N, F), (M, F) -> (N, M)."""
    squares = x @ others.T
    squares *= -2
    squares += (x**2).sum(axis=1)[:, None]
    squares += (others**2).sum(axis=1)
    return squares


def _closest(x, others, part=2500):
    """Squared distance of each row of x to the nearest of `others`, ‖x‖² left out: (N,)."""
    least = np.full(len(x), np.inf, "float32")
    for start in range(0, len(others), part):
        some = others[start : start + part]
        products = x @ some.T
        products *= -2
        products += (some**2).sum(axis=1)
        np.minimum(least, products.min(axis=1), out=least)
    return least


def are_digits(source, trials=1000):
    """Whether `data.Pictures` are labelled test digits that the classifier can read."""
    x, labels = source.x_test, source.y_test
    if tuple(source.shape) != PICTURE or x is None or labels is None:
        return False
    read_as = read(scaled(x[:trials]))[0].argmax(axis=1)
    return bool((read_as == labels[:trials]).mean() > 0.9)


# ------------------------------------------------------------------------ what PCA can do


def principal(pixels):
    """PCA of uint8 (N, D).

    Returns: `(mean, components)`: (D,), and (D, D), a component a row, the widest first.
    """
    x = scaled(pixels)
    mean = x.mean(axis=0)
    x -= mean
    return mean, codes.unit(codes.principal(x, x.shape[1]))
