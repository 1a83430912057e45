"""What opening many shards costs, with the catalogue and without it, and the way to a first batch.

Shards as ``extract`` makes them by default: 64 videos of 25 RGB snippets. The 10,000 shards have
images of one pixel, as opening reads none; those for the first batch have 340x256 of one colour.
All shards are one, with other names of its videos written over its own.

Every measurement is a process of its own: seconds by the clock and of computing, and by how much
its memory has grown, at the end and at most. Run as ``python -m benchmarks.bench_open``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil

from benchmarks.report import write_result
from tsn_core.catalog import CATALOG_NAME
from tsn_core.codec import encode_image
from tsn_core.index import Index, ShardEntry, shard_entry, write_index
from tsn_core.manifest import MANIFEST_NAME, Manifest, Record, write_manifest
from tsn_core.modality import StoredModality
from tsn_core.shard_format import ShardHeader, shard_name
from tsn_core.shard_set import ShardSet
from tsn_core.shard_writer import ShardWriter
from tsn_core.shards import open_shards

_VIDEOS, _SNIPPETS, _CLASSES = 64, 25, tuple(f"class_{number}" for number in range(51))
_READS = 10_000
_SUBSETS = ({1: "train", 2: "test"}, {1: "test", 2: "train"}, {1: "train", 2: "train"})


def video_name(number: int) -> str:
    """Return the name of a video; all are equally long."""
    label = _CLASSES[number % len(_CLASSES)]
    return f"{label:>10}/April_09_brush_hair_u_nm_np1_ba_goo_{number:07d}.avi".replace(" ", "x")


def make_shards(root: Path, num_shards: int, height: int, width: int, codec: str) -> float:
    """Make a dataset with its index, catalogue and manifest.

    Returns:
        Seconds that writing the index and the catalogue took.
    """
    folder = root / "rgb"
    folder.mkdir(parents=True)
    modality = StoredModality(
        name="rgb",
        snippet_length=1,
        channels=3,
        codec=codec,
        quality=90 if codec == "jpeg" else None,
        scale=1.0,
        zero=0.0,
        height=height,
        width=width,
    )
    sampling = f'{{"snippets": {_SNIPPETS}}}'
    header = ShardHeader("many", modality, sampling, _CLASSES, _VIDEOS, "f" * 64)
    image = encode_image(np.full((height, width, 3), 100, np.uint8), codec, modality.quality)
    first = folder / shard_name(0)
    with ShardWriter(first, header) as writer:
        for video in range(_VIDEOS):
            for frame in range(_SNIPPETS):
                writer.add_image(frame, frame, image)
            writer.end_video(
                video_name(video),
                video % len(_CLASSES),
                starts=range(_SNIPPETS),
                num_frames=90,
                fps=30.0,
                size=(240, 320),
                unit_size=(height, width),
                padding=0,
            )
        tables = writer.finish()
    entry = shard_entry(first, header, tables)
    with h5py.File(first, "r") as file:
        offset = file["video_name"].id.get_offset()
    data = bytearray(first.read_bytes())
    for number in range(1, num_shards):
        names = range(number * _VIDEOS, (number + 1) * _VIDEOS)
        text = "".join(map(video_name, names)).encode()
        data[offset : offset + len(text)] = text
        (folder / shard_name(number)).write_bytes(data)
    counts = (entry.num_videos, entry.num_images, entry.num_snippets, 0)
    entries = [
        ShardEntry(shard_name(number), entry.fingerprint, entry.num_bytes, *counts)
        for number in range(num_shards)
    ]
    began = time.perf_counter()
    write_index(Index("many", modality, json.loads(sampling), _CLASSES, tuple(entries)), folder)
    seconds = time.perf_counter() - began
    records = [
        Record(video_name(n), n % _VIDEOS % len(_CLASSES), _SUBSETS[n % 3], n // _VIDEOS)
        for n in range(num_shards * _VIDEOS)
    ]
    write_manifest(Manifest("many", _CLASSES, tuple(records)), root / MANIFEST_NAME)
    return seconds


# --- what is measured, each in a process of its own ---


_held: list[Any] = []  # what a measurement has made, until its memory is looked at


def _open_shards(root: Path) -> dict[str, Any]:
    _held.append(open_shards(root))
    return {"videos": len(_held[0])}


def _shard_set(root: Path) -> dict[str, Any]:
    _held.append(ShardSet(root / "rgb"))
    return {"videos": len(_held[0])}


def _subset(root: Path) -> dict[str, Any]:
    _held.append(open_shards(root).subset(1, "train"))
    return {"videos": len(_held[0])}


def _reads(root: Path) -> dict[str, Any]:
    shards = ShardSet(root / "rgb")
    generator = np.random.default_rng(0)
    memory = []
    for place, video in enumerate(generator.integers(len(shards), size=_READS).tolist(), 1):
        shards.read(video, [0, 12, 24])
        if place % (_READS // 10) == 0:
            memory.append(round(psutil.Process().memory_info().rss / 1e6))
    return {"rss_mb_at_each_tenth": memory}


def _first_batch(num_workers: int) -> Callable[[Path], dict[str, Any]]:
    from train.distributed import Ranks
    from train.labels import check_labels
    from train.loaders import make_loaders
    from train.optimization import OptimizerSettings
    from train.settings import DataSettings, LoopSettings, NetworkSettings, RunSettings
    from train.subsets import subset_numbers
    from train.videos import open_modality

    def measured(root: Path) -> dict[str, Any]:
        shards, manifest = open_modality(root, "rgb", None)
        check_labels(manifest, shards)
        videos = [subset_numbers(shards, manifest, 1, name)[0] for name in ("train", "test")]
        settings = RunSettings(
            root,
            "rgb",
            None,
            "none",
            NetworkSettings("mobilenet_v2", "avg", 3, 0.5, 0.5, 1, False),
            DataSettings(1, 0.0, 224, True, (), (1.0, 0.875, 0.75, 0.66), 5, 32, 1),
            OptimizerSettings("sgd", 0.01, 1.0, 0.9, 0.0, "cosine", (), 0, 0.0),
            LoopSettings(1, 0, 0, 0.0, 0.0, "fp32", False, False, 0.0),
        )
        loader, _ = make_loaders(settings, shards, *videos, num_workers, None, Ranks())
        batch = next(iter(loader))
        return {"videos": sum(map(len, videos)), "shape": list(batch[0].shape)}

    return measured


_MEASURED: dict[str, Callable[[], Callable[[Path], dict[str, Any]]]] = {
    "open_shards": lambda: _open_shards,
    "shard_set": lambda: _shard_set,
    "subset": lambda: _subset,
    "reads": lambda: _reads,
    "first_batch_0_workers": lambda: _first_batch(0),
    "first_batch_2_workers": lambda: _first_batch(2),
}


def _peak_bytes() -> int:
    """Return the most memory of this process (Linux), without that of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(name: str, root: Path) -> None:
    """Measure one thing in this process, and print it as JSON."""
    function = _MEASURED[name]()
    before = psutil.Process().memory_info().rss
    began, computing = time.perf_counter(), time.process_time()
    found = function(root)
    found["seconds"] = time.perf_counter() - began
    found["computing_seconds"] = time.process_time() - computing
    found["grown_mb"] = (psutil.Process().memory_info().rss - before) / 1e6
    found["peak_grown_mb"] = (_peak_bytes() - before) / 1e6
    print(json.dumps(found))


def measured(name: str, root: Path) -> dict[str, Any]:
    """Return what a process of its own measures."""
    command = [sys.executable, "-m", "benchmarks.bench_open", name, str(root)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    print(f"{root.name} {name}: {found}", flush=True)
    return found


def main() -> None:
    """Measure and write ``results/open.json``."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for num_shards in (1_000, 10_000):
            root = Path(name) / f"{num_shards}_shards"
            found: dict[str, Any] = {"index_seconds": make_shards(root, num_shards, 1, 1, "raw")}
            found["catalog_bytes"] = (root / "rgb" / CATALOG_NAME).stat().st_size
            for what in ("open_shards", "shard_set", "subset", "reads"):
                found[what] = measured(what, root)
            (root / "rgb" / CATALOG_NAME).unlink()
            found["shard_set_without_catalog"] = measured("shard_set", root)
            found["seconds_without_over_with_catalog"] = (
                found["shard_set_without_catalog"]["seconds"] / found["shard_set"]["seconds"]
            )
            result[root.name] = found
        root = Path(name) / "1000_shards_of_jpeg"
        make_shards(root, 1_000, 256, 340, "jpeg")
        names = ("first_batch_0_workers", "first_batch_2_workers")
        result[root.name] = {what: measured(what, root) for what in names}
    print(write_result("open", result))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
