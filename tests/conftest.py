"""Tiny videos and shards with known pixels, naive decoding, and the programs as functions."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from preprocess.cli import main as preprocess_main
from tsn_core.codec import encode_image
from tsn_core.modality import StoredModality, get_modality
from tsn_core.shard_format import ShardHeader
from tsn_core.shard_writer import ShardWriter

FPS = 25.0


def moving_frames(num_frames: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """Return (N, H, W, 3) uint8 frames of a smooth pattern that drifts; no two are equal."""
    generator = np.random.default_rng(seed)
    height, width = size
    coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    pattern = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([np.roll(pattern, (n, 2 * n), axis=(0, 1)) for n in range(num_frames)])
    for number, frame in enumerate(frames):
        frame[:4, :4] = number % 256  # tells the frames of a long video apart, too
    return frames


def write_clip(
    path: Path, frames: Sequence[np.ndarray] | np.ndarray, fps: float = FPS, codec: str = "FFV1"
) -> Path:
    """Write BGR frames as a video file; FFV1 keeps every pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    fourcc = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, fps, (width, height))
    assert writer.isOpened(), path
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def claim_frames(path: Path, count: int) -> None:
    """Make the header of an AVI file state another number of frames."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, count)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, count)
    path.write_bytes(data)


def decode_all(path: Path) -> list[np.ndarray]:
    """Return every frame of a video as BGR, by OpenCV: the oracle for everything that decodes."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames: list[np.ndarray] = []
    failures = 0
    while failures < 2:  # one is a damaged packet
        done, frame = capture.read()
        failures = 0 if done else failures + 1
        if done:
            frames.append(frame)
    capture.release()
    return frames


def stored(name: str, **changes: Any) -> StoredModality:
    """Return the description of a small modality; ``changes`` replace single fields."""
    fields: dict[str, Any] = {
        "name": name,
        "snippet_length": get_modality(name).snippet_length,
        "channels": get_modality(name).unit_channels,
        "codec": "raw",
        "quality": None,
        "scale": 1.0,
        "zero": {"rgb": 0.0, "rgbdiff": 128.0}.get(name, 127.5),
        "height": 24,
        "width": 32,
    }
    if name == "flow":
        fields.update(algorithm="farneback", parameters={"bound": 20.0})
    return StoredModality(**{**fields, **changes})


def header_of(modality: StoredModality, **changes: Any) -> ShardHeader:
    """Return the root attributes of a small shard."""
    fields: dict[str, Any] = {
        "dataset": "tiny",
        "modality": modality,
        "sampling": '{"snippets": 3}',
        "class_names": ("walk", "run"),
        "videos_per_shard": 4,
        "fingerprint": "f" * 64,
    }
    return ShardHeader(**{**fields, **changes})


def add_video(
    writer: ShardWriter,
    modality: StoredModality,
    units: np.ndarray,
    *,
    name: str = "a.avi",
    label: int = 0,
    starts: Sequence[int] = (0,),
    frames: Sequence[int] | None = None,
    num_frames: int | None = None,
    fps: float = FPS,
) -> None:
    """Append a video whose stored images are ``units``: of these frames, or of each from 0 on."""
    for number, image in zip(range(len(units)) if frames is None else frames, units):
        writer.add_image(number, number, encode_image(image, modality.codec, modality.quality))
    shape = units.shape[1:]
    height = shape[0] // 2 if modality.kind.stacked else shape[0]
    writer.end_video(
        name,
        label,
        starts=np.array(starts, np.int64),
        num_frames=len(units) if num_frames is None else num_frames,
        fps=fps,
        size=(48, 64),
        unit_size=(height, shape[1]),
        padding=0,
    )


@pytest.fixture
def tiny_shard(tmp_path: Path) -> Path:
    """A raw RGB shard of two videos of 2x3 pixels and one failure, in a folder of its own."""
    folder = tmp_path / "tiny" / "rgb"
    folder.mkdir(parents=True)
    modality = stored("rgb", height=2, width=3)
    generator = np.random.default_rng(0)
    with ShardWriter(folder / "shard-00000.h5", header_of(modality)) as writer:
        for label, name in enumerate(("walk/a.avi", "run/b.avi")):
            units = generator.integers(0, 256, (4, 2, 3, 3), dtype=np.uint8)
            add_video(writer, modality, units, name=name, label=label, starts=(0, 2, 3))
        writer.drop_video("run/c.avi", "open", "no such file")
        writer.finish()
    return folder / "shard-00000.h5"


@pytest.fixture
def folder_dataset(tmp_path: Path) -> Path:
    """Six lossless videos of two classes, of 9 to 14 frames, one shorter than a flow snippet."""
    data = tmp_path / "data" / "gestures"
    for number, length in enumerate((9, 10, 3, 12, 13, 14)):
        name = ("nod", "wave")[number % 2]
        write_clip(
            data / name / f"{name}_{number}.avi", moving_frames(length, (36, 48), seed=number)
        )
    return data


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``program("scan", "--dataset", ...)``: run tsn-preprocess in this process.

    Without the lines of progress, which a slow machine would show, and without that of the first
    compilation, which only one that has not compiled yet would.
    """
    monkeypatch.setattr("preprocess.numba_cache.say", lambda _: None)
    monkeypatch.setattr("preprocess.progress._LINE_SECONDS", 1e6)

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(preprocess_main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips; a test that asks for it skips where there is none."""
    folder = os.environ.get("TSN_CLIPS")
    if not folder:
        pytest.skip("TSN_CLIPS is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def store_server() -> Iterator[dict[str, Any]]:
    """Stores by the name of their bucket; the usual variables point to their server."""
    from store_helpers import served

    with served() as stores:
        yield stores


@pytest.fixture
def store(
    store_server: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """An S3 store with an empty bucket, see ``store_helpers``, and a local cache of its own."""
    from store_helpers import Store

    monkeypatch.setenv("TSN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TSN_CACHE_SIZE", raising=False)
    made = Store(os.environ["AWS_ENDPOINT_URL"])
    store_server[made.bucket] = made
    yield made
    del store_server[made.bucket]


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Return every visible file below a folder, by relative path, but those that tell the time."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith((".", "log.jsonl", "report.json"))
    }
