"""Fitted codes: a density of where the codes of real pictures lie, to draw from.

Training pulls the codes z = f(x) towards the prior, but those of digits fill only a small, curved
part of it. A density fitted to them after training (ex-post density estimation, Ghosh et al.,
arXiv 1903.12436) changes no weight, and can be asked for a class:

    p(z) = Σ_g share_g N(z; centre + mean_g B, (V_g B)ᵀ(V_g B) + diag(rest_g²))

The rows of B, (K, D), are shared: the principal directions of √σ z, each over √σ. A class has one
or several groups g, found by k-means; mean_g is (K,), and the rows of V_g, (R, K), are the group's
own widest directions, each times the standard deviation along it. rest_g, (D,), is what they
leave, mostly the training's noise. A code of group g at temperature T is

    z = centre + (mean_g + T eV_g) B,    e ~ N(0, I)

at T = 1 a draw from p without the rest, and its picture is x = ½ + contrast (g(z) - ½), clipped:
what leaves out the rest leaves out the edges' sharpness too, and one number for all pixels makes
the pictures drawn as little grey as those of the training. All of it is NumPy: a seed draws the
same codes on every backend. Shapes: N codes, D dimensions, K of the basis, G groups.
"""

import hashlib
import os
from typing import NamedTuple

import numpy as np
from keras import ops

from support import checkpoint, data, hardware
from support.errors import UserError
from support.options import SUFFIX, TEMPERATURE

PREFIX = "codes/"  # of the tensors in a weights file
NUMBERS = 1_000_000  # stored, about: 2 MB in float16
PICTURES = 30_000  # fitted to, about: more change no figure by more than its noise
BASIS = 300  # K: with 200, digits lose details that a reader of digits sees
DIRECTIONS = 14  # R: 14 groups a class, on average, at full size
COARSE = 64  # principal coordinates of h = σz that k-means looks at
ROWS = 10_000  # that principal directions are found from
CLASSES = 100  # at most
FLOOR = 1e-3  # of the rest: 1000 is the largest density of a dimension that never moves
OLD = "low"  # an array of earlier versions' codes, which count as none


class Codes(NamedTuple):
    """Groups of codes; all float32 but the labels, int32."""

    labels: np.ndarray  # (G,) the class of each group, sorted
    shares: np.ndarray  # (G,) of all codes; they sum to 1
    means: np.ndarray  # (G, K)
    directions: np.ndarray  # (G, R, K), rows of zeros where a group has fewer than R
    basis: np.ndarray  # (K, D)
    centre: np.ndarray  # (D,)
    rest: np.ndarray  # (G, D)
    contrast: np.ndarray  # (1,) of pictures drawn

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
        c = self.means[group]
        for g in np.unique(group):
            c[group == g] += temperature * e[group == g] @ self.directions[g]
        return (self.centre + c @ self.basis).astype("float32")

    def matched(self, pictures, pixels, count=1000, seed=0):
        """These codes with the contrast at which pictures drawn are as grey as real ones.

        Args:
            pictures: codes (N, D) -> pictures (N, D) in [0, 1], black to white.
            pixels: uint8 (N, D); the first `count` count, and as many are drawn.
        """
        rng = np.random.default_rng(seed)
        drawn = pictures(self.sample(self.sample_labels(count, rng), rng))
        real = ops.convert_to_numpy(data.scale(pixels[:count]))
        return self._replace(contrast=contrast(drawn, real))

    def sharpen(self, x):
        """Pictures of codes drawn, (N, D) in [0, 1], at these codes' contrast."""
        return with_contrast(x, self.contrast)

    def log_density(self, z):
        """log p(z) of the formula above, constants included, in nats: (N, D) -> (N,) float64.

        In units of the rest a covariance is I + WᵀW, W = V_g B / rest_g, with the determinant of
        LLᵀ = I + WWᵀ and the inverse I - Wᵀ(LLᵀ)⁻¹W: nothing of size (D, D).
        """
        logs, rests = np.empty((len(z), len(self.labels))), self.rest.astype("float64")
        for g, (share, mean, V, rest) in enumerate(
            zip(self.shares, self.means, self.directions, rests)
        ):
            W = V @ self.basis / rest  # (R, D)
            centred = (z - self.centre - mean @ self.basis) / rest  # (N, D)
            L = np.linalg.cholesky(np.eye(len(W)) + W @ W.T)
            squares = (centred**2).sum(axis=1)
            squares -= (np.linalg.solve(L, W @ centred.T) ** 2).sum(axis=0)
            log_determinant = 2 * (np.log(np.diag(L)).sum() + np.log(rest).sum())
            constant = log_determinant + len(rest) * np.log(2 * np.pi)
            logs[:, g] = np.log(share) - 0.5 * (squares + constant)
        return np.logaddexp.reduce(logs, axis=1)

    def arrays(self):
        """What a weights file holds: `{"codes/…": array}`."""
        return {PREFIX + name: array for name, array in self._asdict().items()}


def of(arrays, dim, path):
    """`Codes` of dimension `dim` from the arrays of the weights file `path`; None if it has none.

    Where the file has none, those of the file beside it count, `beside`, if they were fitted to
    this one. Raises: `UserError` where they are damaged.
    """
    found = {n.removeprefix(PREFIX): a for n, a in arrays.items() if n.startswith(PREFIX)}
    if (not found or OLD in found) and os.path.isfile(beside(path)):
        path, weights = beside(path), path
        described, arrays = checkpoint.read(path)
        if described.get("of") != digest(weights):
            return None
        found = {n.removeprefix(PREFIX): a for n, a in arrays.items()}
    if not found or OLD in found:
        return None
    codes = Codes(**found) if found.keys() == set(Codes._fields) else None
    if codes is None or not _is_sound(codes, dim):
        raise UserError(f"{path} has damaged codes. Take a sound copy of it, or train anew.")
    return codes


def beside(path):
    """Where the codes of a weights file are that holds none itself: NAME.codes.safetensors."""
    return path.removesuffix(SUFFIX) + ".codes" + SUFFIX


def digest(path):
    """What says in a file of codes which weights file they were fitted to."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _is_sound(codes, dim):
    G, R, K = len(codes.labels), codes.directions.shape[1:2], codes.basis.shape[:1]
    shapes = [(G,), (G,), (G, *K), (G, *R, *K), (*K, dim), (dim,), (G, dim), (1,)]
    dtypes = ["int32"] + 7 * ["float32"]
    return bool(
        [(a.shape, a.dtype.name) for a in codes] == list(zip(shapes, dtypes))
        and G > 0
        and codes.shares.min() > 0
        and abs(codes.shares.sum() - 1) < 1e-3
        and codes.rest.min() > 0
        and codes.contrast.min() > 0
    )


# --------------------------------------------------------------------------- fitting


def fitted(trained, source):
    """The codes of a trained flow's file; where it has none, fitted now to the data `source`."""
    if trained.codes is None:
        print(f"these weights carry no fitted codes: fitting them to {source}")
        found = data.load(source, trained.dim)
        trained.codes = of_pictures(trained, found.x_train, found.y_train)
    return trained.codes


def of_pictures(trained, pixels, labels, batch_size=1000):
    """Fit codes to training pictures under the training's noise, with a progress bar.

    To about `PICTURES` of them, the first of every class.

    Args:
        trained: `nice.Trained`.
        pixels: (N, D) as `data.load` has them.
        labels: of these pictures, and of any held out behind them; or None. Labels that are no
            whole numbers, or too many, count as none.
    """
    labels = usable(None if labels is None else labels[: len(pixels)])
    labels = np.zeros(len(pixels)) if labels is None else labels
    some = evenly(labels, PICTURES)
    pixels, labels = pixels[some], labels[some]
    print(f"fitting codes to {len(pixels):,} pictures")
    classes = len(np.unique(labels))
    bar = hardware.progress(-(-len(pixels) // batch_size) + classes + 1, "part")
    rng = np.random.default_rng(0)
    z = np.empty(pixels.shape, "float32")
    for start in range(0, len(pixels), batch_size):
        x = trained.scale(pixels[start : start + batch_size])
        z[start : start + batch_size] = trained.encode(trained.add_noise(x, rng))
        bar.add(1)
    found = fit(z, labels, trained.sigma, done=lambda: bar.add(1))
    found = found.matched(trained.pictures, pixels)
    bar.add(1)
    return found


def fit(z, labels=None, sigma=1.0, numbers=NUMBERS, directions=DIRECTIONS, basis=BASIS, seed=0,
        done=lambda: None):  # fmt: skip
    """Fit codes, those of training pictures with the training's noise. Their contrast is 1.

    Args:
        z: (N, D).
        labels: (N,) whole numbers; None for one class, 0.
        sigma: (D,), what a step in each dimension counts: (16)'s σ = 1/s. k-means measures
            h = σz, which has the picture's distances; directions are those of √σ z, between h,
            where what is wide in the picture comes first, and z, where what stands out of the
            noise does.
        numbers: how many the codes may hold: it decides how many groups a class gets.
        directions: R.
        basis: K at most; a third of the numbers at most.
        seed: of k-means.
        done: called after every class.
    """
    labels = np.zeros(len(z), "int32") if labels is None else np.asarray(labels).astype("int32")
    rng, classes, D = np.random.default_rng(seed), np.unique(labels), z.shape[1]
    root = np.sqrt(np.broadcast_to(np.ravel(sigma), D)).astype("float32")
    centre, some = z.mean(axis=0), rng.permutation(len(z))[:ROWS]
    x = (z - centre) * root  # √σ z; below, h = √σ x
    coarse = x @ (root[:, None] * unit(principal(x[some] * root, COARSE)).T)
    K = max(1, min(basis, D, numbers // (3 * D)))
    axes = unit(principal(x[some], K))  # (K, D)
    c, axes_of_z = x @ axes.T, axes / root
    K, R = len(axes), min(directions, len(axes))
    most = (numbers - K * D) / ((R + 1) * K + D)  # groups in all
    wide = [len(own) * own.var(axis=0).sum() for own in (coarse[labels == a] for a in classes)]
    parts = np.add(wide, 1e-9) / np.add(wide, 1e-9).sum()  # the wider a class, the more groups
    groups, spread = [], z.var(axis=0)
    for label, part in zip(classes, parts):
        members = labels == label
        found = _k_means(coarse[members], round(most * part), 4 * R, rng)
        c_of_class, z_of_class = c[members], z[members]
        for g in np.unique(found):
            inside = found == g
            own, n = c_of_class[inside], inside.sum()
            mean, V = _gaussian(own, R)
            U = unit(V)
            kept = mean + (own - mean) @ U.T @ U  # what mean and directions say of each
            left = z_of_class[inside] - centre - kept @ axes_of_z
            rest = ((left**2).sum(axis=0) + spread) / (n + 1)  # as if of one more code: never 0
            groups.append((label, n / len(z), mean, V, np.maximum(rest**0.5, FLOOR)))
        done()
    labels, shares, means, directions, rest = zip(*groups)
    arrays = shares, means, directions, axes_of_z, centre, rest, [1]
    return Codes(np.array(labels, "int32"), *(np.array(a, "float32") for a in arrays))


def _gaussian(c, R):
    """Mean and directions of a group's coordinates, (n, K) -> (K,) and (R, K)."""
    mean, V = c.mean(axis=0), np.zeros((R, c.shape[1]), "float32")
    widest = principal(c - mean, R)
    V[: len(widest)] = widest
    return mean, V


def principal(x, R):
    """PCA of centred rows x, (n, D): at most R directions times their standard deviations."""
    n, D = x.shape
    if n < D:  # the matrix of inner products is smaller
        V = np.linalg.eigh(x @ x.T)[1].T @ x / n**0.5
    else:
        variances, axes = np.linalg.eigh(x.T @ x / n)
        V = (axes * np.sqrt(np.maximum(variances, 0))).T
    return V[::-1][:R]  # both ascend


def unit(V):
    """Rows at length 1; those of length 0 stay."""
    lengths = np.linalg.norm(V, axis=1, keepdims=True)
    return V / np.where(lengths > 0, lengths, 1)


def _k_means(x, k, least, rng, steps=10):
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


# -------------------------------------------------------------------------- contrast


def with_contrast(x, contrast):
    """½ + contrast (x - ½), clipped to [0, 1]."""
    return np.clip(0.5 + contrast * (x - 0.5), 0, 1)


def contrast(drawn, pictures, steps=20):
    """The contrast at which pictures drawn are as grey as `pictures`, both (·, D) in [0, 1].

    Grey is the mean of x(1 - x), which falls as contrast rises: by bisection. Returns: (1,)
    float32 from 1 to 4.
    """
    grey, low, high = (pictures * (1 - pictures)).mean(), 1.0, 4.0
    for _ in range(steps):
        middle = (low + high) / 2
        x = with_contrast(drawn, middle)
        low, high = (middle, high) if (x * (1 - x)).mean() > grey else (low, middle)
    return np.array([low], "float32")


def evenly(labels, count):
    """About `count` indices, in order: every class's share of them, rounded up, of its first."""
    if len(labels) <= count:
        return np.arange(len(labels))
    _, of_class, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    first = [
        np.flatnonzero(of_class == i)[: -(-count * n // len(labels))] for i, n in enumerate(sizes)
    ]
    return np.sort(np.concatenate(first))


def usable(labels):
    """Labels, (N,) or None; None, and a line, for those that codes cannot have."""
    limits, kinds = np.iinfo("int32"), () if labels is None else np.unique(labels)
    if len(kinds) <= CLASSES and all(
        kind.dtype.kind in "iufb" and limits.min <= kind <= limits.max and kind == int(kind)
        for kind in kinds
    ):
        return labels
    print(f"more than {CLASSES} labels, or no whole numbers: codes without classes, no --digit")
    return None


def _sum_to_one(shares):
    return shares.astype("float64") / shares.sum(dtype="float64")
