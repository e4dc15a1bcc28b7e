"""Make what the page in play/ fetches, of the shipped weights and of MNIST. A minute or two.

    python tools/compact.py

- weights/compact.safetensors.gz: the article's weights, pretrained.safetensors, in a seventh of its
  bytes. Hidden units and outputs of m that no noisy training digit makes respond are left out;
  kernels are whole numbers with a step a column, each rounded so as to make up for the errors of
  the rows before it (OPTQ, arXiv 2210.17323), and gzip packs them to about 4 bits each.
- play/sprite.png: what the sliders of the widest dimensions show before these weights are there.
- play/digits.gz: 1,000 test digits, their pixels and then their labels, bytes.
- play/likelihoods.bin: log p of these digits in nats, float32, a row a model of the page's list.
- play/shipped.js: that list, and where the sprite's frames are.
"""

import json
import os
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli

cli.load_keras()

import numpy as np
import safetensors.numpy

import codes
import nice
from support import checkpoint, data, options, pictures

LISTED = ("pretrained", "deep", "conv", "paper", "noise-free")  # behind the compact one
PLAY = os.path.join(options.HERE, "play")
COMPACT = os.path.join(options.WEIGHTS, "compact" + options.SUFFIX + ".gz")
STEP = 0.25  # of whole numbers, in units of a column's root mean square
DIGITS = 20_000  # training digits that units are tried on
TEST = 1000
SLIDERS, FRAMES, REACH = 6, 9, 6  # of the sprite
UNUSED = "codes/rest"  # is not drawn from


def path_of(name):
    return os.path.join(options.WEIGHTS, name + options.SUFFIX)


def in_m(coupling, layer, part):
    return f"encoder/coupling_{coupling}/m/dense_{layer}/{part}"


# ----------------------------------------------------------------------- smaller


def whole(values, axis, step=STEP):
    """`(I8, steps)`: values are about I8 * steps, a step for each index of the other axes."""
    steps = step * np.sqrt((values**2).mean(axis=axis, keepdims=True)) + 1e-12
    steps = steps.astype("float16").astype("float32").clip(min=1e-7)
    return np.rint(values / steps).clip(-127, 127).astype("int8"), steps


def rounded(kernel, x):
    """A kernel (I, O) as `whole` numbers that leave x @ kernel much as it was; x: (N, I) inputs.

    Row after row: what rounding one row does to the outputs, the later rows take back as far as
    their inputs go with its own.
    """
    _, steps = whole(kernel, 0)
    moments = (x.T @ x / len(x)).astype("float64")
    moments[np.diag_indices_from(moments)] += 0.01 * moments.diagonal().mean()
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T.astype("float32")
    left, numbers = kernel.copy(), np.empty(kernel.shape, "int8")
    for i in range(len(kernel)):
        numbers[i] = np.rint(left[i] / steps[0]).clip(-127, 127)
        error = (left[i] - numbers[i] * steps[0]) / upper[i, i]
        left[i + 1 :] -= np.outer(upper[i, i + 1 :], error)
    return numbers, steps


def smaller(arrays, model, x):
    """The arrays of a file, fewer and rounded; x: pictures (N, D) that decide which and how."""
    if model["output_activation"] != "relu" or model["shuffle"] != "reverse":
        raise SystemExit("only m that end in relu have outputs that never respond")
    kept = {"encoder/scale/log_scale": arrays["encoder/scale/log_scale"].astype("float16")}
    h, sign = x, 1 if model["convention"] == "paper" else -1
    for c in range(1, model["couplings"] + 1):
        h = h[:, ::-1].copy()  # (13)
        a, inputs = h[:, ::2], slice(None)
        for layer in range(1, model["depth"] + 2):
            kernel, bias = (arrays[in_m(c, layer, part)] for part in ("kernel", "bias"))
            out = np.maximum(a @ kernel[inputs] + bias, 0)  # (N, units)
            alive = np.flatnonzero(out.any(axis=0))
            numbers, steps = rounded(kernel[inputs][:, alive], a)
            kept[in_m(c, layer, "kernel")] = numbers
            kept[in_m(c, layer, "step")] = steps[0].astype("float16")
            kept[in_m(c, layer, "bias")] = bias[alive].astype("float16")
            a, inputs = out[:, alive], alive
        kept[f"encoder/coupling_{c}/outputs"] = alive.astype("int32")
        h[:, 1 + 2 * alive] += sign * a
        print(f"coupling {c}: {len(alive)} outputs of {h.shape[1] // 2} respond")
    for name, array in arrays.items():
        if name.startswith(codes.PREFIX) and name != UNUSED:
            kept[name] = array if array.ndim < 2 else array.astype("float16")
    for name, step in (("directions", "step"), ("basis", "basis_step")):
        numbers, steps = whole(arrays[f"codes/{name}"], -1)
        kept[f"codes/{name}"] = numbers
        kept[f"codes/{step}"] = steps[..., 0].astype("float16")
    return kept


def expanded(arrays, model):
    """What `smaller` gave as the arrays of a flow's file, float32: units left out become zeros."""
    half, units = model["dim"] // 2, model["units"]
    full = {"encoder/scale/log_scale": arrays["encoder/scale/log_scale"].astype("float32")}
    for c in range(1, model["couplings"] + 1):
        inputs = half
        for layer in range(1, model["depth"] + 2):
            last = layer > model["depth"]
            numbers = arrays[in_m(c, layer, "kernel")]
            rows, columns = (np.arange(n) for n in numbers.shape)
            if last:
                columns = arrays[f"encoder/coupling_{c}/outputs"]
            outputs = half if last else units
            kernel, bias = np.zeros((inputs, outputs), "float32"), np.zeros(outputs, "float32")
            steps = arrays[in_m(c, layer, "step")].astype("float32")
            kernel[np.ix_(rows, columns)] = numbers * steps
            bias[columns] = arrays[in_m(c, layer, "bias")]
            full[in_m(c, layer, "kernel")], full[in_m(c, layer, "bias")] = kernel, bias
            inputs = outputs
    return full


def read(path=COMPACT):
    """The compact file as `(arrays, configuration)`."""
    with open(path, "rb") as file:
        content = zlib.decompress(file.read(), 31)
    size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    return safetensors.numpy.load(content), json.loads(metadata["configuration"])


def flow_of(arrays, configuration):
    """`nice.Trained` of the compact arrays."""
    encoder, decoder = nice.build(**configuration["model"])
    full = expanded(arrays, configuration["model"])
    checkpoint.assign(checkpoint.named(encoder), full, COMPACT)
    return nice.Trained(encoder, decoder, configuration, name="compact")


def packed(content):
    """gzip: Huffman's codes alone, for numbers as random as these never repeat."""
    how = zlib.compressobj(9, zlib.DEFLATED, 31, 9, zlib.Z_HUFFMAN_ONLY)
    return how.compress(content) + how.flush()


# -------------------------------------------------------------------------- files


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)
    print(f"{os.path.relpath(path)}: {len(content):,} bytes")


def sprite(flow):
    """The frames, a row a slider, and the sliders' dimensions."""
    dimensions = np.argsort(-flow.sigma, kind="stable")[:SLIDERS]
    z = np.zeros((SLIDERS, FRAMES, flow.dim), "float32")
    for row, i in enumerate(dimensions):
        z[row, :, i] = np.linspace(-REACH, REACH, FRAMES)
    frames = flow.pictures(z.reshape(-1, flow.dim))
    return pictures.tile(frames, flow.shape, FRAMES), dimensions


def main():
    source = data.load(options.MNIST)
    configuration, arrays = checkpoint.read(path_of("pretrained"))
    arrays = {n: a for n, a in arrays.items() if not n.startswith(codes.PREFIX)}
    arrays |= nice.load(path_of("pretrained")).codes.arrays()
    rng, x = np.random.default_rng(0), source.x_train[:DIGITS].astype("float32") / 255
    x += rng.uniform(-configuration["model"]["noise"], 0, x.shape).astype("float32")
    small = smaller(arrays, configuration["model"], x)
    content = safetensors.numpy.save(small, {"configuration": json.dumps(configuration)})
    write(COMPACT, packed(content))

    flow, digits = flow_of(*read()), source.x_test[:TEST]
    flows = [flow, *(nice.load(path_of(name)) for name in LISTED)]
    nats = [f.log_likelihood(f.scale(digits)) for f in flows]
    write(os.path.join(PLAY, "likelihoods.bin"), np.array(nats, "<f4").tobytes())
    labels = source.y_test[:TEST].astype("uint8")
    how = zlib.compressobj(9, zlib.DEFLATED, 31, 9)
    content = how.compress(digits.tobytes() + labels.tobytes()) + how.flush()
    write(os.path.join(PLAY, "digits.gz"), content)

    image, dimensions = sprite(flow)
    pictures.save(os.path.join(PLAY, "sprite.png"), image)
    sizes = {"compact": os.path.getsize(COMPACT)}
    sizes |= {name: os.path.getsize(path_of(name)) for name in LISTED}
    sliders = [[int(i), round(float(flow.sigma[i]), 4)] for i in dimensions]
    words = f"{{ reach: {REACH}, frames: {FRAMES}, sliders: {json.dumps(sliders)} }}"
    content = f"""\
/* Written by tools/compact.py. */
const SHIPPED = {json.dumps(sizes)};
const SPRITE = {words}; // dimension, σ
"""
    write(os.path.join(PLAY, "shipped.js"), content.encode())


if __name__ == "__main__":
    cli.run(main)
