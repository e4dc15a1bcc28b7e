"""One view of a trained flow over NumPy arrays, for sample.py, evaluate.py and explore.py."""

import os

import numpy as np
from keras import ops

import nice
from layers import Shuffle
from support import data, pictures


class Trained:
    """A flow and what its file says of it.

    Args:
        encoder, decoder, configuration, codes: see `nice.load_whole`.
        name: what to call it in captions.
    """

    def __init__(self, encoder, decoder, configuration, codes=None, name=""):
        self.encoder, self.decoder, self.configuration = encoder, decoder, configuration
        self.picture, self.levels = configuration["picture"], configuration["levels"]
        self.prior, self.dim = nice.PRIORS[configuration["prior"]], configuration["model"]["dim"]
        self.codes, self.name = codes, name

    @classmethod
    def load(cls, weights):
        print(f"weights: {weights}")
        return cls(*nice.load_whole(weights), os.path.basename(weights))

    def fitted(self, source):
        """The file's codes, see codes.py; where it has none, fitted now to the data `source`."""
        if self.codes is None:
            print(f"these weights carry no fitted codes: fitting them to {source}")
            found = data.load(source, self.dim)
            self.codes = nice.fit_codes(self.encoder, self.levels, found.x_train, found.y_train)
        return self.codes

    def scale(self, pixels):
        """uint8 (N, D) -> float32 (N, D) in [0, 1], as in training."""
        return ops.convert_to_numpy(data.scale(pixels, self.levels))

    def noise(self, shape, rng):
        """The noise of the flow's training, drawn in NumPy; zeros for a flow without."""
        layer = self.encoder.noise
        return np.zeros(shape, "float32") if layer is None else layer.draw(shape, rng)

    def encode(self, x):
        """Pictures (N, D) -> codes (N, D), without noise."""
        return self.encoder.predict(x, batch_size=min(1000, len(x)), verbose=0)

    def decode(self, z):
        """Codes (N, D) -> pictures (N, D), not yet clipped."""
        return self.decoder.predict(np.asarray(z, "float32"), batch_size=1000, verbose=0)

    def draw(self, count, sigma, seed):
        """`count` codes from the prior, at temperature sigma."""
        return nice.draw(self.configuration["prior"], (count, self.dim), sigma, seed)

    def log_likelihood(self, x, density=None):
        """Exact log p(x) = log p(z) + Σ log s in nats, constants included.

        Args:
            x: pictures as they are, (N, D) float32.
            density: what `log_density(z)` to take for p(z); the flow's prior unless given.

        Returns: (N,) float64.
        """
        return (density or self.prior).log_density(self.encode(x)) + self.log_determinant()

    def log_determinant(self):
        """log|det ∂z/∂x| in nats, a plain number."""
        return float(ops.convert_to_numpy(self.encoder.log_determinant()))

    def sigma(self):
        """(16): σ_i = 1/s_i = exp(-log_scale_i), (D,), in units of the pixel range."""
        return np.exp(-ops.convert_to_numpy(self.encoder.flow[-1].log_scale))[0]

    def pixel_sigma(self):
        """σ of each pixel, (D,): the dimension that the shuffles take it to."""
        pixel = np.arange(self.dim)[None]
        for layer in self.encoder.flow:
            if isinstance(layer, Shuffle):
                pixel = ops.convert_to_numpy(layer(pixel))
        sigma = np.empty(self.dim, "float32")
        sigma[pixel[0].astype(int)] = self.sigma()
        return sigma

    def tile(self, x, columns, factor=2):
        """Pictures (N, D) as one image, margins between them, `factor` times their size."""
        image = pictures.tile(x, self.picture, columns, margin=2, background=0.25)
        return pictures.enlarge(image, factor)
