"""Train the classifier that reads samples: `support/quality.py`. A few minutes on one core.

    python tools/classifier.py

Of MNIST's training images alone, each moved by up to two pixels either way; the test images are
counted once, at the end, from the file as written. Seeded.
"""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli

cli.load_keras()

import keras
import numpy as np

from support import checkpoint, data, quality

EPOCHS, BATCH, RATE, SHIFT = 8, 128, 2e-3, 2


class Moved(keras.utils.PyDataset):
    """Batches in an order of their own every epoch, each batch moved as one."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.rng = x.reshape(-1, *quality.PICTURE), y, np.random.default_rng(0)
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.x) // BATCH)

    def on_epoch_end(self):
        self.order = self.rng.permutation(len(self.x))

    def __getitem__(self, index):
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        move = self.rng.integers(-SHIFT, SHIFT + 1, 2)
        x = np.roll(self.x[chosen], move, axis=(1, 2))  # MNIST's margin of 4 pixels is black
        return x.reshape(len(x), -1), self.y[chosen]


def main():
    keras.utils.set_random_seed(0)
    source, start = data.load(), time.perf_counter()
    batches = Moved(quality.scaled(source.x_train), source.y_train)
    model = quality.build()
    rate = keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * len(batches))
    learner = keras.Model(model.input, model.output[0])
    loss = "sparse_categorical_crossentropy"
    learner.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    learner.fit(batches, epochs=EPOCHS, shuffle=False, verbose=2)
    arrays = {
        name: keras.ops.convert_to_numpy(v).astype("float16")
        for name, v in checkpoint.named(model).items()
    }
    checkpoint.save(quality.CLASSIFIER, arrays, {"classifier": "MNIST", "epochs": EPOCHS})
    x = quality.scaled(source.x_test)
    right = (quality.read(x)[0].argmax(axis=1) == source.y_test).mean()
    print(
        f"{os.path.relpath(quality.CLASSIFIER)}: {100 * right:.2f} % of {len(x):,} test images "
        f"read right, {model.count_params():,} parameters, "
        f"{os.path.getsize(quality.CLASSIFIER):,} bytes, {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    cli.run(main)
