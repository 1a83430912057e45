"""Three hundred videos, thirty of them bad in ten ways: one run, and every one is explained."""

import json
import subprocess
import sys

import av
import numpy as np
import pytest
from conftest import moving_frames, write_clip
from test_extract import ALL, PLANS, opened
from test_extract import extract as extract_here

from preprocess.sources import SOURCES_NAME
from tsn_core.check import folder_defects
from tsn_core.shard_set import ShardSet

TWICE = ", in each of 2 tries"
REASONS = {
    "missing": ("open", "no such file"),
    "empty": ("open", "the file is empty; download or copy it again"),
    "text": ("open", "not a video that FFmpeg can open, or it has no video stream"),
    "sound": ("open", "not a video that FFmpeg can open, or it has no video stream"),
    "cut": (
        "decode",
        "it opens, but no frame can be decoded (codec ffv1); convert it, for example with: "
        "ffmpeg -i IN -c:v libx264 OUT.mp4",
    ),
    "segv": ("crash", "the decoding process was killed by SIGSEGV" + TWICE),
    "hang": ("timeout", "no frame for 4 s (--stall-seconds)" + TWICE),
    "bomb": ("memory", "needed more than 600 MB (--max-memory-mb)" + TWICE),
    "long": (
        "decode",
        "more than the 100 frames that --max-frames allows; raise it, or cut the video",
    ),
    "large": (
        "open",
        "frames of 128x96 are larger than --max-pixels 10000 allows; raise it, or scale the "
        "video down",
    ),
}
LIMITS = ["--stall-seconds", "4", "--max-memory-mb", "600"]
LIMITS += ["--max-frames", "100", "--max-pixels", "10000"]


def write_sound(path):
    """Write a file that holds sound and no picture."""
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))


def make_bad(folder, kind, number):
    path = folder / f"{kind}{number}.avi"
    if kind == "missing":
        path.symlink_to(folder / "nowhere")
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no video")
    elif kind == "sound":
        write_sound(path)
    else:
        size = (96, 128) if kind == "large" else (24, 32)
        write_clip(path, moving_frames(120 if kind == "long" else 6, size, seed=number))
        if kind == "cut":
            content = path.read_bytes()
            path.write_bytes(content[: content.index(b"movi") + 30])


@pytest.fixture
def data(tmp_path):
    """Videos of two classes; the bad ones lie among the others."""
    for number in range(270):
        path = tmp_path / "data" / "ab"[number % 2] / f"video{number}.avi"
        write_clip(path, moving_frames(6, (24, 32), seed=number))
    for kind in REASONS:
        for number in range(3):
            make_bad(tmp_path / "data" / "ab"[number % 2], kind, number)
    return tmp_path / "data"


@pytest.mark.slow(reason="waits for videos that hang")
def test_thirty_bad_videos_cost_nothing_else(data, tmp_path):
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from preprocess import cli, isolation\n"
        "isolation.CHILD_MODULE = 'misbehaving_child'\n"
        "cli.main()"
    )
    out = tmp_path / "out"
    words = ["extract", "--dataset", "folder", "--data", str(data), "--out", str(out), *LIMITS]
    words += ["--size", "32x24", "--codec", "raw", "--snippets", "4", "--jobs", "2"]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    root = out / "data"
    lines = [json.loads(line) for line in (root / "failures.jsonl").read_text().splitlines()]
    expected = {
        f"{'ab'[number % 2]}/{kind}{number}.avi": REASONS[kind]
        for kind in REASONS
        for number in range(3)
    }
    assert {line["name"]: (line["stage"], line["reason"]) for line in lines} == expected
    for line in lines:
        assert line["modalities"] == ["rgb"]
        words = f"tsn-preprocess try {root} {line['name']} --data {data}"
        assert line["command"] == words
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert f"30 of 300 videos failed, see {root / 'failures.jsonl'}:" in told
    assert told[-1] == "  … and 20 more"
    shards = ShardSet(root / "rgb")
    assert folder_defects(root / "rgb").lines == []
    good = sorted(path.relative_to(data).as_posix() for path in data.glob("?/video*.avi"))
    assert len(good) == 270 and sorted(shards.names) == good
    extract_here(data, tmp_path / "good", [ALL[0]], PLANS["sparse"], names=good)
    alone = opened(tmp_path / "good", ALL[0])
    for name in good:
        images = [each.read(each.number(name), range(4)) for each in (shards, alone)]
        assert np.array_equal(*images), name
    assert sorted(path.name for path in root.rglob(".*")) == [".lock", SOURCES_NAME]
    again = subprocess.run([*command, "--allow-failures"], capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stdout.endswith("everything was there already; nothing to do\n")
