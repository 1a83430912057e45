"""Whole extractions against a naive one; determinism, resuming and changed settings."""

import gc
import json
import os
import subprocess
import sys
import weakref
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import (
    claim_frames,
    decode_all,
    moving_frames,
    stored,
    tree_bytes,
    write_clip,
)
from rich.console import Console

from preprocess import extraction, video
from preprocess.assignment import default_videos_per_shard
from preprocess.camera import warped_flow
from preprocess.executor import make_executor, run_jobs
from preprocess.extract import extract_dataset
from preprocess.flow import flow_function, flow_parameters
from preprocess.isolation import end_processes
from preprocess.tvl1 import tvl1_flow
from preprocess.video import Video
from preprocess.work import Options
from tsn_core.check import folder_defects
from tsn_core.errors import InputError, TSNError
from tsn_core.manifest import Manifest, Record
from tsn_core.quantization import quantize_flow
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_reader import Shard
from tsn_core.shard_set import ShardSet

SIZE = (24, 32)
QUIET = Console(quiet=True)
PLANS = {
    "sparse": SnippetPlan(snippets=4),
    "one": SnippetPlan(snippets=1),
    "many": SnippetPlan(snippets=40),
    "dense": SnippetPlan(dense=True),
    "fps": SnippetPlan(fps=3.3),
    "fast": SnippetPlan(fps=100.0),
}


def modality(name, algorithm="farneback", **changes):
    if name in ("flow", "warpedflow"):
        parameters = {"bound": 20.0, **flow_parameters(algorithm)}
        changes = {"algorithm": algorithm, "parameters": parameters, **changes}
    return stored(name, **changes)


ALL = [modality(name) for name in ("rgb", "flow", "rgbdiff")]


def extract(data, out, modalities=ALL, plan=PLANS["sparse"], names=None, jobs=1, **options):
    """Extract the files of a folder that are named, or all, and return the summary."""
    if names is None:
        names = sorted(file.relative_to(data).as_posix() for file in data.rglob("*.avi"))
    manifest = Manifest("d", ("a", "b"), tuple(Record(name, 1) for name in names))
    return extract_dataset(
        manifest,
        data,
        out,
        modalities=modalities,
        plan=plan,
        videos_per_shard=options.pop("videos_per_shard", None),
        executor=make_executor("local", num_workers=jobs, stop=end_processes),
        console=QUIET,
        options=Options(**{"isolated": False, **options}),
    )


def reasons_of(summary) -> dict[str, str]:
    """Why videos failed, by name."""
    return {name: line["reason"] for name, line in summary.failures.items()}


def opened(out, kind) -> ShardSet:
    return ShardSet(out / "d" / kind.folder)


# --- the naive extraction ---


def naive_image(kind, first, last):
    """(H, W, C) of one unit from two resized BGR frames."""
    if kind.name == "rgb":
        return first[..., ::-1]
    if kind.name == "rgbdiff":
        difference = last[..., ::-1].astype(int) - first[..., ::-1]
        return (np.clip(difference, -128, 127) + 128).astype(np.uint8)
    gray = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in (first, last)]
    if kind.algorithm == "farneback":
        flow = cv2.calcOpticalFlowFarneback(*gray, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    elif kind.algorithm == "tvl1" and kind.parameters["backend"] == "opencv":
        flow = cv2.optflow.DualTVL1OpticalFlow.create().calc(*gray, None)
    elif kind.algorithm == "tvl1":
        flow = tvl1_flow(*gray)
    else:
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*gray, None)
    image = quantize_flow(flow, kind.parameters["bound"])
    return np.dstack(np.split(image, 2))


def naive_snippets(path, kind, plan, fps=25.0, size=SIZE):
    """Decode everything, keep everything, and cut it up: (S, L, H, W, C)."""
    frames = [
        cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in decode_all(path)
    ]
    length = kind.snippet_length
    pairs = [(frame, frame) for frame in frames]
    if kind.name != "rgb":
        pairs = list(pairwise(frames))
    starts = plan.starts(len(pairs), length, fps)
    pairs += [(frames[-1], frames[-1])] * length
    images = [naive_image(kind, *pair) for pair in pairs]
    return np.stack([np.stack(images[start : start + length]) for start in starts])


def assert_is_naive(out, kind, plan, data, name):
    shards = opened(out, kind)
    video = shards.number(name)
    expected = naive_snippets(data / name, kind, plan)
    assert shards.num_snippets[video] == len(expected)
    assert np.array_equal(shards.read(video, range(len(expected))), expected)


@pytest.fixture(scope="module")
def lengths(tmp_path_factory):
    """Videos of 1 to 9 frames and a long one, most of them in a lossy codec."""
    data = tmp_path_factory.mktemp("lengths")
    for length in (*range(1, 10), 47):
        codec = "mp4v" if length % 3 else "FFV1"
        write_clip(data / f"{length}.avi", moving_frames(length, seed=length), codec=codec)
    return data


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_snippet_of_every_modality_is_the_naive_one(lengths, tmp_path, plan):
    summary = extract(lengths, tmp_path, plan=plan, videos_per_shard=7)
    assert reasons_of(summary) == {}
    for kind in ALL:
        for length in (*range(1, 10), 47):
            assert_is_naive(tmp_path, kind, plan, lengths, f"{length}.avi")
        assert folder_defects(tmp_path / "d" / kind.folder).lines == []


@pytest.mark.parametrize(
    ("algorithm", "backend"), [("tvl1", "numba"), ("tvl1", "opencv"), ("dis", "numba")]
)
def test_the_other_flow_algorithms(lengths, tmp_path, algorithm, backend):
    parameters = {"bound": 15.0, **flow_parameters(algorithm, backend=backend)}
    kind = modality("flow", algorithm, snippet_length=2, parameters=parameters)
    plan = SnippetPlan(snippets=2)
    extract(lengths, tmp_path, [kind], plan, names=["9.avi", "1.avi"])
    for name in ("1.avi", "9.avi"):
        assert_is_naive(tmp_path, kind, plan, lengths, name)


def test_short_videos_are_padded_and_say_so(lengths, tmp_path):
    extract(
        lengths, tmp_path, names=[f"{length}.avi" for length in (1, 3, 5, 6)], videos_per_shard=9
    )
    for kind, padding, frames in (
        (ALL[0], [0, 0, 0, 0], None),
        (ALL[1], [5, 3, 1, 0], [0] * 5 + [0, 1, 2, 2, 2] + [0, 1, 2, 3, 4] + [0, 1, 2, 3, 4]),
    ):
        tables = Shard(tmp_path / "d" / kind.folder / "shard-00000.h5").tables
        assert tables.video_frames.tolist() == [1, 3, 5, 6]
        assert tables.video_padding.tolist() == padding
        if frames:
            assert tables.image_frame.tolist() == frames
    still = opened(tmp_path, ALL[1]).read(0, [0])
    assert np.isin(still, (127, 128)).all(), "a repeated frame does not move"
    assert (opened(tmp_path, ALL[2]).read(0, [0]) == 128).all()


def test_the_tables_tell_where_units_come_from(lengths, tmp_path):
    extract(lengths, tmp_path, names=["47.avi"])
    rgb = Shard(tmp_path / "d" / "rgb" / "shard-00000.h5").tables
    assert rgb.image_frame.tolist() == [5, 17, 29, 41]  # centres of four parts of 47
    assert rgb.video_size.tolist() == [[48, 64]]
    assert rgb.video_unit_size.tolist() == [list(SIZE)]
    assert rgb.video_fps.tolist() == [25.0]
    flow = Shard(tmp_path / "d" / "flow-farneback" / "shard-00000.h5").tables
    starts = [5, 15, 26, 36]  # of 46 pairs, 42 snippets
    assert flow.image_frame.tolist() == [start + unit for start in starts for unit in range(5)]
    assert flow.snippet_image.tolist() == [0, 5, 10, 15]


def test_overlapping_snippets_share_their_images(lengths, tmp_path):
    extract(lengths, tmp_path, plan=PLANS["dense"], names=["47.avi"])
    flow = Shard(tmp_path / "d" / "flow-farneback" / "shard-00000.h5").tables
    assert (flow.num_images, flow.num_snippets) == (46, 42)


def test_jpeg_stores_what_opencv_encodes(lengths, tmp_path):
    kind = modality("rgb", codec="jpeg", quality=80)
    extract(lengths, tmp_path, [kind], PLANS["dense"], names=["9.avi"])
    shard = tmp_path / "d" / "rgb" / "shard-00000.h5"
    tables = Shard(shard).tables
    frames = [
        cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA)
        for frame in decode_all(lengths / "9.avi")
    ]
    data = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 80])[1] for frame in frames]
    assert tables.image_start.tolist() == np.cumsum([0, *map(len, data)]).tolist()
    assert b"".join(image.tobytes() for image in data) in shard.read_bytes()


@pytest.mark.parametrize(("shape", "units"), [((48, 64), (12, 16)), ((64, 48), (16, 12))])
def test_short_side_keeps_the_aspect_ratio(tmp_path, shape, units):
    data = tmp_path / "data"
    write_clip(data / "x.avi", moving_frames(8, shape))
    write_clip(data / "y.avi", moving_frames(8, (40, 40)))
    changes = {"height": None, "width": None, "short_side": 12}
    kinds = [modality(name, **changes) for name in ("rgb", "flow")]
    extract(data, tmp_path, kinds)
    for kind in kinds:
        shards = opened(tmp_path, kind)
        for name, size in (("x.avi", units), ("y.avi", (12, 12))):
            expected = naive_snippets(data / name, kind, PLANS["sparse"], size=size)
            assert np.array_equal(shards.read(shards.number(name), range(4)), expected)


# --- headers that lie ---


@pytest.mark.parametrize(
    ("claim", "index", "passes"),
    [(n, True, 1) for n in (20, 21, 19, 5000, 3, 2**31 - 1)]
    + [(20, False, 1), (21, False, 1), (19, False, 2), (5000, False, 2), (3, False, 2)],
)
def test_what_was_decoded_counts(tmp_path, monkeypatch, claim, index, passes):
    """Whether the header lies or not; one pass where it or the file's index tells the truth."""
    data = tmp_path / "data"
    path = write_clip(data / "x.avi", moving_frames(20))
    claim_frames(path, claim)
    if not index:
        path.write_bytes(path.read_bytes().replace(b"idx1", b"JUNK"))
    assert Video(path).claimed_frames == claim
    decoded = []
    frames = Video.frames
    monkeypatch.setattr(
        Video, "frames", lambda self, wanted: decoded.append(self) or frames(self, wanted)
    )
    extract(data, tmp_path)
    assert len(decoded) == passes, "one decode serves all modalities"
    for kind in ALL:
        assert Shard(tmp_path / "d" / kind.folder / "shard-00000.h5").tables.video_frames == [20]
        assert_is_naive(tmp_path, kind, PLANS["sparse"], data, "x.avi")


@pytest.mark.parametrize("plan", [PLANS["sparse"], PLANS["dense"], PLANS["fps"]])
def test_a_truncated_video_is_as_long_as_what_it_holds(tmp_path, plan):
    data = tmp_path / "data"
    path = write_clip(data / "x.avi", moving_frames(40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    extract(data, tmp_path, plan=plan)
    for kind in ALL:
        assert_is_naive(tmp_path, kind, plan, data, "x.avi")


def test_a_file_that_changes_between_two_passes_fails(tmp_path, monkeypatch):
    data = tmp_path / "data"
    path = write_clip(data / "x.avi", moving_frames(20))
    claim_frames(path, 500)
    path.write_bytes(path.read_bytes().replace(b"idx1", b"JUNK"))
    shorter = write_clip(tmp_path / "y.avi", moving_frames(18)).read_bytes()
    frames = Video.frames

    def change(self, wanted):
        yield from frames(self, wanted)
        self.path.write_bytes(shorter)

    monkeypatch.setattr(Video, "frames", change)
    assert reasons_of(extract(data, tmp_path / "out")) == {
        "x.avi": "20 frames decoded at first, 18 the second time; the file is damaged, or was "
        "changed meanwhile"
    }


def test_fps_needs_a_frame_rate(tmp_path, monkeypatch):
    data = tmp_path / "data"
    write_clip(data / "x.avi", moving_frames(8))
    decoder = video.Decoder

    class Rateless(decoder):
        def __init__(self, path):
            super().__init__(path)
            self.fps = 0.0

    monkeypatch.setattr(video, "Decoder", Rateless)
    assert reasons_of(extract(data, tmp_path / "fps", plan=PLANS["fps"])) == {
        "x.avi": "the file states no frame rate, which --fps needs; use --snippets"
    }
    extract(data, tmp_path / "sparse")
    tables = Shard(tmp_path / "sparse" / "d" / "rgb" / "shard-00000.h5").tables
    assert tables.video_fps.tolist() == [0.0]


# --- memory ---


@pytest.mark.parametrize(("plan", "most"), [("dense", 4), ("fps", 4), ("one", 8)])
def test_frames_are_let_go(tmp_path, monkeypatch, plan, most):
    """However long the video, few frames live at a time."""
    alive: weakref.WeakSet = weakref.WeakSet()
    counts = []

    class Counted(extraction.Frame):
        def __init__(self, bgr):
            super().__init__(bgr)
            alive.add(self)
            counts.append(len(alive))

    monkeypatch.setattr(extraction, "Frame", Counted)
    write_clip(tmp_path / "data" / "x.avi", moving_frames(120))
    gc.disable()
    try:
        extract(tmp_path / "data", tmp_path, plan=PLANS[plan])
    finally:
        gc.enable()
    assert len(counts) > 5
    assert max(counts) <= most


def test_images_wait_on_the_disk_when_they_are_many(lengths, tmp_path, monkeypatch):
    extract(lengths, tmp_path / "memory")
    monkeypatch.setattr("tsn_core.shard_writer._SPOOL_BYTES", 100)
    monkeypatch.setattr("tsn_core.shard_writer._COPY_BYTES", 77)
    extract(lengths, tmp_path / "disk")
    assert tree_bytes(tmp_path / "disk") == tree_bytes(tmp_path / "memory")


# --- failures ---


def test_a_failure_costs_its_video_only(lengths, tmp_path):
    data = tmp_path / "data"
    for name in ("1.avi", "9.avi"):
        write_clip(data / name, decode_all(lengths / name))
    (data / "5.avi").write_text("no video")
    names = ["1.avi", "5.avi", "6.avi", "9.avi"]
    summary = extract(data, tmp_path, names=names, videos_per_shard=4)
    reasons = {
        "5.avi": "not a video that FFmpeg can open, or it has no video stream",
        "6.avi": "no such file",
    }
    assert reasons_of(summary) == reasons
    lines = (tmp_path / "d" / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "name": name,
            "stage": "open",
            "reason": reasons[name],
            "modalities": ["flow-farneback", "rgb", "rgbdiff"],
            "command": f"tsn-preprocess try {tmp_path / 'd'} {name} --data {data}",
        }
        for name in sorted(reasons)
    ]
    for kind in ALL:
        assert opened(tmp_path, kind).names == ("1.avi", "9.avi")
        for name in ("1.avi", "9.avi"):
            assert_is_naive(tmp_path, kind, PLANS["sparse"], data, name)


def test_a_failure_half_way_leaves_no_images(tmp_path, monkeypatch):
    data = tmp_path / "data"
    for name in ("x.avi", "y.avi", "z.avi"):
        write_clip(data / name, moving_frames(12, seed=ord(name[0])))
    extract(
        data, tmp_path / "good", plan=PLANS["dense"], names=["x.avi", "z.avi"], videos_per_shard=3
    )
    frames = Video.frames

    def fail(self, wanted):
        for number, frame in frames(self, wanted):
            if self.path.name == "y.avi" and number == 9:
                raise cv2.error("block\n 7 is bad")
            yield number, frame

    monkeypatch.setattr(Video, "frames", fail)
    summary = extract(data, tmp_path / "bad", plan=PLANS["dense"], videos_per_shard=3)
    assert reasons_of(summary) == {"y.avi": "block 7 is bad"}
    for kind in ALL:
        good, bad = (
            Shard(tmp_path / out / "d" / kind.folder / "shard-00000.h5") for out in ("good", "bad")
        )
        assert bad.tables.video_crc32.tolist() == good.tables.video_crc32.tolist()
        assert bad.checksum_defects() == []


def test_failures_of_other_modalities_do_not_count(lengths, tmp_path, monkeypatch):
    def fail(*_):
        raise cv2.error("no flow")

    with monkeypatch.context() as patch:
        patch.setattr("preprocess.units.quantize_flow", fail)
        assert reasons_of(extract(lengths, tmp_path, [ALL[1]], names=["9.avi"])) == {
            "9.avi": "no flow"
        }
    assert extract(lengths, tmp_path, [ALL[0]], names=["9.avi"]).failures == {}
    line = json.loads((tmp_path / "d" / "failures.jsonl").read_text())
    assert line == {
        "name": "9.avi",
        "stage": "flow",
        "reason": "no flow",
        "modalities": ["flow-farneback"],
        "command": f"tsn-preprocess try {tmp_path / 'd'} 9.avi --data {lengths}",
    }


def test_without_failures_there_is_no_list(lengths, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "failures.jsonl").write_text("of an older run")
    extract(lengths, tmp_path, [ALL[0]], names=["9.avi"])
    assert not (tmp_path / "d" / "failures.jsonl").exists()


# --- determinism and resuming ---


def test_two_workers_write_what_one_writes(lengths, tmp_path):
    extract(lengths, tmp_path / "one", jobs=1, videos_per_shard=3)
    extract(lengths, tmp_path / "two", jobs=2, videos_per_shard=3)
    one, two = tree_bytes(tmp_path / "one"), tree_bytes(tmp_path / "two")
    assert len(one) == 3 * (4 + 2) + 1  # shards, catalogue and index of each, and the manifest
    assert two == one


def test_a_second_run_does_nothing(lengths, tmp_path):
    assert extract(lengths, tmp_path, videos_per_shard=4).num_jobs == 3
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.h5")}
    index = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("index.json")}
    assert extract(lengths, tmp_path, videos_per_shard=4).num_jobs == 0
    assert extract(lengths, tmp_path).num_jobs == 0, "what is there says how it was cut"
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert {file: file.stat().st_mtime_ns for file in index} == index
    assert len(before) == 9 and len(index) == 3


def test_what_is_missing_or_damaged_is_made_again(lengths, tmp_path):
    extract(lengths, tmp_path, videos_per_shard=4)
    complete = tree_bytes(tmp_path)
    root = tmp_path / "d"
    (root / "rgb" / "shard-00001.h5").unlink()
    (root / "rgb" / "index.json").unlink()
    (root / "flow-farneback" / "shard-00000.h5").write_bytes(b"")
    (root / "rgbdiff" / "index.json").write_text("{")
    (root / "manifest.jsonl").write_text("")
    assert extract(lengths, tmp_path).num_jobs == 2
    assert tree_bytes(tmp_path) == complete


def test_a_truncated_shard_names_its_remedy(lengths, tmp_path):
    extract(lengths, tmp_path, [ALL[0]])
    complete = tree_bytes(tmp_path)
    path = tmp_path / "d" / "rgb" / "shard-00000.h5"
    path.write_bytes(path.read_bytes()[:-1])
    try:
        extract(lengths, tmp_path, [ALL[0]])
    except TSNError as error:
        assert str(error).startswith(f"{path}: damaged: ")
        assert str(error).endswith("; delete the file and extract again")
        path.unlink()
        extract(lengths, tmp_path, [ALL[0]])
    assert tree_bytes(tmp_path) == complete


KILLED = """
import os, sys
sys.path[:0] = {path!r}
import tsn_core.atomic
from pathlib import Path
from test_extract import extract

publish, calls = tsn_core.atomic.publish, []

def die(temporary, path):
    calls.append(path)
    if path.suffix == ".h5" and len(calls) > {number}:
        os._exit(9)
    publish(temporary, path)

tsn_core.atomic.publish = die
extract(Path({data!r}), Path({out!r}), videos_per_shard=4)
"""


@pytest.mark.parametrize("number", [0, 4])
def test_a_killed_run_is_continued(lengths, tmp_path, number):
    out = tmp_path / "killed"
    code = KILLED.format(path=sys.path, number=number, data=str(lengths), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == 9, done.stderr
    assert list(out.rglob(".*.tmp")), "it died before the file had its name"
    assert not list(out.rglob("index.json")), "what is unfinished has no index"
    there = set(out.rglob("*.h5"))
    assert len(there) == max(number - 2, 0)  # manifest and sources were published, too
    extract(lengths, out, videos_per_shard=4)
    extract(lengths, tmp_path / "whole", videos_per_shard=4)
    assert tree_bytes(out) == tree_bytes(tmp_path / "whole")
    assert not list(out.rglob(".*.tmp"))


def test_a_folder_that_is_being_changed_has_no_index(lengths, tmp_path, monkeypatch):
    extract(lengths, tmp_path, ALL[:2], videos_per_shard=4)
    complete = tree_bytes(tmp_path)
    (tmp_path / "d" / "rgb" / "shard-00001.h5").unlink()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("preprocess.extract.run_job", interrupt)
        with pytest.raises(KeyboardInterrupt):
            extract(lengths, tmp_path, [ALL[0]])
    assert not (tmp_path / "d" / "rgb" / "index.json").exists()
    assert (tmp_path / "d" / "flow-farneback" / "index.json").exists()
    extract(lengths, tmp_path, [ALL[0]])
    assert tree_bytes(tmp_path) == complete


def test_an_error_in_one_worker_ends_the_run_and_keeps_what_is_finished(lengths, tmp_path):
    """A shard's place is taken by a folder, so that it cannot be written."""
    place = tmp_path / "d" / "rgb" / "shard-00001.h5"
    (place / "x").mkdir(parents=True)
    with pytest.raises(TSNError) as caught:
        extract(lengths, tmp_path, [ALL[0]], videos_per_shard=4, jobs=2)
    assert str(caught.value) == (
        f"{place}: cannot be written: Is a directory; free space or choose another place"
    )
    assert not (tmp_path / "d" / "rgb" / "index.json").exists()


def test_a_modality_that_is_added_later_is_the_same(lengths, tmp_path):
    extract(lengths, tmp_path / "together", videos_per_shard=4)
    extract(lengths, tmp_path / "apart", [ALL[1]], videos_per_shard=4)
    extract(lengths, tmp_path / "apart", [ALL[2], ALL[1], ALL[0]])
    assert tree_bytes(tmp_path / "apart") == tree_bytes(tmp_path / "together")


def test_shards_of_videos_that_are_gone_are_removed(lengths, tmp_path):
    names = [f"{length}.avi" for length in (2, 4, 6, 8, 9)]
    extract(lengths, tmp_path / "out", names=names, videos_per_shard=2)
    extract(lengths, tmp_path / "out", names=names[:3], videos_per_shard=2)
    extract(lengths, tmp_path / "fresh", names=names[:3], videos_per_shard=2)
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "fresh")


def test_only_shards_whose_videos_changed_are_made_again(lengths, tmp_path):
    names = [f"{length}.avi" for length in (2, 4, 6, 8, 9)]
    extract(lengths, tmp_path, names=names, videos_per_shard=2)
    summary = extract(lengths, tmp_path, names=[*names, "7.avi"], videos_per_shard=2)
    assert summary.num_jobs == 1
    assert opened(tmp_path, ALL[0]).names == (*names, "7.avi")


@pytest.mark.parametrize(("videos", "cut"), [(1, 1), (16, 1), (17, 2), (1024, 64), (10**6, 64)])
def test_a_small_dataset_is_cut_into_enough_shards(videos, cut):
    assert default_videos_per_shard(videos) == cut


# --- workers ---


def _die(number):
    os._exit(1)


def test_a_worker_that_dies_is_one_clear_line():
    with pytest.raises(TSNError) as caught:
        list(run_jobs(_die, [0, 1], num_workers=2))
    assert str(caught.value) == (
        "a worker process died, out of memory or in a decoder; finished shards are kept: run the "
        "same command again, with fewer --jobs if memory is short"
    )


def _fail(number):
    raise InputError(f"number {number}")


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_come_back_from_workers(workers):
    with pytest.raises(InputError) as caught:
        list(run_jobs(_fail, [7], num_workers=workers))
    assert str(caught.value) == "number 7"


def test_every_job_is_run_once():
    assert sorted(run_jobs(abs, [-3, 1, -2], num_workers=2)) == [1, 2, 3]
    assert list(run_jobs(abs, [], num_workers=2)) == []


def _touch(path):
    Path(path).touch()


def test_relative_paths_are_those_of_this_process(tmp_path, monkeypatch):
    for name in ("first", "second"):  # the processes of the first call serve the second one too
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        list(run_jobs(_touch, ["a", "b", "c"], num_workers=2))
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize(("claim", "noted"), [(20, False), (22, False), (23, True), (10**8, False)])
def test_videos_that_end_early_are_noted(tmp_path, claim, noted):
    data = tmp_path / "data"
    claim_frames(write_clip(data / "x.avi", moving_frames(20)), claim)
    note = ("x.avi", f"header says {claim} frames, 20 could be decoded")
    assert extract(data, tmp_path).notes == ((note,) if noted else ())
    assert extract(data, tmp_path).notes == (), "nothing was extracted"


def test_failed_videos_are_tried_again_when_asked_to(tmp_path):
    data = tmp_path / "data"
    for name in "abc":
        write_clip(data / f"{name}.avi", moving_frames(9))
    bad = data / "b.avi"
    good = bad.read_bytes()
    bad.write_bytes(b"not a video".ljust(len(good)))
    os.utime(bad, ns=(0, 0))
    first = extract(data, tmp_path, videos_per_shard=1)
    assert reasons_of(first) == {
        "b.avi": "not a video that FFmpeg can open, or it has no video stream"
    }
    kept = (tmp_path / "d/rgb/shard-00000.h5").stat()
    bad.write_bytes(good)  # behind our back, as if a decoder was mended
    os.utime(bad, ns=(0, 0))
    assert extract(data, tmp_path, videos_per_shard=1).num_jobs == 0
    again = extract(data, tmp_path, videos_per_shard=None, retry_failures=True)
    assert again.num_jobs == 1 and again.failures == {}
    assert not (tmp_path / "d/failures.jsonl").exists()
    now = (tmp_path / "d/rgb/shard-00000.h5").stat()
    assert (now.st_ino, now.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns), "only its own shard"
    assert [entry.num_videos for entry in again.indices[0].shards] == [1, 1, 1]
    assert extract(data, tmp_path, videos_per_shard=1, retry_failures=True).num_jobs == 0


# --- flow ---


def test_flow_points_from_the_first_frame_to_the_second():
    frames = moving_frames(2, (64, 64))
    first, second = (
        cv2.cvtColor(cv2.GaussianBlur(f, (5, 5), 1), cv2.COLOR_BGR2GRAY) for f in frames
    )
    for algorithm in ("tvl1", "farneback", "dis"):
        compute = flow_function(algorithm, flow_parameters(algorithm))
        flow = compute(first, second)
        assert flow.shape == (64, 64, 2) and flow.dtype == np.float32
        middle = np.median(flow[16:48, 16:48], axis=(0, 1))
        assert np.allclose(middle, [2, 1], atol=0.25), algorithm
        back = compute(second, first)
        assert np.allclose(np.median(back[16:48, 16:48], axis=(0, 1)), [-2, -1], atol=0.25)
        assert np.array_equal(compute(first, second), flow), "nothing is left of earlier pairs"


def test_spelled_out_parameters_are_opencv_s_own():
    frames = moving_frames(2, (48, 64))
    grays = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
    for algorithm, own in (
        ("tvl1", cv2.optflow.DualTVL1OpticalFlow.create()),
        ("dis", cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)),
    ):
        ours = flow_function(algorithm, flow_parameters(algorithm, backend="opencv"))
        assert np.array_equal(ours(*grays), own.calc(*grays, None))


def test_flow_without_the_camera_s_motion(tmp_path):
    data = tmp_path / "data"
    write_clip(data / "x.avi", moving_frames(7, (96, 128)))
    write_clip(data / "still.avi", [np.full((96, 128, 3), 90, np.uint8)] * 7)
    size = {"height": 96, "width": 128}
    kinds = [modality("flow", **size), modality("warpedflow", **size)]
    extract(data, tmp_path, kinds, PLANS["dense"], videos_per_shard=2)
    plain, warped = (opened(tmp_path, kind) for kind in kinds)
    assert warped.folder.name == "warpedflow-farneback"
    compute = flow_function("farneback", flow_parameters("farneback"))
    grays = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in decode_all(data / "x.avi")]
    made = [warped_flow(*pair, compute) for pair in pairwise(grays)]
    images = [np.dstack(np.split(quantize_flow(flow, 20.0), 2)) for flow, _ in made]
    video = warped.number("x.avi")
    assert np.array_equal(warped.read(video, [0, 1]), [images[:5], images[1:]])
    for kind, count in ((kinds[0], 0), (kinds[1], sum(accepted for _, accepted in made))):
        tables = Shard(tmp_path / "d" / kind.folder / "shard-00000.h5").tables
        assert tables.video_warped[video] == count
        assert tables.video_warped[1 - video] == 0, "nothing moves, nothing is found"
    assert sum(accepted for _, accepted in made) > 3

    def motion(shards):
        return np.abs(shards.read(video, [0])[..., 16:-16, 16:-16, :].astype(float) - 127.5).mean()

    assert motion(warped) < motion(plain) / 3


def test_unknown_flow():
    with pytest.raises(InputError) as caught:
        flow_parameters("tvl")
    assert (
        str(caught.value) == "unknown flow algorithm 'tvl'; choose from tvl1, farneback, dis, raft"
    )


@pytest.mark.parametrize(
    ("algorithm", "change", "message"),
    [
        (
            "farneback",
            "speed=3",
            "unknown parameter 'speed' of farneback; choose from pyramid_scale, levels, window, "
            "iterations, poly_n, poly_sigma",
        ),
        ("farneback", "levels", "farneback levels must be a whole number, got ''"),
        ("farneback", "levels=2.5", "farneback levels must be a whole number, got '2.5'"),
        ("farneback", "poly_sigma=x", "farneback poly_sigma must be a number, got 'x'"),
        (
            "farneback",
            "poly_n=-3",
            "farneback: OpenCV refuses pyramid_scale=0.5, levels=3, window=15, iterations=3, "
            "poly_n=-3, poly_sigma=1.2",
        ),
        ("tvl1", "epsilon=-1", "epsilon must be >= 0 and finite, got -1.0"),
        ("tvl1", "median=4", "median must be 1 (no filter), 3 or 5, got 4"),
        (
            "tvl1",
            "backend=cuda",
            "unknown parameter 'backend' of tvl1; choose from tau, lambda, theta, num_scales, "
            "scale_step, num_warps, epsilon, inner_iterations, outer_iterations, median",
        ),
        ("dis", "preset=slow", "dis preset must be one of ultrafast, fast, medium, got 'slow'"),
    ],
)
def test_bad_flow_parameters(algorithm, change, message):
    with pytest.raises(InputError) as caught:
        flow_parameters(algorithm, [change])
    assert str(caught.value) == message


def test_flow_parameters_change_the_flow():
    for algorithm, change, name, value in (
        ("tvl1", "num_warps=1", "num_warps", 1),
        ("tvl1", "lambda=0.05", "lambda", 0.05),
        ("farneback", "poly_n=7", "poly_n", 7),
        ("dis", "preset=ultrafast", "preset", "ultrafast"),
    ):
        parameters = flow_parameters(algorithm, [change])
        assert parameters[name] == value
        assert {**parameters, name: None} == {**flow_parameters(algorithm), name: None}
        frames = moving_frames(2, (64, 64))
        grays = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
        changed = flow_function(algorithm, parameters)(*grays)
        usual = flow_function(algorithm, flow_parameters(algorithm))(*grays)
        assert not np.array_equal(changed, usual), algorithm
