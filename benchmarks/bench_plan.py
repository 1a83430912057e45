"""What ``tsn-preprocess plan`` foretells against what an extraction then takes.

Two sets: the aerobics clips, all much alike, and all sound clips, of four datasets. RGB, RGB
differences and Farneback flow, one worker. Time that the extracting process waited for a processor
core which other programs had is left out on both sides, where the system tells it (Linux).

Run as ``python -m benchmarks.bench_plan`` with ``TSN_CLIPS`` set.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from benchmarks.bench_extract import modality
from benchmarks.report import clips_folder, write_result
from benchmarks.watching import watching
from preprocess.datasets import scan_dataset
from preprocess.executor import default_workers, make_executor
from preprocess.extract import extract_dataset
from preprocess.isolation import end_processes
from preprocess.limits import Limits
from preprocess.plan import plan_extraction
from preprocess.stages import Stages
from tsn_core.manifest import Manifest, Record
from tsn_core.sampling import SnippetPlan

_QUIET = Console(quiet=True)
_PLAN = SnippetPlan(snippets=25)
_LOOK_SECONDS = 0.05
_SOUND = ("aerobics/videos/*/*", "hmdb51/videos/*/*.avi", "ucf101/videos/*/*.avi", "kinetics/*.mp4")


def sets(clips: Path) -> dict[str, Manifest]:
    """Return the sets of videos, with names relative to ``clips``."""
    files = sorted(file for pattern in _SOUND for file in clips.glob(pattern))
    names = [file.relative_to(clips).as_posix() for file in files]
    aerobics = scan_dataset("folder", clips / "aerobics")
    return {
        "aerobics": Manifest(
            "aerobics",
            aerobics.class_names,
            tuple(Record(f"aerobics/{r.name}", r.label) for r in aerobics.records),
        ),
        "mixed": Manifest("mixed", ("one", "two"), tuple(Record(name, 0) for name in names)),
    }


@contextmanager
def queue_times() -> Iterator[dict[int, float]]:
    """Keep up to date how long each child process has waited for a core, in seconds by its id."""
    waited: dict[int, float] = {}

    def look() -> None:
        for child in psutil.Process().children():
            try:
                text = Path(f"/proc/{child.pid}/schedstat").read_text()
            except OSError:
                continue
            waited[child.pid] = int(text.split()[1]) / 1e9

    with watching(look, _LOOK_SECONDS):
        yield waited


def compare(manifest: Manifest, clips: Path) -> dict[str, Any]:
    """Return what is foretold of a set, what was measured, and the errors."""
    modalities = [modality(name) for name in ("rgb", "rgbdiff", "flow")]
    survey, outlook, _ = plan_extraction(
        manifest,
        clips,
        modalities=modalities,
        plan=_PLAN,
        limits=Limits(),
        videos_per_shard=None,
        workers=(1,),
        num_cores=default_workers(),
        num_sample=12,
        seconds=60.0,
        generator=np.random.default_rng(0),
        stages=Stages(_QUIET),
    )
    last = outlook.rows[-1]
    foretold = {
        "seconds": last.schedules[0].seconds,
        "bytes": last.num_bytes.total,
        "peak_bytes": last.peak_bytes,
    }
    with tempfile.TemporaryDirectory() as out, queue_times() as waited:
        began = time.perf_counter()
        summary = extract_dataset(
            manifest,
            clips,
            Path(out),
            modalities=modalities,
            plan=_PLAN,
            videos_per_shard=None,
            executor=make_executor("local", num_workers=1, stop=end_processes),
            console=_QUIET,
        )
        wall = time.perf_counter() - began
        assert not summary.failures, summary.failures
        measured = {
            "seconds": wall - sum(waited.values()),
            "bytes": sum(file.stat().st_size for file in Path(out).rglob("*.h5")),
            "peak_bytes": max(video.peak_bytes for video in summary.videos),
        }
    return {
        "videos": len(manifest.records),
        "measured_videos": len(survey.probes),
        "planning_seconds": survey.seconds,
        "foretold": foretold,
        "measured": measured,
        "error": {name: foretold[name] / measured[name] - 1 for name in foretold},
        "stated_error": {
            "seconds": last.seconds.relative_error,
            "bytes": last.num_bytes.relative_error,
        },
        "check": vars(last.check) if last.check else None,
        "wall_seconds": wall,
        "efficiency": last.efficiency,
    }


def main() -> None:
    """Measure and write ``results/plan.json``."""
    clips = clips_folder()
    result = {}
    for name, manifest in sets(clips).items():
        result[name] = compare(manifest, clips)
        print(name, result[name], flush=True)
    print(write_result("plan", result))


if __name__ == "__main__":
    main()
