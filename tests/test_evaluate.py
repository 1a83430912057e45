"""Testing a trained network: scores against a naive computation, and what does not fit."""

import json
import shutil

import cv2
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
from train.run_folder import load_checkpoint, save_checkpoint
from train.scores import read_scores
from tsn_core.consensus import CONSENSUS
from tsn_core.errors import CheckpointError, InputError
from tsn_core.manifest import Record
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
        "num_videos": 2,
        "num_classes": 2,
        "top1": top1,
        "top5": 1.0,
        "mean_class_accuracy": top1,
        "checkpoint": "best",
        "missing": [f"gone/{n}.avi" for n in range(4)],
    }
    assert result.stdout == (
        "modality  videos   top-1   top-5  mean class\n"
        f"rgb            2  {100 * top1:5.1f}%  100.0%      {100 * top1:5.1f}%\n"
        f"{run}: scores.npz, metrics.json, confusion.png\n"
    )
    assert cv2.imread(str(run / "confusion.png")) is not None


def test_options_of_evaluate(trained, run):
    options = ("--num-snippets", 2, "--crops", 3, "--subset", "train", "--checkpoint", "last")
    result = run_program("evaluate", run, *options, "--workers", 1, "--device", "cpu")
    assert (result.exit_code, result.stderr) == (0, "")
    scores = read_scores(run)
    assert scores.names.tolist() == ["walk/0.avi", "run/1.avi", "walk/2.avi", "run/3.avi"]
    model, _, _ = load_checkpoint(run / "last.pt")
    shards = ShardSet(trained[0] / "rgb")
    expected = scores_of(model, shards, (0, 1, 2, 3), num_snippets=2, crops=3)
    np.testing.assert_array_equal(scores.scores, expected.scores)
    assert json.loads((run / "metrics.json").read_text())["checkpoint"] == "last"


def test_shards_may_have_moved(trained, run, tmp_path):
    moved = shutil.copytree(trained[0], tmp_path / "elsewhere")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "shards": "/gone"}))
    assert failure("evaluate", run, *QUICK) == (
        "error: /gone/rgb/index.json: not there; extract that modality, or let an unfinished "
        "extraction finish\n"
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
            f"error: {folder}: split 1 has no val videos with snippets\n"
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
            TSN(model_settings(num_classes=3)),
            ("walk", "run", "jump"),
            f"trained on 3 classes (walk, run, jump), {folder} has 2 (walk, run); "
            "choose the shards that it was trained on, or train again",
        ),
    ):
        save_checkpoint(run / "best.pt", model, classes, {})
        assert failure("evaluate", run, *QUICK) == f"error: {run / 'best.pt'}: {message}\n"


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
