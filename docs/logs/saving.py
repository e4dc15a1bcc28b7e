"""Time what a training of full size writes after every epoch, and what resuming reads back.

python docs/logs/saving.py
"""

import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import cli  # noqa: F401, E402  (quietly loads Keras)
import numpy as np  # noqa: E402

import bench  # noqa: E402
import keeper  # noqa: E402
import mnist  # noqa: E402
import nice  # noqa: E402


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


args, data = nice.parse([]), mnist.load()
configuration = nice.configure(args, 784, data.picture)
encoder, decoder = nice.build(**configuration["model"])
nice.compile_encoder(encoder, args, 1)
x = np.asarray(mnist.scale(data.x_train[:128]))
encoder.fit(x, x, verbose=0)  # one step


def frame():
    return nice.pictures.tile(nice.sample(decoder, configuration, 64, 0.75, 0), data.picture)


with tempfile.TemporaryDirectory(dir=".") as folder:
    kept = keeper.Keeper(folder, configuration, {}, frame)
    kept.set_model(encoder)
    kept.on_train_begin()
    writing = [
        seconds(lambda i=i: kept.on_epoch_end(i, {"loss": -float(i), "val_loss": -float(i)}))
        for i in range(9)
    ]
    again = keeper.Keeper(folder, configuration, {}, frame)
    resuming = [seconds(lambda: again.resume(encoder)) for _ in range(5)]
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
print(f"{size / 1e6:.0f} MB")
for name, values in (("writing", writing), ("resuming", resuming)):
    print(f"{name}: {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f}")
print(f"peak memory: {bench.peak_memory() / 2**30:.2f} GiB")
