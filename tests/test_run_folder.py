"""Checkpoints and settings of a run: atomic, never executed, and what a wrong one says."""

import csv
import json
import os
import random
from pathlib import Path

import pytest
import torch
from train_helpers import model_settings, same_tensors

from train.run_folder import METRIC_COLUMNS, RunFolder, load_checkpoint, save_checkpoint
from tsn_core.errors import CheckpointError, OutputError, SettingsError
from tsn_core.tsn import TSN

CONFIG = {
    "shards": "/data/shards",
    "modality_folder": "rgb",
    "split": 1,
    "model": {"modality": "rgb", "dropout": 0.5},
    "optimizer": {"optimizer": "sgd", "decay_epochs": (36, 72)},
    "input_size": 224,
    "val_subset": "val",
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return TSN(model_settings(backbone="mobilenet_v3_small", partial_bn=True))


@pytest.fixture
def checkpoint(model, tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, model, ("walk", "run"), {"rows": [{"epoch": 1}]})
    return path


def message(function, *arguments, error=CheckpointError):
    with pytest.raises(error) as caught:
        function(*arguments)
    return str(caught.value)


# --- checkpoints ---


def test_round_trip(model, checkpoint):
    loaded, class_names, progress = load_checkpoint(checkpoint)
    assert loaded.settings == model.settings
    assert same_tensors(loaded.state_dict(), model.state_dict())
    assert class_names == ["walk", "run"]
    assert progress == {"rows": [{"epoch": 1}]}


def test_a_failing_save_leaves_the_old_one_whole(model, checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def broken(content, file):
        file.write(b"half a checkpoint")
        raise KeyError("a bug while saving")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(KeyError):
        save_checkpoint(checkpoint, model, ("walk", "run"), {})
    assert checkpoint.read_bytes() == before
    assert [file.name for file in checkpoint.parent.iterdir()] == ["last.pt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk(model, checkpoint, monkeypatch):
    before = checkpoint.read_bytes()
    opened = type(checkpoint).open

    def full(path, mode="r", *arguments, **options):
        if mode == "wb":
            path = type(path)("/dev/full")
        return opened(path, mode, *arguments, **options)

    monkeypatch.setattr(type(checkpoint), "open", full)
    assert message(save_checkpoint, checkpoint, model, ("a", "b"), {}, error=OutputError) == (
        f"{checkpoint}: cannot be written: No space left on device; free space or choose another "
        "place"
    )
    assert checkpoint.read_bytes() == before


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.makedirs, (str(self.path),)


def test_nothing_in_a_checkpoint_is_executed(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    trace = tmp_path / "trace"
    torch.save({**content, "progress": Hostile(trace)}, checkpoint)
    assert message(load_checkpoint, checkpoint) == (
        f"{checkpoint}: holds os.makedirs, which could run anything; tensors and plain values "
        "expected; delete the file and train again"
    )
    assert not trace.exists()


def test_what_is_no_checkpoint(checkpoint, tmp_path):
    missing = tmp_path / "best.pt"
    assert message(load_checkpoint, missing) == (
        f"{missing}: no such checkpoint; train with tsn-train fit first"
    )
    content = torch.load(checkpoint, weights_only=True)
    for other in ([1, 2], {}, content["model"], {**content, "format": "tsn-shard"}):
        torch.save(other, checkpoint)
        assert message(load_checkpoint, checkpoint) == (
            f"{checkpoint}: a checkpoint of tsn-train expected, got something else"
        )
    for version, shown in ((2, "2"), (None, "None")):
        torch.save({**content, "version": version}, checkpoint)
        assert message(load_checkpoint, checkpoint) == (
            f"{checkpoint}: format version 1 expected, got {shown}; "
            "train again, or update this package"
        )


def test_damaged_files(checkpoint):
    good = checkpoint.read_bytes()
    generator = random.Random(0)
    for end in (0, 10, len(good) // 2, len(good) - 20):
        checkpoint.write_bytes(good[:end])
        assert message(load_checkpoint, checkpoint) == (
            f"{checkpoint}: damaged, or not a file of PyTorch tensors; "
            "delete the file and train again"
        )
    for _ in range(30):  # anywhere in the directory of the archive
        data = bytearray(good)
        data[len(good) - generator.randrange(1, 2000)] ^= 1 << generator.randrange(8)
        checkpoint.write_bytes(data)
        try:
            load_checkpoint(checkpoint)
        except CheckpointError as error:
            assert str(error).startswith(f"{checkpoint}: ")
            assert "\n" not in str(error)


def test_parts_that_do_not_fit(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "model": {}}, checkpoint)
    assert message(load_checkpoint, checkpoint) == (
        f"{checkpoint}: damaged: Error(s) in loading state_dict for TSN; "
        "delete the file and train again"
    )
    torch.save({**content, "progress": 3}, checkpoint)
    assert message(load_checkpoint, checkpoint) == (
        f"{checkpoint}: damaged: 'int' object is not iterable; delete the file and train again"
    )


def test_parts_that_are_missing(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    for part in ("settings", "model", "class_names", "progress"):
        torch.save({key: content[key] for key in content if key != part}, checkpoint)
        assert message(load_checkpoint, checkpoint) == (
            f"{checkpoint}: damaged: no {part}; delete the file and train again"
        )
    settings = {**content["settings"], "backbone": "resnet19"}
    torch.save({**content, "settings": settings}, checkpoint)
    assert message(load_checkpoint, checkpoint) == (
        f"{checkpoint}: damaged: unknown backbone 'resnet19'; any of torchvision's classification "
        "models, such as resnet18, resnet50, mobilenet_v2, googlenet, or conv8; "
        "delete the file and train again"
    )


def test_a_checkpoint_from_before_the_head_had_a_dropout_of_its_own(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    settings = {**content["settings"], "dropout": 0.75}
    del settings["head_dropout"]
    torch.save({**content, "settings": settings}, checkpoint)
    model, _, _ = load_checkpoint(checkpoint)
    assert (model.settings.dropout, model.settings.head_dropout) == (0.75, 0.75)


# --- settings ---


def test_claim_writes_the_settings(tmp_path):
    run = RunFolder(tmp_path / "runs" / "new")
    run.claim(CONFIG)
    expected = json.loads(json.dumps(CONFIG))
    assert run.read_config() == expected
    assert expected["optimizer"]["decay_epochs"] == [36, 72]
    (run.path / "last.pt").touch()
    run.claim(CONFIG)
    assert run.read_config() == expected


def test_a_run_from_before_a_setting_goes_on_with_its_usual_value(tmp_path):
    run = RunFolder(tmp_path)
    run.claim(CONFIG)
    (tmp_path / "last.pt").touch()
    run.claim({**CONFIG, "resize_on": "workers", "shuffle_window": 0})
    assert run.read_config()["resize_on"] == "workers"


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"split": 2}, ("split=1", "split=2")),
        ({"model": {"modality": "flow", "dropout": 0.5}}, ("modality=rgb", "modality=flow")),
        (
            {"optimizer": {"optimizer": "sgd", "decay_epochs": (10,)}},
            ("decay_epochs=[36, 72]", "decay_epochs=[10]"),
        ),
        ({"flip": True}, ("flip=None", "flip=True")),
        ({"resize_on": "device"}, ("resize_on=workers", "resize_on=device")),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path, changes, difference):
    run = RunFolder(tmp_path)
    run.claim(CONFIG)
    (tmp_path / "last.pt").touch()
    before = run.read_config()
    had, wanted = difference
    assert message(run.claim, {**CONFIG, **changes}, error=SettingsError) == (
        f"{tmp_path}: holds a run with {had}, this one has {wanted}; "
        "choose another --out or delete the folder"
    )
    assert run.read_config() == before


def test_a_run_that_finished_no_epoch_may_be_put_right(tmp_path):
    run = RunFolder(tmp_path)
    run.claim(CONFIG)
    run.claim({**CONFIG, "split": 2})
    assert run.read_config()["split"] == 2


def test_a_checkpoint_without_settings_is_refused(tmp_path):
    (tmp_path / "last.pt").touch()
    assert message(RunFolder(tmp_path).claim, CONFIG, error=SettingsError) == (
        f"{tmp_path}: holds last.pt, but no config.json to compare the settings with; "
        "choose another --out or delete the folder"
    )


def test_damaged_settings_are_not_called_missing(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{")
    assert message(RunFolder(tmp_path).read_config) == (
        f"{path}: damaged: no JSON; copy it again, or delete the run's folder and train again"
    )


def test_what_must_not_be_read_is_not_to_be_deleted(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "last.pt").touch()
    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    assert message(RunFolder(tmp_path).read_config) == (
        f"{tmp_path / 'config.json'}: cannot be read: Permission denied; allow that"
    )
    assert message(load_checkpoint, tmp_path / "last.pt") == (
        f"{tmp_path / 'last.pt'}: cannot be read: Permission denied; allow that"
    )


@pytest.mark.parametrize("text", [None, "[]", "{}", '{"shards": "x"}'])
def test_a_folder_that_is_no_run(tmp_path, text):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    assert message(RunFolder(tmp_path).read_config) == (
        f"{path}: no settings of a run there; give the folder that tsn-train fit made"
    )


def test_metrics_are_a_table_with_a_row_for_each_epoch(tmp_path):
    rows = [dict.fromkeys(METRIC_COLUMNS, 0.5), dict.fromkeys(METRIC_COLUMNS, 1 / 3)]
    RunFolder(tmp_path).write_metrics(rows)
    text = (tmp_path / "metrics.csv").read_text()
    assert text.splitlines()[0] == (
        "epoch,learning_rate,train_loss,train_top1,val_loss,val_top1,"
        "duration_seconds,data_seconds,copy_seconds,compute_seconds,other_seconds"
    )
    table = csv.DictReader(text.splitlines())
    assert [{key: float(value) for key, value in row.items()} for row in table] == rows
