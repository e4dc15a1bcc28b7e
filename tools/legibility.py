"""How legible are the samples of several weights files? One line a file and temperature.

    python tools/legibility.py FILE ...

A small classifier of MNIST (97.9 % right on the test images) reads 3,000 samples of each:
`confidence` is its mean largest probability, `score` exp E KL(p(class|x) || p(class)), the
inception score over its ten classes, at most 10. Higher is more legible; neither is a likelihood.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support import cli

cli.load_keras()

import keras
import numpy as np

import nice
from support import data

keras.utils.set_random_seed(0)
mnist = data.load()
x = keras.ops.convert_to_numpy(data.scale(mnist.x_train))
layers = keras.layers
reader = keras.Sequential(
    [
        layers.Input((784,)),
        layers.GaussianNoise(0.15),
        layers.Dense(512, activation="relu"),
        layers.Dropout(0.3),
        layers.Dense(256, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
reader.compile("adam", "sparse_categorical_crossentropy")
reader.fit(x, mnist.y_train, epochs=4, batch_size=256, verbose=2)
for path in sys.argv[1:]:
    _, decoder, configuration = nice.load_with_configuration(path)
    for sigma in (0.6, 0.75, 0.9):
        p = reader.predict(nice.sample(decoder, configuration, 3000, sigma, 1), verbose=0)
        score = np.exp((p * np.log((p + 1e-9) / (p.mean(axis=0) + 1e-9))).sum(axis=1).mean())
        print(f"{path}  sigma {sigma}  confidence {p.max(axis=1).mean():.3f}  score {score:.2f}")
