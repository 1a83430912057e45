"""Presets against the numbers of their sources, and how they give way to what is typed."""

import pytest
from train_helpers import failure, fit_arguments, run_program, write_dataset

import train.training
from train.cli import main
from train.commands.fit_options import run_settings
from train.presets import PRESETS
from tsn_core.modality import MODALITIES


def settings_of(*options, modality="rgb"):
    command = main.commands["fit"]
    arguments = ["--shards", "s", "--modality", modality, "--out", "o", *options]
    return run_settings(command.make_context("fit", arguments))


@pytest.mark.parametrize(
    ("preset", "modality", "rate", "steps", "epochs", "clip", "dropout"),
    [
        ("hmdb51", "rgb", 0.001, (36, 72), 90, 40, 0.8),
        ("hmdb51", "flow", 0.005, (143, 215), 251, 20, 0.7),
        ("hmdb51", "warpedflow", 0.005, (143, 215), 251, 20, 0.7),
        ("hmdb51", "rgbdiff", 0.001, (80, 160), 180, 40, 0.8),
        ("ucf101", "rgb", 0.001, (20, 40), 47, 40, 0.8),
        ("ucf101", "flow", 0.005, (134, 215), 242, 20, 0.7),
        ("ucf101", "rgbdiff", 0.001, (80, 160), 180, 40, 0.8),
    ],
)
def test_presets_of_the_paper(preset, modality, rate, steps, epochs, clip, dropout):
    settings = settings_of("--preset", preset, modality=modality)
    optimizer = settings.optimizer
    assert (optimizer.optimizer, optimizer.learning_rate) == ("sgd", rate)
    assert (optimizer.schedule, optimizer.decay_epochs) == ("step", steps)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 0.0005)
    assert (optimizer.gradient_clip, optimizer.warmup_epochs) == (clip, 0)
    assert (settings.loop.epochs, settings.data.batch_size) == (epochs, 128)
    segments = 7 if modality == "rgbdiff" else 3
    assert (settings.network.dropout, settings.network.num_segments) == (dropout, segments)
    scales = (1.0, 0.875, 0.75, 0.66)[: None if modality == "rgb" else 3]
    assert (settings.data.crop_scales, settings.data.crop_positions) == (scales, 13)


def test_the_small_preset_does_not_start_at_full_rate():
    optimizer = settings_of("--preset", "small", modality="flow").optimizer
    assert (optimizer.optimizer, optimizer.schedule) == ("adamw", "cosine")
    assert optimizer.warmup_epochs == 4


def test_every_preset_is_there_for_every_modality():
    for preset in PRESETS:
        assert set(PRESETS[preset]) == set(MODALITIES)
        for modality in MODALITIES:
            settings_of("--preset", preset, modality=modality)


def test_every_value_of_a_preset_is_that_of_an_option():
    names = {parameter.name for parameter in main.commands["fit"].params}
    for by_modality in PRESETS.values():
        for values in by_modality.values():
            assert set(values) <= names


def test_what_is_typed_comes_first():
    settings = settings_of("--preset", "hmdb51", "--lr", "0.5", "--batch-size", "32")
    assert (settings.optimizer.learning_rate, settings.data.batch_size) == (0.5, 32)
    assert settings.optimizer.gradient_clip == 40
    assert settings_of("--preset", "small", "--lr-steps", "3", "--schedule", "step")
    # also where it is the default
    assert settings_of("--preset", "hmdb51", "--batch-size", "32").data.batch_size == 32


def test_in_another_number_of_epochs_the_steps_come_in_proportion():
    shorter = settings_of("--preset", "hmdb51", "--epochs", "45").optimizer
    assert shorter.decay_epochs == (18, 36)
    typed = settings_of("--preset", "hmdb51", "--epochs", "45", "--lr-steps", "9")
    assert typed.optimizer.decay_epochs == (9,)


def test_steps_do_not_go_with_a_cosine(tmp_path):
    shards = write_dataset(tmp_path / "tiny")
    arguments = ("--schedule", "cosine", "--lr-steps", "3")
    assert failure(*fit_arguments(shards, tmp_path / "run", *arguments)) == (
        "error: --lr-steps goes with --schedule step, not with cosine\n"
    )


def test_tensorboard_gets_every_number(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shards = write_dataset(tmp_path / "tiny")
    arguments = fit_arguments(shards, tmp_path / "run", "--epochs", 2, "--tensorboard")
    assert run_program(*arguments).exit_code == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {
        *("loss/train", "loss/val", "top1/train", "top1/val", "learning_rate"),
        *("duration_seconds", "data_seconds", "copy_seconds", "compute_seconds", "other_seconds"),
    }
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train_loss")
    written = [float(line.split(",")[column]) for line in lines[1:]]
    scalars = events.Scalars("loss/train")
    assert [scalar.step for scalar in scalars] == [1, 2]
    assert [scalar.value for scalar in scalars] == pytest.approx(written)


def test_without_tensorboard(tmp_path, monkeypatch):
    import builtins

    original = builtins.__import__

    def without(name, *rest):
        if name == "torch.utils.tensorboard":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(train.training, "fit", None)
    shards = write_dataset(tmp_path / "tiny")
    assert failure(*fit_arguments(shards, tmp_path / "run", "--tensorboard")) == (
        "error: TensorBoard is not installed; run: pip install 'tsn-shards[tensorboard]', "
        "or leave --tensorboard out\n"
    )
