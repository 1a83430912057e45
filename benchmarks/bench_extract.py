"""Speed and memory of extraction, as ratios within one run.

- rgb extraction of the UCF101 and kinetics clips with one job, against merely decoding the same
  files with OpenCV (one thread, and OpenCV's usual number of threads);
- two jobs against one: all modalities with Farneback flow, and TV-L1 flow alone;
- peak memory of a process that extracts a 10-minute video against a 10-second one.

Run as ``python -m benchmarks.bench_extract`` with ``TSN_CLIPS`` set.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
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
from preprocess.isolation import end_processes
from preprocess.synth import write_video
from preprocess.work import Options
from tsn_core.manifest import Manifest, Record
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan

_ROUNDS = 7
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
    manifest: Manifest,
    data: Path,
    modalities: list[StoredModality],
    jobs: int,
    isolated: bool = True,
) -> float:
    """Extract into a folder of its own and return the seconds it took."""
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        summary = extract_dataset(
            manifest,
            data,
            Path(out),
            modalities=modalities,
            plan=SnippetPlan(snippets=25),
            videos_per_shard=1,
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


def interleaved(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every measure, taken in turns after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name, measure in measures.items():
            taken = measure()
            if number:
                seconds[name].append(taken)
    return seconds


def peak_megabytes(video: Path, name: str) -> float:
    """Return the peak memory of a fresh process that extracts one video."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from benchmarks.bench_extract import extract, modality\n"
        "from tsn_core.manifest import Manifest, Record\n"
        "video = Path(sys.argv[1])\n"
        "manifest = Manifest('memory', ('one', 'two'), (Record(video.name, 0),))\n"
        "extract(manifest, video.parent, [modality(n) for n in sys.argv[2].split(',')], 1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    command = [sys.executable, "-c", code, str(video), name]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return float(done.stdout)


def main() -> None:
    """Measure and write ``results/extract.json``."""
    clips = clips_folder()
    files = sorted([*clips.glob("ucf101/videos/*/*.avi"), *clips.glob("kinetics/*.mp4")])
    names = [file.relative_to(clips).as_posix() for file in files]
    manifest = Manifest("bench", ("one", "two"), tuple(Record(name, 0) for name in names))
    rgb = [modality("rgb")]
    cv2.setNumThreads(1)
    seconds = interleaved(
        {
            "decode_one_thread": lambda: decode(files, 1),
            "decode_usual_threads": lambda: decode(files, None),
            "extract_rgb": lambda: extract(manifest, clips, rgb, 1),
        },
        _ROUNDS,
    )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    every = [modality("rgb"), modality("flow"), modality("rgbdiff")]
    tvl1 = [modality("flow", "tvl1")]
    scaling = interleaved(
        {
            "all_farneback_one_job": lambda: extract(manifest, clips, every, 1),
            "all_farneback_two_jobs": lambda: extract(manifest, clips, every, 2),
            "flow_tvl1_one_job": lambda: extract(manifest, clips, tvl1, 1),
            "flow_tvl1_two_jobs": lambda: extract(manifest, clips, tvl1, 2),
        },
        2,
    )
    jobs = {name: statistics.median(values) for name, values in scaling.items()}
    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        texture = generator.integers(0, 255, (256, 1024, 3)).astype(np.uint8)
        texture = cv2.GaussianBlur(texture, (0, 0), 5)
        memory = {}
        for length, frames in (("10_seconds", 250), ("10_minutes", 15000)):
            video = Path(folder) / f"{length}.avi"
            views = (texture[:, (t % 680) : (t % 680) + 340] for t in range(frames))
            write_video(video, views, (256, 340), 25.0)
            memory[length] = peak_megabytes(video, "rgb,flow,rgbdiff")
    result = {
        "videos": len(files),
        "seconds": median,
        "rgb_over_decode_one_thread": median["extract_rgb"] / median["decode_one_thread"],
        "rgb_over_decode_usual_threads": median["extract_rgb"] / median["decode_usual_threads"],
        "seconds_by_jobs": jobs,
        "two_jobs_over_one": {
            name: jobs[f"{name}_one_job"] / jobs[f"{name}_two_jobs"]
            for name in ("all_farneback", "flow_tvl1")
        },
        "peak_megabytes": memory,
        "memory_10_minutes_over_10_seconds": memory["10_minutes"] / memory["10_seconds"],
    }
    path = write_result("extract", result)
    for name, value in result.items():
        print(f"{name}: {value}")
    print(path)


if __name__ == "__main__":
    main()
