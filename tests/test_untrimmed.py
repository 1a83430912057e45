"""Long videos from shards to files: scores against naive ones, and everything that is written."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from conftest import add_video, header_of, stored
from rich.console import Console
from train_helpers import (
    failure,
    fit_arguments,
    model_settings,
    run_program,
    write_dataset,
)

from train.augmentation import test_views as views_of
from train.long_videos import score_videos
from train.run_folder import load_checkpoint, save_checkpoint
from train.scores import read_scores, softmax
from train.timeline import file_names
from train.windows import SCALES
from tsn_core.errors import CheckpointError, InputError, ShardError
from tsn_core.index import Index, ShardEntry, write_index
from tsn_core.manifest import Manifest, Record, write_manifest
from tsn_core.planes import by_snippet
from tsn_core.shard_set import ShardSet
from tsn_core.shard_writer import ShardWriter
from tsn_core.tsn import TSN, ModelSettings

CPU = torch.device("cpu")
CLASSES = ("walk", "run")
FPS = 10.0
STEP = 5  # frames between snippets: two a second
DARK, BRIGHT, GRAY = 20, 200, 110  # walk, run, background
# (seconds, brightness), one after the other
SCRIPTS = {
    "videos/one.avi": ((3, GRAY), (5, DARK), (4, GRAY), (6, BRIGHT), (2, GRAY)),
    "videos/ü $ two.avi": ((2, BRIGHT), (6, GRAY), (4, BRIGHT), (25, GRAY)),
    "short.avi": ((0.3, DARK),),
}


def write_long(root, *, sampling=None, class_names=CLASSES, scripts=SCRIPTS, fps=FPS, length=1):
    """Write RGB shards of videos whose brightness follows a script, and the manifest."""
    modality = stored("rgb", snippet_length=length)
    folder = root / "rgb"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(2)
    path = folder / "shard-00000.h5"
    with ShardWriter(path, header_of(modality, class_names=class_names)) as writer:
        for name, script in scripts.items():
            values = np.repeat([v for _, v in script], [round(s * FPS) for s, _ in script])
            last = max(len(values) - length, 0)
            starts = range(0, last + 1, STEP)
            frames = sorted({start + unit for start in starts for unit in range(length)})
            noise = generator.integers(0, 30, (len(frames), 24, 32, 3), dtype=np.uint8)
            shown = values[np.minimum(frames, len(values) - 1)].astype(np.uint8)
            add_video(
                writer,
                modality,
                noise + shown[:, None, None, None],
                name=name,
                label=int((values == BRIGHT).sum() > (values == DARK).sum()),
                starts=starts,
                frames=frames,
                num_frames=len(values),
                fps=fps,
            )
        tables = writer.finish()
    counts = (tables.num_videos, tables.num_images, tables.num_snippets, 0)
    entry = ShardEntry(path.name, "f" * 64, path.stat().st_size, *counts)
    plan = {"fps": FPS / STEP} if sampling is None else sampling
    write_index(Index("long", modality, plan, class_names, (entry,)), folder)
    shards = ShardSet(folder)
    records = [Record(name, int(shards.labels[n]), {1: "test"}) for n, name in enumerate(scripts)]
    write_manifest(Manifest("long", class_names, tuple(records)), root / "manifest.jsonl")
    return shards


def true_actions(script):
    """What a script shows, as annotations.json has it."""
    actions, now = [], 0.0
    for seconds, value in script:
        if value != GRAY:
            label = "walk" if value == DARK else "run"
            actions.append(
                {"label": label, "start_seconds": now, "end_seconds": round(now + seconds, 3)}
            )
        now += seconds
    return {"duration_seconds": now, "fps": FPS, "actions": actions}


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The root of long shards, and a file of annotations."""
    root = tmp_path_factory.mktemp("long") / "long"
    write_long(root)
    content = {"videos": {name: true_actions(script) for name, script in SCRIPTS.items()}}
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def seeing_model(settings):
    """A network that knows dark from bright, and is undecided about gray."""
    torch.manual_seed(0)
    model = TSN(settings).eval()
    levels = torch.tensor([DARK + 15, GRAY + 15, BRIGHT + 15], dtype=torch.uint8)
    with torch.inference_mode():
        features = model.features(levels.view(3, 1, 1, 1).expand(3, 3, 32, 32))
    wanted = torch.tensor([[8.0, 0.0], [0.0, 0.0], [0.0, 8.0]])
    solved = torch.linalg.lstsq(features.clone(), wanted).solution
    model.classifier.weight.data = solved.T.contiguous()
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose last checkpoint is the network above."""
    root = tmp_path_factory.mktemp("trained")
    shards = write_dataset(root / "tiny", val=0)
    run = root / "run"
    options = ("--epochs", 1, "--backbone", "resnet18")
    assert run_program(*fit_arguments(shards, run, *options)).exit_code == 0
    settings = ModelSettings.from_dict(json.loads((run / "config.json").read_text())["model"])
    save_checkpoint(run / "last.pt", seeing_model(settings), CLASSES, {})
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


QUICK = ("--workers", 0, "--device", "cpu")


# --- the numbers ---


def scored(model, shards, videos, **changes):
    options = {"scales": SCALES, "stride": 0.8, "crops": 1, "input_size": 32, "num_workers": 0}
    options.update({"device": CPU, "console": Console(quiet=True), **changes})
    return list(score_videos(model, shards, videos, **options))


def noisy_model(**changes):
    torch.manual_seed(1)
    model = TSN(model_settings(snippet_length=2, **changes)).eval()
    for parameter in (model.classifier or model.consensus).parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # scores worth comparing
    return model


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Shards of snippets of two frames; one video is as long as no two of them."""
    scripts = {"a.avi": ((30, DARK), (4, BRIGHT)), "b.avi": ((0.1, GRAY),), "c.avi": ((3, GRAY),)}
    return write_long(tmp_path_factory.mktemp("pairs") / "pairs", scripts=scripts, length=2)


@pytest.mark.parametrize(
    ("consensus", "crops"), [("avg", 1), ("attention", 3), ("gru", 1), ("gru", 3)]
)
def test_windows_have_the_scores_of_a_naive_computation(pairs, consensus, crops):
    """Also where a window begins in one chunk of 64 views and ends in the next."""
    model = noisy_model(consensus=consensus)
    found = scored(model, pairs, [2, 0, 1], crops=crops, stride=1.0)
    assert [video.number for video in found] == [2, 0, 1]
    for video in found:
        count = len(video.times)
        assert count == pairs.num_snippets[video.number]
        units = pairs.unit_views(video.number, range(count))
        with torch.inference_mode():
            features = [
                model.features(torch.from_numpy(by_snippet(view, count)))
                for view in views_of(units, crops, 32, pairs.modality.kind)
            ]
        frames = pairs.snippet_frames(video.number)
        times = np.minimum((frames + 1) / FPS, pairs.num_frames[video.number] / FPS)
        np.testing.assert_allclose(video.times, times)
        for scale, (windows, scores) in zip(SCALES, video.scales):
            assert len(windows.spans) == len(scores) == -(-video.duration_seconds // scale)
            for start, score in zip(windows.spans[:, 0], scores):
                inside = np.flatnonzero((times > start - 1e-6) & (times < start + scale - 1e-6))
                with torch.inference_mode():
                    if consensus == "gru":
                        naive = [model.consensus(None, f[inside][None])[0] for f in features]
                        expected = torch.stack(naive).mean(dim=0)
                    else:
                        snippets = torch.stack([model.classifier(f) for f in features]).mean(dim=0)
                        expected = snippets[inside].amax(dim=0)
                np.testing.assert_allclose(score, expected, rtol=1e-3, atol=1e-4)
    assert np.ptp(found[1].scores, axis=0).min() > 0.01  # a mix-up would show


def test_a_gru_gives_a_snippet_the_scores_of_its_shortest_window(pairs):
    (video,) = scored(noisy_model(consensus="gru"), pairs, [0], scales=(4.0, 1.0), stride=1.0)
    windows, scores = video.scales[1]
    for (first, after), score in zip(windows.snippets, scores):
        np.testing.assert_allclose(video.scores[first:after], np.tile(score, (after - first, 1)))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(pairs, num_workers):
    alone, shared = (scored(noisy_model(), pairs, [0, 2], num_workers=n) for n in (0, num_workers))
    for one, other in zip(alone, shared):
        assert np.array_equal(one.scores, other.scores)


def test_what_cannot_be_scored(pairs):
    model = noisy_model()
    for changes, message in (
        ({"crops": 5}, "crops must be 1, 3 or 10, got 5"),
        ({"scales": ()}, "--scales must be numbers of seconds such as 1,2,4,8,16, got none"),
        ({"scales": (1.0, 0.0)}, "scales must be > 0 seconds, got 0"),
    ):
        with pytest.raises(InputError) as caught:
            scored(model, pairs, [0], **changes)
        assert str(caught.value) == message
    model.classifier.bias.data[0] = torch.nan
    with pytest.raises(CheckpointError) as caught:
        scored(model, pairs, [0])
    assert str(caught.value) == ("a.avi: its scores are not finite; train again with a lower --lr")


def test_frames_that_make_no_sense(pairs, monkeypatch):
    monkeypatch.setattr(ShardSet, "snippet_frames", lambda *_: np.array([5, 3]))
    with pytest.raises(ShardError) as caught:
        scored(noisy_model(), pairs, [0])
    assert str(caught.value) == (
        f"{pairs.folder}: a.avi: the frames of its snippets make no sense; extract again"
    )


# --- the program ---


def test_everything_that_is_written(run, long, tmp_path):
    out = tmp_path / "out"
    annotations = long / "annotations.json"
    options = ("--annotations", annotations, "--threshold", 0.9, "--smooth", 0, "--least", 0)
    result = run_program("windows", run, "--shards", long, "--out", out, *options, *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "modality  videos   top-1     mAP\n"
        "rgb            3  100.0%  100.0%\n"
        "modality  actions  found  precision  recall  mAP@0.3  mAP@0.5  mAP@0.7  frames right\n"
        "rgb             5      5     100.0%  100.0%   100.0%   100.0%   100.0%         97.6%\n"
        "5 actions found in 3 videos\n"
        f"{out}: scores.npz, windows.npz, actions.json, metrics.json, timeline/\n"
    )
    stems = ["videos_one.avi", "videos_two.avi", "short.avi"]
    assert sorted(file.name for file in out.rglob("*") if file.is_file()) == sorted(
        ["actions.json", "metrics.json", "scores.npz", "windows.npz"]
        + [f"{stem}.{ending}" for stem in stems for ending in ("json", "png")]
    )

    found = json.loads((out / "actions.json").read_text())
    assert found["class_names"] == ["walk", "run"]
    assert list(found["videos"]) == list(SCRIPTS)
    for name, script in SCRIPTS.items():
        expected = true_actions(script)
        video = found["videos"][name]
        assert video["duration_seconds"] == pytest.approx(expected["duration_seconds"])
        assert [one["label"] for one in video["actions"]] == [
            one["label"] for one in expected["actions"]
        ]
        for one, other in zip(video["actions"], expected["actions"]):
            for key in ("start_seconds", "end_seconds"):
                assert one[key] == pytest.approx(other[key], abs=0.25)  # half way to the next
            assert 0.9 <= one["score"] <= 1

    for name, stem in zip(SCRIPTS, stems):
        timeline = json.loads((out / "timeline" / f"{stem}.json").read_text())
        assert timeline["name"] == name
        assert timeline["actions"] == found["videos"][name]["actions"]
        assert [one["label"] for one in timeline["annotated"]] == [
            one["label"] for one in true_actions(SCRIPTS[name])["actions"]
        ]
        assert np.shape(timeline["probabilities"]) == (len(timeline["times_seconds"]), 2)
        assert cv2.imread(str(out / "timeline" / f"{stem}.png")) is not None

    with np.load(out / "windows.npz", allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == list(SCRIPTS)
        assert len(arrays["window_video"]) == len(arrays["window_scores"])
        for video in range(3):
            per_scale = []
            for scale in range(5):
                chosen = (arrays["window_video"] == video) & (arrays["window_scale"] == scale)
                best = np.sort(arrays["window_scores"][chosen], axis=0)[::-1]
                per_scale.append(best[: max(15, len(best) // 4)].mean(axis=0))
                for (start, end), score in zip(
                    arrays["window_span"][chosen], arrays["window_scores"][chosen]
                ):
                    mine = arrays["snippet_video"] == video
                    times = arrays["snippet_time"]
                    inside = mine & (times > start - 1e-6) & (times < end + 1e-9)
                    assert score.tolist() == arrays["snippet_scores"][inside].max(axis=0).tolist()
            scores = read_scores(out)
            np.testing.assert_allclose(scores.scores[video], per_scale, rtol=1e-5)
            np.testing.assert_allclose(
                scores.video_scores[video], np.mean(per_scale, axis=0), rtol=1e-5
            )
        probabilities = softmax(arrays["snippet_scores"][arrays["snippet_video"] == 2])
    np.testing.assert_allclose(timeline["probabilities"], probabilities, atol=1e-4)
    assert (scores.name, scores.names.tolist()) == ("rgb", list(SCRIPTS))
    assert scores.labels.tolist() == [1, 1, 0]

    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["videos"] == {"num_videos": 3, "top1": 1.0, "mean_average_precision": 1.0}
    assert metrics["actions"]["frame_accuracy"] == 1 - 14 / 573  # 2 at each border
    assert metrics["rule"] == {
        "threshold": 0.9,
        "smooth_seconds": 0.0,
        "merge_seconds": 0.5,
        "least_seconds": 0.0,
        "background": None,
    }
    assert metrics["scales_seconds"] == [1, 2, 4, 8, 16]
    assert (metrics["checkpoint"], metrics["split"], metrics["subset"]) == ("last", 1, "test")
    # what was found is annotations, too
    again = ("--annotations", out / "actions.json", *options[2:])
    result = run_program("windows", run, "--shards", long, "--out", out, *again, *QUICK)
    assert "100.0%" in result.stdout and "97.6%" not in result.stdout


def test_scores_of_long_videos_can_be_fused(run, long, tmp_path):
    options = ("--shards", long, "--out", tmp_path / "a", *QUICK)
    assert run_program("windows", run, *options).exit_code == 0
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    result = run_program("fuse", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "fused")
    assert result.exit_code == 0
    fused, part = read_scores(tmp_path / "fused"), read_scores(tmp_path / "a")
    np.testing.assert_allclose(fused.video_scores, 2 * part.video_scores, rtol=1e-6)


def test_without_annotations_only_the_video_is_judged(run, long):
    result = run_program("windows", run, "--shards", long, "--scales", "4 2", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "modality  videos   top-1     mAP"
    assert lines[1].startswith("rgb            3  ")
    assert lines[2].endswith(" actions found in 3 videos")
    assert lines[3].startswith(f"{run / 'windows'}: scores.npz, windows.npz")
    metrics = json.loads((run / "windows" / "metrics.json").read_text())
    assert metrics["scales_seconds"] == [4, 2] and "actions" not in metrics
    timeline = json.loads((run / "windows" / "timeline" / "short.avi.json").read_text())
    assert "annotated" not in timeline


def test_videos_of_other_classes_have_no_labels(run, tmp_path):
    root = tmp_path / "mine"
    write_long(root, class_names=("holiday", "work"), sampling={"dense": True})
    result = run_program("windows", run, "--shards", root, "--subset", "all", *QUICK)
    assert result.exit_code == 0
    assert result.stderr == (
        f"{root / 'rgb'}: has other classes than the network; its labels are not used\n"
    )
    out = run / "windows"
    assert result.stdout.splitlines()[-1] == (
        f"{out}: windows-all.npz, actions-all.json, metrics-all.json, timeline/"
    )
    assert not (out / "scores-all.npz").exists()
    # but annotations tell what they show: the longest action is the label
    content = {"videos": {"videos/one.avi": true_actions(SCRIPTS["videos/one.avi"])}}
    (root / "a.json").write_text(json.dumps(content))
    options = ("--annotations", root / "a.json", *QUICK)
    result = run_program("windows", run, "--shards", root, *options)
    assert result.stderr.splitlines()[1] == (
        "2 of 3 videos are not annotated: videos/ü $ two.avi, short.avi"
    )
    scores = read_scores(out)
    assert (scores.names.tolist(), scores.labels.tolist()) == (["videos/one.avi"], [1])
    assert scores.class_names.tolist() == ["walk", "run"]


def test_a_background_class_is_no_action(run, long):
    options = ("--threshold", 0.9, "--background", "walk", "--smooth", 0, *QUICK)
    run_program(
        "windows", run, "--shards", long, "--annotations", long / "annotations.json", *options
    )
    found = json.loads((run / "windows" / "actions.json").read_text())["videos"]
    labels = [one["label"] for video in found.values() for one in video["actions"]]
    assert labels == ["run", "run", "run"]
    metrics = json.loads((run / "windows" / "metrics.json").read_text())
    assert (metrics["actions"]["num_true"], metrics["rule"]["background"]) == (3, 0)
    assert failure("windows", run, "--shards", long, "--background", "none", *QUICK) == (
        "error: --background must be a class of the network (walk, run), got 'none'\n"
    )


def test_a_video_without_a_frame_rate_is_left_out(run, tmp_path):
    root = tmp_path / "untimed"
    write_long(root, fps=0.0, scripts={"a.avi": ((2, DARK),)})
    assert failure("windows", run, "--shards", root, *QUICK) == (
        f"error: {root / 'rgb'}: no test videos whose frame rate is known\n"
    )
    shards = write_long(tmp_path / "mixed")
    rates = dict.fromkeys(SCRIPTS, FPS) | {"short.avi": float("nan")}
    original = ShardSet.__init__

    def without_rate(self, folder):
        original(self, folder)
        self.fps = np.array([rates[name] for name in self.names])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardSet, "__init__", without_rate)
        result = run_program("windows", run, "--shards", tmp_path / "mixed", *QUICK)
    assert len(shards) == 3 and result.exit_code == 0
    assert result.stderr == ("1 of 3 test videos have no frame rate and are left out: short.avi\n")
    metrics = json.loads((run / "windows" / "metrics.json").read_text())
    assert (metrics["num_videos"], metrics["missing"]) == (2, ["short.avi"])


def test_shards_of_no_fixed_rate_are_refused(run, tmp_path):
    root = tmp_path / "sparse"
    write_long(root, sampling={"snippets": 25})
    assert failure("windows", run, "--shards", root, *QUICK) == (
        f"error: {root / 'rgb'}: snippets at a fixed rate expected, these were extracted with "
        "--snippets 25; extract the videos again with tsn-preprocess extract --fps 5 and another "
        "--out\n"
    )


def test_messages_of_windows(run, long, tmp_path):
    shards = ("--shards", long)
    for option, value, message in (
        ("--scales", "1,x", "--scales must be numbers of seconds such as 1,2,4,8,16, got '1,x'"),
        ("--scales", "", "--scales must be numbers of seconds such as 1,2,4,8,16, got ''"),
        ("--scales", "0", "scales must be > 0 seconds, got 0"),
        ("--stride", 2, "stride must be above 0 and up to 1, got 2"),
        ("--threshold", 1, "--threshold must be between 0 and 1, got 1"),
        ("--least", -1, "--least must be 0 seconds or more, got -1"),
        ("--workers", -1, "--workers must be 0 or more, got -1"),
        ("--split", 2, "long: no split 2; it has 1"),
        (
            "--annotations",
            tmp_path / "none.json",
            f"{tmp_path / 'none.json'}: no annotations there; check --annotations",
        ),
    ):
        assert failure("windows", run, *shards, *QUICK, option, value) == f"error: {message}\n"
    save_checkpoint(run / "last.pt", TSN(model_settings(snippet_length=2)), CLASSES, {})
    assert failure("windows", run, *shards, *QUICK) == (
        f"error: {run / 'last.pt'}: trained on snippets of 2 units, {long / 'rgb'} holds 1; "
        "extract with that --snippet-length, or train again\n"
    )
    save_checkpoint(run / "last.pt", TSN(model_settings(backbone="resnet34")), CLASSES, {})
    assert failure("windows", run, *shards, *QUICK) == (
        f"error: {run / 'last.pt'}: has backbone=resnet34, config.json beside it says resnet18; "
        "put the checkpoint of that run there, or train again\n"
    )
    assert not (run / "windows").exists()


def test_videos_that_were_trained_on_are_not_tested_on(trained, run):
    config = json.loads((run / "config.json").read_text())
    model, classes, _ = load_checkpoint(run / "last.pt")
    save_checkpoint(run / "last.pt", model, classes, {})
    options = ("--shards", config["shards"], *QUICK)
    assert failure("windows", run, *options, "--subset", "train") == (
        f"error: {run / 'last.pt'}: 4 of 4 train videos are among those that it was trained on "
        "(walk/0.avi, run/1.avi, walk/2.avi, …); choose another --subset, "
        "or --allow-trained to test on them anyway\n"
    )
    for more in (("--subset", "train", "--allow-trained"), ("--subset", "all")):
        result = run_program("windows", run, *options, *more)
        total = 4 if "train" in more else 6
        assert result.stderr == (
            f"4 of {total} {more[1]} videos were trained on: the numbers say little of others\n"
        )


# --- names of files ---


def test_no_name_leaves_the_folder():
    names = [
        "a/b.avi",
        "a_b.avi",
        "A/B.avi",
        "../../etc/passwd",
        "/abs",
        "..",
        ".",
        "",
        "\0\n",
        "ü",
    ]
    names += ["x" * 400, "x" * 399 + "y", "C:\\x", "-rf", ".hidden"]
    plain = file_names(names)
    assert len({name.lower() for name in plain}) == len(names)
    for name in plain:
        assert name and len(name) < 90 and name[0].isalnum()
        assert all(letter.isascii() and (letter.isalnum() or letter in "._-") for letter in name)
    assert plain[:4] == ["a_b.avi", "a_b.avi-2", "A_B.avi-3", "etc_passwd"]
