"""How the cost of extraction and training grows, and what each stage of it can do at most.

Growth: seconds of computing (of a processor, so that other programs disturb little) against the
duration of a video, the size of the frames and the number of snippets, and of whole runs against
the number of videos; seconds on the clock against the number of workers.

Stages: what one core does when it does nothing else, from decoding a video to a training step, at
340x256 and crops of 224x224. Reading and writing are of the file system that holds temporary files;
what was written lies in memory when it is read.

Run as ``python -m benchmarks.bench_scaling``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from benchmarks.bench_extract import extract, interleaved, modality
from benchmarks.bench_seek import views
from benchmarks.report import RESULTS, write_result
from preprocess.extraction import extract_video
from preprocess.flow import flow_function
from preprocess.units import Frame, unit_maker
from preprocess.video import Video, resize
from train.augmentation import TrainingAugmentation
from train.plots import new_figure, save_figure
from tsn_core.codec import decode_image, encode_image
from tsn_core.heap import keep_freed_memory
from tsn_core.modality import get_modality
from tsn_core.planes import mirror, to_planes
from tsn_core.sampling import SnippetPlan
from tsn_core.tsn import TSN, ModelSettings

_ROUNDS = 2
_SECONDS = 1.0  # of each stage
_DURATIONS = (10, 30, 60, 120, 300)
_SIZES = ((128, 170), (256, 340), (384, 510), (512, 680))
_SNIPPETS = (3, 10, 25, 50, 100)
_VIDEOS = (4, 8, 16)
_MODALITIES = {
    "rgb": modality("rgb"),
    "rgbdiff": modality("rgbdiff"),
    "flow, TV-L1": modality("flow", "tvl1"),
    "flow, Farneback": modality("flow", "farneback"),
}
_PICTURES = Path(__file__).parent.parent / "docs" / "images"

Points = dict[str, list[list[float]]]


def write_video(path: Path, seconds: int, size: tuple[int, int] = (256, 340)) -> Path:
    """Write an H.264 video of 25 frames a second, with a key picture every 250."""
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for view in islice(views(25 * seconds), 25 * seconds):
            image = view if size == (256, 340) else cv2.resize(view, size[::-1])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        file.mux(stream.encode(None))
    return path


def cost(path: Path, name: str, size: tuple[int, int] = (256, 340), snippets: int = 25) -> float:
    """Return the seconds of computing that one video takes in one modality."""
    stored = replace(_MODALITIES[name], height=size[0], width=size[1])
    maker = unit_maker(stored)
    began = time.process_time()
    extract_video(path, SnippetPlan(snippets=snippets), [stored], [maker], lambda *_: None)
    return time.process_time() - began


def growth(folder: Path) -> dict[str, Points]:
    """Return (x, seconds of one video) by modality, for each thing that grows."""
    long = {s: write_video(folder / f"{s}s.mp4", s) for s in _DURATIONS}
    large = write_video(folder / "large.mp4", 10, _SIZES[-1])
    short = long[_DURATIONS[0]]
    found: dict[str, Points] = {"duration_seconds": {}, "megapixels": {}, "snippets": {}}
    for name in _MODALITIES:
        measures: dict[str, dict[float, Callable[[], float]]] = {
            "duration_seconds": {s: partial(cost, path, name) for s, path in long.items()},
            "megapixels": {
                size[0] * size[1] / 1e6: partial(cost, large, name, size=size) for size in _SIZES
            },
            "snippets": {n: partial(cost, short, name, snippets=n) for n in _SNIPPETS},
        }
        for what, by_x in measures.items():
            named = {str(x): measure for x, measure in by_x.items()}
            taken = interleaved(named, _ROUNDS, warm_up=False)
            found[what][name] = [[float(x), statistics.median(taken[x])] for x in named]
            print(what, name, found[what][name], flush=True)
    return found


def runs(folder: Path) -> dict[str, Any]:
    """Return seconds of whole runs: by number of videos, and by number of workers."""
    source = folder / f"{_DURATIONS[0]}s.mp4"
    many = folder / "many"
    many.mkdir()
    files = [many / f"{number:03d}.mp4" for number in range(max(_VIDEOS))]
    for file in files:
        file.symlink_to(source)
    found: dict[str, Any] = {"videos": {}, "workers": {}}
    for name in ("rgb", "flow, Farneback"):
        stored = [_MODALITIES[name]]
        measures = {str(n): partial(extract, files[:n], stored, jobs=1) for n in _VIDEOS}
        taken = interleaved(measures, 1)
        found["videos"][name] = [[n, min(taken[str(n)])] for n in _VIDEOS]
        workers = range(1, (os.cpu_count() or 1) + 1)
        measures = {str(n): partial(extract, files, stored, jobs=n) for n in workers}
        taken = interleaved(measures, 1)
        found["workers"][name] = [[n, min(taken[str(n)])] for n in workers]
        print(name, found["videos"][name], found["workers"][name], flush=True)
    return found


def rate(action: Callable[[int], object], per_call: float = 1.0) -> float:
    """Return how often an action is done in a second, the best of three rounds."""
    best = 0.0
    for _ in range(_ROUNDS):
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < _SECONDS / _ROUNDS or count < 3:
            action(count)
            count += 1
        best = max(best, count * per_call / (time.perf_counter() - began))
    return best


def stages(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what one core does of each stage in a second."""
    path = folder / f"{_DURATIONS[0]}s.mp4"
    frames = [Frame(image) for _, image in islice(Video(path).frames(lambda _: True), 60)]
    grays, images = [frame.gray for frame in frames], [frame.bgr for frame in frames]
    flows = {name: flow_function(name, _defaults(name)) for name in ("tvl1", "farneback", "dis")}
    maker = unit_maker(_MODALITIES["flow, Farneback"])
    units = [maker(frames[n], frames[n + 1]).image for n in range(20)]
    jpegs = {
        "rgb": [np.frombuffer(encode_image(i, "jpeg", 95), np.uint8) for i in images[:20]],
        "flow": [np.frombuffer(encode_image(i, "jpeg", 95), np.uint8) for i in units],
    }
    augmentation, generator = TrainingAugmentation(True), np.random.default_rng(0)
    boxes = [augmentation(256, 340, generator, 0).box for _ in range(97)]
    flow_kind = get_modality("flow")
    flow_units = [flow_kind.unstack(image) for image in units]
    planes = to_planes(images[:3], boxes[0], 224)
    large = cv2.resize(images[0], (680, 512))
    block = np.random.default_rng(0).bytes(16 << 20)
    file = folder / "block"

    def decode_all(_: int) -> None:
        for _ in Video(path).frames(lambda _: True):
            pass

    def write(_: int) -> None:
        with file.open("wb") as out:
            out.write(block)
            out.flush()
            os.fsync(out.fileno())

    def read(_: int) -> None:
        np.array(np.memmap(file, np.uint8, "r"))

    found = {
        "decode H.264, frames": rate(decode_all, 250),
        "resize 680x512 to 340x256, frames": rate(lambda n: resize(large, (256, 340))),
        "TV-L1, pairs": rate(lambda n: flows["tvl1"](grays[n % 50], grays[n % 50 + 1])),
        "Farneback, pairs": rate(lambda n: flows["farneback"](grays[n % 50], grays[n % 50 + 1])),
        "DIS, pairs": rate(lambda n: flows["dis"](grays[n % 50], grays[n % 50 + 1])),
        "encode rgb, images": rate(lambda n: encode_image(images[n % 20], "jpeg", 95)),
        "encode flow, images": rate(lambda n: encode_image(units[n % 20], "jpeg", 95)),
        "write and sync, MB": rate(write, len(block) / 1e6),
        "read and copy what is in memory, MB": rate(read, len(block) / 1e6),
        "decode rgb, images": rate(
            lambda n: decode_image(jpegs["rgb"][n % 20], "jpeg", (256, 340, 3))
        ),
        "decode flow, images": rate(
            lambda n: decode_image(jpegs["flow"][n % 20], "jpeg", (512, 340))
        ),
        "cut and resize rgb, images": rate(lambda n: to_planes([images[0]], boxes[n % 97], 224)),
        "cut and resize flow, images": rate(
            lambda n: to_planes([flow_units[n % 20]], boxes[n % 97], 224)
        ),
        "mirror rgb, images": rate(lambda n: mirror(planes, get_modality("rgb")), 3),
    }
    for backbone in ("mobilenet_v2", "resnet18", "resnet50"):
        found[f"train {backbone}, rgb snippets"] = rate(_step(backbone), 12)
    return {name: {"per_second": value} for name, value in found.items()}


def _defaults(name: str) -> dict[str, Any]:
    parameters = dict(modality("flow", name).parameters)
    del parameters["bound"]
    return parameters


def _step(backbone: str) -> Callable[[int], object]:
    """Return a training step of four videos of three snippets, of random pixels."""
    settings = ModelSettings(
        modality="rgb",
        snippet_length=1,
        backbone=backbone,
        consensus="avg",
        num_segments=3,
        num_classes=101,
        dropout=0.8,
        top=1,
        partial_bn=True,
    )
    model = TSN(settings, "none").train()
    snippets = torch.randint(0, 256, (4, 3, 3, 224, 224), dtype=torch.uint8)
    labels = torch.arange(4)

    def step(_: int) -> None:
        model.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(snippets)[0], labels).backward()

    return step


def plot_growth(found: dict[str, Points], whole: dict[str, Any], path: Path) -> None:
    """Draw the growth of the cost."""
    figure, subplots = new_figure(15, 4.2)
    panels = subplots(1, 4)
    titles = {
        "duration_seconds": ("duration of the video, s", "seconds of computing, one video"),
        "megapixels": ("size of the frames, megapixels", "seconds of computing, one video"),
        "snippets": ("snippets", "seconds of computing, one video"),
    }
    for axes, (what, (x, y)) in zip(panels, titles.items()):
        _lines(axes, found[what], x, y)
    _lines(panels[3], whole["videos"], "videos", "seconds on the clock, one worker")
    save_figure(figure, path)


def _lines(axes: Any, by_name: dict[str, Sequence[Sequence[float]]], x: str, y: str) -> None:
    for name, points in by_name.items():
        axes.plot(*zip(*points), marker="o", markersize=3, label=name)
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def plot_stages(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw what each stage does in a second."""
    figure, subplots = new_figure(9, 5.2)
    axes = subplots()
    names = list(found)[::-1]
    values = [found[name]["per_second"] for name in names]
    axes.barh(names, values, color="tab:blue")
    for place, value in enumerate(values):
        axes.text(value * 1.1, place, f"{value:,.4g}", va="center")
    axes.set_xscale("log")
    axes.set_xlim(right=6 * max(values))
    axes.set_xlabel("per second, one core")
    axes.grid(axis="x", alpha=0.3)
    save_figure(figure, path)


def main() -> None:
    """Measure and write ``results/scaling.json`` and the pictures."""
    parser = argparse.ArgumentParser(description="Measure growth and stages.")
    parser.add_argument("--stages", action="store_true", help="keep the growth measured before")
    only_stages = parser.parse_args().stages
    keep_freed_memory()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if only_stages:
            write_video(folder / f"{_DURATIONS[0]}s.mp4", _DURATIONS[0])
            before = json.loads((RESULTS / "scaling.json").read_text())
            by_growth, whole = before["growth"], before["runs"]
        else:
            by_growth = growth(folder)
            whole = runs(folder)
        by_stage = stages(folder)
    for name, one in by_stage.items():
        print(f"{name:36} {one['per_second']:12,.1f} /s", flush=True)
    plot_growth(by_growth, whole, _PICTURES / "scaling.png")
    plot_stages(by_stage, _PICTURES / "stages.png")
    result = {"load_average": load, "growth": by_growth, "runs": whole, "stages": by_stage}
    print(write_result("scaling", result))


if __name__ == "__main__":
    main()
