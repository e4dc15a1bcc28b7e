"""Fitted codes: a density of where the codes of real pictures lie, to draw from.

Training pulls the codes z = f(x) towards the prior, but those of digits fill only a small, curved
part of it. A density fitted to them after training (ex-post density estimation, Ghosh et al.,
arXiv 1903.12436) changes no weight, and can be asked for a class:

    p(z) = Σ_g share_g N(z; mean_g, V_gᵀV_g + diag(rest_g²))

A class has one or several groups g, found by k-means. The rows of V_g, (R, D), are the group's
widest principal directions, each times the standard deviation along it; rest_g, (D,), is what
they leave, dimension by dimension. A code of group g at temperature T is

    z = mean_g + T eV_g, clipped to [low_g, high_g],    e ~ N(0, I)

without the rest, which is noise; the bounds are quantiles of the group's own codes. All of it is
NumPy: a seed draws the same codes on every backend. Shapes: N codes, D dimensions, G groups.
"""

from typing import NamedTuple

import numpy as np

from support import cli, data
from support.errors import UserError
from support.options import TEMPERATURE

PREFIX = "codes/"  # of the tensors in a weights file
NUMBERS = 1_000_000  # stored at most: 2 MB in float16
DIRECTIONS = 26  # R: 8 groups a class at full size, 4 with --recipe deep
CLASSES = 100  # at most
QUANTILE = 0.03  # of a group's codes beyond either bound
FLOOR = 1e-3  # of the rest: 1000 is the largest density of a dimension that never moves


class Codes(NamedTuple):
    """Groups of codes; all float32 but the labels, int32."""

    labels: np.ndarray  # (G,) the class of each group
    shares: np.ndarray  # (G,) of all codes; they sum to 1
    means: np.ndarray  # (G, D)
    directions: np.ndarray  # (G, R, D), rows of zeros where a group has fewer than R
    rest: np.ndarray  # (G, D)
    low: np.ndarray  # (G, D)
    high: np.ndarray  # (G, D)

    @property
    def classes(self):
        """The labels that can be asked for, sorted."""
        return np.unique(self.labels)

    @property
    def is_labelled(self):
        """Whether there are classes: pictures without labels are all of class 0."""
        return bool(self.labels.any())

    def sample_labels(self, count, rng):
        """Labels as frequent as among the pictures: (count,) int32."""
        return self.labels[rng.choice(len(self.labels), count, p=_sum_to_one(self.shares))]

    def check(self, labels):
        """`labels` as int32. Raises: `UserError` for one that no group has."""
        for label in np.setdiff1d(labels, self.labels):
            has = ", ".join(map(str, self.classes))
            raise UserError(f"there is no label {label} to draw; there are {has}.")
        return np.asarray(labels).astype("int32")

    def sample(self, labels, rng, temperature=TEMPERATURE):
        """A code for each of `labels`, (N,) -> (N, D) float32. `rng`: NumPy generator.

        Raises: `UserError` for a label that no group has.
        """
        labels, group = self.check(labels), np.empty(len(labels), int)
        for label in np.unique(labels):
            of_class = np.flatnonzero(self.labels == label)
            wanted, shares = labels == label, _sum_to_one(self.shares[of_class])
            group[wanted] = rng.choice(of_class, wanted.sum(), p=shares)
        e = rng.standard_normal((len(labels), self.directions.shape[1]), dtype="float32")
        z = np.empty((len(labels), self.means.shape[1]), "float32")
        for g in np.unique(group):
            drawn = self.means[g] + temperature * e[group == g] @ self.directions[g]
            z[group == g] = np.clip(drawn, self.low[g], self.high[g])
        return z

    def log_density(self, z):
        """log p(z) of the formula above, constants included, in nats: (N, D) -> (N,) float64.

        In units of the rest a covariance is I + VᵀV, with the determinant of LLᵀ = I + VVᵀ and
        the inverse I - Vᵀ(LLᵀ)⁻¹V: nothing of size (D, D).
        """
        logs = np.empty((len(z), len(self.labels)))
        groups = zip(self.shares, self.means, self.directions, self.rest.astype("float64"))
        for g, (share, mean, V, rest) in enumerate(groups):
            V, centred = V / rest, (z - mean) / rest  # (R, D), (N, D)
            L = np.linalg.cholesky(np.eye(len(V)) + V @ V.T)
            squares = (centred**2).sum(axis=1)
            squares -= (np.linalg.solve(L, V @ centred.T) ** 2).sum(axis=0)
            log_determinant = 2 * (np.log(np.diag(L)).sum() + np.log(rest).sum())
            constant = log_determinant + len(rest) * np.log(2 * np.pi)
            logs[:, g] = np.log(share) - 0.5 * (squares + constant)
        return np.logaddexp.reduce(logs, axis=1)

    def arrays(self):
        """What a weights file holds: `{"codes/…": array}`."""
        return {PREFIX + name: array for name, array in self._asdict().items()}


def of(arrays, dim, path):
    """`Codes` of dimension `dim` from the arrays of the weights file `path`; None if it has none.

    Raises: `UserError` where they are damaged.
    """
    found = {n.removeprefix(PREFIX): a for n, a in arrays.items() if n.startswith(PREFIX)}
    if not found:
        return None
    codes = Codes(**found) if found.keys() == set(Codes._fields) else None
    if codes is None or not _is_sound(codes, dim):
        raise UserError(f"{path} has damaged codes. Take a sound copy of it, or train anew.")
    return codes


def _is_sound(codes, dim):
    G, R = len(codes.labels), codes.directions.shape[1:2]
    shapes = [(G,), (G,), (G, dim), (G, *R, dim), (G, dim), (G, dim), (G, dim)]
    dtypes = ["int32"] + 6 * ["float32"]
    return bool(
        [(a.shape, a.dtype.name) for a in codes] == list(zip(shapes, dtypes))
        and G > 0
        and codes.shares.min() > 0
        and abs(codes.shares.sum() - 1) < 1e-3
        and codes.rest.min() > 0
        and (codes.low <= codes.high).all()
    )


def fitted(trained, source):
    """The codes of a trained flow's file; where it has none, fitted now to the data `source`."""
    if trained.codes is None:
        print(f"these weights carry no fitted codes: fitting them to {source}")
        found = data.load(source, trained.dim)
        trained.codes = of_pictures(trained, found.x_train, found.y_train)
    return trained.codes


def of_pictures(trained, pixels, labels, batch_size=1000):
    """Fit codes to training pictures under the training's noise, with a progress bar.

    They hold a fifth as many numbers as the flow, or `NUMBERS` if that is less.

    Args:
        trained: `nice.Trained`.
        pixels: (N, D) as `data.load` has them.
        labels: of these pictures, and of any held out behind them; or None. Labels that are no
            whole numbers, or too many, count as none.
    """
    labels = np.zeros(len(pixels)) if labels is None else labels[: len(pixels)]
    if not _are_classes(labels):
        print(f"the labels are not whole numbers, at most {CLASSES}: codes without classes")
        labels = np.zeros(len(pixels))
    classes = len(np.unique(labels))
    bar = cli.progress(-(-len(pixels) // batch_size) + classes, "part")
    rng = np.random.default_rng(0)
    z = np.empty(pixels.shape, "float32")
    for start in range(0, len(pixels), batch_size):
        x = trained.scale(pixels[start : start + batch_size])
        z[start : start + batch_size] = trained.encode(trained.add_noise(x, rng))
        bar.add(1)
    numbers = min(NUMBERS, trained.encoder.count_params() // 5)
    return fit(z, labels, trained.sigma, numbers, done=lambda: bar.add(1))


def fit(z, labels=None, sigma=1.0, numbers=NUMBERS, directions=DIRECTIONS, quantile=QUANTILE,
        seed=0, done=lambda: None):  # fmt: skip
    """Fit codes, those of training pictures with the training's noise.

    Args:
        z: (N, D).
        labels: (N,) whole numbers; None for one class, 0.
        sigma: (D,), what a step in each dimension counts in k-means: (16)'s σ = 1/s, by
            which h = σz has the picture's distances. The directions are those of z itself.
        numbers: how many the codes may hold: it decides how many groups a class gets.
        directions: R.
        quantile: share of a group's codes beyond either bound, in each dimension.
        seed: of k-means.
        done: called after every class.
    """
    labels = np.zeros(len(z), "int32") if labels is None else np.asarray(labels).astype("int32")
    classes, D = np.unique(labels), z.shape[1]
    most = numbers // ((directions + 4) * D * len(classes))  # groups a class; 4: the other arrays
    rng, spread, groups = np.random.default_rng(seed), z.var(axis=0), []
    for label in classes:
        members = z[labels == label]
        found = _k_means(members * sigma, most, 2 * directions, rng)
        for g in np.unique(found):
            gaussian = _gaussian(members[found == g], spread, directions, quantile, rng)
            groups.append((label, (found == g).sum() / len(z), *gaussian))
        done()
    dtypes = ["int32"] + ["float32"] * (len(Codes._fields) - 1)
    return Codes(*(np.array(arrays, dtype) for arrays, dtype in zip(zip(*groups), dtypes)))


def _gaussian(z, spread, directions, quantile, rng):
    """Mean, directions, rest and bounds of a group of codes, (n, D), all codes' variance known."""
    mean, V = z.mean(axis=0), np.zeros((directions, z.shape[1]), "float32")
    widest = _principal(z - mean, directions, rng)
    V[: len(widest)] = widest
    rest = np.maximum(z.var(axis=0) - (V**2).sum(axis=0), 0)
    rest = (len(z) * rest + spread) / (len(z) + 1)  # as if one more code lay anywhere: never 0
    bounds = np.quantile(z, [quantile, 1 - quantile], axis=0)
    return mean, V, np.maximum(rest**0.5, FLOOR), *bounds


def _principal(x, R, rng, steps=6):
    """PCA of centred rows x, (n, D): at most R directions times their standard deviations.

    By orthogonal iteration on a few more, for a whole SVD takes minutes over all groups.
    """
    Q = rng.standard_normal((x.shape[1], min(R + 10, x.shape[1])), dtype="float32")
    for _ in range(steps):
        Q, _ = np.linalg.qr(x.T @ (x @ Q))
    _, widths, axes = np.linalg.svd(x @ Q, full_matrices=False)
    return (axes @ Q.T * widths[:, None] / len(x) ** 0.5)[:R]


def _k_means(x, k, least, rng, steps=20):
    """Lloyd's algorithm: the group of each row of x, (N, D) -> (N,), at most k groups.

    None has fewer than `least` rows: the rows of one that has go to the nearest other.
    """
    k = max(1, min(k, len(x) // least))
    centres = x[rng.choice(len(x), k, replace=False)]
    for _ in range(steps):
        group = _nearest(x, centres)
        kept = np.unique(group)
        centres = np.stack([x[group == g].mean(axis=0) for g in kept])
    sizes = np.bincount(_nearest(x, centres), minlength=len(centres))
    return _nearest(x, centres[sizes >= min(least, sizes.max())])


def _nearest(x, centres):
    """Index of the nearest centre: (N, D), (k, D) -> (N,)."""
    return ((centres**2).sum(axis=1) - 2 * x @ centres.T).argmin(axis=1)


def _are_classes(labels):
    limits, kinds = np.iinfo("int32"), np.unique(labels)
    return len(kinds) <= CLASSES and all(
        kind.dtype.kind in "iufb" and limits.min <= kind <= limits.max and kind == int(kind)
        for kind in kinds
    )


def _sum_to_one(shares):
    return shares.astype("float64") / shares.sum(dtype="float64")
