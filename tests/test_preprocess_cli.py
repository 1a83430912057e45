"""tsn-preprocess as its users meet it: what it prints, how it ends, and real videos."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import claim_frames, decode_all, moving_frames, tree_bytes, write_clip

from tsn_core.manifest import read_manifest
from tsn_core.modality import modality_names
from tsn_core.shard_reader import Shard
from tsn_core.shard_set import ShardSet
from tsn_core.version import __version__

SMALL = ("--size", "32x24", "--snippets", "3", "--codec", "raw", "--jobs", "1")
THREE = ("--modality", "rgb", "--modality", "flow", "--modality", "rgbdiff", "--flow", "farneback")


@pytest.fixture
def extract(program, folder_dataset, tmp_path):
    """``extract(options…)`` of the small dataset to ``tmp_path/shards``, rgb unless told."""

    def run(*options, out=None):
        where = ("--data", folder_dataset, "--out", out or tmp_path / "shards")
        return program("extract", "--dataset", "folder", *where, *SMALL, *options)

    return run


def test_help_names_every_command_and_default(program):
    result = program("--help")
    assert result.exit_code == 0
    for command in ("scan", "extract", "verify", "synth"):
        assert re.search(rf"^  {command} +\S", result.stdout, re.MULTILINE)
    text = " ".join(program("extract", "--help").stdout.split())
    for part in ("[default: 340x256]", "[default: 95;", "[default: 20.0]", "[default: 25]"):
        assert part in text
    assert program("--version").stdout == f"tsn-preprocess, version {__version__}\n"


def test_both_ways_to_start_it():
    for command in (
        [sys.executable, "-m", "preprocess"],
        [Path(sys.executable).parent / "tsn-preprocess"],
    ):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"tsn-preprocess, version {__version__}\n"


# --- scan ---


def test_scan(program, folder_dataset, tmp_path):
    out = tmp_path / "deep" / "manifest.jsonl"
    result = program("scan", "--dataset", "folder", "--data", folder_dataset, "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{out}: 6 videos, 2 classes, splits: 1\n"
    manifest = read_manifest(out)
    assert manifest.dataset == "gestures"
    assert manifest.class_names == ("nod", "wave")
    assert sorted(record.name for record in manifest.records) == sorted(
        file.relative_to(folder_dataset).as_posix() for file in folder_dataset.rglob("*.avi")
    )


def test_errors_are_one_line_and_status_1(program, tmp_path):
    result = program("scan", "--dataset", "list", "--data", tmp_path, "--out", tmp_path / "m.jsonl")
    assert (result.exit_code, result.stdout, result.stderr) == (
        1,
        "",
        "error: --dataset list needs at least one --list FILE\n",
    )


# --- extract ---


def test_extract(extract, folder_dataset, tmp_path):
    result = extract(*THREE)
    root = tmp_path / "shards" / "gestures"
    assert (result.exit_code, result.stderr) == (0, "")
    sizes = {
        name: sum(file.stat().st_size for file in (root / name).glob("*.h5")) / 1e6
        for name in ("rgb", "flow-farneback", "rgbdiff")
    }
    *lines, last = result.stdout.splitlines()
    assert lines == [
        f"{root / name}: 6 videos in 6 shards, {size:.1f} MB" for name, size in sizes.items()
    ]
    time = r"0:00:\d\d, \d+\.\d videos/(s|min)"
    assert re.fullmatch(
        f"this run: 6 videos in {time}; see {re.escape(str(root))}/report.json", last
    )
    assert sorted(path.name for path in root.iterdir() if path.name[0] != ".") == [
        "flow-farneback",
        "log.jsonl",
        "manifest.jsonl",
        "report.json",
        "rgb",
        "rgbdiff",
    ]
    manifest = read_manifest(root / "manifest.jsonl")
    rgb = ShardSet(root / "rgb")
    assert rgb.names == tuple(record.name for record in manifest.records)
    assert rgb.labels.tolist() == [record.label for record in manifest.records]
    assert manifest.split_numbers == (1,)
    first = cv2.resize(
        decode_all(folder_dataset / rgb.names[0])[1], (32, 24), interpolation=cv2.INTER_AREA
    )
    assert np.array_equal(rgb.read(0, [0])[0, 0], first[..., ::-1])  # 9 frames: 1, 4 and 7


def test_flow_is_described_by_what_was_asked(extract, tmp_path):
    options = ("--bound", 15, "--flow-backend", "opencv", "--flow-parameter", "median=1")
    assert extract("--modality", "flow", *options).exit_code == 0
    kind = ShardSet(tmp_path / "shards" / "gestures" / "flow-tvl1").modality
    assert kind.parameters["backend"] == "opencv"
    assert kind.parameters["median"] == 1
    assert kind.parameters["bound"] == 15.0
    assert (kind.scale, kind.zero) == (30 / 255, 127.5)
    assert extract(*THREE, "--warp").exit_code == 0
    folders = {path.name for path in (tmp_path / "shards" / "gestures").iterdir() if path.is_dir()}
    assert folders == {"flow-tvl1", "rgb", "rgbdiff", "warpedflow-farneback"}


def test_a_second_run_says_so(extract):
    first = extract()
    second = extract()
    assert second.exit_code == 0
    there, _ = first.stdout.splitlines()
    assert second.stdout == f"{there}\neverything was there already; nothing to do\n"


def test_changed_splits_are_taken_over_and_said(extract, folder_dataset):
    assert "subsets of the splits" not in extract().stderr
    names = sorted(p.relative_to(folder_dataset).as_posix() for p in folder_dataset.glob("*/*.avi"))
    splits = folder_dataset / "splits"
    splits.mkdir()
    for subset, chosen in (("test", names[:1]), ("train", names[1:])):
        lines = [f"{name} {name.partition('/')[0]}\n" for name in chosen]
        (splits / f"{subset}_split_1.txt").write_text("".join(lines))
    again = extract()
    assert re.fullmatch(
        r"\d+ videos? belongs? to other subsets of the splits than before: taken over; train into "
        r"another --out\n",
        again.stderr,
    )
    assert again.stdout.endswith("everything was there already; nothing to do\n")
    assert extract().stderr == ""


def test_defaults_are_those_of_the_design(program, folder_dataset, tmp_path):
    result = program(
        *("extract", "--dataset", "folder", "--data", folder_dataset, "--out", tmp_path / "out"),
        *("--modality", "rgb", "--modality", "rgbdiff"),
    )
    assert result.exit_code == 0
    for name, length in (("rgb", 1), ("rgbdiff", 5)):
        header = Shard(tmp_path / "out" / "gestures" / name / "shard-00000.h5").header
        assert header.sampling == '{"snippets": 25}'
        kind = header.modality
        assert (kind.height, kind.width, kind.short_side) == (256, 340, None)
        assert (kind.codec, kind.quality, kind.snippet_length) == ("jpeg", 95, length)


def test_a_list_of_the_same_modality_is_one(extract, tmp_path):
    assert extract("--modality", "rgb", "--modality", "rgb").stdout.count("/rgb: ") == 1


@pytest.mark.parametrize(
    ("first", "second", "folder", "difference"),
    [
        ((), ("--size", "48x24"), "rgb", "width=32, this run has width=48"),
        ((), ("--short-side", "24"), "rgb", "height=24, this run has height=None"),
        ((), ("--codec", "jpeg"), "rgb", "codec=raw, this run has codec=jpeg"),
        ((), ("--snippets", "4"), "rgb", "snippets=3, this run has snippets=4"),
        (
            ("--videos-per-shard", "3"),
            ("--videos-per-shard", "2"),
            "rgb",
            "videos_per_shard=3, this run has videos_per_shard=2",
        ),
        (THREE, (*THREE, "--bound", "15"), "flow-farneback", "bound=20.0, this run has bound=15.0"),
        (
            THREE,
            (*THREE, "--snippet-length", "3"),
            "flow-farneback",
            "snippet_length=5, this run has snippet_length=3",
        ),
        (
            ("--codec", "jpeg"),
            ("--codec", "jpeg", "--quality", "80"),
            "rgb",
            "quality=95, this run has quality=80",
        ),
    ],
)
def test_other_settings_in_the_same_place_are_refused(
    extract, tmp_path, first, second, folder, difference
):
    assert extract(*first).exit_code == 0
    before = tree_bytes(tmp_path / "shards")
    result = extract(*second)
    place = tmp_path / "shards" / "gestures" / folder
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {place}: written with {difference}; choose another --out or delete the folder\n"
    )
    assert tree_bytes(tmp_path / "shards") == before


def test_another_plan_is_refused(extract, program, folder_dataset, tmp_path):
    assert extract().exit_code == 0
    where = ("--data", folder_dataset, "--out", tmp_path / "shards", "--jobs", 1)
    result = program(
        "extract", "--dataset", "folder", *where, "--size", "32x24", "--codec", "raw", "--dense"
    )
    assert result.stderr == (
        f"error: {tmp_path / 'shards' / 'gestures' / 'rgb'}: written with dense=None, this run "
        "has dense=True; choose another --out or delete the folder\n"
    )


def test_another_version_of_the_format_is_not_overwritten(extract, tmp_path):
    import h5py

    extract()
    path = tmp_path / "shards" / "gestures" / "rgb" / "shard-00000.h5"
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file.attrs["version"] = 2
    newer = path.read_bytes()
    result = extract()
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {path}: format version 1 expected, got 2; delete the folder and extract again, "
        "or update this package\n",
    )
    assert path.read_bytes() == newer


def test_modalities_that_are_cut_differently_are_refused(extract, tmp_path):
    root, other = tmp_path / "shards" / "gestures", tmp_path / "other"
    assert extract("--videos-per-shard", 2).exit_code == 0
    result = extract("--videos-per-shard", 3, "--modality", "rgbdiff")
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {root}: written with videos_per_shard=2, this run has videos_per_shard=3; choose "
        "another --out or leave that out\n",
    )
    assert extract("--videos-per-shard", 3, "--modality", "rgbdiff", out=other).exit_code == 0
    (root / "rgbdiff").rmdir()
    (other / "gestures" / "rgbdiff").rename(root / "rgbdiff")
    result = extract()
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {root}: rgb was written with videos_per_shard=2, rgbdiff with "
        "videos_per_shard=3; delete one of them\n",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--snippets", "0"), "--snippets must be > 0, got 0"),
        (("--dense",), "choose exactly one of --snippets, --dense and --fps"),
        (("--modality", "flow", "--bound", "0"), "--bound must be > 0 and finite, got 0.0"),
        (("--modality", "flow", "--bound", "nan"), "--bound must be > 0 and finite, got nan"),
        (("--modality", "flow", "--bound", "inf"), "--bound must be > 0 and finite, got inf"),
        (("--modality", "flow", "--snippet-length", "0"), "--snippet-length must be > 0, got 0"),
        (("--snippet-length", "-1"), "--snippet-length must be > 0, got -1"),
        (("--short-side", "0"), "--short-side must be > 0, got 0"),
        (("--short-side", "70000"), "short_side must be 1 to 65536, got 70000"),
        (("--size", "70000x1"), "width must be 1 to 65536, got 70000"),
        (("--videos-per-shard", "0"), "--videos-per-shard must be > 0, got 0"),
        (("--jobs", "0"), "--jobs must be > 0, got 0"),
        (
            ("--modality", "flow", "--flow-parameter", "median=2"),
            "median must be 1 (no filter), 3 or 5, got 2",
        ),
    ],
)
def test_bad_numbers(extract, tmp_path, options, message):
    result = extract(*options)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {message}\n")
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size", "340"), "'--size': WIDTHxHEIGHT such as 340x256 expected, got '340'"),
        (("--size", "0x9"), "'--size': WIDTHxHEIGHT such as 340x256 expected, got '0x9'"),
        (("--size", "9x-9"), "'--size': WIDTHxHEIGHT such as 340x256 expected, got '9x-9'"),
        (("--quality", "101"), "'--quality': 101 is not in the range 1<=x<=100."),
        (("--codec", "png"), "'--codec': 'png' is not one of 'jpeg', 'raw'."),
        (
            ("--modality", "depth"),
            "'--modality': 'depth' is not one of "
            + ", ".join(repr(name) for name in modality_names() if name != "warpedflow")
            + ".",
        ),
        (("--flow", "tvl"), "'--flow': 'tvl' is not one of 'tvl1', 'farneback', 'dis', 'raft'."),
    ],
)
def test_usage_errors_are_status_2(extract, options, message):
    result = extract(*options)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: Invalid value for {message}"


def test_unwritable_output(extract, tmp_path):
    (tmp_path / "file").write_text("")
    result = extract(out=tmp_path / "file")
    assert (result.exit_code, result.stdout, result.stderr) == (
        1,
        "",
        f"error: {tmp_path / 'file' / 'gestures'}: cannot be written: Not a directory; "
        "choose another --out\n",
    )
    (tmp_path / "out" / "gestures").mkdir(parents=True)
    (tmp_path / "out" / "gestures" / "rgb").write_text("")
    result = extract(out=tmp_path / "out")
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {tmp_path / 'out' / 'gestures' / 'rgb'}: cannot be written: File exists; "
        "mend that or choose another --out\n",
    )


def test_two_runs_at_a_time(extract, tmp_path):
    from filelock import FileLock

    root = tmp_path / "shards" / "gestures"
    root.mkdir(parents=True)
    with FileLock(root / ".lock"):
        result = extract()
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {root}: another extraction is writing there; wait for it, or use --wait\n",
    )
    assert extract().exit_code == 0


def test_failures_end_with_status_1_unless_allowed(extract, folder_dataset, tmp_path):
    (folder_dataset / "nod" / "empty.avi").write_bytes(b"")
    (folder_dataset / "wave" / "text.avi").write_text("no video")
    root = tmp_path / "shards" / "gestures"
    report = (
        f"2 of 8 videos failed, see {root / 'failures.jsonl'}:\n"
        "  nod/empty.avi: the file is empty; download or copy it again\n"
        "  wave/text.avi: not a video that FFmpeg can open, or it has no video stream\n"
    )
    result = extract()
    assert (result.exit_code, result.stderr) == (1, report)
    assert result.stdout.startswith(f"{root / 'rgb'}: 6 videos in 8 shards")
    again = extract("--allow-failures")
    assert (again.exit_code, again.stderr) == (0, report)
    lines = (root / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["nod/empty.avi", "wave/text.avi"]
    assert ShardSet(root / "rgb").names == tuple(
        record.name
        for record in read_manifest(root / "manifest.jsonl").records
        if record.name not in ("nod/empty.avi", "wave/text.avi")
    )


def test_jobs_do_not_change_a_byte(program, folder_dataset, tmp_path):
    claim_frames(folder_dataset / "nod" / "nod_0.avi", 4000)
    (folder_dataset / "nod" / "bad.avi").write_text("no video")
    for jobs in (1, 2):
        where = ("--data", folder_dataset, "--out", tmp_path / str(jobs))
        result = program(
            *("extract", "--dataset", "folder", *where, *THREE, "--size", "32x24"),
            *("--jobs", jobs, "--allow-failures"),
        )
        assert result.exit_code == 0
    one, two = tree_bytes(tmp_path / "1"), tree_bytes(tmp_path / "2")
    assert len(one) == 3 * 9 + 2
    for tree, jobs in ((one, b"1"), (two, b"2")):  # their commands name the folder
        path = "gestures/failures.jsonl"
        tree[path] = tree[path].replace(bytes(tmp_path) + b"/" + jobs, b"")
    assert two == one


@pytest.mark.parametrize("jobs", [1, 2])
def test_decoders_keep_quiet(folder_dataset, tmp_path, jobs):
    """Nothing but our own lines, though FFmpeg and OpenCV have a lot to say of these files."""
    path = write_clip(folder_dataset / "nod" / "damaged.avi", moving_frames(20), codec="mp4v")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(range(200)) * 2
    path.write_bytes(data)
    (folder_dataset / "nod" / "bad.avi").write_text("no video")
    where = ["--data", str(folder_dataset), "--out", str(tmp_path / "shards")]
    options = ["--size", "32x24", "--jobs", str(jobs)]
    done = subprocess.run(
        [sys.executable, "-m", "preprocess", "extract", "--dataset", "folder", *where, *options],
        capture_output=True,
        text=True,
        timeout=120,
    )
    root = tmp_path / "shards" / "gestures"
    assert done.stderr == (
        f"1 of 8 videos failed, see {root / 'failures.jsonl'}:\n"
        "  nod/bad.avi: not a video that FFmpeg can open, or it has no video stream\n"
    )
    assert done.returncode == 1


def test_what_was_extracted_verifies(extract, program, tmp_path):
    extract(*THREE)
    root = tmp_path / "shards" / "gestures"
    result = program("verify", tmp_path / "shards")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "".join(
        f"{root / name}: sound\n" for name in ("flow-farneback", "rgb", "rgbdiff")
    )


# --- synth ---


def test_synth_to_shards(program, tmp_path):
    data = tmp_path / "synthetic"
    result = program(
        *("synth", "--out", data, "--videos-per-class", 2, "--frames", 4, "--size", "48x32"),
    )
    assert (result.exit_code, result.stdout) == (
        0,
        f"{data}: 12 videos, 6 classes: clockwise, counterclockwise, down, left, right, up\n"
        f"next: tsn-preprocess extract --dataset synthetic --data {data} --out shards "
        "--modality flow --flow farneback --bound 8 --size 48x32\n",
    )
    where = ("--data", data, "--out", tmp_path / "shards")
    result = program("extract", "--dataset", "synthetic", *where, *SMALL)
    assert result.exit_code == 0
    assert len(ShardSet(tmp_path / "shards" / "synthetic" / "rgb")) == 12
    result = program("synth", "--out", data, "--size", "33x32")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: size must be even and at least 32x32, got 33x32\n",
    )


# --- real videos ---

REAL = (*THREE, "--size", "85x64", "--snippets", "5", "--jobs", "2")


@cache
def facts(file: Path) -> tuple[int, tuple[int, ...], np.ndarray]:
    """Decode a whole file; return its length, size, and the small RGB frame in its middle."""
    frames = decode_all(file)
    middle = cv2.resize(frames[len(frames) // 2], (85, 64), interpolation=cv2.INTER_AREA)
    return len(frames), frames[0].shape[:2], middle[..., ::-1]


def assert_real(root: Path, data: Path, lost: int | None = None):
    """Frame counts, source sizes and some pixels of every video are those of a naive decode."""
    for folder in ("rgb", "flow-farneback", "rgbdiff"):
        for path in sorted((root / folder).glob("*.h5")):
            shard = Shard(path)
            tables = shard.tables
            assert shard.checksum_defects() == []
            assert tables.failed_name == ()
            for video, name in enumerate(tables.video_name):
                length, size, middle = facts(data / name)
                assert tables.video_frames[video] == length
                assert tuple(tables.video_size[video]) == size
                assert shard.num_snippets(video) == 5
                if lost is not None:
                    header = cv2.VideoCapture(str(data / name)).get(cv2.CAP_PROP_FRAME_COUNT)
                    assert length == header - lost
                if folder == "rgb":
                    first, last = tables.video_image[video : video + 2]
                    numbers = [(2 * k + 1) * length // 10 for k in range(5)]
                    assert tables.image_frame[first:last].tolist() == numbers
                    decoded = shard.read_snippets(video, [2])[0, 0].astype(int)
                    assert np.abs(decoded - middle).mean() < 4  # as much as JPEG loses


@pytest.mark.clips
@pytest.mark.parametrize(("dataset", "videos", "lost"), [("hmdb51", 6, 1), ("ucf101", 4, None)])
def test_real_datasets(program, clips, tmp_path, dataset, videos, lost):
    where = ("--data", clips / dataset, "--out", tmp_path)
    result = program("extract", "--dataset", dataset, *where, *REAL)
    assert (result.exit_code, result.stderr) == (0, "")
    root = tmp_path / dataset
    assert len(ShardSet(root / "rgb")) == videos
    assert_real(root, clips / dataset, lost)
    assert program("verify", tmp_path).exit_code == 0


@pytest.mark.clips
def test_real_folder(program, clips, tmp_path):
    where = ("--data", clips / "aerobics", "--out", tmp_path)
    result = program("extract", "--dataset", "folder", *where, *REAL)
    assert (result.exit_code, result.stderr) == (0, "")
    root = tmp_path / "aerobics"
    flow = ShardSet(root / "flow-farneback")
    assert len(flow) == 27
    assert np.bincount(flow.labels).tolist() == [9, 9, 9]
    assert read_manifest(root / "manifest.jsonl").split_numbers == (1, 2, 3)
    assert_real(root, clips / "aerobics")
    moving = np.stack([flow.read(video, [2]) for video in range(27)]).astype(int)
    assert (np.abs(moving - 128) > 4).mean() > 0.005, "somebody moves"


@pytest.mark.clips
def test_real_list(program, clips, tmp_path):
    names = sorted(path.name for path in (clips / "kinetics").glob("*.mp4"))
    lines = [f"{name} {number % 2}\n" for number, name in enumerate(names)]
    (tmp_path / "train.txt").write_text("".join(lines[:2]))
    (tmp_path / "val.txt").write_text("".join(lines[2:]))
    lists = ("--list", tmp_path / "train.txt", "--list", tmp_path / "val.txt")
    where = ("--data", clips / "kinetics", "--out", tmp_path / "out")
    result = program("extract", "--dataset", "list", *lists, *where, *REAL)
    assert (result.exit_code, result.stderr) == (0, "")
    root = tmp_path / "out" / "kinetics"
    assert ShardSet(root / "rgb").names == tuple(names)
    manifest = read_manifest(root / "manifest.jsonl")
    assert manifest.subset_names(1, "val") == (names[2],)
    assert_real(root, clips / "kinetics")


@pytest.mark.clips
def test_real_tvl1(program, clips, tmp_path):
    where = ("--data", clips / "hmdb51", "--out", tmp_path, "--jobs", 2)
    options = ("--modality", "flow", "--size", "85x64", "--snippets", 2, "--snippet-length", 2)
    result = program("extract", "--dataset", "hmdb51", *where, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    flow = ShardSet(tmp_path / "hmdb51" / "flow-tvl1")
    assert len(flow) == 6
    assert flow.modality.parameters["bound"] == 20.0
    assert program("verify", tmp_path).exit_code == 0


ODD = {
    "mp4-with-audio.mp4": "not a video that FFmpeg can open, or it has no video stream",
    "text_named.mp4": "not a video that FFmpeg can open, or it has no video stream",
    "zero_bytes.avi": "the file is empty; download or copy it again",
}


@pytest.mark.clips
@pytest.mark.parametrize("plan", [("--snippets", "5"), ("--fps", "2"), ("--dense",)])
def test_odd_files_are_extracted_or_a_line(program, clips, tmp_path, plan):
    names = sorted(path.name for path in (clips / "odd").iterdir())
    (tmp_path / "all.txt").write_text("".join(f"{name} x\n" for name in names))
    where = ("--list", tmp_path / "all.txt", "--data", clips / "odd", "--out", tmp_path / "out")
    options = (*THREE, "--size", "64x48", "--jobs", 2, *plan)
    result = program("extract", "--dataset", "list", *where, *options)
    root = tmp_path / "out" / "odd"
    assert result.exit_code == 1
    assert result.stderr == (
        "2 videos may be damaged or cut short:\n"
        "  corrupted.mp4: header says 50 frames, 49 could be decoded\n"
        "  truncated_v_BaseballPitch.avi: header says 107 frames, 46 could be decoded\n"
        f"3 of 9 videos failed, see {root / 'failures.jsonl'}:\n"
    ) + "".join(f"  {name}: {reason}\n" for name, reason in ODD.items())
    assert program("verify", tmp_path / "out").exit_code == 0
    for folder in ("rgb", "flow-farneback", "rgbdiff"):
        shards = ShardSet(root / folder)
        assert sorted(shards.names) == sorted(set(names) - set(ODD))
        for path in (root / folder).glob("*.h5"):
            tables = Shard(path).tables
            for video, name in enumerate(tables.video_name):
                length, size = 125, (360, 640)  # of AV1, which OpenCV does not decode
                if name != "av1_video.mkv":
                    length, size, _ = facts(clips / "odd" / name)
                assert tables.video_frames[video] == length
                assert tuple(tables.video_size[video]) == size
                height, width = tables.video_size[video]
                assert (height > width) == (name == "video_90.mov"), "rotation is applied"
                short = length - (folder != "rgb") < (1 if folder == "rgb" else 5)
                assert (tables.video_padding[video] > 0) == short
        single = shards.number("dvd_single_frame.mp4")
        assert shards.num_snippets[single] == (5 if "--snippets" in plan else 1)
