"""Time what a training of full size writes after every epoch, and what resuming reads back.

python tools/saving.py
"""

import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli

cli.load_keras()

from performance import peak_memory

import nice
import training
from support import data, options, pictures, resuming


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


found, choices = data.load(), options.recipe()
with tempfile.TemporaryDirectory(dir=".") as folder:
    configuration = options.configuration(choices, 784, found.shape)
    trained = nice.Trained(*nice.build(**configuration["model"]), configuration)
    encoder = trained.encoder
    encoder.compile(loss=nice.gaussian, optimizer=training.optimizer(1))
    x = trained.scale(found.x_train[:128])
    encoder.fit(x, x, verbose=0)  # one step
    film = resuming.Film(lambda _: pictures.tile(trained.sample(64), found.shape))
    film.set_model(encoder)
    keeper = resuming.Keeper(folder, choices, configuration, film)
    keeper.set_model(encoder)

    def end_epoch(i):  # each the best so far
        for callback in (film, keeper):
            callback.on_epoch_end(i, {"loss": -float(i), "val_loss": -float(i)})

    writing = [seconds(lambda i=i: end_epoch(i)) for i in range(9)]
    reading = [seconds(lambda: resuming.restore(encoder, keeper.state, choices)) for _ in range(5)]
    size = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
print(f"{size / 1e6:.0f} MB")
for name, values in (("writing", writing), ("resuming", reading)):
    print(f"{name}: {statistics.median(values):.2f} s, {min(values):.2f} to {max(values):.2f}")
print(f"peak memory: {peak_memory() / 2**30:.2f} GiB")
