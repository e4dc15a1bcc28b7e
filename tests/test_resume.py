"""Going on after a stop changes nothing, and divergence loses nothing."""

import os
import signal

import keras
import numpy as np
import pytest
import soak_mutations
from conftest import TINY, history, in_process, numpy, result, run

import nice
from support import checkpoint, files, options, resuming
from support.errors import Stopped, UserError

FLAGS = {
    "dropout": ["--dropout", "0.2"],
    "constant rate": ["--recipe", "article"],
    "the paper's": ["--recipe", "paper", "--shuffle", "random"],
}


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_resuming_repeats_every_bit(npz, tmp_path, killed, flags):
    if keras.backend.backend() == "torch" and "--dropout" in flags:
        pytest.skip("PyTorch's dropout draws from a generator that Keras does not keep")
    flags = [*flags, "--epochs", "4"]
    run(npz, tmp_path / "whole", *flags)
    for epochs in (1, 3):
        killed(npz, tmp_path / "killed", *flags, "--resume", epochs=epochs)
    run(npz, tmp_path / "killed", *flags, "--resume")
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


def test_a_signal_amid_a_step_lets_it_end(npz, tmp_path, monkeypatch):
    """Where JAX has given the weights away, and their successors are not in place yet."""
    make = nice.Flow.make_train_function
    run(npz, tmp_path / "whole")
    for last in (1, 7):  # an epoch has five steps
        steps = []

        def interrupted(model, force=False, last=last, steps=steps):
            make(model, force)
            function = model.train_function

            def train_function(*given):
                done = function(*given)
                steps.append(done)
                if len(steps) == last:
                    signal.raise_signal(signal.SIGTERM)
                return done

            model.train_function = train_function

        output = tmp_path / str(last)
        with monkeypatch.context() as patch, pytest.raises(Stopped) as stopped:
            patch.setattr(nice.Flow, "make_train_function", interrupted)
            run(npz, output)
        said, code = stopped.value.args
        assert code == 128 + signal.SIGTERM and len(steps) == last
        assert ("1 complete epochs" if last > 5 else "no epoch was complete") in said
        run(npz, output, "--resume")
        assert result(output) == result(tmp_path / "whole")


def test_a_run_killed_before_its_pictures_still_gets_them(npz, tmp_path, killed):
    killed(npz, tmp_path, epochs=2)
    assert not (tmp_path / "samples.png").exists()
    run(npz, tmp_path, "--resume")
    assert (tmp_path / "samples.png").exists()


def test_resume_says_what_it_does(npz, tmp_path, capsys):
    run(npz, tmp_path, "--resume")
    assert "nothing to resume" in capsys.readouterr().out
    before = result(tmp_path), os.stat(tmp_path / resuming.STATE).st_mtime_ns
    run(npz, tmp_path, "--resume")
    assert "finished" in capsys.readouterr().out
    assert (result(tmp_path), os.stat(tmp_path / resuming.STATE).st_mtime_ns) == before


def test_earlier_runs_are_kept_beside_the_next(npz, tmp_path, killed, capsys):
    run(npz, tmp_path, "--epochs", "3")
    before, first, second = result(tmp_path), tmp_path / "run-1", tmp_path / "run-2"
    capsys.readouterr()
    killed(npz, tmp_path, "--noise", "0.5")
    said = capsys.readouterr().out
    assert "a finished run" in said and str(first) in said and result(first) == before
    run(npz, tmp_path, "--seed", "3")
    said = capsys.readouterr().out
    assert "an unfinished run" in said and "--resume" in said and str(second) in said
    run(npz, second, "--noise", "0.5", "--resume")
    assert "resumed after epoch 1" in capsys.readouterr().out
    assert len(history(second)) == 2 and result(first) == before


def test_a_run_killed_in_its_first_epoch_does_not_pass_for_the_one_before(npz, tmp_path, killed):
    run(npz, tmp_path)
    good = (tmp_path / options.TRAINED).read_bytes()
    for seed in ("1", "2"):  # killed between the weights and the state of epoch 1
        killed(npz, tmp_path, "--seed", seed, epochs=0)
        assert (tmp_path / options.TRAINED).read_bytes() != good
        assert (tmp_path / "run-1" / options.TRAINED).read_bytes() == good


OTHER = {
    "batch-size": ["--batch-size", "8"],
    "learning-rate": ["--learning-rate", "0.1"],
    "epochs": ["--epochs", "3"],
    "noise": ["--noise", "0"],
    "seed": ["--seed", "5"],
    "validation-noise": ["--validation-noise"],
}


def test_other_settings_are_refused_by_name(npz, tmp_path, killed, rng):
    killed(npz, tmp_path)
    before = (tmp_path / resuming.STATE).read_bytes()
    for name, flags in OTHER.items():
        with pytest.raises(UserError, match=f"with {name} "):
            run(npz, tmp_path, "--resume", *flags)
    configuration, arrays = checkpoint.read(str(tmp_path / resuming.STATE))
    configuration["settings"]["backend"] = "another"
    checkpoint.save(str(tmp_path / resuming.STATE), arrays, configuration)
    with pytest.raises(UserError, match="with backend another"):
        run(npz, tmp_path, "--resume")
    (tmp_path / resuming.STATE).write_bytes(before)
    other = str(tmp_path / "other.npz")
    np.savez(other, x_train=rng.integers(0, 256, (70, 4, 4)).astype("uint8"))
    with pytest.raises(UserError, match="with data "):
        run(other, tmp_path, "--resume")
    assert (tmp_path / resuming.STATE).read_bytes() == before


def test_a_damaged_state_is_refused_and_the_model_untouched(npz, tmp_path, killed):
    killed(npz, tmp_path)
    path = str(tmp_path / resuming.STATE)
    configuration, arrays = checkpoint.read(path)
    damage = [
        ({**configuration, "history": []}, arrays),
        ({**configuration, "history": [{"epoch": 1}]}, arrays),
        ({**configuration, "settings": None}, arrays),
        ({**configuration, "finished": 1}, arrays),
        (configuration, {k: v for k, v in arrays.items() if k != "variable_0"}),
        (configuration, {**arrays, "variable_0": arrays["variable_0"].astype("int32")}),
        (configuration, {k: v for k, v in arrays.items() if k != "frames"}),
    ]
    for configuration, arrays in damage:
        checkpoint.save(path, arrays, configuration)
        with pytest.raises(UserError):
            run(npz, tmp_path, "--resume")


def diverge_in(epoch, monkeypatch):
    """Weights that turn absurd in the epoch given: losses become infinite."""
    begin = resuming.Keeper.on_epoch_begin

    def diverging(self, number, logs=None):
        begin(self, number, logs)
        if number + 1 == epoch:
            log_scale = self.model.maps[-1].log_scale
            log_scale.assign(np.full(log_scale.shape, 1e4))

    monkeypatch.setattr(resuming.Keeper, "on_epoch_begin", diverging)


def test_divergence_ends_the_run_and_a_lower_rate_goes_on(npz, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(UserError, match="lower --learning-rate"):
        diverge_in(1, patch)
        run(npz, tmp_path / "at once")
    output = tmp_path / "later"
    with monkeypatch.context() as patch, pytest.raises(UserError, match="epoch 3"):
        diverge_in(3, patch)
        run(npz, output, "--epochs", "4")
    assert [row["epoch"] for row in history(output)] == [1, 2]
    best = (output / options.TRAINED).read_bytes()
    encoder, _ = nice.load(str(output / options.TRAINED))
    assert all(np.isfinite(w).all() for w in encoder.get_weights())
    with pytest.raises(UserError, match="diverged"):  # the same would happen again
        run(npz, output, "--epochs", "4", "--resume")
    with pytest.raises(UserError, match="with noise "):
        run(npz, output, "--epochs", "4", "--resume", "--learning-rate", "1e-4", "--noise", "0")
    assert (output / options.TRAINED).read_bytes() == best
    run(npz, output, "--epochs", "4", "--resume", "--learning-rate", "1e-4")
    rows = history(output)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[2]["learning_rate"] < 1e-4 < rows[1]["learning_rate"]


def test_the_second_run_into_a_folder_is_refused(npz, tmp_path):
    flags = [*TINY, "--data", npz, "--output", str(tmp_path)]
    with files.locked(str(tmp_path)):
        code, stderr = in_process("nice.py", *flags)
        assert code == 2 and stderr.count("\n") == 1 and "another training" in stderr
    with files.locked(str(tmp_path)):
        pass


def test_what_a_killed_run_left_half_written_goes(npz, tmp_path):
    half = tmp_path / f".nice.state.safetensors.abc{files.TEMPORARY}"
    half.write_bytes(b"half")
    other = tmp_path / ".somebody.tmp"
    other.write_bytes(b"else's")
    run(npz, tmp_path)
    assert not half.exists() and other.exists()


def test_assigning_is_all_or_nothing(small, x):
    encoder, _ = small()
    variables = {v.path: v for v in encoder.weights}
    before = [numpy(v) for v in encoder.weights]
    arrays = {name: numpy(v) + 1 for name, v in variables.items()}
    arrays[list(arrays)[-1]] = np.zeros(3, "float32")
    with pytest.raises(UserError):
        checkpoint.assign(variables, arrays, "file")
    assert all(map(np.array_equal, before, [numpy(v) for v in encoder.weights]))


@pytest.mark.parametrize("name", soak_mutations.TARGETS)
def test_mutated_files_load_or_are_refused(name, tmp_path):
    target = soak_mutations.TARGETS[name](str(tmp_path))
    assert soak_mutations.try_one(target, target.content) == "loaded"
    for index in range(60):
        outcome = soak_mutations.try_one(target, soak_mutations.mutation(name, target, index))
        assert outcome in ("loaded", "refused"), (index, outcome)
