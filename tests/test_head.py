"""Heads on stored features: what they compute, what they learn, and what they refuse."""

import json

import numpy as np
import pytest
import torch
from conftest import stored
from torch import nn
from train_helpers import CLASSES, failure, message_of, run_program, same_tensors

from train.feature_file import Features, FeatureSource, write_features
from train.head import Head, HeadSettings, score, side_by_side, train_head
from train.leakage import hashes
from train.optimization import OptimizerSettings
from train.results import RESULT_FILES
from train.scores import read_scores
from tsn_core.errors import TSNError
from tsn_core.manifest import Manifest, Record, write_manifest

OPTIMIZER = OptimizerSettings("adamw", 0.003, 1.0, 0.0, 0.01, "cosine", (), 0, 20.0)


def settings(**changes):
    fields = {
        "consensus": "avg",
        "num_segments": 3,
        "top": 2,
        "dropout": 0.2,
        "head_dropout": 0.0,
        "epochs": 20,
        "batch_size": 8,
        "seed": 0,
    }
    return HeadSettings(**{**fields, **changes})


def features_of(values, labels=None, names=None, modality="rgb", class_names=CLASSES, **changes):
    """Features as a file holds them; labels alternate."""
    source = {
        "dataset": "tiny",
        "shards": "/data/tiny",
        "modality": stored(modality),
        "class_names": class_names,
        "backbone": "resnet18",
        "weights": "none",
        "weights_sha256": "",
        "split": 0,
        "input_size": 32,
    }
    count = len(values)
    return Features(
        source=FeatureSource(**{**source, **changes}),
        names=tuple(f"{n}.avi" for n in range(count)) if names is None else tuple(names),
        labels=np.arange(count) % 2 if labels is None else np.array(labels),
        num_snippets=np.full(count, 25),
        trained_on=np.empty(0, np.int64),
        values=values,
    )


def noise(videos=12, snippets=6, crops=1, features=8, seed=0):
    return np.random.default_rng(seed).normal(size=(videos, snippets, crops, features)).astype("f4")


# --- what a head computes ---


def test_scores_equal_a_naive_computation():
    values = 5 * noise(4, crops=3) + 2
    torch.manual_seed(0)
    head = Head(settings(consensus="max"), 8, 3).eval()
    head.standardise_by(torch.from_numpy(values[:3]))
    weight = nn.init.normal_(head.classifier.weight).detach().numpy()
    flat = values[:3].reshape(-1, 8)
    video_scores, snippet_scores = score(head, torch.from_numpy(values))
    for video in range(4):
        per_crop = []
        for crop in range(3):
            standard = (values[video, :, crop] - flat.mean(axis=0)) / flat.std(axis=0)
            per_crop.append(standard @ weight.T)  # (S, C)
        expected = np.mean([scores.max(axis=0) for scores in per_crop], axis=0)
        np.testing.assert_allclose(video_scores[video], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            snippet_scores[video], np.mean(per_crop, axis=0), rtol=1e-4, atol=1e-5
        )


def test_more_videos_than_are_scored_together():
    head = Head(settings(), 8, 2).eval()
    values = torch.from_numpy(noise(300))
    whole, _ = score(head, values)
    np.testing.assert_allclose(whole[290:], score(head, values[290:])[0], rtol=1e-5, atol=1e-8)
    assert whole.shape == (300, 2)


def test_a_constant_feature_is_nothing():
    values = torch.from_numpy(noise())
    values[..., 3] = 7
    head = Head(settings(dropout=0.0), 8, 2)
    head.standardise_by(values)
    assert head.deviation[3] == 1
    assert head(values[:, :, 0])[0].isfinite().all()


def test_every_epoch_takes_every_video_with_a_snippet_of_each_segment_and_one_crop(monkeypatch):
    """Each feature tells which video, snippet and crop it is of."""
    videos, snippets, crops = 10, 7, 3
    place = np.stack(np.meshgrid(*map(np.arange, (videos, snippets, crops)), indexing="ij"), -1)
    features = torch.from_numpy(place.astype(np.float32))
    batches = []
    forward = Head.forward
    monkeypatch.setattr(
        Head, "forward", lambda head, part: (batches.append(part), forward(head, part))[1]
    )
    labels = torch.arange(videos) % 2
    train_head(features, labels, 2, settings(epochs=60, batch_size=4), OPTIMIZER)
    assert [len(part) for part in batches[:6]] == [4, 3, 3] * 2
    seen = torch.cat(batches).view(60, videos, 3, 3).int()  # (epoch, video, K, place)
    assert (seen[..., 0].sort(dim=1).values[:, :, 0] == torch.arange(videos)).all()
    assert (seen[..., 0] == seen[:, :, :1, 0]).all()
    assert (seen[..., 2] == seen[:, :, :1, 2]).all()
    assert set(seen[..., 2].flatten().tolist()) == {0, 1, 2}
    found = [set(seen[:, :, k, 1].flatten().tolist()) for k in range(3)]
    assert found == [{0, 1}, {2, 3, 4}, {5, 6}]
    assert not torch.equal(seen[0], seen[1])


def test_the_seed_decides_everything():
    features, labels = torch.from_numpy(noise()), torch.arange(12) % 2
    options = {"consensus": "gru", "epochs": 2, "head_dropout": 0.3}

    def weights(seed):
        return train_head(
            features, labels, 2, settings(seed=seed, **options), OPTIMIZER
        ).state_dict()

    first = weights(1)
    torch.manual_seed(99)
    assert same_tensors(weights(1), first)
    assert not same_tensors(weights(2), first)


def test_the_usual_number_of_epochs(monkeypatch):
    steps = []
    monkeypatch.setattr("train.head.set_rate", lambda optimizer, rate: steps.append(rate))
    features, labels = torch.from_numpy(noise(20, 3, 1, 2)), torch.arange(20) % 2
    train_head(features, labels, 2, settings(epochs=None, batch_size=20), OPTIMIZER)
    assert len(steps) == 500  # of one step each
    assert steps[0] == 0.003 and 0 < steps[-1] < 1e-6 and sorted(steps)[::-1] == steps
    steps.clear()
    train_head(features, labels, 2, settings(epochs=None, batch_size=1), OPTIMIZER)
    assert len(steps) == 30 * 20


# --- what a head learns ---


def accuracy(head, values, labels):
    return float((score(head, torch.from_numpy(values))[0].argmax(axis=1) == labels).mean())


@pytest.fixture(scope="module")
def ordered():
    """Videos of two patterns whose order tells the class, as features of 6 snippets."""
    generator = np.random.default_rng(0)
    patterns = generator.normal(size=(2, 8))
    labels = np.arange(48) % 2
    halves = np.stack([labels, 1 - labels], axis=1).repeat(3, axis=1)  # (V, S) of patterns
    values = patterns[halves] + 0.3 * generator.normal(size=(48, 6, 8))
    return values[:, :, None].astype(np.float32), labels


@pytest.mark.parametrize(("consensus", "low", "high"), [("gru", 0.9, 1.0), ("avg", 0.0, 0.75)])
def test_the_order_of_two_patterns_is_learnt_by_gru_alone(ordered, consensus, low, high):
    values, labels = ordered
    head = train_head(
        torch.from_numpy(values[:24]),
        torch.from_numpy(labels[:24]),
        2,
        settings(consensus=consensus, epochs=40),
        OPTIMIZER,
    )
    assert low <= accuracy(head, values[24:], labels[24:]) <= high


def test_two_modalities_tell_what_none_tells_alone():
    """Of four classes, one modality tells the first bit and the other the second."""
    names = ("a", "b", "c", "d")
    labels = np.arange(48) % 4
    blocks = []
    for bit in range(2):
        values = 0.5 * noise(48, features=4, seed=bit)
        values[..., 0] += 4 * ((labels >> bit) & 1)[:, None, None] * 10.0 ** (3 * bit)
        blocks.append(values)
    parts = [
        features_of(values, labels, modality=modality, class_names=names)
        for values, modality in zip(blocks, ("rgb", "flow"))
    ]
    for chosen, low, high in ((parts, 0.95, 1.0), (parts[:1], 0.3, 0.7), (parts[1:], 0.3, 0.7)):
        values = side_by_side(chosen).values()
        head = train_head(
            torch.from_numpy(values[:24]),
            torch.from_numpy(labels[:24]),
            4,
            settings(epochs=40),
            OPTIMIZER,
        )
        assert low <= accuracy(head, values[24:], labels[24:]) <= high


# --- side by side ---


def test_videos_are_matched_by_name():
    rgb = features_of(noise(4))
    order = [2, 0, 3]
    flow = features_of(
        noise(3, features=5, seed=1).astype(np.float16),
        labels=[0, 0, 1],
        names=[f"{n}.avi" for n in order],
        modality="flow",
    )
    table = side_by_side([rgb, flow])
    assert table.names.tolist() == ["0.avi", "2.avi", "3.avi"]
    assert table.labels.tolist() == [0, 0, 1]
    values = table.values()
    assert (values.shape, values.dtype) == ((3, 6, 1, 13), np.float32)
    np.testing.assert_array_equal(values[..., :8], rgb.values[[0, 2, 3]])
    np.testing.assert_array_equal(values[..., 8:], flow.values[[1, 0, 2]])
    assert table.places(["3.avi", "x.avi", "0.avi"]) == ([2, 0], ["x.avi"])


def test_what_does_not_go_side_by_side():
    rgb = features_of(noise())

    def message(*arguments, **options):
        other = features_of(*arguments, modality="flow", **options)
        return message_of(side_by_side, [rgb, other])

    assert message(noise(snippets=5)) == (
        "flow-farneback has 5 snippets a video, rgb 6; make both with the same --num-snippets"
    )
    assert message(noise(crops=3)) == (
        "flow-farneback has 3 crops a video, rgb 1; make both with the same --crops"
    )
    assert message(noise(), class_names=("walk", "jump")) == (
        "flow-farneback has other classes than rgb: class 1 is 'jump' against 'run'; "
        "give features of the same dataset"
    )
    assert message(noise(1), names=["x"]) == (
        "rgb, flow-farneback have no video in common; give features of the same split"
    )
    assert message(noise(2), labels=[0, 0]) == (
        "1.avi: label 0 in flow-farneback, 1 in rgb; give features of the same dataset"
    )


# --- what cannot be trained ---


def test_more_segments_than_snippets():
    features, labels = torch.from_numpy(noise()), torch.arange(12) % 2
    assert message_of(train_head, features, labels, 2, settings(num_segments=7), OPTIMIZER) == (
        "--num-segments must be 1 to 6, the snippets that the features have of each video, got 7"
    )


def test_a_loss_that_is_not_finite():
    features, labels = torch.from_numpy(noise()), torch.arange(12) % 2
    optimizer = OptimizerSettings("adamw", 1e38, 1.0, 0.0, 0.0, "cosine", (), 0, 0.0)
    arguments = (features, labels, 2, settings(dropout=0.0), optimizer)
    text = message_of(train_head, *arguments, error=TSNError)
    assert text in (
        "epoch 1: the loss is nan; lower --lr",
        "epoch 1: the loss is inf; lower --lr",
        "epoch 2: the loss is nan; lower --lr",
        "epoch 2: the loss is inf; lower --lr",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_segments": 0}, "num_segments must be > 0, got 0"),
        ({"epochs": 0}, "epochs must be > 0, got 0"),
        ({"batch_size": 0}, "batch_size must be > 0, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"dropout": 1.0}, "dropout must be 0 or more and below 1, got 1.0"),
        ({"head_dropout": -0.1}, "head_dropout must be 0 or more and below 1, got -0.1"),
    ],
)
def test_settings_out_of_range(changes, message):
    assert message_of(settings, **changes) == message


# --- the program ---


def save(path, features, trained_on=()):
    write_features(
        path,
        features.source,
        names=features.names,
        labels=features.labels,
        num_snippets=features.num_snippets,
        trained_on=hashes("tiny", trained_on),
        values=features.values,
    )
    return path


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Features of an easy dataset in two modalities, and its manifest with two splits."""
    monkeypatch.chdir(tmp_path)
    subsets = ["train"] * 8 + ["val"] * 2 + ["test"] * 4
    records = [
        Record(f"{n}.avi", n % 2, {1: subset, 2: subsets[-1 - n]})
        for n, subset in enumerate(subsets)
    ]
    write_manifest(Manifest("tiny", CLASSES, tuple(records)), "tiny/manifest.jsonl")
    for modality in ("rgb", "flow"):
        values = 0.5 * noise(14, features=2)
        values[..., 0] += 6 * (np.arange(14) % 2)[:, None, None]
        features = features_of(values, modality=modality, shards=str(tmp_path / "tiny"), split=1)
        save(tmp_path / f"{modality}.h5", features, features.names[:8])
    return tmp_path


QUICK = ("--epochs", 60, "--out", "out")


def test_head(files):
    result = run_program("head", "rgb.h5", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    scores = read_scores(files / "out")
    assert scores.name == "rgb"
    assert scores.names.tolist() == ["10.avi", "11.avi", "12.avi", "13.avi"]
    assert (scores.labels.tolist(), scores.scores.shape) == ([0, 1, 0, 1], (4, 6, 2))
    assert scores.video_scores.argmax(axis=1).tolist() == [0, 1, 0, 1]
    lines = result.stdout.splitlines()
    assert lines[1].split()[:3] == ["rgb", "4", "100.0%"]
    assert lines[-2:] == [
        "top-1: train 100.0%, val 100.0%, test 100.0%",
        f"out: {', '.join(RESULT_FILES)}",
    ]
    assert sorted(RESULT_FILES) == sorted(file.name for file in (files / "out").iterdir())
    metrics = json.loads((files / "out" / "metrics.json").read_text())
    assert metrics["features"] == ["rgb.h5"]
    assert metrics["split"] == 1
    assert metrics["top1_by_subset"] == {"train": 1.0, "val": 1.0, "test": 1.0}
    assert metrics["head"]["consensus"] == "avg"


def test_a_fusion_head(files):
    assert (
        run_program("head", "rgb.h5", "flow.h5", "--consensus", "attention", *QUICK).exit_code == 0
    )
    first = read_scores(files / "out")
    assert first.name == "fusion"
    assert (
        run_program("head", "rgb.h5", "flow.h5", "--consensus", "attention", *QUICK).exit_code == 0
    )
    assert np.array_equal(read_scores(files / "out").scores, first.scores)


def test_the_splits_may_lie_elsewhere(files):
    (files / "tiny").rename(files / "moved")
    assert failure("head", "rgb.h5", *QUICK) == (
        f"error: {files / 'tiny' / 'manifest.jsonl'}: no manifest there; give the folder of a "
        "dataset's shards, such as shards/hmdb51, or make one with tsn-preprocess scan "
        "or extract\n"
    )
    assert run_program("head", "rgb.h5", "--shards", "moved", *QUICK).exit_code == 0


def test_videos_that_the_backbone_was_trained_on_are_no_test(files):
    arguments = ("head", "rgb.h5", "--split", 2, *QUICK)
    assert failure(*arguments) == (
        "error: rgb.h5: 2 of 2 val videos are among those that it was trained on (4.avi, 5.avi); "
        "choose the split that it was trained on (1), or --allow-trained to test on them anyway\n"
    )
    assert not (files / "out").exists()
    assert run_program(*arguments, "--allow-trained").exit_code == 0


def test_videos_without_features(files):
    part = features_of(noise(9), shards=str(files / "tiny"))
    save(files / "part.h5", part)
    assert failure("head", "part.h5", *QUICK) == (
        "1 of 2 val videos have no features and are left out: 9.avi\n"
        "4 of 4 test videos have no features and are left out: 10.avi, 11.avi, 12.avi, …\n"
        "error: part.h5: split 1 has no test videos with features; make them with "
        "tsn-train features --subset all\n"
    )
    assert failure("head", "part.h5", "--split", 3, *QUICK) == (
        "error: tiny: no split 3; it has 1, 2\n"
    )
    assert failure("head", "gone.h5", *QUICK) == (
        "error: gone.h5: no such file of features; make it with tsn-train features\n"
    )
    assert failure("head", "rgb.h5", "--lr", 0, *QUICK) == (
        "error: learning_rate must be > 0, got 0.0\n"
    )
    assert failure("head", "rgb.h5", "--consensus", "topk", "--top", 4, *QUICK) == (
        "error: topk must average 1 to num_segments=3, got 4\n"
    )
