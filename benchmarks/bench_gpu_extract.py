"""Videos per second whose TV-L1 flow is extracted, with the flow computed on a GPU.

Ten-second H.264 videos of 340x256, 25 snippets of flow each, from files to finished shards: by one
decoding process up to one for each core, and by one GPU up to all. Beside that, in the same run,
the same videos by Numba on all cores, and RGB frames of them, which is little more than decoding:
no GPU can be fed faster. Every row says how busy the GPU was, and so what the bottleneck is.

*Videos per second* is the rate between the first videos that were finished and the last one; a run
begins with the start of torch and of the decoding processes, which *seconds* has, too. Everything
lies in the memory of the operating system. The videos are made of real clips where ``TSN_CLIPS``
names a folder of them, else of textured shapes that move.

Run as ``python -m benchmarks gpu_extract``; ``--small --device cpu`` goes through everything with
tiny videos, on any machine, and says nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from benchmarks.loader_material import back_and_forth, encode, frames_of
from benchmarks.machine import choose_device, gpu_names
from benchmarks.report import RESULTS, write_result
from benchmarks.watching import watching
from preprocess.commands.modality_options import stored_modality
from preprocess.executor import default_workers, make_executor
from preprocess.extract import extract_dataset
from preprocess.isolation import end_processes
from preprocess.run_log import LOG_NAME
from preprocess.synth_scene import MOTIONS, Part, render
from preprocess.work import Options
from tsn_core.errors import TSNError
from tsn_core.manifest import Manifest, Record
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan

_LOOK_SECONDS = 0.5
_CLIPS = ("kinetics/*.mp4", "hmdb51/videos/*/*.avi", "ucf101/videos/*/*.avi")


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        videos: In all; links to the different ones.
        different: Videos.
        frames: Of each.
        size: (height, width) in px.
        snippets: Of each.
        videos_per_shard: One job's.
        jobs: Decoding processes, as far as there are cores.
        warm_up: Videos that are extracted first, so that kernels are compiled.
    """

    videos: int = 64
    different: int = 16
    frames: int = 250
    size: tuple[int, int] = (256, 340)
    snippets: int = 25
    videos_per_shard: int = 2
    jobs: tuple[int, ...] = (1, 2, 4, 8, 16)
    warm_up: int = 2


SMALL = Scale(4, 2, 12, (48, 64), 1, 1, (1, 2), 1)


class Bench:
    """Extracts the same videos again and again."""

    def __init__(self, scale: Scale, folder: Path, clips: Path | None) -> None:
        """Make the videos.

        Args:
            scale: How many, how large.
            folder: For videos and shards.
            clips: Folder of real ones; None: made-up ones.
        """
        self.scale = scale
        self._folder = folder
        names = _make_videos(scale, folder / "videos", clips)
        self._manifest = Manifest("ten_seconds", ("one",), tuple(Record(n, 0) for n in names))

    def run(self, backend: str, device: str, jobs: int, num_videos: int | None = None) -> Any:
        """Extract, and return a row of the result.

        Args:
            backend: ``torch`` or ``numba`` for flow, or ``rgb``.
            device: Where torch computes.
            jobs: Decoding processes.
            num_videos: None takes all.
        """
        records = self._manifest.records[:num_videos]
        out = self._folder / "shards"
        with _watched() as peak:
            summary = extract_dataset(
                Manifest("ten_seconds", ("one",), records),
                self._folder / "videos",
                out,
                modalities=[self._modality(backend)],
                plan=SnippetPlan(snippets=self.scale.snippets),
                videos_per_shard=self.scale.videos_per_shard,
                executor=make_executor("local", num_workers=jobs, stop=end_processes),
                console=Console(quiet=True),
                options=Options(device=device),
            )
        if summary.failures:
            raise SystemExit(f"{backend}: {next(iter(summary.failures.values()))['reason']}")
        rate = _steady_rate(out / "ten_seconds" / LOG_NAME, jobs)
        images = sum(entry.num_images for entry in summary.indices[0].shards)
        shutil.rmtree(out)
        flow = None if summary.flow is None else summary.flow.content()
        return {
            "backend": backend,
            "device": device if backend == "torch" else "cpu",
            "jobs": jobs,
            "videos": len(records),
            "images": images,
            "seconds": round(summary.counts.seconds, 2),
            "videos_per_second": round(rate, 3),
            "images_per_second": round(rate * images / len(records), 1),
            "flow": flow,
            "text": None if summary.flow is None else summary.flow.text(),
            "decoding_memory_mb": round(peak["decoding"] / 1e6),
            "flow_memory_mb": round(peak["flow"] / 1e6) or None,
            "gpu_memory_mb": peak["gpu"] or None,
        }

    def _modality(self, backend: str) -> StoredModality:
        return stored_modality(
            "rgb" if backend == "rgb" else "flow",
            flow="tvl1",
            flow_backend="numba" if backend == "rgb" else backend,
            bound=20.0,
            size=(self.scale.size[0], self.scale.size[1]),
            short_side=None,
            snippet_length=None,
            codec="jpeg",
            quality=95,
        )


def _make_videos(scale: Scale, folder: Path, clips: Path | None) -> list[str]:
    folder.mkdir(parents=True)
    sources = [] if clips is None else [file for one in _CLIPS for file in sorted(clips.glob(one))]
    generator = np.random.default_rng(0)
    names = [f"{number:03d}.mp4" for number in range(scale.videos)]
    for number, name in enumerate(names):
        if number >= scale.different:
            os.link(folder / names[number % scale.different], folder / name)
            continue
        if sources:
            frames = back_and_forth(frames_of(sources[number * len(sources) // scale.different]))
        else:
            motions = list(MOTIONS)
            parts = [Part(str(generator.choice(motions)), scale.frames // 5 + 1) for _ in range(5)]
            frames = render(parts, scale.size, generator)
        encode(folder / name, islice(frames, scale.frames))
    return names


def _steady_rate(log: Path, jobs: int) -> float:
    """Return videos per second from when as many were through as there are jobs, to the last."""
    lines = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    times = sorted(
        datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
        for line in lines
        if line["event"] == "video"
    )
    first = min(jobs, len(times) // 2)
    seconds = times[-1] - times[max(first - 1, 0)]
    return (len(times) - max(first, 1)) / seconds if seconds > 0 else float(len(times))


@contextmanager
def _watched() -> Iterator[dict[str, int]]:
    """Keep up to date the largest memory of processes that decode, that compute, and of GPUs.

    Resident bytes of all processes of a kind together, in which shared memory counts every time;
    MB of all GPUs together, other programs included.
    """
    peak = {"decoding": 0, "flow": 0, "gpu": 0}

    def look() -> None:
        now = {"decoding": 0, "flow": 0}
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                computes = any("flow_process" in word for word in child.cmdline())
                now["flow" if computes else "decoding"] += child.memory_info().rss
        for kind, used in now.items():
            peak[kind] = max(peak[kind], used)
        peak["gpu"] = max(peak["gpu"], _gpu_megabytes())

    with watching(look, _LOOK_SECONDS):
        yield peak


def _gpu_megabytes() -> int:
    """Return the memory that is used on all GPUs; 0 where nobody tells."""
    if shutil.which("nvidia-smi") is None:
        return 0
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return sum(int(line) for line in told.split() if line.isdecimal())


def measure(bench: Bench, device: str, num_gpus: int, cores: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each way of extracting.

    Args:
        bench: What extracts.
        device: ``cuda`` or ``cpu``.
        num_gpus: That there are.
        cores: That may be used.
    """
    jobs = [number for number in bench.scale.jobs if number <= cores] or [1]
    first = "cpu" if device == "cpu" else "cuda:0"
    bench.run("torch", first, 1, bench.scale.warm_up)
    for number in jobs:
        yield bench.run("torch", first, number)
    for gpus in range(2, num_gpus + 1):
        names = ",".join(f"cuda:{number}" for number in range(gpus))
        yield bench.run("torch", names, jobs[-1])
    for backend in ("rgb", "numba"):
        bench.run(backend, "cpu", 1, bench.scale.warm_up)
        yield bench.run(backend, "cpu", cores)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [
        f"{'flow':<6} {'device':<16} {'jobs':>4} {'videos/s':>9} {'images/s':>9} {'busy':>5}  "
        "bottleneck"
    ]
    for row in rows:
        flow = row["flow"]
        busy = "" if flow is None else f"{100 * flow['busy_share']:.0f}%"
        limit = "" if flow is None else flow["bottleneck"]
        lines.append(
            f"{row['backend']:<6} {row['device']:<16} {row['jobs']:>4} "
            f"{row['videos_per_second']:>9.2f} {row['images_per_second']:>9.1f} {busy:>5}  "
            f"{limit}".rstrip()
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write ``results/gpu_extract.json``."""
    parser = argparse.ArgumentParser(description="Measure extraction with flow on a GPU.")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--small", action="store_true", help="tiny videos, to try the script")
    parser.add_argument("--videos", type=int, help="how many  [default: 64; --small: 4]")
    parser.add_argument(
        "--out", type=Path, help="folder of the result  [default: results; --small: none]"
    )
    chosen = parser.parse_args(arguments)
    device = choose_device(chosen.device, "gpu_extract")
    scale = SMALL if chosen.small else Scale()
    if chosen.videos:
        scale = Scale(**{**vars(scale), "videos": chosen.videos})
    clips = os.environ.get("TSN_CLIPS") if not chosen.small else None
    gpus = gpu_names() if device == "cuda" else []
    rows, failure = [], None
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(scale, Path(folder), Path(clips) if clips else None)
        try:
            for row in measure(bench, device, len(gpus), default_workers()):
                rows.append(row)
                print(table([row]).split("\n")[1], row["text"] or "", flush=True)
        except (SystemExit, TSNError) as error:  # what was measured before is kept
            failure = str(error)
    result = {
        "gpus": gpus,
        "small": chosen.small,
        "material": "real clips" if clips else "textured shapes that move",
        "cores": default_workers(),
        **{name: value for name, value in vars(scale).items() if name != "jobs"},
        "rows": rows,
        "failed": failure,
    }
    print(table(rows))
    target = chosen.out or (None if chosen.small and "TSN_RESULTS" not in os.environ else RESULTS)
    print(write_result("gpu_extract", result, target) if target else "a try: nothing is written")
    if failure is not None:
        raise SystemExit(f"gpu_extract: {failure}")


if __name__ == "__main__":
    main()
