"""Training as a user starts it, on shards that a network learns in seconds."""

import csv
import json
import re

import cv2
import numpy as np
import pytest
import torch
from conftest import stored
from train_helpers import (
    CLASSES,
    bright_or_dark,
    failure,
    fit_arguments,
    run_program,
    same_tensors,
    write_dataset,
    write_shards,
)

import train.fit
from train.devices import choose_device
from train.distributed import Ranks, join
from train.run_folder import load_checkpoint
from tsn_core.errors import InputError
from tsn_core.manifest import MANIFEST_NAME, Manifest, Record, read_manifest, write_manifest
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN

FILES = ["best.pt", "config.json", "curves.png", "last.pt", "metrics.csv"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", train=5, val=2, test=2)


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """A run of three epochs that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = run_program(*fit_arguments(shards, out))
    assert result.exit_code == 0
    return out, result


def metrics_of(run):
    """The rows of metrics.csv without the times, which differ."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if not key.endswith("_seconds")} for row in rows]


def weights_of(run, name="last"):
    return load_checkpoint(run / f"{name}.pt")[0].state_dict()


def same_runs(first, second):
    """Whether two runs have the same losses and the same weights, to the last bit."""
    pairs = [(weights_of(first, name), weights_of(second, name)) for name in ("last", "best")]
    return metrics_of(first) == metrics_of(second) and all(same_tensors(*pair) for pair in pairs)


# --- what it writes and says ---


def test_files(whole):
    run, result = whole
    assert sorted(file.name for file in run.iterdir()) == FILES
    rows = metrics_of(run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["learning_rate"]) for row in rows] == [0.01, 0.001, 0.0001]
    picture = cv2.imread(str(run / "curves.png"))
    assert picture is not None and picture.shape[0] > 300 and picture.std() > 5
    top1 = 100 * float(rows[-1]["val_top1"])
    assert result.stdout == (
        f"{run}: 3 epochs, val top-1 {top1:.1f}%, curves in {run / 'curves.png'}\n"
    )


def test_a_line_for_every_epoch(whole):
    run, result = whole
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    for number, (line, row) in enumerate(zip(lines, metrics_of(run)), start=1):
        expected = (
            f"epoch {number}/3: loss {float(row['train_loss']):.3f}, "
            f"top-1 {100 * float(row['train_top1']):.1f}% | "
            f"val loss {float(row['val_loss']):.3f}, top-1 {100 * float(row['val_top1']):.1f}% | "
        )
        assert re.fullmatch(re.escape(expected) + r"\d+\.\d s, \d+\.\d min left", line)
    assert lines[-1].endswith("0.0 min left")


def test_config_holds_every_setting(whole, shards):
    config = json.loads((whole[0] / "config.json").read_text())
    assert config == {
        "shards": str(shards),
        "modality_folder": "rgb",
        "shards_digest": ShardSet(shards / "rgb").digest,
        "split": 1,
        "val_fraction": 0.0,
        "model": {
            "modality": "rgb",
            "snippet_length": 1,
            "backbone": "mobilenet_v3_small",
            "consensus": "avg",
            "num_segments": 3,
            "num_classes": 2,
            "dropout": 0.8,
            "head_dropout": 0.5,
            "top": 2,
            "partial_bn": False,
        },
        "weights": "none",
        "optimizer": {
            "optimizer": "sgd",
            "learning_rate": 0.01,
            "head_factor": 1.0,
            "momentum": 0.9,
            "weight_decay": 0.0005,
            "schedule": "step",
            "decay_epochs": [1, 2],
            "warmup_epochs": 0,
            "gradient_clip": 20.0,
        },
        "epochs": 3,
        "batch_size": 3,
        "input_size": 32,
        "flip": True,
        "unflipped_classes": [],
        "crop_scales": [1.0, 0.875, 0.75, 0.66],
        "crop_positions": 5,
        "accumulate": 1,
        "seed": 0,
        "patience": 0,
        "ema": 0.0,
        "label_smoothing": 0.0,
        "precision": "fp32",
        "channels_last": False,
        "compile": False,
        "resize_on": "workers",
        "decode_on": "workers",
        "shuffle_window": 0,
        "val_subset": "val",
    }


def test_best_is_the_first_epoch_of_the_highest_accuracy(whole):
    run, _ = whole
    rows = metrics_of(run)
    ranks = [(float(row["val_top1"]), -float(row["val_loss"])) for row in rows]
    _, _, progress = load_checkpoint(run / "best.pt")
    assert len(progress["rows"]) == ranks.index(max(ranks)) + 1
    assert len(load_checkpoint(run / "last.pt")[2]["rows"]) == 3


def rank(top1, loss):
    return {"val_top1": top1, "val_loss": loss}


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([rank(0.1, 9.0)], True),
        ([rank(0.1, 1.0), rank(0.2, 2.0)], True),
        ([rank(0.2, 1.0), rank(0.1, 0.5)], False),
        ([rank(0.2, 1.0), rank(0.2, 0.5)], True),
        ([rank(0.2, 1.0), rank(0.2, 1.0)], False),
    ],
)
def test_best(rows, best):
    assert train.fit.is_best(rows) is best


def test_the_losses_are_those_of_the_network(whole, shards):
    """The last row's validation, computed from the checkpoint and the shards by hand."""
    from train.augmentation import test_views

    run, _ = whole
    model, class_names, _ = load_checkpoint(run / "last.pt")
    assert tuple(class_names) == CLASSES
    model.eval()
    videos, losses, right = ShardSet(shards / "rgb"), [], []
    for number in (5, 6):
        units = videos.unit_views(number, [0, 1, 2])
        images = torch.from_numpy(test_views(units, 1, 32, videos.modality.kind)[0])
        with torch.inference_mode():
            scores = model.classifier(model.features(images)).mean(dim=0)
        label = int(videos.labels[number])
        losses.append(-float(scores.log_softmax(dim=0)[label]))
        right.append(int(scores.argmax()) == label)
    row = metrics_of(run)[-1]
    assert float(row["val_loss"]) == pytest.approx(np.mean(losses), abs=1e-4)
    assert float(row["val_top1"]) == np.mean(right)


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_it_learns_what_is_plain_to_see(tmp_path, modality):
    modalities = [stored(modality)]
    shards = write_dataset(tmp_path / "tiny", modalities=modalities, train=8, val=4, test=0)
    options = ("--optimizer", "adamw", "--lr", 0.0003, "--dropout", 0.2, "--batch-size", 4)
    options += ("--epochs", 5, "--lr-steps", 3, "--no-flip", "--backbone", "resnet18")
    arguments = fit_arguments(shards, tmp_path / "run", *options, modality=modality)
    assert run_program(*arguments).exit_code == 0
    first, *_, last = metrics_of(tmp_path / "run")
    assert float(first["train_top1"]) < 1
    assert float(last["train_top1"]) == float(last["val_top1"]) == 1
    assert float(last["train_loss"]) < 0.3 < float(first["train_loss"])


# --- determinism and interruption ---


def test_the_same_seed_gives_the_same_run(whole, shards, tmp_path):
    assert run_program(*fit_arguments(shards, tmp_path / "again")).exit_code == 0
    assert same_runs(whole[0], tmp_path / "again")


def test_another_seed_gives_another_run(whole, shards, tmp_path):
    run_program(*fit_arguments(shards, tmp_path / "other", "--seed", 1, "--epochs", 1))
    assert metrics_of(tmp_path / "other")[0]["train_loss"] != metrics_of(whole[0])[0]["train_loss"]


def interrupt(monkeypatch, name, at):
    """Let a function of train.fit raise the interruption when it is called that often."""
    original, calls = getattr(train.fit, name), []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(train.fit, name, interrupted)


@pytest.mark.parametrize(
    ("name", "at", "kept"),
    [
        ("_step_seed", 4, 1),  # while training in the second epoch
        ("_validate", 3, 2),  # while validating in the third
        ("save_checkpoint", 2, 0),  # best.pt is written, last.pt is not
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_end(
    whole, shards, tmp_path, monkeypatch, name, at, kept
):
    arguments = fit_arguments(shards, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt(patch, name, at)
        result = run_program(*arguments)
    assert result.exit_code == 130
    last = "interrupted; the same command goes on where this one stopped"
    assert result.stderr.splitlines()[-1] == last
    result = run_program(*arguments)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    if kept:
        assert lines[0] == f"going on after epoch {kept} of 3"
    assert len(lines) == (3 - kept) + bool(kept)
    assert same_runs(whole[0], tmp_path / "run")


def test_interruptions_do_not_show_with_workers_either(whole, shards, tmp_path, monkeypatch):
    arguments = fit_arguments(shards, tmp_path / "run", "--workers", 1, "--worker-start", "fork")
    with monkeypatch.context() as patch:
        interrupt(patch, "_step_seed", 5)
        assert run_program(*arguments).exit_code == 130
    assert run_program(*arguments).exit_code == 0
    assert same_runs(whole[0], tmp_path / "run")


def test_an_interruption_after_the_last_checkpoint(whole, shards, tmp_path, monkeypatch):
    """The metrics of the last epoch are still missing then."""
    arguments = fit_arguments(shards, tmp_path / "run")
    run_program(*arguments)
    (tmp_path / "run" / "curves.png").unlink()
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "metrics.csv").write_text("".join(lines[:-1]))
    result = run_program(*arguments)
    assert (result.exit_code, result.stderr) == (0, "all 3 epochs were done before\n")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == FILES
    assert same_runs(whole[0], tmp_path / "run")


def test_a_run_of_a_split_that_has_changed_does_not_go_on(tmp_path):
    shards = write_dataset(tmp_path / "tiny")
    arguments = fit_arguments(shards, tmp_path / "run", "--epochs", 1)
    assert run_program(*arguments).exit_code == 0
    manifest = shards / "manifest.jsonl"
    records = read_manifest(manifest).records
    added = [record.name for record in records if record.splits[1] == "val"]
    manifest.write_text(manifest.read_text().replace('"val"', '"train"'))
    text = manifest.read_text().replace('"test"', '"val"', 1)
    manifest.write_text(text)
    assert failure(*arguments) == (
        f"error: {tmp_path / 'run'}: holds a run that began before split 1 changed: 2 of 6 "
        f"training videos are new to it ({added[0]}, {added[1]}); choose another --out or delete "
        "the folder\n"
    )


# --- what the data lacks ---


def test_without_validation_videos_the_test_videos_are_watched(tmp_path):
    shards = write_dataset(tmp_path / "tiny", val=0)
    result = run_program(*fit_arguments(shards, tmp_path / "run", "--epochs", 1))
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines[0] == (
        "split 1 has no val videos: its test videos are watched instead, and evaluate takes "
        "last.pt, not best.pt; to choose by val videos, hold some training videos out with "
        "--val-fraction 0.1"
    )
    assert " | test loss " in lines[1]
    assert result.stdout.startswith(f"{tmp_path / 'run'}: 1 epochs, test top-1 ")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["val_subset"] == "test"


def test_videos_without_snippets_are_named(tmp_path):
    extra = [Record(f"gone/{n}.avi", 0, {1: "train"}) for n in range(4)]
    extra.append(Record("lost.avi", 1, {1: "val"}))
    shards = write_dataset(tmp_path / "tiny", extra=extra)
    result = run_program(*fit_arguments(shards, tmp_path / "run", "--epochs", 1))
    assert result.stderr.splitlines()[:2] == [
        "4 of 8 train videos have no snippets and are left out: "
        "gone/0.avi, gone/1.avi, gone/2.avi, …",
        "1 of 3 val videos have no snippets and are left out: lost.avi",
    ]


def test_weights_that_know_the_test_videos(tmp_path, monkeypatch):
    """What a checkpoint was trained on is known to all that begin with it."""
    shards = write_dataset(tmp_path / "tiny", val=0, test=4)
    manifest = read_manifest(shards / MANIFEST_NAME)
    swapped = {"train": "test", "test": "train"}
    records = [
        Record(record.name, record.label, {**record.splits, 2: swapped[record.splits[1]]})
        for record in manifest.records
    ]
    write_manifest(Manifest("tiny", manifest.class_names, tuple(records)), shards / MANIFEST_NAME)
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_program(*fit_arguments(shards, first, "--epochs", 1)).exit_code == 0
    weights = first / "last.pt"
    arguments = fit_arguments(shards, second, "--epochs", 2, "--split", 2, "--weights", weights)
    with monkeypatch.context() as patch:
        interrupt(patch, "_validate", 2)
        result = run_program(*arguments)
    assert result.exit_code == 130
    known = "walk/0.avi, run/1.avi, walk/2.avi"
    assert result.stderr.splitlines()[1] == (
        f"{weights} was trained on 4 of 4 test videos ({known}, …): their accuracy says nothing, "
        "and evaluate will refuse them; choose --weights of the same split"
    )
    weights.unlink()  # needed no more
    assert run_program(*arguments).exit_code == 0
    assert failure("evaluate", second, "--device", "cpu", "--workers", 0) == (
        f"error: {second / 'last.pt'}: 4 of 4 test videos are among those that it was trained "
        f"on ({known}, …); split 2 has changed since, or its --weights were trained on another "
        "split; train again, into another --out, or --allow-trained to test on them anyway\n"
    )


def test_messages_about_the_data(shards, tmp_path):
    out = tmp_path / "run"
    assert failure(*fit_arguments(tmp_path, out)) == (
        f"error: {tmp_path / 'manifest.jsonl'}: no manifest there; give the folder of a "
        "dataset's shards, such as shards/hmdb51, or make one with tsn-preprocess scan "
        "or extract\n"
    )
    assert failure(*fit_arguments(shards, out, modality="flow")) == (
        f"error: {shards}: no flow shards, only rgb; extract them with tsn-preprocess extract, "
        "or choose another --modality\n"
    )
    assert failure(*fit_arguments(shards, out, "--split", 3)) == (
        "error: tiny: no split 3; it has 1\n"
    )
    empty = write_dataset(tmp_path / "empty", train=0)
    assert failure(*fit_arguments(empty, out)) == (
        f"error: {empty / 'rgb'}: split 1 has no train videos: no list names one, or, without "
        "lists, no class has two videos; mend that and run the same tsn-preprocess extract again, "
        "which decodes no video twice\n"
    )
    assert not out.exists()


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("at", "epoch", "kept"), [(1, 1, "no epoch was finished"), (4, 2, "last.pt keeps epoch 1")]
)
def test_a_loss_that_is_no_number(whole, shards, tmp_path, monkeypatch, at, epoch, kept):
    arguments = fit_arguments(shards, tmp_path / "run")
    forward, calls = TSN.forward, []

    def diverged(self, snippets):
        calls.append(1)
        video, scores = forward(self, snippets)
        return (video * float("nan"), scores) if len(calls) == at else (video, scores)

    with monkeypatch.context() as patch:
        patch.setattr(TSN, "forward", diverged)
        result = run_program(*arguments)
    assert result.exit_code == 1
    names = r"(walk|run)/\d\.avi"
    assert re.fullmatch(
        rf"error: epoch {epoch}: the loss is nan in a batch of {names}, {names}, {names}; "
        rf"lower --lr or --clip-gradient; {kept}",
        result.stderr.splitlines()[-1],
    )
    assert (tmp_path / "run" / "last.pt").exists() == (epoch > 1)
    assert run_program(*arguments).exit_code == 0  # from what was kept
    assert same_runs(whole[0], tmp_path / "run")


def test_a_rate_that_is_too_high(shards, tmp_path):
    """Infinite weights show in the validation at the latest."""
    options = ("--lr", 1e30, "--clip-gradient", 0)
    result = run_program(*fit_arguments(shards, tmp_path / "run", *options))
    assert result.exit_code == 1
    assert "error: epoch 1: the loss is nan in a batch of " in result.stderr
    assert not (tmp_path / "run" / "last.pt").exists()


def test_the_folder_of_another_run_is_refused(whole, shards, tmp_path):
    run, _ = whole
    write_shards(shards / "rgbdiff", stored("rgbdiff"), bright_or_dark(stored("rgbdiff"), 9))
    before = weights_of(run)
    assert failure(*fit_arguments(shards, run, modality="rgbdiff")) == (
        f"error: {run}: holds a run with modality=rgb, this one has modality=rgbdiff; "
        "choose another --out or delete the folder\n"
    )
    assert failure(*fit_arguments(shards, run, "--lr", 0.02)) == (
        f"error: {run}: holds a run with learning_rate=0.01, this one has learning_rate=0.02; "
        "choose another --out or delete the folder\n"
    )
    assert same_tensors(weights_of(run), before)


def test_a_run_is_not_continued_on_other_shards(tmp_path):
    shards = write_dataset(tmp_path / "tiny", val=0)
    out = tmp_path / "run"
    run_program(*fit_arguments(shards, out, "--epochs", 1))
    (shards / "rgb").rename(tmp_path / "old")
    write_shards(shards / "rgb", stored("rgb"), bright_or_dark(stored("rgb"), 6, num_snippets=4))
    result = run_program(*fit_arguments(shards, out, "--epochs", 1))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"error: {out}: holds a run on other shards than {shards} holds now; "
        "choose another --out or delete the folder"
    )


def test_a_wrong_setting_may_be_put_right_in_the_same_folder(shards, tmp_path):
    out = tmp_path / "run"
    assert failure(*fit_arguments(shards, out, "--weights", "gone.pth")) == (
        "error: gone.pth: no such weights file; give none, imagenet or a path\n"
    )
    assert failure(*fit_arguments(shards, out, "--backbone", "resnet19")) == (
        "error: unknown backbone 'resnet19'; any of torchvision's classification models, such as "
        "resnet18, resnet50, mobilenet_v2, googlenet, or conv8\n"
    )
    assert run_program(*fit_arguments(shards, out, "--epochs", 1)).exit_code == 0


def test_crops_that_the_backbone_does_not_take(shards, tmp_path):
    assert failure(*fit_arguments(shards, tmp_path / "run", "--backbone", "vit_b_32")) == (
        "error: vit_b_32 does not take crops of 32x32 px: Wrong image height! Expected 224 but "
        "got 32; choose another --input-size\n"
    )


def test_a_damaged_checkpoint_is_not_continued(shards, tmp_path):
    out = tmp_path / "run"
    run_program(*fit_arguments(shards, out, "--epochs", 1))
    (out / "last.pt").write_bytes(b"hello")
    assert failure(*fit_arguments(shards, out, "--epochs", 1)) == (
        f"error: {out / 'last.pt'}: damaged, or not a file of PyTorch tensors; "
        "delete the file and train again\n"
    )


def test_a_place_that_cannot_be_written(shards, tmp_path):
    (tmp_path / "file").write_text("")
    assert failure(*fit_arguments(shards, tmp_path / "file")) == (
        f"error: {tmp_path / 'file' / 'config.json'}: cannot be written: File exists; "
        "free space or choose another place\n"
    )


# --- devices ---


def device_error(name):
    with pytest.raises(InputError) as caught:
        choose_device(name)
    return str(caught.value)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    assert device_error("cuda") == "--device cuda: this machine has no GPU that torch can use"
    assert device_error("cuda:1") == "--device cuda:1: this machine has no GPU that torch can use"
    for name in ("gpu", "meta", "cuda:x", ""):
        assert device_error(name) == f"unknown device {name!r}; choose auto, cpu, cuda or cuda:N"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert device_error("cuda:2") == "--device cuda:2: this machine has 2, counted from 0"


def test_ranks_wait_for_each_other_on_their_own_gpus(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(device))
    monkeypatch.setattr(
        torch.distributed,
        "init_process_group",
        lambda *names, **options: asked.append((*names, options)),
    )
    ranks = Ranks(rank=9, size=16, local_rank=1)
    join(Ranks(), torch.device("cuda"))
    join(ranks, torch.device("cpu"))
    assert asked == [("gloo", {})]
    for device, own in (("cuda", "cuda:1"), ("cuda:3", "cuda:3")):
        asked.clear()
        join(ranks, torch.device(device))
        assert asked == [torch.device(own), ("nccl", {"device_id": torch.device(own)})]


def test_processes_begin_with_what_comes_next_while_something_else_is_computed(
    shards, tmp_path, monkeypatch
):
    """The next epoch while this one is validated, and the validation while it is trained."""
    import train.fit

    happened = []
    begin, learn, validate = train.fit.stream, train.fit.Learner.step, train.fit._validate

    def stream(loader):
        happened.append(f"begin {len(loader.dataset)} videos of {loader.batch_sampler.epoch}")
        return begin(loader)

    def step(*words):
        happened.append("train")
        return learn(*words)

    def validated(*words):
        happened.append("validate")
        return validate(*words)

    monkeypatch.setattr(train.fit, "stream", stream)
    monkeypatch.setattr(train.fit.Learner, "step", step)
    monkeypatch.setattr(train.fit, "_validate", validated)
    words = fit_arguments(shards, tmp_path / "run", "--epochs", 2, "--batch-size", 5)
    assert run_program(*words, "--workers", 1).exit_code == 0
    first, other = "begin 5 videos of ", "begin 2 videos of 0"
    assert happened == [
        *(first + "0", other, "train"),
        *(first + "1", "validate", other, "train"),
        "validate",
    ]
