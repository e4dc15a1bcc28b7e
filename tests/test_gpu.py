"""What a GPU needs, shown on a CPU: many steps a call, seldom saving, exact products, manners."""

import os
import signal

import keras
import numpy as np
import pytest
from conftest import history, numpy, result, run, script

import nice
import training
from support import checkpoint, cli, data, devices, hardware, resuming
from support.batches import fit
from support.errors import Stopped, UserError

BACKEND = keras.backend.backend()
blocks = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs no blocks")


class Calls(keras.callbacks.Callback):
    """Counts the host's calls of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def trained_in_blocks(pixels, size, epochs, **options):
    keras.utils.set_random_seed(0)
    encoder, _ = nice.build(dim=16, couplings=2, units=8, depth=1, seed=0)
    encoder.compile(loss=nice.gaussian, optimizer=training.optimizer(800))
    calls, validation = Calls(), numpy(data.scale(pixels[:100]))
    fit(encoder, pixels, batch_size=8, epochs=epochs, steps_per_execution=size, verbose=0,
        callbacks=[calls], validation=validation, **options)  # fmt: skip
    return encoder, calls.count


@blocks
@pytest.mark.parametrize("size", [7, 52])
def test_blocks_train_as_single_steps_do(rng, size):
    pixels = rng.integers(0, 256, (3003, 1, 4)).repeat(4, axis=1).reshape(-1, 16).astype("uint8")
    one, calls = trained_in_blocks(pixels, 1, epochs=2)
    assert calls == 376  # the last of them of 3 pictures
    many, calls = trained_in_blocks(pixels, size, epochs=2)
    assert calls == -(-376 // size) and (size < 52 or calls <= 10)
    assert int(numpy(many.optimizer.iterations)) == int(numpy(one.optimizer.iterations)) == 752
    for name, losses in one.history.history.items():
        assert many.history.history[name] == pytest.approx(losses, rel=1e-3), name


@blocks
def test_the_first_steps_of_a_block_are_those_of_one_at_a_time(rng):
    pixels = rng.integers(0, 256, (32, 16)).astype("uint8")  # four steps
    weights = [trained_in_blocks(pixels, size, epochs=1)[0].get_weights() for size in (1, 4)]
    for single, block in zip(*weights):
        assert np.abs(single - block).max() <= 1e-6
    assert np.abs(weights[0][-1]).max() > 1e-3  # log_scale has left 0


def test_what_runs_no_blocks_says_so(rng, monkeypatch):
    pixels = rng.integers(0, 256, (32, 16)).astype("uint8")
    with pytest.raises(UserError, match="--steps-per-execution"):
        trained_in_blocks(pixels, 4, epochs=1, on=devices.Devices(2))


@blocks
def test_blocks_and_seldom_saving_resume_to_the_same_bytes(npz, tmp_path, killed, monkeypatch):
    flags = ["--epochs", "6", "--steps-per-execution", "3"]
    run(npz, tmp_path / "whole", *flags)
    monkeypatch.setattr(resuming, "SHARE", 0)  # after the first epoch none but the last is written
    run(npz, tmp_path / "seldom", *flags)
    assert result(tmp_path / "seldom") == result(tmp_path / "whole")
    with pytest.raises(Stopped), monkeypatch.context() as patch:
        stop_in_epoch(4, patch)
        run(npz, tmp_path / "stopped", *flags)
    held, _ = checkpoint.read(str(tmp_path / "stopped" / resuming.STATE))
    assert len(held["history"]) == len(history(tmp_path / "stopped")) == 3  # on a signal, at once
    run(npz, tmp_path / "stopped", *flags, "--resume")
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        die_in_epoch(4, patch)
        run(npz, tmp_path / "killed", *flags)
    held, _ = checkpoint.read(str(tmp_path / "killed" / resuming.STATE))
    assert len(held["history"]) == 1
    run(npz, tmp_path / "killed", *flags, "--resume")
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


def stop_in_epoch(number, patch):
    begin = resuming.Film.on_epoch_begin

    def raising(film, epoch, logs=None):
        begin(film, epoch, logs)
        if epoch + 1 == number:
            signal.raise_signal(signal.SIGTERM)

    patch.setattr(resuming.Film, "on_epoch_begin", raising)


def die_in_epoch(number, patch):
    begin = resuming.Film.on_epoch_begin

    def raising(film, epoch, logs=None):
        begin(film, epoch, logs)
        if epoch + 1 == number:
            raise KeyboardInterrupt

    patch.setattr(resuming.Film, "on_epoch_begin", raising)


def test_writing_takes_its_share_of_the_time_and_no_more(npz, tmp_path, monkeypatch):
    clock, written = [0.0], []

    class Time:
        monotonic = staticmethod(lambda: clock[0])

    write = resuming.write_state

    def slow(*arguments, **options):  # a second; an epoch takes two and a half
        clock[0] += 1
        written.append(len(arguments[3]))
        write(*arguments, **options)

    def epoch(film, number, logs=None):
        clock[0] += 2.5

    monkeypatch.setattr(resuming, "time", Time)
    monkeypatch.setattr(resuming, "write_state", slow)
    monkeypatch.setattr(resuming.Film, "on_epoch_begin", epoch)
    run(npz, tmp_path, "--epochs", "13")
    assert written == [1, 5, 9, 13, 13]  # and once more when all is done


def test_a_trained_flow_computes_in_full_float32(flow, x, monkeypatch):
    """On a GPU products would be TF32 otherwise."""

    def setting():
        if BACKEND == "jax":
            import jax

            return str(jax.config.jax_default_matmul_precision)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            return str(tf.config.experimental.tensor_float_32_execution_enabled())
        return str(__import__("torch").backends.cudnn.allow_tf32)

    before, seen = setting(), []
    step = keras.Model.predict_on_batch

    def noted(model, x):
        seen.append(setting())
        return step(model, x)

    monkeypatch.setattr(keras.Model, "predict_on_batch", noted)
    flow.decode(flow.encode(x))
    exact = {"jax": "highest"}.get(BACKEND, "False")
    assert seen == [exact, exact] and setting() == before != exact


@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
    type("ResourceExhaustedError", (Exception,), {})("OOM when allocating tensor"),
    type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
])  # fmt: skip
def test_out_of_memory_is_one_line(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    stderr = capsys.readouterr().err
    assert end.value.code == 2 and stderr.count("\n") == 1 and "--batch-size" in stderr
    with pytest.raises(RuntimeError, match="a bug"):
        cli.run(lambda: (_ for _ in ()).throw(RuntimeError("a bug")))


def test_a_card_that_lies_idle_is_named(tmp_path, monkeypatch, capsys):
    assert hardware.describe() == f"{BACKEND} on CPU" and capsys.readouterr().out == ""
    card = tmp_path / "nvidia-smi"
    card.write_text("#!/bin/sh\n")
    card.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert hardware.describe() == f"{BACKEND} on CPU"
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "GPU" in said
    package = {"jax": "jax[cuda", "tensorflow": "tensorflow[and-cuda]", "torch": "CUDA"}
    assert package[BACKEND] in said


def test_jax_takes_no_more_of_a_gpu_than_it_needs(tmp_path):
    code = "from support import cli; import os; cli.load_keras(); print(os.environ[{!r}])"
    code = code.format("XLA_PYTHON_CLIENT_PREALLOCATE")
    (tmp_path / "asked.py").write_text(code)
    path = {"PYTHONPATH": os.path.dirname(os.path.abspath(cli.__file__)) + "/.."}
    assert script(tmp_path / "asked.py", **path).stdout == "false\n"
    path["XLA_PYTHON_CLIENT_PREALLOCATE"] = "true"
    assert script(tmp_path / "asked.py", **path).stdout == "true\n"
