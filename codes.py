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

from support.cli import UserError

PREFIX = "codes/"  # of the tensors in a weights file
TEMPERATURE = 2.1  # T: as far from training digits as test digits are, see docs/codes.md
NUMBERS = 2_000_000  # stored at most: 4 MB in float16
DIRECTIONS = 21  # R
QUANTILE = 0.01  # of a group's codes beyond either bound
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

    def draw_labels(self, count, rng):
        """Labels as frequent as among the pictures: (count,) int32."""
        return self.labels[rng.choice(len(self.labels), count, p=_sum_to_one(self.shares))]

    def draw(self, labels, rng, temperature=TEMPERATURE):
        """A code for each of `labels`, (N,) -> (N, D) float32. `rng`: NumPy generator.

        Raises: `UserError` for a label that no group has.
        """
        labels, group = np.asarray(labels), np.empty(len(labels), int)
        for label in np.unique(labels):
            of_class = np.flatnonzero(self.labels == label)
            if not len(of_class):
                raise UserError(f"there is no class {label}: {', '.join(map(str, self.classes))}.")
            wanted, shares = labels == label, _sum_to_one(self.shares[of_class])
            group[wanted] = rng.choice(of_class, wanted.sum(), p=shares)
        e = rng.standard_normal((len(labels), self.directions.shape[1]), dtype="float32")
        z = np.empty((len(labels), self.means.shape[1]), "float32")
        for g in np.unique(group):
            drawn = self.means[g] + temperature * e[group == g] @ self.directions[g]
            z[group == g] = np.clip(drawn, self.low[g], self.high[g])
        return z

    def log_density(self, z, batch_size=2000):
        """log p(z) of the formula above, in nats: (N, D) -> (N,) float64.

        With V = directions, A = diag(rest²): det(A + VᵀV) = det A det(I + VA⁻¹Vᵀ), and
        (A + VᵀV)⁻¹ = A⁻¹ - WᵀW, where W = L⁻¹VA⁻¹ and LLᵀ = I + VA⁻¹Vᵀ.
        """
        means, V, precision = (
            a.astype("float64")
            for a in (self.means, self.directions, self.rest.astype("float64") ** -2)
        )
        L = np.linalg.cholesky(np.eye(V.shape[1]) + (V * precision[:, None]) @ V.swapaxes(1, 2))
        W = np.linalg.solve(L, V * precision[:, None])  # (G, R, D)
        log_determinants = 2 * np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1)
        log_determinants -= np.log(precision).sum(axis=1)
        constants = -0.5 * (log_determinants + z.shape[1] * np.log(2 * np.pi))
        constants += np.log(self.shares)  # (G,)

        def density(z):
            moved = (z @ W.reshape(-1, z.shape[1]).T).reshape(len(z), *V.shape[:2])
            moved -= (W @ means[..., None])[..., 0]  # (N, G, R): W(z - mean)
            squares = z**2 @ precision.T - 2 * z @ (means * precision).T
            squares += (means**2 * precision).sum(axis=1)
            logs = constants - 0.5 * (squares - (moved**2).sum(axis=2))  # (N, G)
            return np.logaddexp.reduce(logs, axis=1)

        parts = (z[i : i + batch_size] for i in range(0, len(z), batch_size))
        return np.concatenate([density(part.astype("float64")) for part in parts])

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
        raise UserError(f"{path} has damaged codes. Fit them anew: python tools/ship.py")
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


def fit(z, labels=None, sigma=1.0, numbers=NUMBERS, seed=0, done=lambda: None):
    """Fit codes, those of training pictures with the training's noise.

    Args:
        z: (N, D).
        labels: (N,) whole numbers, or None: all of one class, 0.
        sigma: (D,), what a step in each dimension counts in k-means: (16)'s σ = 1/s, by
            which h = σz has the picture's distances. The directions are those of z itself.
        numbers: how many the codes may hold: it decides how many groups a class gets.
        seed: of k-means.
        done: called after every class.

    Raises: `UserError` for labels that are no whole numbers.
    """
    labels = np.zeros(len(z), "int32") if labels is None else _whole(labels)
    classes, D = np.unique(labels), z.shape[1]
    most = max(1, numbers // (len(classes) * (DIRECTIONS + len(Codes._fields) - 3) * D))
    rng, spread, groups = np.random.default_rng(seed), z.var(axis=0), []
    for label in classes:
        members = z[labels == label]
        group = _k_means(members * sigma, most, 2 * DIRECTIONS, rng)
        groups += [_gaussian(label, members[group == g], len(z), spread) for g in np.unique(group)]
        done()
    return Codes(*(np.stack(arrays) for arrays in zip(*groups)))


def _gaussian(label, z, count, spread):
    """The group of codes z, (n, D), among `count` codes of variance `spread`."""
    n, D = z.shape
    mean, shape = z.mean(axis=0), (min(n, D), D)
    _, widths, axes = np.linalg.svd(z - mean, full_matrices=False)
    V = np.zeros((DIRECTIONS, D), "float32")
    R = min(DIRECTIONS, *shape)
    V[:R] = axes[:R] * widths[:R, None] / n**0.5
    rest = np.maximum(z.var(axis=0) - (V**2).sum(axis=0), 0)
    rest = (n * rest + spread) / (n + 1)  # as if one more code lay anywhere: never 0
    rest = np.maximum(rest**0.5, FLOOR)
    low, high = np.quantile(z, [QUANTILE, 1 - QUANTILE], axis=0)
    arrays = (n / count, mean, V, rest, low, high)
    return np.int32(label), *(np.asarray(a, "float32") for a in arrays)


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


def _whole(labels):
    """Labels as int32. Raises: `UserError` where they are something else."""
    labels = np.asarray(labels)
    whole = labels.astype("int32") if labels.dtype.kind in "iufb" else None
    if whole is None or not (whole == labels).all():
        raise UserError("labels must be whole numbers for codes of each class.")
    return whole


def _sum_to_one(shares):
    return shares.astype("float64") / shares.sum(dtype="float64")
