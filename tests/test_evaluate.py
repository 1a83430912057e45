"""Testing a trained network: scores against a naive computation, and what does not fit."""

import csv
import json
import shutil
from dataclasses import replace

import cv2
import h5py
import numpy as np
import pytest
import torch
from conftest import stored
from rich.console import Console
from train_helpers import (
    bright_or_dark,
    failure,
    fit_arguments,
    model_settings,
    random_videos,
    run_program,
    write_dataset,
    write_shards,
)

from train.evaluate import check_fits, evaluate
from train.metrics import summarize
from train.results import results_text
from train.run_folder import load_checkpoint, save_checkpoint
from train.scores import read_scores
from train.testing import evaluate_run
from tsn_core.consensus import CONSENSUS
from tsn_core.errors import CheckpointError, InputError
from tsn_core.manifest import Record, read_manifest, write_manifest
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN

CPU = torch.device("cpu")
LENGTHS = (3, 7, 5)


@pytest.fixture(scope="module")
def flow_shards(tmp_path_factory):
    modality = stored("flow", snippet_length=2)
    folder = tmp_path_factory.mktemp("shards") / "flow-farneback"
    return write_shards(folder, modality, random_videos(modality, LENGTHS), per_shard=2)


def flow_model(**changes):
    torch.manual_seed(0)
    fields = {"modality": "flow", "snippet_length": 2}
    model = TSN(model_settings(**{**fields, **changes}))
    for parameter in (model.classifier or model.consensus).parameters():
        torch.nn.init.normal_(parameter)  # scores worth comparing
    return model


def scores_of(model, shards, videos=(0, 1, 2), **changes):
    options = {"num_snippets": 3, "crops": 1, "input_size": 32, "num_workers": 0, "device": CPU}
    options.update(changes, console=Console(quiet=True))
    return evaluate(model, shards, list(videos), **options)


# --- the numbers ---


def naive_views(images, crops):
    """The crops of one (H, W, 2) image of flow, in their order, resized to 32x32."""
    height, width = images.shape[:2]
    side = height if crops == 3 else round(0.875 * height)
    down, right = height - side, width - side
    places = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    places = {1: places[4:], 3: [places[0], places[4], places[3]], 10: places}[crops]
    views = []
    for top, left in places:
        cut = images[top : top + side, left : left + side].copy()
        views.append(cv2.resize(cut, (32, 32)))
    if crops == 10:
        for view in views[:5]:
            mirrored = view[:, ::-1].copy()
            mirrored[..., 0] = 255 - mirrored[..., 0]
            views.append(mirrored)
    return views


def naive_scores(model, shards, video, num_snippets, crops):
    """Scores of every snippet and of the video, one view at a time."""
    stored_snippets = LENGTHS[video]
    chosen = [((2 * k + 1) * stored_snippets) // (2 * num_snippets) for k in range(num_snippets)]
    per_crop = []
    for crop in range(crops):
        features = []
        for snippet in chosen:
            units = shards.read(video, [snippet])[0]  # (L, H, W, 2)
            channels = [naive_views(unit, crops)[crop][..., c] for unit in units for c in (0, 1)]
            image = torch.from_numpy(np.stack(channels))[None]
            features.append(model.features(image))
        features = torch.stack(features, dim=1)  # (1, S, F)
        scores = model.classifier(features) if model.classifier else features
        video_scores = model.consensus(scores, features)
        if model.classifier is None:
            scores = video_scores[:, None].expand(-1, num_snippets, -1)
        per_crop.append((scores[0].numpy(), video_scores[0].numpy()))
    return [np.mean([part[i] for part in per_crop], axis=0) for i in (0, 1)]


@pytest.mark.parametrize(
    ("consensus", "num_snippets", "crops"),
    [
        *[(name, 3, 1) for name in CONSENSUS],
        ("avg", 2, 3),
        ("avg", 9, 10),  # more than there are, and more than go through the network at once
        ("max", 4, 10),
        ("weighted", 5, 3),
        ("topk", 4, 3),
        ("attention", 2, 10),
        ("gru", 2, 3),
    ],
)
def test_scores_equal_a_naive_computation(flow_shards, consensus, num_snippets, crops):
    model = flow_model(consensus=consensus)
    scores = scores_of(model, flow_shards, num_snippets=num_snippets, crops=crops)
    assert scores.scores.shape == (3, num_snippets, 2)
    assert scores.video_scores.shape == (3, 2)
    with torch.inference_mode():
        for video in range(3):
            snippet, whole = naive_scores(model.eval(), flow_shards, video, num_snippets, crops)
            if consensus != "gru":
                assert np.ptp(snippet, axis=0).min() > 0.01  # a mix-up would show
            np.testing.assert_allclose(scores.scores[video], snippet, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(scores.video_scores[video], whole, rtol=1e-3, atol=1e-4)


def test_names_and_labels_are_those_of_the_videos(flow_shards):
    scores = scores_of(flow_model(), flow_shards, (2, 0))
    assert scores.name == "flow-farneback"
    assert scores.names.tolist() == ["walk/2.avi", "walk/0.avi"]
    assert scores.labels.tolist() == [0, 0]
    assert scores.class_names.tolist() == ["walk", "run"]
    both = scores_of(flow_model(), flow_shards)
    assert np.array_equal(both.video_scores[[2, 0]], scores.video_scores)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(flow_shards, num_workers):
    model = flow_model()
    alone = scores_of(model, flow_shards, crops=10)
    shared = scores_of(model, flow_shards, crops=10, num_workers=num_workers)
    assert np.array_equal(alone.scores, shared.scores)
    assert np.array_equal(alone.video_scores, shared.video_scores)


def test_a_network_in_training_is_tested_without_dropout(flow_shards):
    model = flow_model().train()
    first = scores_of(model, flow_shards)
    assert np.array_equal(first.scores, scores_of(model.train(), flow_shards).scores)


@pytest.mark.parametrize(
    ("videos", "changes", "message"),
    [
        ((), {}, "{}: no videos to test on"),
        ((0,), {"num_snippets": 0}, "--num-snippets must be > 0, got 0"),
        ((0,), {"crops": 5}, "crops must be 1, 3 or 10, got 5"),
    ],
)
def test_what_cannot_be_tested(flow_shards, videos, changes, message):
    with pytest.raises(InputError) as caught:
        scores_of(flow_model(), flow_shards, videos, **changes)
    assert str(caught.value) == message.format(flow_shards.folder)


# --- what does not fit ---


def test_shards_that_a_network_was_not_trained_on(flow_shards, tmp_path):
    classes = ["walk", "run"]
    check_fits(flow_model(), classes, flow_shards, "last.pt")

    def message(model, class_names=classes):
        with pytest.raises(CheckpointError) as caught:
            check_fits(model, class_names, flow_shards, "last.pt")
        return str(caught.value)

    folder = flow_shards.folder
    assert message(flow_model(modality="rgb", snippet_length=1)) == (
        f"last.pt: trained on rgb, {folder} holds flow; choose the run of that modality"
    )
    assert message(flow_model(snippet_length=5)) == (
        f"last.pt: trained on snippets of 5 units, {folder} holds 2; "
        "extract with that --snippet-length, or train again"
    )
    assert message(flow_model(), ["run", "walk"]) == (
        f"last.pt: trained on 2 classes (run, walk), {folder} has 2 (walk, run); "
        "choose the shards that it was trained on, or train again"
    )
    assert message(flow_model(num_classes=4), ["a", "b", "c", "d"]) == (
        f"last.pt: trained on 4 classes (a, b, c, …), {folder} has 2 (walk, run); "
        "choose the shards that it was trained on, or train again"
    )


# --- the program ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Shards of nine videos, one of them missing, and a run on them."""
    root = tmp_path_factory.mktemp("trained")
    extra = [Record(f"gone/{n}.avi", 0, {1: "test"}) for n in range(4)]
    shards = write_dataset(root / "tiny", extra=extra)
    assert run_program(*fit_arguments(shards, root / "run", "--epochs", 1)).exit_code == 0
    return shards, root / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, to write into."""
    return shutil.copytree(trained[1], tmp_path / "run")


QUICK = ("--num-snippets", 3, "--crops", 1, "--workers", 0, "--device", "cpu")
LEFT_OUT = (
    "4 of 6 test videos have no snippets and are left out: gone/0.avi, gone/1.avi, gone/2.avi, …\n"
)


def test_evaluate(trained, run):
    shards, _ = trained
    result = run_program("evaluate", run, *QUICK)
    assert (result.exit_code, result.stderr) == (0, LEFT_OUT)
    scores = read_scores(run)
    assert scores.names.tolist() == ["walk/6.avi", "run/7.avi"]
    assert scores.labels.tolist() == [0, 1]
    model, _, _ = load_checkpoint(run / "best.pt")
    expected = scores_of(model, ShardSet(shards / "rgb"), (6, 7))
    np.testing.assert_array_equal(scores.video_scores, expected.video_scores)
    np.testing.assert_array_equal(scores.scores, expected.scores)

    metrics = json.loads((run / "metrics.json").read_text())
    top1 = float(np.mean(scores.video_scores.argmax(axis=1) == scores.labels))
    assert metrics == {
        **summarize(scores.video_scores, scores.labels),
        "top1": top1,
        "checkpoint": "best",
        "split": 1,
        "subset": "test",
        "num_snippets": 3,
        "crops": 1,
        "missing": [f"gone/{n}.avi" for n in range(4)],
        "trained_on": 0,
    }
    assert result.stdout == (
        f"{results_text(scores, {'rgb': metrics})}\n\n"
        f"{run}: scores.npz, metrics.json, classes.csv, mistakes.csv, confusion.png\n"
    )
    assert cv2.imread(str(run / "confusion.png")) is not None
    with (run / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["videos"]) for row in rows] == [("walk", "1"), ("run", "1")]
    with (run / "mistakes.csv").open(newline="") as file:
        wrong = [row["video"] for row in csv.DictReader(file)]
    assert sorted(wrong) == sorted(
        scores.names[scores.video_scores.argmax(axis=1) != scores.labels]
    )


def test_options_of_evaluate(trained, run):
    options = ("--num-snippets", 2, "--crops", 3, "--subset", "train", "--checkpoint", "last")
    options += ("--allow-trained", "--workers", 1, "--device", "cpu")
    result = run_program("evaluate", run, *options)
    assert (result.exit_code, result.stderr) == (
        0,
        "4 of 4 train videos were trained on: the accuracy says little of others\n",
    )
    scores = read_scores(run, "train")
    assert scores.names.tolist() == ["walk/0.avi", "run/1.avi", "walk/2.avi", "run/3.avi"]
    model, _, _ = load_checkpoint(run / "last.pt")
    shards = ShardSet(trained[0] / "rgb")
    expected = scores_of(model, shards, (0, 1, 2, 3), num_snippets=2, crops=3)
    np.testing.assert_array_equal(scores.scores, expected.scores)
    metrics = json.loads((run / "metrics-train.json").read_text())
    assert (metrics["checkpoint"], metrics["num_snippets"], metrics["crops"]) == ("last", 2, 3)
    assert (metrics["subset"], metrics["trained_on"]) == ("train", 4)


def test_subsets_have_files_of_their_own(trained, run):
    before = {path.name for path in run.iterdir()}
    names = ("scores", "metrics", "classes", "mistakes", "confusion")
    for subset, ending in (("test", ""), ("val", "-val")):
        result = run_program("evaluate", run, "--subset", subset, *QUICK)
        files = {path.name for path in run.iterdir()} - before
        kinds = (".npz", ".json", ".csv", ".csv", ".png")
        expected = [f"{name}{ending}{kind}" for name, kind in zip(names, kinds)]
        assert files == set(expected)
        assert result.stdout.splitlines()[-1] == f"{run}: {', '.join(expected)}"
        before |= files
    assert read_scores(run).names.tolist() == ["walk/6.avi", "run/7.avi"]
    assert read_scores(run, "val").names.tolist() == ["walk/4.avi", "run/5.avi"]


def test_a_run_is_tested_by_a_function_too(run, capsys):
    quiet = {"num_snippets": 3, "crops": 1, "device": CPU, "console": Console(quiet=True)}
    metrics = evaluate_run(run, **quiet)
    assert metrics == json.loads((run / "metrics.json").read_text())
    assert evaluate_run(run, checkpoint="last", **quiet)["checkpoint"] == "last"
    assert capsys.readouterr() == ("", "")


def test_fewer_stored_snippets_than_asked_for(trained, run):
    result = run_program("evaluate", run, *QUICK, "--num-snippets", 5)
    assert result.stderr == (
        LEFT_OUT + "2 of 2 videos have fewer than --num-snippets 5 stored (3 at least): "
        "some of theirs are taken more than once\n"
    )
    assert read_scores(run).scores.shape == (2, 5, 2)


# --- videos that were trained on ---


def with_splits(trained, tmp_path, change):
    """The shards with another manifest."""
    shards = shutil.copytree(trained[0], tmp_path / "shards")
    manifest = read_manifest(shards / "manifest.jsonl")
    records = tuple(
        replace(record, splits=change(number, record.splits))
        for number, record in enumerate(manifest.records)
    )
    write_manifest(replace(manifest, records=records), shards / "manifest.jsonl")
    return shards


def test_training_videos_are_not_tested(trained, run):
    assert failure("evaluate", run, "--subset", "train", *QUICK) == (
        f"error: {run / 'best.pt'}: 4 of 4 train videos are among those that it was trained on "
        "(walk/0.avi, run/1.avi, walk/2.avi, …); choose another --subset, "
        "or --allow-trained to test on them anyway\n"
    )
    assert not (run / "scores-train.npz").exists()


def test_test_videos_of_another_split_may_have_been_trained_on(trained, run, tmp_path):
    # split 2 tests on videos 3 to 7, of which split 1 trains on 3
    shards = with_splits(
        trained, tmp_path, lambda n, splits: {**splits, 2: "test" if 3 <= n < 8 else "train"}
    )
    options = ("--shards", shards, "--split", 2, *QUICK)
    assert failure("evaluate", run, *options) == (
        f"error: {run / 'best.pt'}: 1 of 5 test videos are among those that it was trained on "
        "(run/3.avi); choose the split that it was trained on (1), "
        "or --allow-trained to test on them anyway\n"
    )
    result = run_program("evaluate", run, *options, "--allow-trained")
    assert (result.exit_code, result.stderr) == (
        0,
        "1 of 5 test videos were trained on: the accuracy says little of others\n",
    )
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["split"], metrics["trained_on"], metrics["num_videos"]) == (2, 1, 5)


def test_another_split_without_training_videos_is_tested(trained, run, tmp_path):
    shards = with_splits(
        trained, tmp_path, lambda n, splits: {**splits, 2: "train" if n < 5 else "test"}
    )
    options = ("--shards", shards, "--split", 2, *QUICK)
    assert run_program("evaluate", run, *options).exit_code == 0
    assert read_scores(run).names.tolist() == ["run/5.avi", "walk/6.avi", "run/7.avi"]


def test_a_checkpoint_knows_its_videos_whatever_the_manifest_says(trained, run, tmp_path):
    shards = with_splits(
        trained, tmp_path, lambda n, splits: {1: "train" if n == 6 else "test"} if n < 8 else {}
    )
    assert failure("evaluate", run, "--shards", shards, *QUICK) == (
        f"error: {run / 'best.pt'}: 4 of 7 test videos are among those that it was trained on "
        "(walk/0.avi, run/1.avi, walk/2.avi, …); split 1 has changed since, or its --weights were "
        "trained on another split; train again, into another --out, or "
        "--allow-trained to test on them anyway\n"
    )
    result = run_program("evaluate", run, "--shards", shards, "--subset", "train", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")  # video 6 was not trained on


def test_videos_held_out_of_the_training_are_tested(tmp_path):
    shards = write_dataset(tmp_path / "tiny", train=8, val=0)
    fitted = fit_arguments(shards, tmp_path / "run", "--epochs", 1, "--val-fraction", 0.25)
    assert run_program(*fitted).exit_code == 0
    result = run_program("evaluate", tmp_path / "run", "--subset", "val", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    held = read_scores(tmp_path / "run", "val")
    assert sorted(held.labels) == [0, 1]
    rest = ("--subset", "train", "--allow-trained")
    assert run_program("evaluate", tmp_path / "run", *rest, *QUICK).exit_code == 0
    assert not {*held.names} & {*read_scores(tmp_path / "run", "train").names}


def test_older_checkpoints_go_by_the_manifest(trained, run, tmp_path):
    model, classes, progress = load_checkpoint(run / "best.pt")
    del progress["trained_on"]
    save_checkpoint(run / "best.pt", model, classes, progress)
    test_training_videos_are_not_tested(trained, run)
    test_test_videos_of_another_split_may_have_been_trained_on(trained, run, tmp_path)


def test_an_older_checkpoint_and_a_manifest_without_its_split(trained, run, tmp_path):
    model, classes, _ = load_checkpoint(run / "best.pt")
    save_checkpoint(run / "best.pt", model, classes, {})
    shards = with_splits(trained, tmp_path, lambda n, splits: {2: "test"})
    options = ("--shards", shards, "--split", 2, *QUICK)
    assert run_program("evaluate", run, *options).exit_code == 0


def test_shards_may_have_moved(trained, run, tmp_path):
    moved = shutil.copytree(trained[0], tmp_path / "elsewhere")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "shards": "/gone"}))
    assert failure("evaluate", run, *QUICK) == (
        f"error: /gone: the shards that {run} was trained on are not there any more; name them "
        "with --shards\n"
    )
    assert run_program("evaluate", run, "--shards", moved, *QUICK).exit_code == 0


def test_a_run_watched_on_test_videos_is_tested_with_its_last_checkpoint(tmp_path):
    shards = write_dataset(tmp_path / "tiny", val=0)
    run_program(*fit_arguments(shards, tmp_path / "run", "--epochs", 1))
    assert run_program("evaluate", tmp_path / "run", *QUICK).exit_code == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["checkpoint"] == "last"


def test_messages_of_evaluate(trained, run):
    shards, _ = trained
    folder = shards / "rgb"
    assert failure("evaluate", run.parent, *QUICK) == (
        f"error: {run.parent / 'config.json'}: no settings of a run there; "
        "give the folder that tsn-train fit made\n"
    )
    assert failure("evaluate", run, "--split", 2, *QUICK) == "error: tiny: no split 2; it has 1\n"
    assert failure("evaluate", run, *QUICK, "--num-snippets", 0) == (
        LEFT_OUT + "error: --num-snippets must be > 0, got 0\n"
    )
    assert failure("evaluate", run, *QUICK, "--workers", -1) == (
        "error: --workers must be 0 or more, got -1\n"
    )
    manifest = (shards / "manifest.jsonl").read_text()
    (shards / "manifest.jsonl").write_text(manifest.replace('"val"', '"train"'))
    try:
        assert failure("evaluate", run, "--subset", "val", *QUICK) == (
            f"error: {folder}: split 1 has no val videos: no list names one; hold training videos "
            "out with tsn-train fit --val-fraction 0.1, or name some and run the same "
            "tsn-preprocess extract again\n"
        )
    finally:
        (shards / "manifest.jsonl").write_text(manifest)
    (run / "best.pt").unlink()
    assert failure("evaluate", run, *QUICK) == (
        f"error: {run / 'best.pt'}: no such checkpoint; train with tsn-train fit first\n"
    )


def test_a_checkpoint_of_another_run(trained, run):
    folder = trained[0] / "rgb"
    for model, classes, message in (
        (
            flow_model(snippet_length=5),
            ("walk", "run"),
            f"trained on flow, {folder} holds rgb; choose the run of that modality",
        ),
        (
            TSN(model_settings(snippet_length=2)),
            ("walk", "run"),
            f"trained on snippets of 2 units, {folder} holds 1; "
            "extract with that --snippet-length, or train again",
        ),
        (
            TSN(model_settings()),
            ("walk", "jump"),
            f"trained on 2 classes (walk, jump), {folder} has 2 (walk, run); "
            "choose the shards that it was trained on, or train again",
        ),
        (
            TSN(model_settings(num_classes=3)),
            ("walk", "run", "jump"),
            f"trained on 3 classes (walk, run, jump), {folder} has 2 (walk, run); "
            "choose the shards that it was trained on, or train again",
        ),
    ):
        save_checkpoint(run / "best.pt", model, classes, {})
        assert failure("evaluate", run, *QUICK) == f"error: {run / 'best.pt'}: {message}\n"


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({}, "has backbone=resnet18, config.json beside it says mobilenet_v3_small"),
        (
            {"backbone": "mobilenet_v3_small", "dropout": 0.8, "consensus": "max"},
            "has consensus=max, config.json beside it says avg",
        ),
    ],
)
def test_a_checkpoint_of_another_network(run, changes, difference):
    path = run / "best.pt"
    save_checkpoint(path, TSN(model_settings(**changes)), ("walk", "run"), {})
    assert failure("evaluate", run, *QUICK) == (
        f"error: {path}: {difference}; put the checkpoint of that run there, or train again\n"
    )


def test_a_network_that_gives_no_numbers(run):
    model, classes, progress = load_checkpoint(run / "best.pt")
    with torch.no_grad():
        model.classifier.bias[1] = torch.nan
    save_checkpoint(run / "best.pt", model, classes, progress)
    assert failure("evaluate", run, *QUICK) == (
        LEFT_OUT + f"error: {run / 'best.pt'}: its scores of 2 of 2 videos are not finite "
        "(walk/6.avi, run/7.avi); train again with a lower --lr\n"
    )
    assert not (run / "scores.npz").exists()


# --- labels and classes ---


def rewritten(path, *changes):
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


def test_labels_outside_the_classes(trained, run, tmp_path):
    shards = shutil.copytree(trained[0], tmp_path / "shards")
    manifest = shards / "manifest.jsonl"
    rewritten(manifest, ('"walk/0.avi", "label": 0', '"walk/0.avi", "label": 2'))
    assert failure("evaluate", run, "--shards", shards, *QUICK) == (
        f"error: {manifest}: walk/0.avi: label must be 0 to 1, got 2\n"
    )
    rewritten(manifest, ('"label": 2', '"label": 1'))
    assert failure("evaluate", run, "--shards", shards, *QUICK) == (
        f"error: {shards / 'rgb'}: walk/0.avi has label 0, 1 in the manifest; extract again\n"
    )
    shard = shards / "rgb" / "shard-00000.h5"
    with h5py.File(shard, "r+", libver=("v110", "v110")) as file:
        file["video_label"][0] = 2
    (shards / "rgb" / "catalog.hdf5").unlink()  # with it, only shards that are needed are opened
    assert failure("evaluate", run, "--shards", shards, *QUICK) == (
        f"error: {shard}: damaged: video_label: 0 to 1 expected; "
        "delete the file and extract again\n"
    )


def test_classes_that_differ_from_the_manifest(trained, run, tmp_path):
    shards = shutil.copytree(trained[0], tmp_path / "shards")
    manifest = shards / "manifest.jsonl"
    rewritten(manifest, ('["walk", "run"]', '["walk", "jump"]'))
    assert failure("evaluate", run, "--shards", shards, *QUICK) == (
        f"error: {shards / 'rgb'}: class 1 is 'run', 'jump' in the manifest; extract again\n"
    )
    rewritten(manifest, ('["walk", "jump"]', '["walk", "run", "jump"]'))
    assert failure("evaluate", run, "--shards", shards, *QUICK) == (
        f"error: {shards / 'rgb'}: 2 classes, 3 in the manifest; extract again\n"
    )


def test_an_index_with_other_classes_than_its_shards(trained, run, tmp_path):
    shards = shutil.copytree(trained[0], tmp_path / "shards")
    index = json.loads((shards / "rgb" / "index.json").read_text())
    index["class_names"] = ["walk"]
    (shards / "rgb" / "index.json").write_text(json.dumps(index))
    assert failure("evaluate", run, "--shards", shards, *QUICK) == (
        f"error: {shards / 'rgb' / 'shard-00000.h5'}: other classes than "
        f"{shards / 'rgb' / 'index.json'} names; run extract again\n"
    )


def test_an_empty_class_is_listed_without_videos(trained, run, tmp_path):
    shards = with_splits(trained, tmp_path, lambda n, splits: {} if n == 7 else splits)
    result = run_program("evaluate", run, "--shards", shards, *QUICK)
    assert result.exit_code == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["num_videos"] == 1
    assert metrics["mean_class_accuracy"] == metrics["top1"]
    assert "NaN" not in (run / "metrics.json").read_text()
    rows = (run / "classes.csv").read_text().splitlines()
    assert rows[2].startswith("run,0,0,,")
    lines = [line for line in result.stdout.splitlines() if line.startswith("run ")]
    assert lines[0].split()[:4] == ["run", "0", "0", "-"]


def test_a_damaged_shard_is_one_line(tmp_path, run):
    modality = stored("rgb", codec="jpeg", quality=90)
    root = write_dataset(tmp_path / "tiny")
    shutil.rmtree(root / "rgb")
    write_shards(root / "rgb", modality, bright_or_dark(modality, 8), per_shard=8)
    path = root / "rgb" / "shard-00000.h5"
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff", b"\0\0\0"))
    for workers in (0, 1):
        assert failure("evaluate", run, "--shards", root, *QUICK, "--workers", workers) == (
            f"error: {path}: walk/6.avi, image 18: JPEG of shape (24, 32, 3) expected, got no "
            "JPEG; delete the file and extract again\n"
        )
