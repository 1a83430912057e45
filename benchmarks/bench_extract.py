"""Speed and memory of extraction, as ratios within one run.

- rgb extraction of the UCF101 and kinetics clips, twenty-four times over, with one job, against
  merely decoding the same files: with OpenCV on one thread and on its usual number of threads, and
  with PyAV on one thread;
- videos in processes of their own against extraction in this one, rgb and all modalities;
- all modalities with Farneback flow against the sum of decoding, flow and encoding, each measured
  separately;
- two jobs against one: all modalities with Farneback flow, and TV-L1 flow alone;
- peak memory of the process that extracts a 10-second and a 10-minute video of 340x256.

Run as ``python -m benchmarks.bench_extract`` with ``TSN_CLIPS`` set.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from benchmarks.report import clips_folder, write_result
from preprocess.commands.modality_options import stored_modality
from preprocess.executor import make_executor
from preprocess.extract import extract_dataset
from preprocess.isolation import VideoProcess, end_processes
from preprocess.synth import write_video
from preprocess.task import Task
from preprocess.units import Frame, unit_maker
from preprocess.video import Video, resize
from preprocess.work import Options
from tsn_core.codec import encode_image
from tsn_core.manifest import Manifest, Record
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan, units_of

_ROUNDS = 2
_COPIES = 24
_QUIET = Console(quiet=True)


def modality(name: str, flow: str = "farneback") -> StoredModality:
    """Return a modality with the settings of the command line."""
    return stored_modality(
        name,
        flow=flow,
        bound=20.0,
        size=(256, 340),
        short_side=None,
        snippet_length=None,
        codec="jpeg",
        quality=95,
    )


def extract(
    files: list[Path], modalities: list[StoredModality], jobs: int, isolated: bool = True
) -> float:
    """Extract files of one folder into one of their own and return the seconds it took."""
    records = tuple(Record(file.name, 0) for file in files)
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        summary = extract_dataset(
            Manifest("bench", ("one", "two"), records),
            files[0].parent,
            Path(out),
            modalities=modalities,
            plan=SnippetPlan(snippets=25),
            videos_per_shard=None,
            executor=make_executor("local", num_workers=jobs, stop=end_processes),
            console=_QUIET,
            options=Options(isolated=isolated),
        )
        seconds = time.perf_counter() - began
    assert not summary.failures, summary.failures
    return seconds


def decode(files: list[Path], threads: int | None) -> float:
    """Decode every frame with OpenCV and return the seconds it took."""
    options = [] if threads is None else [cv2.CAP_PROP_N_THREADS, threads]
    began = time.perf_counter()
    for file in files:
        capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG, options)
        while capture.read()[0]:
            pass
        capture.release()
    return time.perf_counter() - began


def decode_pyav(files: list[Path]) -> float:
    """Decode and convert every frame as extraction does and return the seconds it took."""
    began = time.perf_counter()
    for file in files:
        for _ in Video(file).frames(lambda _: True):
            pass
    return time.perf_counter() - began


def interleaved(
    measures: dict[str, Callable[[], float]], rounds: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Return the seconds of every measure, taken in turns, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds + warm_up):
        for name, measure in measures.items():
            taken = measure()
            if number >= warm_up:
                seconds[name].append(taken)
    return seconds


def parts(files: list[Path], size: tuple[int, int]) -> dict[str, float]:
    """Return the seconds of decoding, Farneback flow and encoding, each by itself.

    Of all modalities with 25 snippets: every frame is decoded and converted, flow is computed from
    gray frames that lie ready, and the images that extraction stores are encoded.
    """
    stored = [modality(name) for name in ("rgb", "flow", "rgbdiff")]
    plan = SnippetPlan(snippets=25)
    seconds = {"decode": decode(files, 1), "flow": 0.0, "encode": 0.0}
    for file in files:
        capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        frames = []
        while (read := capture.read())[0]:
            frames.append(Frame(resize(read[1], size)))
        for kind in stored:
            make = unit_maker(kind)
            num_units = kind.kind.num_units(len(frames))
            starts = plan.starts(num_units, kind.snippet_length, 0.0)
            units = units_of(starts, kind.snippet_length).tolist()
            step = kind.kind.frames_per_unit - 1
            pairs = [(frames[unit], frames[unit + step]) for unit in units]
            for frame in {id(frame): frame for pair in pairs for frame in pair}.values():
                _ = frame.gray, frame.rgb
            began = time.perf_counter()
            images = [make(*pair).image for pair in pairs]
            middle = time.perf_counter()
            for image in images:
                encode_image(image, kind.codec, kind.quality)
            seconds["encode"] += time.perf_counter() - middle
            if kind.name == "flow":
                seconds["flow"] += middle - began
    return seconds


def peak_megabytes(video: Path, names: tuple[str, ...], flow: str) -> float:
    """Return the peak memory of a fresh process that extracts one video."""
    process = VideoProcess()
    task = Task(video, SnippetPlan(snippets=25), tuple(modality(name, flow) for name in names))
    process.extract(task, lambda *_: None)
    process.dispose()
    return process.peak_bytes / 1e6


def main() -> None:
    """Measure and write ``results/extract.json``."""
    clips = clips_folder()
    files = sorted([*clips.glob("ucf101/videos/*/*.avi"), *clips.glob("kinetics/*.mp4")])
    cv2.setNumThreads(1)
    rgb = [modality("rgb")]
    every = [modality(name) for name in ("rgb", "flow", "rgbdiff")]
    tvl1 = [modality("flow", "tvl1")]
    with tempfile.TemporaryDirectory() as folder:
        many = [
            Path(folder) / f"{copy:02d}_{file.name}" for copy in range(_COPIES) for file in files
        ]
        for number, link in enumerate(many):
            link.symlink_to(files[number % len(files)])
        few = many[: len(files)]
        seconds = interleaved(
            {
                "decode_one_thread": lambda: decode(many, 1),
                "decode_usual_threads": lambda: decode(many, None),
                "decode_pyav": lambda: decode_pyav(many),
                "extract_rgb": lambda: extract(many, rgb, 1),
                "extract_rgb_not_isolated": lambda: extract(many, rgb, 1, isolated=False),
            },
            _ROUNDS,
        )
        heavy = interleaved(
            {
                "all_farneback_one_job": lambda: extract(few, every, 1),
                "all_farneback_not_isolated": lambda: extract(few, every, 1, isolated=False),
                "all_farneback_two_jobs": lambda: extract(few, every, 2),
                "flow_tvl1_one_job": lambda: extract(few, tvl1, 1),
                "flow_tvl1_two_jobs": lambda: extract(few, tvl1, 2),
                "all_farneback_parts": lambda: sum(parts(few, (256, 340)).values()),
            },
            1,
            warm_up=False,
        )
        generator = np.random.default_rng(0)
        texture = generator.integers(0, 255, (256, 1024, 3)).astype(np.uint8)
        texture = cv2.GaussianBlur(texture, (0, 0), 5)
        memory: dict[str, dict[str, float]] = {}
        for length, frames in (("10_seconds", 250), ("10_minutes", 15000)):
            video = Path(folder) / f"{length}.avi"
            views = (texture[:, (t % 680) : (t % 680) + 340] for t in range(frames))
            write_video(video, views, (256, 340), 25.0)
            memory[length] = {
                "rgb": peak_megabytes(video, ("rgb",), "farneback"),
                "all_farneback": peak_megabytes(video, ("rgb", "flow", "rgbdiff"), "farneback"),
                "all_tvl1": peak_megabytes(video, ("rgb", "flow", "rgbdiff"), "tvl1"),
            }
    median = {name: statistics.median(values) for name, values in {**seconds, **heavy}.items()}
    two = {
        name: median[f"{name}_one_job"] / median[f"{name}_two_jobs"]
        for name in ("all_farneback", "flow_tvl1")
    }
    result = {
        "videos": len(many),
        "seconds": median,
        "rgb_over_decode_one_thread": median["extract_rgb"] / median["decode_one_thread"],
        "rgb_over_decode_usual_threads": median["extract_rgb"] / median["decode_usual_threads"],
        "rgb_over_decode_pyav": median["extract_rgb"] / median["decode_pyav"],
        "isolation_over_none": {
            "rgb": median["extract_rgb"] / median["extract_rgb_not_isolated"],
            "all_farneback": median["all_farneback_one_job"] / median["all_farneback_not_isolated"],
        },
        "all_farneback_over_its_parts": (
            median["all_farneback_one_job"] / median["all_farneback_parts"]
        ),
        "two_jobs_over_one": two,
        "peak_megabytes": memory,
        "memory_10_minutes_over_10_seconds": (
            memory["10_minutes"]["all_farneback"] / memory["10_seconds"]["all_farneback"]
        ),
    }
    path = write_result("extract", result)
    for name, value in result.items():
        print(f"{name}: {value}")
    print(path)


if __name__ == "__main__":
    main()
