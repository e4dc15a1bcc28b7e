"""Inpainting by gradient ascent on the likelihood: the paper's section 5.3."""

import keras
import numpy as np
from keras import ops

from support import hardware


def masks(height, width, seed=0):
    """The paper's twelve masks: name -> (height, width) bool, True where a pixel is hidden."""
    rows, columns = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)

    def middle(i, n):
        return (n // 4 <= i) & (i < n - n // 4)

    return {
        "top": rows < height // 2,
        "bottom": rows >= height // 2,
        "left": columns < width // 2,
        "right": columns >= width // 2,
        "even rows": rows % 2 == 0,
        "odd rows": rows % 2 == 1,
        "even columns": columns % 2 == 0,
        "odd columns": columns % 2 == 1,
        "middle rows": middle(rows, height),
        "middle columns": middle(columns, width),
        "random 75 %": rng.random((height, width)) < 0.75,
        "random 90 %": rng.random((height, width)) < 0.90,
    }


def log_likelihood_gradient(encoder, prior):
    """A compiled function x -> ∂ log p(x)/∂x, (N, D) -> (N, D) NumPy, on any backend."""

    def total(x):
        z, log_det = encoder.map(x)
        return ops.sum(log_det) - ops.sum(prior.call(None, z))

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = total(x)
            return tape.gradient(y, x)

    elif backend == "jax":
        import jax

        gradient = jax.jit(jax.grad(total))
    else:
        import torch

        def gradient(x):
            x = x.detach().requires_grad_()
            return torch.autograd.grad(total(x), x)[0]

    def exactly(x):
        with hardware.exact():
            return ops.convert_to_numpy(gradient(ops.convert_to_tensor(x)))

    return exactly


def ascend(gradient, sigma, x, mask, start, rng, steps):
    """Fill in hidden pixels by projected gradient ascent on log p(x).

        x_H <- x_H + α_i σ_H² (∂log p(x)/∂x_H + ε),  ε ~ N(0, I),  α_i = 10/(100 + i)

    then back into [0, 1]. The σ² is not the paper's, which had smoother densities: here
    ∂²log p/∂x² is near -1/σ², enormous where a dimension has collapsed, and a step of 0.1
    diverges on it. So each pixel's step is measured in its own σ (16).

    Args:
        gradient: see `log_likelihood_gradient`.
        sigma: (D,) σ of each pixel.
        x: (N, D) the true pictures; mask: (N, D) bool, True where a pixel is hidden.
        start: (D,) what the hidden pixels start from.
        rng: NumPy generator of ε.

    Yields: the filled pictures (N, D), before the first and after every step.
    """
    y = np.where(mask, start, x).astype("float32")
    yield y
    bar = hardware.progress(steps, "step")
    for i in range(steps):
        step = 10 / (100 + i) * sigma**2 * (gradient(y) + rng.standard_normal(x.shape))
        y = np.where(mask, np.clip(y + step, 0, 1), x).astype("float32")
        bar.add(1)
        yield y
