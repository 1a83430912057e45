"""The synthetic dataset: its layout, its repeatability, and that only motion tells the class."""

import cv2
import numpy as np
import pytest
from conftest import decode_all, tree_bytes

from preprocess.datasets import scan_dataset
from preprocess.flow import flow_function, flow_parameters
from preprocess.synth import synthesize, write_video
from preprocess.synth_scene import MOTIONS, Part, render
from tsn_core.errors import InputError, OutputError

SIZE = (64, 80)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic")
    assert synthesize(out, videos_per_class=4, num_frames=6, size=SIZE, seed=3) == 24
    return out


def test_it_is_a_dataset_of_real_videos_with_splits(synthetic):
    manifest = scan_dataset("synthetic", synthetic)
    assert manifest.dataset == "synthetic"
    assert manifest.class_names == (
        "clockwise",
        "counterclockwise",
        "down",
        "left",
        "right",
        "up",
    )
    assert len(manifest.subset_names(1, "train")) == 18
    assert [name.split("/")[1] for name in manifest.subset_names(1, "test")] == list(
        manifest.class_names
    )
    lengths = set()
    for record in manifest.records:
        frames = decode_all(synthetic / record.name)
        lengths.add(len(frames))
        assert frames[0].shape == (*SIZE, 3)
    assert lengths <= set(range(6, 10)) and len(lengths) > 1
    assert not list(synthetic.rglob(".*")), "nothing is left behind"


def test_a_seed_gives_the_same_files(synthetic, tmp_path):
    arguments = {"videos_per_class": 4, "num_frames": 6, "size": SIZE}
    synthesize(tmp_path / "same", seed=3, **arguments)
    synthesize(tmp_path / "other", seed=4, **arguments)
    first, same, other = (
        tree_bytes(folder) for folder in (synthetic, tmp_path / "same", tmp_path / "other")
    )
    assert same == first
    assert set(other) == set(first)
    assert all(other[name] != first[name] for name in first if name.endswith(".avi"))


def test_fewer_videos_are_the_first_of_more(synthetic, tmp_path):
    synthesize(tmp_path, videos_per_class=2, num_frames=6, size=SIZE, seed=3)
    few, many = tree_bytes(tmp_path), tree_bytes(synthetic)
    videos = [name for name in few if name.endswith(".avi")]
    assert len(videos) == 12
    assert all(few[name] == many[name] for name in videos)


@pytest.mark.parametrize("name", ["left", "right", "up", "down"])
def test_shapes_move_the_way_of_their_class(name):
    """The mean flow over many videos points where the class says, and nowhere else."""
    compute = flow_function("dis", flow_parameters("dis"))
    total = np.zeros(2)
    for seed in range(6):
        frames = list(render([Part(name, 3)], (96, 128), np.random.default_rng(seed)))
        grays = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
        total += compute(grays[0], grays[1]).mean(axis=(0, 1))
    direction = np.array(MOTIONS[name][:2])
    along = total @ direction
    across = abs(total @ direction[::-1])
    assert along > 5 * across
    assert along > 0.5


def test_shapes_turn_the_way_of_their_class():
    """The curl of the flow has opposite signs; y points down, so clockwise is positive."""
    compute = flow_function("dis", flow_parameters("dis"))
    curls = {}
    for name in ("clockwise", "counterclockwise"):
        curls[name] = 0.0
        for seed in range(6):
            frames = list(render([Part(name, 3)], (96, 128), np.random.default_rng(seed)))
            grays = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
            flow = compute(grays[0], grays[1])
            moving = np.linalg.norm(flow, axis=2) > 0.5
            curl = np.gradient(flow[..., 1], axis=1) - np.gradient(flow[..., 0], axis=0)
            curls[name] += float(curl[moving].mean())
    assert curls["clockwise"] > 0.05
    assert curls["counterclockwise"] < -0.05


def test_one_frame_is_the_same_in_every_class():
    """The same random numbers give the same first frame, whatever the motion."""
    firsts = [next(render([Part(name, 2)], SIZE, np.random.default_rng(5))) for name in MOTIONS]
    for first in firsts[1:]:
        assert np.array_equal(first, firsts[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"videos_per_class": 1}, "videos_per_class must be > 1, got 1"),
        ({"num_frames": 1}, "num_frames must be > 1, got 1"),
        ({"size": (120, 161)}, "size must be even and at least 32x32, got 161x120"),
        ({"size": (30, 160)}, "size must be even and at least 32x32, got 160x30"),
    ],
)
def test_numbers_that_make_no_sense(tmp_path, arguments, message):
    with pytest.raises(InputError) as caught:
        synthesize(tmp_path, **arguments)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        synthesize(tmp_path / "file", videos_per_class=2, num_frames=2, size=SIZE)
    path = tmp_path / "file" / "videos" / "clockwise" / "clockwise_0000.avi"
    assert str(caught.value) == (
        f"{path}: cannot be written: Not a directory; free space or choose another place"
    )


def test_a_video_that_is_not_finished_leaves_nothing(tmp_path):
    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("out")

    with pytest.raises(RuntimeError, match="out"):
        write_video(tmp_path / "x.avi", frames(), (32, 32), 25.0)
    assert list(tmp_path.iterdir()) == []
