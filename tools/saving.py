"""Time what a training of full size writes after every epoch, and what resuming reads back.

python tools/saving.py
"""

import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli, options

cli.load_keras()

import numpy as np
from performance import peak_memory

import nice
from support import data, devices, pictures, resuming


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def frame():
    return pictures.tile(nice.sample(decoder, configuration, 64), source.picture)


source = data.load()
with tempfile.TemporaryDirectory(dir=".") as folder:
    args = options.training(["--output", folder, "--resume"])
    configuration = options.configuration(args, 784, source.picture)
    encoder, decoder = nice.build(**configuration["model"])
    nice.compile_encoder(encoder, args, 1)
    x = np.asarray(data.scale(source.x_train[:128]))
    encoder.fit(x, x, verbose=0)  # one step
    kept = resuming.Keeper(args, devices.ONE)
    kept.begin(encoder, configuration, "", frame)
    kept.set_model(encoder)
    kept.frames.append(frame())
    writing = [
        seconds(lambda i=i: kept.on_epoch_end(i, {"loss": -float(i), "val_loss": -float(i)}))
        for i in range(9)
    ]
    again = resuming.Keeper(args, devices.ONE)
    resuming_ = [seconds(lambda: again.begin(encoder, configuration, "", frame)) for _ in range(5)]
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
print(f"{size / 1e6:.0f} MB")
for name, values in (("writing", writing), ("resuming", resuming_)):
    print(f"{name}: {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f}")
print(f"peak memory: {peak_memory() / 2**30:.2f} GiB")
