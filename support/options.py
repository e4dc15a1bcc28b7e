"""Every choice of a training, once: its flag, its range, its default, and its check in a file."""

import argparse
import math
import os
import reprlib
import sys
from typing import Any, NamedTuple

from support.errors import UserError, printable

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MNIST = os.path.join(HERE, "data", "mnist.npz")
WEIGHTS = os.path.join(HERE, "weights")
SUFFIX = ".safetensors"
TRAINED = "nice" + SUFFIX
TEMPERATURE = 1.0  # of fitted codes: drawn as the density is, see docs/codes.md
SHORT = reprlib.Repr()  # one line of whatever a damaged file holds
SHORT.maxdict = 20
COLOURS = 3
LAYERS = 20_000  # far more than can be trained


class Number:
    """An argparse type: a finite int or float in [low, high], and above a number."""

    def __init__(self, kind, low=-math.inf, high=math.inf, above=-math.inf):
        self.kind = kind
        self.low = low
        self.high = high
        self.above = above

    def holds(self, value):
        """Whether a value, of whatever type, is such a number."""
        kinds = (int,) if self.kind is int else (int, float)
        return type(value) in kinds and self._within(value)

    def _within(self, value):
        finite = abs(value) <= sys.float_info.max  # math.isfinite raises for 10**400
        return finite and self.low <= value <= self.high and self.above < value

    def __call__(self, text):
        try:
            value = self.kind(text)
        except ValueError:
            name = "a whole number" if self.kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{name} is needed, not {text!r}") from None
        if not self._within(value):
            limits = {"at least": self.low, "above": self.above, "at most": self.high}
            said = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
            raise argparse.ArgumentTypeError(
                f"must be {' and '.join(said) or 'finite'}, not {text}"
            )
        return value


SEED = Number(int, low=0, high=2**32 - 1)


class Choice(NamedTuple):
    """One choice. `kind` is a `Number`, a tuple of what to choose from, bool (off) or str."""

    kind: Any
    default: Any
    help: str

    def holds(self, value):
        """Whether a value found in a file is a possible one."""
        if isinstance(self.kind, tuple):
            return any(type(value) is type(word) and value == word for word in self.kind)
        return self.kind.holds(value)

    def add_to(self, parser, name):
        """Add the choice as a flag."""
        if self.kind is bool:
            options = {"action": "store_true"}
        elif isinstance(self.kind, tuple):
            options = {"choices": self.kind, "type": type(self.kind[0]), "default": self.default}
        else:
            options = {"type": self.kind, "default": self.default}
        parser.add_argument("--" + name.replace("_", "-"), help=self.help, **options)


# The arguments of nice.build, which a weights file carries. What is added here takes its default
# for every file from before: that must be what such files were trained with.
MODEL = {
    "couplings": Choice(Number(int, 1, 1000), 4, "number of couplings"),
    "network": Choice(("dense", "conv", "both"), "dense",
        "m: the article's, a convolution, or convolutions near the picture, dense near the code"),
    "channels": Choice(Number(int, 1, 10**4), 32, "of a convolution's hidden layers"),
    "kernel": Choice(Number(int, 1, 99), 3, "side of a convolution's kernels; odd"),
    "units": Choice(Number(int, 1, 10**6), 1000, "width of m's hidden layers"),
    "depth": Choice(Number(int, 0, 100), 5, "number of m's hidden layers"),
    "output_activation": Choice(("relu", "linear"), "relu", "of m; a convolution's is linear"),
    "convention": Choice(("article", "paper"), "article",
        "article: (9) encodes, (7) decodes; paper: the other way round"),
    "shuffle": Choice(("reverse", "random"), "reverse", "of the dimensions before each coupling"),
    "noise": Choice(Number(float, 0, 1), 0.01,
        "width of the training noise in units of the pixel range; 0 for none"),
    "noise_kind": Choice(("negative", "positive", "gaussian"), "negative",
        "U[-width, 0] (article), U[0, width] (paper) or N(0, width²)"),
    "dropout": Choice(Number(float, 0, 0.999), 0.0, "in the hidden layers of m"),
    "seed": Choice(SEED, 0, "of weights, order and noise"),
}  # fmt: skip
# What else says what the codes and the pixels are, in the file too.
SCALES = {
    "prior": Choice(str, "gaussian", "distribution of the code z: gaussian or logistic"),
    "levels": Choice((255, 256), 255,
        "what pixels are divided by; 256 leaves room for dequantization noise"),
}  # fmt: skip
# How a flow is trained.
SCHEDULE = {
    "epochs": Choice(Number(int, 1, 10**6), 20, "passes over the training pictures"),
    "batch_size": Choice(Number(int, 1, 10**7), 128, "pictures a step"),
    "steps_per_execution": Choice(Number(int, 1, 10**6), None,
        "steps that the device does at a call; if not given 1 on a CPU, 52 on a GPU"),
    "learning_rate": Choice(Number(float, above=0, high=1e6), 1e-3, "of Adam"),
    "schedule": Choice(str, "cosine", "of the learning rate: cosine, down to 0, or constant"),
    "scale_pace": Choice(Number(float, above=0, high=1e6), None,
        "learning rate of log_scale, as a multiple; 1 in 2018; if not given 10, or more where "
        "a short run needs more; 1 without noise"),
    "epsilon": Choice(Number(float, above=0, high=1e6), 1e-4,
        "of Adam; 1e-7 in 2018, 1e-4 in the paper"),
    "weight_decay": Choice(Number(float, 0, 1e6), 0.5, "of the kernels, as in AdamW"),
    "before": Choice(str, None,
        "a trained flow: new couplings come between the picture and it, and all learn on"),
}  # fmt: skip
# On what its best epoch is chosen.
VALIDATION = {
    "validation": Choice(("test", "heldout"), "test",
        "choose the best weights on the test images, as in 2018, "
        "or on the last 10,000 training images (a sixth of a small set)"),
    "validation_noise": Choice(bool, False, "validate with noise, drawn once"),
}  # fmt: skip
CHOICES = {**SCHEDULE, **VALIDATION, **MODEL, **SCALES}  # all that decide what a training gives
# Where from, where to, on what: a resumed run may change these.
PLACES = {
    "data": Choice(str, MNIST, "an .npz, .npy or IDX file, FILE:NAME for one array of it, a folder "
        "of IDX files or of .png and .jpg, or cifar10, fashion_mnist, … of keras.datasets"),
    "output": Choice(str, WEIGHTS, "folder for weights, history and pictures"),
    "resume": Choice(bool, False, "go on after the last complete epoch; all other flags as before"),
    "distribute": Choice(bool, False, "train on all devices, with JAX: docs/performance.md"),
}  # fmt: skip
RECIPES = {
    "best": {},
    "deep": {"couplings": 32, "units": 160, "depth": 2},  # a quarter of the weights, below -2250
    "article": {"schedule": "constant", "scale_pace": 1.0, "epsilon": 1e-7, "weight_decay": 0.0},
    "conv": {  # 15 thousand parameters
        "couplings": 8,
        "network": "conv",
        "output_activation": "linear",
        "epochs": 4,
        "learning_rate": 4e-3,  # at 6e-3 one seed of two lost its way in the second epoch
        "scale_pace": 6.0,
        "weight_decay": 0.0,
        "validation_noise": True,
    },
    "both": {  # convolutions between the picture and the article's flow
        "couplings": 8,
        "network": "both",
        "before": os.path.join(WEIGHTS, "pretrained" + SUFFIX),
        "epochs": 6,
        "learning_rate": 5e-4,  # higher ones lower the loss faster, and lose the digits
        "weight_decay": 0.3,
        "validation_noise": True,
    },
    "quick": {
        "couplings": 8,
        "units": 64,
        "depth": 1,
        "epochs": 1,
        "learning_rate": 4e-3,
        "weight_decay": 0.2,
    },
    "paper": {  # its model, data and selection; the schedule is ours, the paper's took 1500 epochs
        "prior": "logistic",
        "convention": "paper",
        "output_activation": "linear",
        "noise": 1 / 256,
        "noise_kind": "positive",
        "levels": 256,
        "validation": "heldout",
        "validation_noise": True,
        "weight_decay": 1.0,
        "epochs": 36,
    },
}
RECIPE = Choice(tuple(RECIPES), "best", "a set of defaults for all below")


class Parser(argparse.ArgumentParser):
    """argparse with defaults in the help and errors of one line."""

    def __init__(self, description=None, **options):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(
            description=description, formatter_class=formatter, allow_abbrev=False, **options
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: {printable(message)}. See {self.prog} --help\n")


def training(argv=None):
    """The flags of nice.py: those of the recipe, unless given."""
    first = Parser(add_help=False)
    RECIPE.add_to(first, "recipe")
    recipe = first.parse_known_args(argv)[0].recipe
    parser = Parser("Train NICE.")
    for name, choice in {"recipe": RECIPE, **CHOICES, **PLACES}.items():
        choice.add_to(parser, name)
    parser.set_defaults(**RECIPES[recipe])
    return parser.parse_args(argv)


def add_places(parser, *names):
    """Add flags that several scripts share: "data", "weights"."""
    if "weights" in names:
        parser.add_argument("--weights", default=default_weights(), help="weights file")
    if "data" in names:
        PLACES["data"].add_to(parser, "data")


def default_weights():
    """What `python nice.py` last wrote, else the weights shipped with the code."""
    trained = os.path.join(WEIGHTS, TRAINED)
    return trained if os.path.exists(trained) else os.path.join(WEIGHTS, "pretrained" + SUFFIX)


def recipe(name="best", **changes):
    """All choices of a training but where from and where to, `{name: value}`."""
    return {**{key: choice.default for key, choice in CHOICES.items()}, **RECIPES[name], **changes}


def pick(choices, names):
    """Those of the choices, `{name: value}`, that are named."""
    return {name: choices[name] for name in names}


def configuration(choices, dim, shape):
    """What a weights file carries: the model, what its codes and pixels are, how it was trained."""
    return {
        "model": {"dim": dim, **pick(choices, MODEL)},
        **pick(choices, SCALES),
        "picture": list(shape),
        "schedule": pick(choices, [*SCHEDULE, *VALIDATION]),
    }


def check(configuration, priors, path):
    """Check a configuration read from `path`. Adds what a file from before a choice lacks.

    Returns: the arguments for `nice.build`.
    Raises: `UserError` where a value is missing, unknown or out of its range.
    """
    rules = {"dim": Choice(Number(int, 2, 10**7), None, "pixels a picture"), **MODEL}
    model = configuration.get("model")
    given = model if isinstance(model, dict) else {}
    model = {**{name: choice.default for name, choice in MODEL.items()}, **given}
    unknown = sorted(model.keys() - rules)
    if unknown:
        raise UserError(f"{path} is of a version with more choices: {SHORT.repr(unknown)}.")
    shape = configuration.get("picture")
    sound = (
        all(choice.holds(model.get(name)) for name, choice in rules.items())
        and type(configuration.get("prior")) is str
        and configuration["prior"] in priors
        and SCALES["levels"].holds(configuration.get("levels"))
        and model["dim"] % 2 == 0
        and isinstance(shape, list)
        and all(type(side) is int and side > 0 for side in shape)
        and (len(shape) == 2 or shape[2:] == [COLOURS])
        and math.prod(shape) == model["dim"]
        and model["couplings"] * (model["depth"] + 1) <= LAYERS
        and isinstance(configuration.get("schedule", {}), dict)
    )
    if not sound:
        shown = SHORT.repr(configuration)
        raise UserError(f"{path} has a configuration this version cannot use: {shown}")
    return model
