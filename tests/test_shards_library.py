"""tsn_core as a library: videos by number, name and subset; clips; what errors say."""

import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from conftest import stored
from train_helpers import message_of, random_videos, write_dataset, write_shards

import tsn_core
from tsn_core import UnknownVideoError, open_shards
from tsn_core.clips import ClipShape, clip_units
from tsn_core.errors import TSNError
from tsn_core.manifest import Record

LENGTHS = (4, 9, 5, 7)


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Flow of which every unit is stored, in snippets of 2, and the units of each video."""
    modality = stored("flow", snippet_length=2)
    videos = random_videos(modality, LENGTHS)
    folder = tmp_path_factory.mktemp("dense") / "flow-farneback"
    write_shards(folder, modality, videos, per_shard=3)
    units = [images.reshape(-1, 2, 24, 32).transpose(0, 2, 3, 1) for _, _, images, _ in videos]
    return open_shards(folder), units


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Snippets of 6 RGB units that begin at frames 0, 5 and 20 of 26."""
    modality = stored("rgb", snippet_length=6)
    ((name, label, units, _),) = random_videos(modality, [21])
    folder = tmp_path_factory.mktemp("sparse") / "rgb"
    plan = {"snippets": 3}
    write_shards(folder, modality, [(name, label, units, (0, 5, 20))], sampling=plan)
    return open_shards(folder), units


# --- opening ---


def test_importing_loads_nothing_and_opening_only_what_reading_needs(dense):
    code = (
        "import sys, tsn_core\n"
        "print(*[name for name in ('numpy', 'h5py', 'cv2', 'torch') if name in sys.modules])\n"
        "tsn_core.open_shards(sys.argv[1])[0].read()\n"
        "print(*[name for name in ('numpy', 'h5py', 'cv2', 'torch') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(dense[0].folder)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == "\nnumpy\n"


def test_every_name_that_the_package_promises_is_there():
    for name in tsn_core.__all__:
        assert getattr(tsn_core, name) is not None
    assert set(tsn_core.__all__) <= set(dir(tsn_core))
    assert set(tsn_core._HOMES) == set(tsn_core.__all__) - {"__version__"}
    with pytest.raises(AttributeError) as caught:
        tsn_core.open_shard  # noqa: B018
    assert str(caught.value) == "module 'tsn_core' has no attribute 'open_shard'"


def test_a_folder_of_a_modality_or_of_a_dataset(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "tiny", modalities=[stored("rgb")])
    by_folder, by_dataset = open_shards(root / "rgb"), open_shards(str(root))
    assert by_folder.names == by_dataset.names and by_folder[0] == by_dataset[0]
    assert by_folder[0].splits == {1: "train"} == by_dataset[0].splits
    monkeypatch.chdir(root / "rgb")
    assert open_shards(".")[0].splits == {1: "train"}
    assert repr(by_dataset) == f"<8 videos of 2 classes, rgb: {root / 'rgb'}>"


def test_choosing_the_modality(tmp_path):
    flows = [stored("flow", algorithm=name) for name in ("dis", "tvl1")]
    root = write_dataset(tmp_path / "tiny", modalities=[stored("rgb"), *flows])
    assert open_shards(root, "rgb").modality.name == "rgb"
    assert open_shards(root, flow="dis").modality.algorithm == "dis"
    assert open_shards(root, "flow", "tvl1").folder == root / "flow-tvl1"
    assert open_shards(root / "flow-dis", "flow").folder == root / "flow-dis"
    assert message_of(open_shards, root) == (
        f"{root}: has flow-dis, flow-tvl1, rgb; choose one with modality="
    )
    assert message_of(open_shards, root, "flow") == (
        f"{root}: has flow-dis, flow-tvl1; choose one with flow="
    )
    assert message_of(open_shards, root, "rgbdiff") == (
        f"{root}: no rgbdiff shards, only flow-dis, flow-tvl1, rgb; extract them with "
        "tsn-preprocess extract, or choose another modality="
    )
    assert message_of(open_shards, root / "flow-dis", "flow", "tvl1") == (
        f"{root / 'flow-dis'}: holds flow (dis), asked for flow tvl1"
    )


def test_nothing_to_open(tmp_path):
    assert message_of(open_shards, tmp_path / "none") == (
        f"{tmp_path / 'none'}: no shards there; expected a folder with index.json, or one that "
        "holds such folders; make them with tsn-preprocess extract"
    )


# --- videos ---


def test_videos_by_place_name_and_slice(dense):
    shards, _ = dense
    names = ["walk/0.avi", "run/1.avi", "walk/2.avi", "run/3.avi"]
    assert [video.name for video in shards] == names == list(shards.names)
    assert shards[1] == shards["run/1.avi"] == list(shards)[1] == shards[-3] != shards[2]
    part = shards[1::2]
    assert part.names == ("run/1.avi", "run/3.avi") and part.labels.tolist() == [1, 1]
    assert "run/1.avi" in part and "walk/0.avi" not in part and 3 not in part
    assert part["run/3.avi"] == shards[3] == part[-1]
    assert np.array_equal(part[1].read(), shards[3].read())
    video = shards[1]
    assert (video.class_name, video.label, video.num_snippets) == ("run", 1, 9)
    assert (video.num_frames, video.fps, video.splits) == (10, 25.0, {})
    assert video.snippet_frames.tolist() == list(range(9))


def test_snippets_are_the_stored_units(dense):
    shards, units = dense
    for video, expected in zip(shards, units):
        found = video.read()
        assert found.shape == (video.num_snippets, 2, 24, 32, 2) and found.dtype == np.uint8
        for k in range(video.num_snippets):
            assert np.array_equal(found[k], expected[k : k + 2])
    video = shards[1]
    assert np.array_equal(video.snippets([7, 0, 7]), video.read()[[7, 0, 7]])
    assert video.snippets([]).shape == (0, 2, 24, 32, 2)
    px = video.values([3])
    assert px.dtype == np.float32
    assert np.array_equal(px, video.snippets([3]).astype(np.float32) - 127.5)  # its scale is 1
    assert np.array_equal(video.values(), video.read().astype(np.float32) - 127.5)


def test_videos_that_are_not_there(dense):
    shards, _ = dense
    part = shards[:2]
    for number in (2, -3):
        assert message_of(part.__getitem__, number, error=IndexError) == (
            f"{shards.folder}: 2 videos, asked for number {number}"
        )
    message = (
        f"{shards.folder}: no video 'run/3.avi' among these 2; names are paths below the dataset's "
        "folder, such as walk/0.avi"
    )
    assert message_of(part.__getitem__, "run/3.avi", error=UnknownVideoError) == message
    assert message_of(part.select, ["run/3.avi"], error=KeyError) == message
    assert issubclass(UnknownVideoError, TSNError)
    assert str(pickle.loads(pickle.dumps(UnknownVideoError(message)))) == message
    with pytest.raises(IndexError):
        shards[0].snippets([4])


# --- subsets ---


def test_subsets_come_from_the_manifest(tmp_path):
    gone = Record("gone.avi", 0, {1: "test", 2: "test"})
    shards = open_shards(write_dataset(tmp_path / "tiny", train=3, val=1, test=2, extra=[gone]))
    train = shards.subset(1, "train")
    assert train.names == shards.names[:3] and len(shards.subset(split=1, subset="val")) == 1
    test = shards.subset(1, "test")
    assert test.names == shards.names[4:] and shards.missing(1, "test") == ("gone.avi",)
    assert shards.missing(1, "train") == ()
    assert len(train.subset(1, "test")) == 0 and len(shards.subset(2, "test")) == 0
    assert {video.splits[1] for video in test} == {"test"}
    assert shards.select(reversed(test.names)).names == test.names[::-1]
    assert message_of(shards.subset, 3, "train") == "tiny: no split 3; it has 1, 2"
    assert message_of(shards.subset, 1, "training") == (
        "unknown subset 'training'; choose from train, val, test"
    )


def test_subsets_without_a_manifest(dense):
    assert message_of(dense[0].subset, 1, "train") == (
        f"{dense[0].folder}: no manifest.jsonl beside it, so that subsets are not known; copy it "
        "there, or choose videos with select()"
    )


# --- clips ---


@pytest.mark.parametrize(
    ("start", "length", "stride"), [(0, 10, 1), (3, 2, 1), (1, 3, 4), (9, 1, 5)]
)
def test_clips_of_dense_videos(dense, start, length, stride):
    shards, units = dense  # 10 units of video 1
    clip = shards[1].clip(start, length, stride)
    assert np.array_equal(clip, units[1][start::stride][:length])


def test_clips_within_a_snippet(sparse):
    shards, units = sparse
    for start, length, stride in ((0, 6, 1), (20, 3, 2), (6, 5, 1), (1, 5, 1)):
        clip = shards[0].clip(start, length, stride)
        assert np.array_equal(clip, units[start::stride][:length])


def test_clips_that_are_not_stored(dense, sparse):
    for start, asked in ((1, "1 to 10"), (-1, "-1 to 8")):
        assert message_of(dense[0][1].clip, start, 10) == (
            f"run/1.avi: units 0 to 9 are there, asked for {asked}"
        )
    video, folder = sparse[0][0], sparse[0].folder
    assert message_of(video.clip, 0, 7) == (
        f"{folder}: clips over 7 consecutive units need every unit, or snippets as long; these "
        "shards (snippets=3) hold snippets of 6; extract them with --dense, or with "
        "--snippet-length 7"
    )
    assert message_of(video.clip, 14, 2) == (
        "walk/0.avi: no stored snippet holds units 14 to 15; snippet_frames tells where they "
        "begin, --dense stores all"
    )
    assert message_of(video.clip, 0, 0) == "clip length must be > 0, got 0"
    assert message_of(video.clip, 0, 1, 0) == "clip stride must be > 0, got 0"


def test_random_clips_begin_anywhere(dense, sparse):
    generator = np.random.default_rng(0)
    found = {
        tuple(clip_units(dense[0].shard_set, 1, ClipShape(3, 3), generator)) for _ in range(200)
    }
    assert found == {(s, s + 3, s + 6) for s in range(4)}  # 10 units, 7 of which a clip spans
    assert clip_units(dense[0].shard_set, 1, ClipShape(3, 3)).tolist() == [1, 4, 7]
    stored_at = {0: range(6), 5: range(5, 11), 20: range(20, 26)}
    allowed = {tuple(run[i : i + 4]) for run in stored_at.values() for i in range(3)}
    found = {tuple(clip_units(sparse[0].shard_set, 0, ClipShape(4), generator)) for _ in range(300)}
    assert found == allowed
    assert clip_units(sparse[0].shard_set, 0, ClipShape(4)).tolist() == [6, 7, 8, 9]


def test_a_clip_of_a_short_video_repeats_its_last_unit(dense):
    units = clip_units(dense[0].shard_set, 0, ClipShape(4, 2), np.random.default_rng(0))
    assert units.tolist() == [0, 2, 4, 4]  # it has five


def test_units_out_of_range(dense):
    with pytest.raises(IndexError) as caught:
        dense[0].shard_set.read_units(1, [10])
    path = dense[0].folder / "shard-00000.h5"
    assert str(caught.value) == f"{path}: video 1 has 10 units"


# --- other processes ---


def _bytes_of(video):
    return video.read().tobytes()


def test_videos_travel_to_other_processes(dense):
    videos = list(dense[0][1:3])
    for video in videos:
        video.read()  # the file is open on this side
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert list(pool.map(_bytes_of, videos)) == [_bytes_of(video) for video in videos]
    again = pickle.loads(pickle.dumps(dense[0][2:]))
    assert [video.name for video in again] == ["walk/2.avi", "run/3.avi"]
    assert np.array_equal(again[0].read(), videos[1].read())
