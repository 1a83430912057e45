"""Failed videos tried again, one tried alone, damaged shards made anew: nothing else is touched."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import moving_frames, tree_bytes, write_clip

from preprocess import isolation
from preprocess.failures import try_command
from preprocess.isolation import end_processes
from preprocess.task import InProcess
from tsn_core.shard_reader import Shard
from tsn_core.shard_set import ShardSet

SMALL = ("--size", "32x24", "--snippets", "3", "--codec", "raw", "--videos-per-shard", "3")
BOTH = ("--modality", "rgb", "--modality", "rgbdiff")
NO_VIDEO = "not a video that FFmpeg can open, or it has no video stream"


@pytest.fixture
def extract(program, folder_dataset, tmp_path):
    """``extract(options…)`` of the small dataset, two modalities, to ``tmp_path/shards``."""

    def run(*options, out="shards"):
        where = ("--data", folder_dataset, "--out", tmp_path / out)
        result = program("extract", "--dataset", "folder", *where, *SMALL, *BOTH, *options)
        end_processes()
        return result

    return run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "shards" / "gestures"


@pytest.fixture
def tried(monkeypatch):
    """The names of the videos that are really decoded; in this process, to see it."""
    names = []
    extract = InProcess.extract

    def count(self, task, emit, then=None):
        names.append(task.path.name)
        return extract(self, task, emit)

    monkeypatch.setattr(InProcess, "extract", count)
    monkeypatch.setattr("preprocess.job.borrowed_process", Here)
    return names


class Here:
    """Stands for a process of its own."""

    def __enter__(self):
        return InProcess()

    def __exit__(self, *_):
        pass


def behind_our_back(path, data):
    """Change a file so that neither its size nor its time tells."""
    status = path.stat()
    path.write_bytes(data.ljust(status.st_size, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# --- retry ---


def test_retry_decodes_the_failed_videos_only(extract, program, folder_dataset, root, tried):
    path = folder_dataset / "nod" / "nod_2.avi"
    good = path.read_bytes()
    behind_our_back(path, b"no video")
    assert extract().exit_code == 1
    tried.clear()
    result = program("retry", root)
    assert (result.exit_code, result.stderr) == (
        1,
        f"1 failed, see {root / 'failures.jsonl'}:\n  nod/nod_2.avi: {NO_VIDEO}\n",
    )
    assert result.stdout == f"{root}: 0 videos extracted anew\n"
    behind_our_back(path, good)
    result = program("retry", root)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{root}: 1 video extracted anew\n"
    assert tried == ["nod_2.avi"] * 2, "one decode serves both modalities"
    assert not (root / "failures.jsonl").exists()
    assert extract(out="fresh").exit_code == 0
    assert tree_bytes(root) == tree_bytes(root.parent.parent / "fresh" / "gestures")


def test_retry_takes_other_limits(extract, program, root):
    assert extract("--max-frames", 13).exit_code == 1
    (line,) = map(json.loads, (root / "failures.jsonl").read_text().splitlines())
    assert line["name"] == "wave/wave_5.avi"
    assert program("retry", root, "--max-frames", 14).exit_code == 0
    assert len(ShardSet(root / "rgb").names) == 6


def test_retry_with_modalities_of_different_plans(extract, program, folder_dataset, root):
    path = folder_dataset / "nod" / "nod_2.avi"
    good = path.read_bytes()
    behind_our_back(path, b"no video")
    assert extract().exit_code == 1
    where = ("--dataset", "folder", "--data", folder_dataset, "--out", root.parent)
    dense = ("--dense", "--modality", "flow", "--flow", "farneback", "--size", "16x16")
    assert program("extract", *where, *dense).exit_code == 1
    behind_our_back(path, good)
    assert program("retry", root).exit_code == 0
    for folder, snippets in (("rgb", 3), ("rgbdiff", 3), ("flow-farneback", 10)):
        shards = ShardSet(root / folder)
        assert len(shards.names) == 6
        assert shards.num_snippets.max() <= snippets


def test_retry_says_what_it_needs(program, extract, root, folder_dataset, tmp_path):
    for arguments, message in (
        (
            (tmp_path,),
            f"{tmp_path}/manifest.jsonl: no manifest there; give the folder of a "
            "dataset's shards, such as shards/hmdb51, or make one with tsn-preprocess scan "
            "or extract",
        ),
        (
            (root, "--data", tmp_path / "x"),
            f"{tmp_path}/x: no such folder of videos; use --data DIR",
        ),
    ):
        assert extract().exit_code == 0
        result = program("retry", *arguments)
        assert (result.exit_code, result.stderr) == (1, f"error: {message}\n")
    (root / ".sources.jsonl").unlink()
    result = program("retry", root)
    message = f"{root}: does not say where its videos are; use --data DIR"
    assert (result.exit_code, result.stderr) == (1, f"error: {message}\n")
    assert program("retry", root, "--data", folder_dataset).exit_code == 0
    root.rename(root.parent / "other")
    other = root.parent / "other"
    result = program("retry", other)
    message = f"{other}: holds the shards of gestures; give the folder that name again"
    assert (result.exit_code, result.stderr) == (1, f"error: {message}\n")


# --- try ---


@pytest.mark.parametrize("isolation", ["--isolation", "--no-isolation"])
def test_one_video_is_tried_alone(extract, program, folder_dataset, root, isolation):
    (folder_dataset / "nod" / "bad.avi").write_text("no video")
    assert extract().exit_code == 1
    before = tree_bytes(root)
    result = program("try", root, "nod/nod_0.avi", isolation)
    lines = result.stdout.splitlines()
    assert (result.exit_code, result.stderr) == (0, "")
    assert lines[0] == f"{folder_dataset / 'nod' / 'nod_0.avi'}:"
    assert lines[1].startswith("  9 frames decoded in ")
    assert lines[2:] == ["  rgb: 3 images, 0.01 MB", "  rgbdiff: 8 images, 0.02 MB"]
    result = program("try", root, "nod/bad.avi", isolation)
    assert (result.exit_code, result.stderr) == (
        1,
        f"  rgb, rgbdiff: failed in stage open: {NO_VIDEO}\n",
    )
    assert tree_bytes(root) == before


def test_the_command_in_the_list_of_failures_works(extract, program, folder_dataset, root):
    (folder_dataset / "nod" / "a bad one.avi").write_text("no video")
    assert extract().exit_code == 1
    import shlex

    (line,) = map(json.loads, (root / "failures.jsonl").read_text().splitlines())
    assert line["stage"] == "open"
    result = program(*shlex.split(line["command"])[1:])
    assert (result.exit_code, result.stderr) == (
        1,
        f"  rgb, rgbdiff: failed in stage open: {NO_VIDEO}\n",
    )


def test_any_folder_can_stand_in_the_list_of_failures(program, folder_dataset, tmp_path):
    data = tmp_path / "caf\udce9" / folder_dataset.name
    data.parent.mkdir()
    folder_dataset.rename(data)
    (data / "nod" / "bad.avi").write_text("no video")
    out = tmp_path / "shards"
    result = program("extract", "--dataset", "folder", "--data", data, "--out", out, *SMALL)
    assert result.exit_code == 1
    root = out / data.name
    (line,) = map(json.loads, (root / "failures.jsonl").read_text().splitlines())
    assert line["command"].endswith(f"nod/bad.avi --data '{data}'")


def test_the_command_names_a_video_that_looks_like_an_option():
    command = try_command(Path("shards/d"), Path("data"), "-x y.avi")
    assert command == "tsn-preprocess try shards/d --data data -- '-x y.avi'"


def test_a_video_that_nobody_knows(extract, program, root):
    extract()
    result = program("try", root, "nod/x.avi")
    message = f"error: {root}: no video nod/x.avi; see its manifest.jsonl\n"
    assert (result.exit_code, result.stderr) == (1, message)


# --- verify --repair ---


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def image_place(path, video):
    """Where the images of a video begin in the file."""
    with h5py.File(path, "r") as file:
        first = file["image_start"][file["video_image"][video]]
        return file["images"].id.get_offset() + int(first)


def table_place(path, name):
    with h5py.File(path, "r") as file:
        return file[name].id.get_offset()


@pytest.mark.parametrize(
    ("damage", "decoded"),
    [
        (lambda path: flip(path, image_place(path, 1) + 5), ["nod_2.avi"]),
        (lambda path: flip(path, table_place(path, "video_frames")), None),
        (lambda path: flip(path, 8), None),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), None),
        (lambda path: path.write_bytes(b""), None),
        (lambda path: path.unlink(), None),
    ],
    ids=["image", "table", "superblock", "truncated", "empty", "missing"],
)
def test_damage_is_repaired_and_nothing_else_is_touched(
    extract, program, root, tried, damage, decoded
):
    assert extract().exit_code == 0
    complete = tree_bytes(root)
    damage(root / "rgbdiff" / "shard-00000.h5")
    others = {
        path: path.stat().st_ino
        for path in root.rglob("*.h5")
        if path != root / "rgbdiff" / "shard-00000.h5"
    }
    tried.clear()
    found = program("verify", root)
    assert found.exit_code == 1
    assert found.stderr.startswith(f"{root / 'rgbdiff' / 'shard-00000.h5'}: ")
    result = program("verify", root, "--repair")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == [
        f"{root / 'rgb'}: sound",
        f"{root / 'rgbdiff'}: sound",
    ]
    assert sorted(tried) == (decoded or ["nod_0.avi", "nod_2.avi", "nod_4.avi"])
    assert tree_bytes(root) == complete
    assert {path: path.stat().st_ino for path in others} == others


def test_a_video_that_repairing_loses_is_told(extract, program, folder_dataset, root):
    assert extract().exit_code == 0
    flip(root / "rgb" / "shard-00000.h5", image_place(root / "rgb" / "shard-00000.h5", 1) + 5)
    (folder_dataset / "nod" / "nod_2.avi").rename(folder_dataset / "elsewhere.avi")
    result = program("verify", root, "--repair")
    assert (result.exit_code, result.stderr.splitlines()[-2:]) == (
        1,
        [
            f"1 video could not be extracted anew, see {root / 'failures.jsonl'}:",
            "  nod/nod_2.avi: no such file",
        ],
    )
    assert program("verify", root).exit_code == 0


def test_a_lost_index_is_repaired(extract, program, root, tried):
    extract()
    complete = tree_bytes(root)
    (root / "rgb" / "index.json").write_text("{")
    tried.clear()
    assert program("verify", root, "--repair").exit_code == 0
    assert tried == []
    assert tree_bytes(root) == complete


def test_a_sound_dataset_is_not_touched(extract, program, root, tried):
    extract()
    tried.clear()
    result = program("verify", root, "--repair")
    assert (result.exit_code, tried) == (0, [])
    assert result.stdout == f"{root / 'rgb'}: sound\n{root / 'rgbdiff'}: sound\n"


def test_only_a_dataset_can_be_repaired(extract, program, root):
    extract()
    result = program("verify", root / "rgb", "--repair")
    message = f"error: {root / 'rgb'}: --repair needs the folder of a dataset, with its manifest\n"
    assert (result.exit_code, result.stderr) == (1, message)


# --- taking over what is still good ---


def test_unchanged_videos_of_a_shard_are_copied(extract, folder_dataset, root, tried, tmp_path):
    assert extract("--no-isolation").exit_code == 0
    write_clip(folder_dataset / "nod" / "nod_2.avi", moving_frames(17, (36, 48), seed=50))
    tried.clear()
    result = extract("--no-isolation")
    assert result.exit_code == 0
    assert result.stderr == (
        "1 source video changed since the last extraction; the shards that hold them are made "
        "anew\n"
    )
    assert tried == ["nod_2.avi"]
    extract("--no-isolation", out="fresh")
    assert tree_bytes(root) == tree_bytes(tmp_path / "fresh" / "gestures")
    frames = Shard(root / "rgb" / "shard-00000.h5").tables.video_frames
    assert np.array_equal(frames, [9, 17, 13])


def test_files_of_others_are_left_alone(extract, root):
    extract()
    mine = root / "rgb" / "shard-00000-copy.h5"
    mine.write_bytes(b"mine")
    (root / "rgb" / "shard-00007.h5").write_bytes(b"of videos that are gone")
    extract()
    assert mine.read_bytes() == b"mine"
    assert not (root / "rgb" / "shard-00007.h5").exists()


def test_isolation_is_the_default(extract, monkeypatch):
    lent = []
    borrow = isolation.borrowed_process
    monkeypatch.setattr("preprocess.job.borrowed_process", lambda: lent.append(1) or borrow())
    extract()
    assert len(lent) == 2
