"""The same ten-second videos as shards, folders of JPEGs, tars and videos, for ``bench_loader``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np

SIZE = (256, 340)  # height, width in px
NUM_FRAMES, RATE = 250, 25
MODALITIES = ("rgb", "flow", "rgbdiff")


@dataclass(frozen=True)
class Material:
    """Where everything lies.

    Attributes:
        videos: H.264 files, by name.
        shards: Folders of the dataset's shards, by codec.
        frames: Folder of each video's JPEGs, by name.
        tars: Of each modality.
    """

    videos: dict[str, Path]
    shards: dict[str, Path]
    frames: dict[str, Path]
    tars: dict[str, list[Path]]


def make_material(clips: Path, folder: Path, num_videos: int) -> Material:
    """Make everything from real clips, by the programs of this package.

    Args:
        clips: Folder of clips.
        folder: To write to.
        num_videos: How many videos.

    Raises:
        SystemExit: There are too few clips.
    """
    sources = sorted(
        path
        for name in ("kinetics", "hmdb51", "ucf101")
        for path in (clips / name).rglob("*")
        if path.suffix in (".avi", ".mp4", ".mpg")
    )
    if not sources:
        raise SystemExit(f"{clips}: no clips there; folders such as hmdb51 with videos expected")
    data = folder / "ten_seconds"
    videos = {}
    for number in range(num_videos):
        source = sources[number % len(sources)]
        name = f"class{number % 2}/{number:03d}.mp4"
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        encode(data / name, islice(back_and_forth(frames_of(source)), NUM_FRAMES))
        videos[name] = data / name
    shards = {}
    for codec in ("jpeg", "raw"):
        out = folder / codec
        words = ["extract", "--dataset", "folder", "--data", data, "--out", out, "--codec", codec]
        words += ["--videos-per-shard", "64", "--flow", "dis"]
        words += [word for name in MODALITIES for word in ("--modality", name)]
        _preprocess(*words)
        shards[codec] = out / data.name
    frames, tars = folder / "frames", folder / "tars"
    _preprocess("export", shards["jpeg"], "--to", "frames", "--out", frames)
    _preprocess("export", shards["jpeg"], "--to", "webdataset", "--out", tars)
    return Material(
        videos,
        shards,
        {name: frames / "rawframes" / name.removesuffix(".mp4") for name in videos},
        {
            name: sorted(tars.glob(f"*-{'flow-dis' if name == 'flow' else name}-*.tar"))
            for name in MODALITIES
        },
    )


def _preprocess(*words: object) -> None:
    command = [sys.executable, "-m", "preprocess", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def frames_of(path: Path) -> list[np.ndarray]:
    """Return the first frames of a clip, at ``SIZE``."""
    with av.open(path) as file:
        decoded = islice(file.decode(video=0), NUM_FRAMES)
        return [cv2.resize(frame.to_ndarray(format="bgr24"), SIZE[::-1]) for frame in decoded]


def back_and_forth(frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield frames to the last, then back to the first, and so on for ever."""
    while True:
        yield from frames
        yield from frames[-2:0:-1]


def encode(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Write BGR frames as H.264."""
    with av.open(path, "w") as file:
        stream = None
        for frame in frames:
            if stream is None:
                stream = file.add_stream("libx264", rate=RATE)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        assert stream is not None, "no frames"
        file.mux(stream.encode(None))
