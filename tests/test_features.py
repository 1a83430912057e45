"""Features of a backbone in a file: their values, what the file tells, and damaged files."""

import hashlib
import json
import weakref

import h5py
import numpy as np
import pytest
import torch
from conftest import stored
from train_helpers import (
    CLASSES,
    failure,
    fit_arguments,
    message_of,
    run_program,
    write_dataset,
)

from train.augmentation import test_views as views_of
from train.feature_file import FeatureSource, read_features, write_features
from train.leakage import hashes
from train.run_folder import load_checkpoint
from tsn_core.backbone import make_backbone
from tsn_core.errors import InputError
from tsn_core.manifest import Record
from tsn_core.planes import by_snippet
from tsn_core.shard_set import ShardSet

NAMES = tuple(f"{CLASSES[n % 2]}/{n}.avi" for n in range(8))
QUICK = ("--num-snippets", 2, "--workers", 0, "--device", "cpu")
RESNET = ("--backbone", "resnet18")
BACKBONE = (*RESNET, "--weights", "none", "--modality", "rgb")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    extra = [Record("walk/gone.avi", 0, {1: "test"})]
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", extra=extra)


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "rgb"
    assert run_program(*fit_arguments(shards, folder, "--epochs", 1, *RESNET)).exit_code == 0
    return folder


def naive_features(backbone, shards, video, num_snippets, crops, normalise):
    """(S, crops, F), one snippet and crop at a time."""
    count = int(shards.num_snippets[video])
    rows = []
    for k in range(num_snippets):
        units = shards.unit_views(video, [((2 * k + 1) * count) // (2 * num_snippets)])
        views = views_of(units, crops, 32, shards.modality.kind)
        with torch.inference_mode():
            snippets = [torch.from_numpy(by_snippet(view, 1)) for view in views]
            rows.append([backbone(normalise(snippet))[0].numpy() for snippet in snippets])
    return np.array(rows)


def test_features_of_a_run(shards, run, tmp_path):
    path = tmp_path / "new" / "rgb.h5"
    result = run_program("features", run, "--crops", 3, "--out", path, *QUICK)
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{path}: features of 8 videos, {size}\n"
    features = read_features(path)
    model, _, progress = load_checkpoint(run / "best.pt")
    model.eval()
    shard_set = ShardSet(shards / "rgb")
    assert features.values.shape == (8, 2, 3, 512)
    assert features.values.dtype == np.float32
    for video in (0, 5):
        expected = naive_features(
            model.backbone, shard_set, video, 2, 3, lambda x: (x.float() - model.mean) / model.std
        )
        np.testing.assert_allclose(features.values[video], expected, rtol=1e-3, atol=1e-4)
        assert np.ptp(expected, axis=(0, 1)).max() > 0.01  # a mix-up would show
    assert features.names == shard_set.names == NAMES
    assert features.labels.tolist() == [0, 1] * 4
    assert features.num_snippets.tolist() == [3] * 8
    assert features.trained_on.tolist() == progress["trained_on"].tolist()
    assert sorted(features.trained_on) == sorted(hashes("tiny", NAMES[:4]))
    assert features.source == FeatureSource(
        dataset="tiny",
        shards=str(shards),
        modality=stored("rgb"),
        class_names=CLASSES,
        backbone="resnet18",
        weights=str(run / "best.pt"),
        weights_sha256=hashlib.sha256((run / "best.pt").read_bytes()).hexdigest(),
        split=1,
        input_size=32,
    )


def test_features_of_a_network_that_was_not_trained(shards, tmp_path):
    path = tmp_path / "rgb.h5"
    options = (*BACKBONE, "--shards", shards, "--input-size", 32, "--out", path, *QUICK)
    assert run_program("features", *options).exit_code == 0
    features = read_features(path)
    torch.manual_seed(0)
    backbone, _ = make_backbone("resnet18", 3, "none")
    shard_set = ShardSet(shards / "rgb")
    kind = shard_set.modality.kind
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (kind.mean, kind.std))
    expected = naive_features(
        backbone.eval(), shard_set, 3, 2, 1, lambda x: (x.float() - mean) / std
    )
    np.testing.assert_allclose(features.values[3], expected, rtol=1e-3, atol=1e-5)
    source = features.source
    assert (source.split, source.weights, source.weights_sha256) == (0, "none", "")
    assert features.trained_on.shape == (0,)
    half = tmp_path / "half.h5"
    assert run_program("features", *options, "--out", half, "--dtype", "float16").exit_code == 0
    assert read_features(half).values.dtype == np.float16
    np.testing.assert_array_equal(read_features(half).values, features.values.astype(np.float16))


def test_weights_from_a_run_bring_the_videos_behind_them(shards, run, tmp_path):
    path = tmp_path / "flow.h5"
    flow = write_dataset(tmp_path / "tiny", modalities=[stored("flow")])
    options = ("--backbone", "resnet18", "--weights", run / "last.pt", "--modality", "flow")
    options += ("--shards", flow, "--input-size", 32, "--out", path, *QUICK)
    assert run_program("features", *options).exit_code == 0
    features = read_features(path)
    assert sorted(features.trained_on) == sorted(hashes("tiny", NAMES[:4]))
    assert features.source.split == 0
    result = run_program("head", path, "--out", tmp_path / "head", "--num-segments", 2)
    assert result.exit_code == 0
    (tmp_path / "best.pt").write_bytes((run / "best.pt").read_bytes())
    (tmp_path / "config.json").write_text(
        (run / "config.json").read_text().replace('"num_segments": 3', '"num_segments": 4')
    )
    assert failure("features", tmp_path, "--out", path, *QUICK) == (
        f"error: {tmp_path / 'best.pt'}: has num_segments=3, config.json beside it says 4; "
        "put the checkpoint of that run there, or train again\n"
    )


def test_one_subset(shards, run, tmp_path):
    path = tmp_path / "rgb.h5"
    result = run_program("features", run, "--subset", "test", "--out", path, *QUICK)
    assert result.exit_code == 0
    assert result.stderr == (
        "1 of 3 test videos have no snippets and are left out: walk/gone.avi\n"
    )
    assert read_features(path).names == NAMES[6:]


def test_the_file_needs_nothing_but_h5py(shards, run, tmp_path):
    path = tmp_path / "rgb.h5"
    assert run_program("features", run, "--out", path, *QUICK).exit_code == 0
    with h5py.File(path) as file:
        attributes = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in file.attrs.items()
        }
        assert (attributes["format"], attributes["version"]) == ("tsn-features", 1)
        assert attributes["modality_folder"] == "rgb"
        assert json.loads(attributes["modality"])["height"] == 24
        assert attributes["class_names"].tolist() == [b"walk", b"run"]
        assert file["features"].shape == (8, 2, 1, 512)
        assert file["video_name"].asstr()[:].tolist() == list(NAMES)
        assert file["video_label"][:].tolist() == [0, 1] * 4


# --- what cannot be done ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--out x", "Give a RUN, or --backbone, --weights, --modality, --shards as well."),
        (
            "--backbone resnet18 --modality rgb --out x",
            "Give a RUN, or --weights, --shards as well.",
        ),
        ("run --backbone resnet18 --flow dis --out x", "A RUN brings its own --backbone, --flow."),
        ("run --split 1 --out x", "--split goes with --subset train, val or test."),
        ("run", "Missing option '--out'."),
    ],
)
def test_usage(arguments, message):
    result = run_program("features", *arguments.split())
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: {message}"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--input-size", 0, "--input-size must be > 0, got 0"),
        ("--num-snippets", 0, "--num-snippets must be > 0, got 0"),
        ("--workers", -1, "--workers must be 0 or more, got -1"),
    ],
)
def test_values_out_of_range(run, tmp_path, option, value, message):
    arguments = ("features", run, "--out", tmp_path / "a.h5", *QUICK, option, value)
    assert failure(*arguments) == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_does_not_fit(shards, run, tmp_path):
    flow = write_dataset(tmp_path / "flow", modalities=[stored("flow")])
    (flow / "flow-farneback").rename(flow / "rgb")
    out = ("--out", tmp_path / "a.h5", *QUICK)
    assert failure("features", run, "--shards", flow, *out) == (
        f"error: {run / 'best.pt'}: trained on rgb, {flow / 'rgb'} holds flow; "
        "choose the run of that modality\n"
    )
    assert failure("features", run, "--subset", "val", "--split", 2, *out) == (
        "error: tiny: no split 2; it has 1\n"
    )
    assert not (tmp_path / "a.h5").exists()


def test_weights_that_are_not_there(shards, tmp_path):
    options = ("--backbone", "resnet18", "--modality", "rgb", "--shards", shards)
    path = tmp_path / "w.pth"
    assert failure("features", *options, "--weights", path, "--out", tmp_path / "a.h5") == (
        f"error: {path}: no such weights file; give none, imagenet or a path\n"
    )


# --- the file ---

SOURCE = FeatureSource(
    dataset="tiny",
    shards="/data/tiny",
    modality=stored("flow"),
    class_names=CLASSES,
    backbone="resnet18",
    weights="none",
    weights_sha256="",
    split=0,
    input_size=32,
)


def write(path, values, names=("a.avi", "b.avi", "c.avi"), dtype="float32", **changes):
    """Write a file of features; ``changes`` replace single tables."""
    tables = {
        "labels": np.arange(len(names)) % 2,
        "num_snippets": np.full(len(names), 25),
        "trained_on": np.array([5, -7]),
    }
    tables.update(changes)
    write_features(path, SOURCE, names=names, values=values, dtype=dtype, **tables)


def random_features(videos=3, snippets=4, crops=1, features=5):
    return np.random.default_rng(0).normal(size=(videos, snippets, crops, features)).astype("f4")


def test_round_trip(tmp_path):
    path = tmp_path / "a.h5"
    values = random_features()
    write(path, values)
    features = read_features(path)
    assert features.source == SOURCE
    assert features.name == "flow-farneback"
    assert features.names == ("a.avi", "b.avi", "c.avi")
    assert features.labels.tolist() == [0, 1, 0]
    assert features.num_snippets.tolist() == [25, 25, 25]
    assert features.trained_on.tolist() == [5, -7]
    assert np.array_equal(features.values, values)
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_videos_pass_through_memory_one_by_one(tmp_path):
    alive = []

    def videos():
        for number in range(20):
            assert sum(reference() is not None for reference in alive) <= 2
            video = np.full((4, 1, 5), number, np.float32)
            alive.append(weakref.ref(video))
            yield video
            del video

    names = tuple(f"{n}.avi" for n in range(20))
    write(tmp_path / "a.h5", videos(), names)
    assert read_features(tmp_path / "a.h5").values[:, 0, 0, 0].tolist() == list(range(20))


def test_nothing_is_left_of_an_unfinished_file(tmp_path):
    def videos():
        yield np.zeros((4, 1, 5), np.float32)
        raise InputError("enough")

    assert message_of(write, tmp_path / "a.h5", videos()) == "enough"
    assert list(tmp_path.iterdir()) == []


def test_features_that_are_no_numbers_of_that_type(tmp_path):
    values = random_features()
    values[1, 0, 0, 0] = -1e5
    assert message_of(write, tmp_path / "a.h5", values, dtype="float16") == (
        "b.avi: features up to 100000 do not fit float16; use float32"
    )
    values[2, 0, 0, 0] = np.nan
    assert message_of(write, tmp_path / "a.h5", values) == (
        "c.avi: the backbone gives features that are not finite; check its weights"
    )
    assert list(tmp_path.iterdir()) == []


def test_no_file(tmp_path):
    path = tmp_path / "a.h5"
    assert message_of(read_features, path) == (
        f"{path}: no such file of features; make it with tsn-train features"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: file.attrs.__delitem__("format"), "format 'tsn-features' expected, got None"),
        (lambda file: file.attrs.modify("version", 2), "format version 1 expected, got 2"),
        (lambda file: file.attrs.__delitem__("split"), "damaged: 'split'"),
        (
            lambda file: file.__delitem__("video_label"),
            "video_label: a dataset in the file expected, got none or a link",
        ),
        (
            lambda file: replace(file, "video_label", np.zeros(3, np.int32)),
            "video_label: int64 expected, got int32",
        ),
        (
            lambda file: replace(file, "video_label", np.zeros(2, np.int64)),
            "damaged: video_label: shape (3,) expected, got (2,)",
        ),
        (
            lambda file: replace(file, "video_label", np.array([0, 2, 0])),
            "damaged: video_label: 0 to 1 expected",
        ),
        (
            lambda file: replace(file, "video_name", np.array([b"a", b"b", b"a"])),
            "damaged: video_name: a name stands there twice",
        ),
        (
            lambda file: replace(file, "features", np.zeros((3, 4, 1, 5))),
            "features: float32 or float16 expected, got float64",
        ),
        (
            lambda file: replace(file, "features", np.zeros((3, 4), np.float32)),
            "damaged: features: shape (V, S, crops, F) expected, got (3, 4)",
        ),
        (
            lambda file: file["features"].__setitem__((1, 0, 0, 0), 9),
            "damaged: the features of b.avi do not match their checksum",
        ),
        (
            lambda file: (
                file.__setitem__("trained_on", h5py.SoftLink("/video_label"))
                if not file.__delitem__("trained_on")
                else None
            ),
            "trained_on: a dataset in the file expected, got none or a link",
        ),
    ],
)
def test_damaged_files(tmp_path, change, reason):
    path = tmp_path / "a.h5"
    write(path, random_features())
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)
    assert message_of(read_features, path) == (
        f"{path}: {reason}; make it again with tsn-train features"
    )


def replace(file, name, data):
    del file[name]
    file[name] = data


def test_bytes_that_are_no_features(tmp_path):
    path = tmp_path / "a.h5"
    write(path, random_features())
    good = path.read_bytes()
    for data in (b"", b"hello", good[:100], good[: len(good) // 2], good[:-1]):
        path.write_bytes(data)
        text = message_of(read_features, path)
        assert text.startswith(f"{path}: damaged: ") and "\n" not in text
        assert text.endswith("; make it again with tsn-train features")
