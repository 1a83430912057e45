"""Snippets per second that loaders hand over, all in one run, on the same ten-second videos.

For every modality: our shards (jpeg and raw; resized by the loading process, or handed over as
they were cut), folders of JPEGs read with PIL as tsn-pytorch does and with OpenCV, WebDataset tars
of the same images, and videos decoded on the fly. K = 3 random snippets of a video, 224x224 random
crops, flips; batches of 32 videos, one loading process unless said otherwise; everything lies in
the memory of the operating system. Rounds of all loaders take turns; a loader's speed is that of
its best round.

Run as ``python -m benchmarks.bench_loader``; ``--videos 4 --seconds 1 --rounds 1`` is a quick try.
Needs webdataset and decord beside the package; what is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from benchmarks.loader_material import MODALITIES, Material, make_material
from benchmarks.loader_rivals import (
    NUM_SEGMENTS,
    SIZE,
    Folder,
    OnTheFly,
    Tars,
    with_cv2,
    with_decord,
    with_pil,
    with_pyav,
)
from benchmarks.report import clips_folder, write_result
from train.augmentation import SCALES, TrainingAugmentation
from train.batches import BatchPlan
from train.crops import PackedCrops
from train.handover import ReadySnippets
from train.plots import new_figure, save_figure
from train.videos import SnippetDataset, make_loader
from tsn_core.loading import stream
from tsn_core.shard_folders import find_folder
from tsn_core.shard_set import ShardSet

_BATCH = 32  # the usual one of tsn-train fit
_LEAST_BATCHES = 2
_PICTURE = Path(__file__).parent.parent / "docs" / "images" / "loader.png"
_COLORS = {"shards": "tab:blue", "others": "tab:gray"}

Batches = Iterator[Any]


def ours(material: Material, modality: str, codec: str, workers: int, resize: bool) -> Batches:
    """Return the batches of the trainer's own loader."""
    shards = ShardSet(find_folder(material.shards[codec], modality, None))
    dataset = SnippetDataset(
        shards,
        list(range(len(shards))) * 4000,
        num_segments=NUM_SEGMENTS,
        input_size=SIZE,
        augmentation=TrainingAugmentation(True, SCALES),
        training=True,
        seed=0,
        resize=resize,
    )
    plan = BatchPlan(len(dataset), _BATCH, shuffle=True, seed=0)
    return stream(make_loader(dataset, plan, num_workers=workers)[0])


def others(dataset: Any) -> Batches:
    """Return the batches of one process of another loader."""
    iterable = isinstance(dataset, Tars)
    loader: DataLoader = DataLoader(
        dataset,
        batch_size=_BATCH,
        sampler=None if iterable else range(1 << 40),
        num_workers=1,
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def loaders(material: Material, modality: str) -> dict[str, Callable[[], Batches]]:
    """Return what makes the batches of each loader, by its name."""
    folders, videos = list(material.frames.values()), list(material.videos.values())
    found: dict[str, Callable[[], Batches]] = {}
    for codec in ("jpeg", "raw"):
        for name, workers, resize in (
            (f"shards, {codec}", 1, True),
            (f"shards, {codec}, resized on the device", 1, False),
            (f"shards, {codec}, two processes", 2, True),
        ):
            found[name] = lambda c=codec, w=workers, r=resize: ours(material, modality, c, w, r)
    found["PIL folder"] = lambda: others(Folder(folders, modality, with_pil))
    found["cv2 folder"] = lambda: others(Folder(folders, modality, with_cv2))
    if importlib.util.find_spec("webdataset"):
        found["WebDataset tars"] = lambda: others(Tars(material.tars[modality], modality))
    if modality != "flow":
        if importlib.util.find_spec("decord"):
            found["decord on the fly"] = lambda: others(OnTheFly(videos, modality, with_decord))
        found["PyAV on the fly"] = lambda: others(OnTheFly(videos, modality, with_pyav))
    return found


def speed(make: Callable[[], Batches], seconds: float) -> float:
    """Return snippets per second after the first batches."""
    batches = make()
    for _ in range(_LEAST_BATCHES):
        next(batches)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or count < _LEAST_BATCHES:
        batch = next(batches)
        if isinstance(batch[0], PackedCrops):
            assert len(batch[0].crops.boxes) == _BATCH
        elif isinstance(batch[0], ReadySnippets):
            assert batch[0].shape[:2] == (_BATCH, NUM_SEGMENTS)
        else:
            assert batch[0].shape[:2] == (_BATCH, NUM_SEGMENTS)
        count += 1
    elapsed = time.perf_counter() - began
    del batches  # ends the processes
    return count * _BATCH * NUM_SEGMENTS / elapsed


def ratios(speeds: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return what is claimed, by modality."""
    found = {}
    for modality, by_name in speeds.items():
        pil, jpeg = by_name["PIL folder"], by_name["shards, jpeg"]
        raw, device = by_name["shards, raw"], by_name["shards, raw, resized on the device"]
        one = {
            "jpeg_over_pil": jpeg / pil,
            "raw_over_pil": raw / pil,
            "raw_device_over_pil": device / pil,
            "jpeg_device_over_pil": by_name["shards, jpeg, resized on the device"] / pil,
            "jpeg_over_cv2": jpeg / by_name["cv2 folder"],
            "jpeg_two_over_one": by_name["shards, jpeg, two processes"] / jpeg,
            "raw_two_over_one": by_name["shards, raw, two processes"] / raw,
        }
        for name, key in (
            ("decord on the fly", "jpeg_over_decord"),
            ("PyAV on the fly", "jpeg_over_pyav"),
            ("WebDataset tars", "jpeg_over_webdataset"),
        ):
            if name in by_name:
                one[key] = jpeg / by_name[name]
        found[modality] = one
    return found


def plot(speeds: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the speeds of all loaders, one panel for each modality."""
    figure, subplots = new_figure(5.2 * len(speeds), 4.4)
    panels = subplots(1, len(speeds), squeeze=False)[0]
    for axes, (modality, by_name) in zip(panels, speeds.items()):
        rows = sorted(by_name.items(), key=lambda item: item[1])
        kinds = ["shards" if name.startswith("shards") else "others" for name, _ in rows]
        axes.barh(
            [name for name, _ in rows], [v for _, v in rows], color=[_COLORS[k] for k in kinds]
        )
        axes.set_xscale("log")
        axes.set_xlim(right=8 * max(by_name.values()))
        for place, (_, value) in enumerate(rows):
            axes.text(value * 1.1, place, f"{value:,.0f}", va="center")
        axes.set_xlabel("snippets per second")
        axes.set_title(modality)
        axes.grid(axis="x", alpha=0.3)
    save_figure(figure, path)


def main() -> None:
    """Measure and write ``results/loader.json`` and its picture."""
    parser = argparse.ArgumentParser(description="Measure loaders.")
    parser.add_argument("--videos", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder of the material, made if need be")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        material = make_material(clips_folder(), chosen.keep or Path(temporary), chosen.videos)
        load = os.getloadavg()[0]
        speeds: dict[str, dict[str, float]] = {}
        for modality in MODALITIES:
            makers = loaders(material, modality)
            found = {name: [] for name in makers}
            for _ in range(chosen.rounds):
                for name, make in makers.items():
                    found[name].append(speed(make, chosen.seconds))
            speeds[modality] = {name: max(values) for name, values in found.items()}
            for name, value in speeds[modality].items():
                pil = speeds[modality]["PIL folder"]
                print(
                    f"{modality:8} {name:40} {value:9,.0f} /s  {value / pil:6.2f} x PIL", flush=True
                )
    result = {
        "videos": chosen.videos,
        "seconds": chosen.seconds,
        "rounds": chosen.rounds,
        "load_average_before": load,
        "left_out": [n for n in ("webdataset", "decord") if not importlib.util.find_spec(n)],
        "snippets_per_second": speeds,
        "ratios": ratios(speeds),
    }
    if chosen.rounds < 2:
        print("a quick try: nothing is written", file=sys.stderr)
        return
    plot(speeds, _PICTURE)
    print(write_result("loader", result))


if __name__ == "__main__":
    main()
