"""The synthetic sets beside single motions: the order of two, and several in a long video."""

import json
from collections import Counter
from itertools import pairwise

import cv2
import numpy as np
import pytest
from conftest import decode_all, tree_bytes

from preprocess.datasets import scan_dataset
from preprocess.flow import flow_function, flow_parameters
from preprocess.synth import synthesize
from preprocess.synth_kinds import KINDS
from preprocess.synth_scene import MOTIONS, Part, render
from tsn_core.errors import InputError
from tsn_core.shard_set import ShardSet

SIZE = (96, 128)
PAIRS = (("left_then_up", "up_then_left"), ("right_then_down", "down_then_right"))
FLOW = flow_function("dis", flow_parameters("dis"))


def script(kind, name, num_frames, seed):
    return KINDS[kind].script(name, num_frames, np.random.default_rng(seed))


def flow_between(first, second):
    return FLOW(*(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in (first, second)))


@pytest.mark.parametrize(("kind", "num_frames"), [("order", 56), ("untrimmed", 325)])
def test_any_number_of_workers_writes_the_same_files(tmp_path, kind, num_frames):
    arguments = {"kind": kind, "num_frames": num_frames, "size": (32, 32)}
    number = 2 if kind == "order" else 1
    for workers in (1, 2):
        out = tmp_path / str(workers)
        synthesize(out, videos_per_class=number, seed=3, num_workers=workers, **arguments)
    assert tree_bytes(tmp_path / "1") == tree_bytes(tmp_path / "2")


# --- parts ---


def test_parts_follow_each_other_without_a_jump():
    """What moves in a part begins where the part before ended; a rest keeps every place."""
    parts = (Part("right", 3), Part(None, 2), Part("down", 2), Part("clockwise", 2))
    frames = [frame.astype(float) for frame in render(parts, SIZE, np.random.default_rng(0))]
    assert len(frames) == 9
    still = [np.abs(a - b).mean() < 3 for a, b in pairwise(frames)]  # 2.3 of it is noise
    assert still == [False, False, False, True, True, False, False, False]
    sizes = [
        np.percentile(np.linalg.norm(flow_between(a, b), axis=2), 99)
        for a, b in pairwise(frame.astype(np.uint8) for frame in frames)
    ]
    assert max(sizes) < 2 * sizes[0], "no pair moves farther than the first"


def test_trembling_moves_and_goes_nowhere():
    frames = list(render((Part(None, 12, trembles=True),), SIZE, np.random.default_rng(1)))
    moved = [np.abs(a.astype(float) - b).mean() for a, b in pairwise(frames)]
    assert np.mean(moved) > 2.6, "a rest has 2.3, all of it noise"
    for frame in frames[1:]:
        flow = flow_between(frames[0], frame)
        assert np.percentile(np.linalg.norm(flow, axis=2), 95) < 1.5


# --- order ---


def test_the_order_set(tmp_path):
    out = tmp_path / "order"
    assert synthesize(out, kind="order", videos_per_class=4, num_frames=56, size=(32, 48)) == 16
    manifest = scan_dataset("folder", out)
    assert manifest.class_names == (
        "down_then_right",
        "left_then_up",
        "right_then_down",
        "up_then_left",
    )
    for subset, number in (("train", 3), ("test", 1)):
        names = manifest.subset_names(1, subset)
        assert Counter(name.split("/")[1] for name in names) == dict.fromkeys(
            manifest.class_names, number
        )
    lengths = {len(decode_all(out / record.name)) for record in manifest.records}
    assert lengths <= set(range(56, 85)) and len(lengths) > 3


def test_no_snippet_sees_both_motions():
    """A snippet of 5 pairs lies in a rest and one motion at most, at either end of the motion."""
    for seed in range(100):
        for pair in PAIRS:
            for name in pair:
                parts = script("order", name, 56 + seed, seed)
                timeline = [part.motion for part in parts for _ in range(part.num_frames)]
                assert len(timeline) == 56 + seed
                first, second = name.split("_then_")
                assert [part.motion for part in parts] == [None, first, None, second, None]
                snippets = [timeline[start : start + 5] for start in range(len(timeline) - 4)]
                assert all(len(set(snippet) - {None}) < 2 for snippet in snippets)
                for motion in (first, second):
                    assert [None, None, None, motion, motion] in snippets
                    assert [motion, motion, None, None, None] in snippets
                share = parts[1].num_frames / (parts[1].num_frames + parts[3].num_frames)
                assert 0.38 < share < 0.62


@pytest.mark.parametrize("pair", PAIRS)
def test_lengths_do_not_tell_the_order(pair):
    """How long a motion lasts, and the rests before and after it, are distributed alike."""
    facts = {}
    for name in pair:
        rows = []
        for seed in range(1500):
            parts = script("order", name, 100, seed)
            place = [part.motion for part in parts].index(pair[0].split("_")[0])
            rows.append([parts[place + step].num_frames for step in (-1, 0, 1)])
        facts[name] = np.sort(np.array(rows), axis=0)
    # sorted samples of two equal distributions lie close to each other: their Wasserstein distance
    distance = np.abs(facts[pair[0]] - facts[pair[1]]).mean(axis=0)
    assert (distance < (0.15, 0.6, 0.15)).all()
    assert facts[pair[0]][:, 1].std() > 3, "there is something to compare"


@pytest.mark.parametrize("pair", PAIRS)
def test_flow_tells_the_pair_and_only_its_order_the_class(pair):
    """The histogram of flow is that of the other class, until the halves are told apart."""
    halves = {}
    for name in pair:
        histograms = np.zeros((2, 9, 9))
        for seed in range(12):
            parts = script("order", name, 60, seed)
            frames = list(render(parts, (48, 64), np.random.default_rng(seed)))
            for number in range(0, 59, 2):
                flow = flow_between(frames[number], frames[number + 1]).reshape(-1, 2)
                flow = flow[np.abs(flow).max(axis=1) > 0.25]
                histograms[number // 30] += np.histogram2d(
                    *flow.T, bins=9, range=((-2, 2), (-2, 2))
                )[0]
        halves[name] = histograms / histograms.sum()
    first, second = (halves[name] for name in pair)

    def distance(one, other):
        return np.abs(one - other).sum()

    assert distance(first.sum(axis=0), second.sum(axis=0)) < 0.35
    assert distance(first, second) > 1.2
    assert distance(first, second[::-1]) < 0.5


# --- untrimmed ---


def test_the_class_of_an_untrimmed_video_is_its_longest_motion():
    for seed in range(200):
        name = sorted(MOTIONS)[seed % 6]
        length = 325 + 5 * seed
        parts = script("untrimmed", name, length, seed)
        assert sum(part.num_frames for part in parts) == length
        motions = [part.motion for part in parts]
        assert set(motions[::2]) == {None} and None not in motions[1::2]
        assert len(motions) // 2 >= 2
        totals = Counter()
        for part in parts[1::2]:
            totals[part.motion] += part.num_frames
            assert 3 <= part.num_frames / 12.5 <= 7.04
        assert totals[name] == max(totals.values())
        assert all(part.num_frames >= 25 for part in parts[::2])


@pytest.fixture(scope="module")
def untrimmed(tmp_path_factory):
    out = tmp_path_factory.mktemp("untrimmed")
    assert synthesize(out, kind="untrimmed", videos_per_class=1, num_frames=325, size=SIZE) == 6
    return out


def test_an_untrimmed_set_is_for_testing_and_has_the_classes_of_the_motions(
    untrimmed, tmp_path, program
):
    manifest = scan_dataset("folder", untrimmed)
    assert manifest.class_names == KINDS["motion"].class_names
    assert len(manifest.subset_names(1, "test")) == 6
    assert manifest.subset_names(1, "train") == ()
    told = json.loads((untrimmed / "annotations.json").read_text())
    assert tuple(told["class_names"]) == manifest.class_names
    assert set(told["videos"]) == {record.name for record in manifest.records}
    where = ("--data", untrimmed, "--out", tmp_path)
    result = program("extract", "--dataset", "folder", *where, "--size", "32x24", "--fps", 5)
    assert result.exit_code == 0
    shards = ShardSet(tmp_path / untrimmed.name / "rgb")
    assert shards.class_names == manifest.class_names
    assert len(shards) == 6


def test_the_annotated_times_are_those_of_the_motion(untrimmed):
    told = json.loads((untrimmed / "annotations.json").read_text())["videos"]
    for name, video in told.items():
        frames = decode_all(untrimmed / name)
        assert video["fps"] == 12.5
        assert video["duration_seconds"] == len(frames) / 12.5
        background = 0
        for action in video["actions"]:
            start, end = (round(action[f"{key}_seconds"] * 12.5) for key in ("start", "end"))
            assert background + 25 <= start and end + 25 <= len(frames)
            around = (*range(start - 4, start + 4), *range(end - 4, end + 4))
            shown = {n: strength(action["label"], frames[n], frames[n + 1]) for n in around}
            inside = [value for number, value in shown.items() if start <= number < end]
            outside = [value for number, value in shown.items() if not start <= number < end]
            assert len(inside) == len(outside) == 8
            if action["label"] in ("left", "right", "up", "down"):
                assert min(inside) > 1.4 * max(outside), (name, action)
            else:
                more = range(start, end, 4)
                inside += [strength(action["label"], frames[n], frames[n + 1]) for n in more]
                assert np.mean(inside) > 4 * abs(np.mean(outside)), (name, action)
                assert np.mean(inside) > 0.004
            rest = flow_between(frames[background], frames[start])
            assert np.percentile(np.linalg.norm(rest, axis=2), 95) < 1.5, "nothing moved away"
            background = end


def strength(motion, first, second):
    """Return how much two frames show of a motion: along its drift, or of its turn."""
    flow = flow_between(first, second)
    drift_x, drift_y, turn = MOTIONS[motion]
    if not turn:
        return float(np.percentile(flow @ (drift_x, drift_y), 85))
    curl = np.gradient(flow[..., 1], axis=1) - np.gradient(flow[..., 0], axis=0)
    moving = np.linalg.norm(flow, axis=2) > 0.5
    return float(np.median(turn * curl[moving])) if moving.mean() > 0.02 else 0.0


# --- mistakes ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "chaos"}, "unknown kind 'chaos'; choose from motion, order, untrimmed"),
        (
            {"kind": "order", "num_frames": 55},
            "num_frames must be > 55 for kind order, got 55",
        ),
        (
            {"kind": "untrimmed", "num_frames": 100},
            "num_frames must be > 324 for kind untrimmed, got 100",
        ),
        ({"kind": "order", "videos_per_class": 1}, "videos_per_class must be > 1, got 1"),
        ({"kind": "untrimmed", "videos_per_class": 0}, "videos_per_class must be > 0, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"num_workers": 0}, "jobs must be > 0, got 0"),
    ],
)
def test_what_makes_no_sense(tmp_path, arguments, message):
    with pytest.raises(InputError) as caught:
        synthesize(tmp_path, **arguments)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_set_is_refused(tmp_path):
    motion = {"videos_per_class": 2, "num_frames": 2, "size": (32, 32)}
    synthesize(tmp_path, **motion)
    before = tree_bytes(tmp_path)
    with pytest.raises(InputError) as caught:
        synthesize(tmp_path, kind="order", videos_per_class=2, num_frames=56, size=(32, 32))
    path = tmp_path / "videos" / "clockwise" / "clockwise_0000.avi"
    assert str(caught.value) == (
        f"{path}: not of this set; choose another --out or delete the folder"
    )
    assert tree_bytes(tmp_path) == before
    (path.parent / ".clockwise_0009.avi.1.avi").write_bytes(b"left by a killed run")
    synthesize(tmp_path, **motion)
    assert tree_bytes(tmp_path) == before


def test_the_command_says_what_comes_next(program, tmp_path):
    data = tmp_path / "two orders"
    result = program(
        *("synth", "--kind", "order", "--out", data, "--videos-per-class", 2, "--frames", 56),
        *("--size", "48x32", "--jobs", 1),
    )
    assert (result.exit_code, result.stdout) == (
        0,
        f"{data}: 8 videos, 4 classes: down_then_right, left_then_up, right_then_down, "
        "up_then_left\n"
        f"next: tsn-preprocess extract --dataset folder --data '{data}' --out shards "
        "--modality flow --flow farneback --bound 8 --size 48x32\n",
    )
