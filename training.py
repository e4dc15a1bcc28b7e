"""The training of nice.py, top down: pictures → flow → (15) and Adam → epochs → codes → pictures.

In Python:

    encoder, decoder = nice.build()
    encoder.compile(loss=nice.gaussian, optimizer=training.optimizer(steps=9380))
    batches.fit(encoder, pixels, epochs=20)        # uint8 (N, D)
"""

import os
import sys

import keras
import numpy as np
from keras import ops

import codes
import nice
from support import checkpoint, data, devices, files, hardware, options, pictures, resuming
from support.batches import fit, steps
from support.errors import Stopped, UserError
from support.optimizer import Adam


def main(args):
    """`python nice.py`, its flags read."""
    choices = options.pick(vars(args), options.CHOICES)
    train(args.data, args.output, choices, args.resume, args.distribute)


def train(source, output, choices, resume=False, distribute=False):
    """Train a flow, into a folder.

    Args:
        source: the pictures, see `data.load`.
        output: the folder.
        choices: see `options.recipe`.
        resume: go on after the last epoch that lies in the folder.
        distribute: train on all devices, see `devices`.

    Raises: `UserError` for what the user can mend, `Stopped` after Ctrl-C or SIGTERM.
    """
    for name, known in (("prior", nice.PRIORS), ("schedule", SCHEDULES)):
        if choices[name] not in known:
            raise UserError(f"--{name} must be one of {', '.join(known)}, not {choices[name]}.")
    keras.utils.set_random_seed(choices["seed"])
    on = devices.start(choices["batch_size"]) if distribute else devices.ONE
    block = hardware.block(choices["steps_per_execution"], on.count == 1)
    choices = {**choices, "steps_per_execution": block}
    with (
        on.folder(output, resuming.STATE, options.TRAINED) as folder,
        files.locked(folder, resuming.FILES) as check,
    ):
        resuming.check_folder(folder, [source])
        with on.scope():
            # The pictures: uint8 (N, D); those for validation as the flow takes them.
            found = data.load(source)
            x, x_validation = found.split(choices["validation"])
            found = found._replace(y_train=codes.usable(found.y_train))
            settings = {name.replace("_", "-"): value for name, value in choices.items()}
            settings |= {"data": data.digest(x, x_validation), "backend": keras.backend.backend()}
            validation = ops.convert_to_numpy(data.scale(x_validation, choices["levels"]))

            # The flow, and what its file is to carry.
            configuration = options.configuration(choices, x.shape[1], found.shape)
            try:
                encoder, decoder = nice.build(**configuration["model"], shape=found.shape)
                if choices["before"]:
                    put_before(choices, encoder)
            except ValueError as error:  # a convolution for pictures that it would tear apart
                raise UserError(str(error)) from None
            if choices["validation_noise"] and encoder.noise:
                validation = ops.convert_to_numpy(encoder.noise(validation, training=True))

            # The loss, (15): what the encoder adds to that of its prior; and Adam.
            total = choices["epochs"] * steps(len(x), choices["batch_size"], on)
            learning = options.pick(choices, LEARNING)
            adam = optimizer(total, **learning, noise=encoder.noise is not None)
            encoder.compile(loss=nice.PRIORS[choices["prior"]], optimizer=adam)

            # The epochs, each kept on the disk.
            trained = nice.Trained(encoder, decoder, configuration)
            film = resuming.Film(lambda _: pictures.tile(trained.sample(8 * 8), trained.shape))
            keeper = resuming.Keeper(folder, settings, configuration, film, check)
            if keeper.begin(encoder, resume):
                return
            print(
                f"{encoder.count_params():,} parameters; {len(x):,} training pictures, "
                f"{len(x_validation):,} for validation; {hardware.describe()}"
            )
            if keeper.epoch < choices["epochs"]:  # else killed before its pictures were drawn
                alone = on.processes == 1
                with resuming.Stop(keeper, alone) as stop:
                    fit(
                        encoder,
                        x,
                        **options.pick(choices, FEEDING),
                        first_epoch=keeper.epoch,
                        on=on,
                        callbacks=[film, keeper, stop] if alone else [keeper],
                        validation=validation,
                        verbose="auto" if sys.stdout.isatty() else 2,
                    )

        try:
            end(keeper, film, x, found.y_train)
        except KeyboardInterrupt:
            said = f"stopped by SIGINT; the trained weights are in {keeper.weights}. "
            raise Stopped(said + resuming.go_on(), 130) from None
        except Exception as error:  # whatever it is, what took so long is safe
            raise Stopped(
                f"{keeper.weights} holds the trained weights, but what follows them failed: "
                f"{error}. Mend it, and repeat the command with --resume.",
                1,
            ) from error


def put_before(choices, encoder):
    """Put the new couplings before a trained flow, whose choices must be those of this run."""
    path = choices["before"]
    trained = nice.load(path)
    known = trained.configuration["model"] | trained.configuration
    for name in (*INNER, *options.SCALES):
        if known.get(name, choices[name]) != choices[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{path} has {flag} {known[name]}, this run {choices[name]}.")
    nice.put_before(trained, encoder)


def end(keeper, film, x, labels):
    """The best weights, with codes fitted to training pictures; and what they draw."""
    best = nice.load(keeper.weights)
    best.codes = codes.of_pictures(best, x, labels)
    arrays = {**checkpoint.named(best.encoder), **best.codes.arrays()}
    keeper.check()
    checkpoint.save(keeper.weights, arrays, best.configuration)
    curve, samples, gif = (os.path.join(keeper.folder, name) for name in resuming.PICTURES)
    row = f"{keeper.best['val_loss']:.2f} at epoch {keeper.best['epoch']}"
    print(f"best validation loss {row}: {keeper.weights}")
    pictures.save(curve, pictures.loss_curve(keeper.history, keeper.best))
    pictures.save(samples, pictures.tile(best.sample(15 * 15), best.shape))
    if film.frames:
        pictures.save_film(gif, film.frames)
    print(f"pictures: {curve}, {samples}" + f", {gif}" * bool(film.frames))
    keeper.finish()


# ------------------------------------------------------- Adam, and the pace of log_scale

# A rate and the steps of a run -> a rate, or a schedule of Keras's.
SCHEDULES = {
    "cosine": lambda rate, steps: keras.optimizers.schedules.CosineDecay(rate, steps),  # to 0
    "constant": lambda rate, steps: rate,
}
FEEDING = ("epochs", "batch_size", "steps_per_execution", "seed", "levels")
LEARNING = ("learning_rate", "schedule", "scale_pace", "epsilon", "weight_decay")
INNER = ("units", "depth", "output_activation", "convention", "shuffle", "noise", "noise_kind")
TRAVEL, FASTEST = 3 * 5.2, 0.1


def optimizer(steps, *, learning_rate=1e-3, schedule="cosine", scale_pace=None, epsilon=1e-4,
              weight_decay=0.5, noise=True):  # fmt: skip
    """Adam over so many steps.

    Args:
        steps: of the whole run.
        learning_rate, schedule: the largest rate, and a name of `SCHEDULES`.
        scale_pace: log_scale learns so many times as fast; None for what the run needs.
        epsilon, weight_decay: of Adam; the decay, as in AdamW, is the kernels' alone.
        noise: whether the training has noise.
    """
    times = scale_pace or pace(learning_rate, schedule, steps, noise)
    rate = SCHEDULES[schedule](learning_rate, steps)
    return Adam(rate, epsilon=epsilon, weight_decay=weight_decay or None, scale_pace=times)


def pace(learning_rate, schedule, steps, noise=True):
    """How many times as fast as the networks log_scale learns: the main difference from 2018.

    Adam moves any weight by about one learning rate a step, and log_scale has to travel from 0
    to ln(1/0.00577) = 5.2: at 1e-3 that alone takes eleven epochs. So its rates, which are those
    of the schedule times this pace, add up to `TRAVEL` in a run, three times the way, or to more:
    the pace is at least 10. None may exceed `FASTEST`, at which it would overshoot. Without noise
    there is no such way: nothing holds log_scale back, and at ten times the pace it runs off
    until the loss is no longer finite.
    """
    if not noise:
        return 1.0
    rate = SCHEDULES[schedule](1.0, steps)
    parts = np.linspace(0, steps, 101)
    shares = np.array([float(rate(part)) if callable(rate) else rate for part in parts])
    mean = round(float((shares[1:] + shares[:-1]).mean() / 2), 6)  # schedules count in float32
    needed = TRAVEL / (learning_rate * mean * steps)
    return min(max(10.0, needed), max(10.0, FASTEST / (learning_rate * float(shares.max()))))
