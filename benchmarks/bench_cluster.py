"""What a cluster costs, measured on this machine, and what 10,000 workers would do, simulated.

- Dask and Ray: jobs a second, and processor time of scheduler and parent for one job, that does
  nothing, with a real job of 64 videos as the load and two workers on loopback. The simulation
  takes the processor time: on a cluster, scheduler and parent have a core each.
- The shared folder: system calls that name a file in it, or sync one, counted by strace in real
  extractions of different numbers of videos and shards, and solved for one video and one shard.
- A worker: seconds of one core for each kinetics clip (10 to 11 s long), rgb alone, and all
  modalities with TV-L1.
- From these, a simulation of 240,000 such videos on 10 to 10,000 workers.

Run as ``python -m benchmarks.bench_cluster`` with ``TSN_CLIPS`` set; needs strace.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console

from benchmarks.bench_extract import modality
from benchmarks.cluster_simulation import Costs, simulate
from benchmarks.report import clips_folder, write_result
from preprocess.executor import Executor, make_executor
from preprocess.extract import extract_dataset
from preprocess.guard import guarding
from preprocess.job import Job, Target
from preprocess.synth import write_video
from preprocess.work import Options
from tsn_core.manifest import Manifest, Record
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader

_JOBS = 1000
_IN_FLIGHT = 100
_VIDEOS = 240_000
_WORKERS = (10, 100, 1000, 3000, 10_000)
_CUTS = (64, 16, 4)
_ROOT = Path(__file__).resolve().parent.parent


def nothing(job: Job, seen: Callable[[Any], None]) -> int:
    """Do the least that a job can do."""
    return job.number


def job_of(number: int, folder: Path) -> Job:
    """Return a job of 64 videos in three modalities, as of a dataset with 400 classes."""
    classes = tuple(f"class with a name {label}" for label in range(400))
    plan = SnippetPlan(snippets=25)
    targets = tuple(
        Target(
            folder / kind.folder / f"shard-{number:05d}.h5",
            ShardHeader("d", kind, plan.to_json(), classes, 64, "0" * 64),
        )
        for kind in (modality("rgb"), modality("flow", "tvl1"), modality("rgbdiff"))
    )
    names = (f"{classes[place]}/video_{number:06d}_{place:02d}.mp4" for place in range(64))
    records = tuple(Record(name, 0, {1: "train"}) for name in names)
    return Job(number, records, folder, plan, targets)


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Return the processor time that processes have used so far."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def overhead(executor: Executor, servers: list[psutil.Process], folder: Path) -> dict[str, float]:
    """Return what one job costs scheduler and parent."""
    jobs = [job_of(number, folder) for number in range(_JOBS)]
    with guarding(folder) as guard:
        executor.check(guard)
        function = guard.around(nothing)
        assert len(list(executor.run(function, jobs[:50]))) == 50
        me = psutil.Process()
        before = cpu_seconds(servers), cpu_seconds([me]), time.perf_counter()
        assert len(list(executor.run(function, jobs))) == _JOBS
        after = cpu_seconds(servers), cpu_seconds([me]), time.perf_counter()
    server, parent, wall = (now - then for then, now in zip(before, after))
    return {
        "jobs_per_second_here": _JOBS / wall,
        "scheduler_seconds_per_job": server / _JOBS,
        "parent_seconds_per_job": parent / _JOBS,
    }


def dask_overhead(folder: Path) -> dict[str, float]:
    """Measure a real scheduler with two workers of one thread."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1", "--no-dashboard"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"(?:Scheduler at|Registered to): +(tcp://\S+)", line)
            if found:
                return process, found.group(1)
        raise SystemExit("Dask does not start")

    with ExitStack() as stack:
        scheduler, address = start("scheduler", "--port", "0")
        for _ in range(2):
            start("worker", address, "--nthreads", "1", "--no-nanny")
        executor = make_executor("dask", address=address, num_workers=_IN_FLIGHT)
        stack.callback(executor.close)
        return overhead(executor, [psutil.Process(scheduler.pid)], folder)


def ray_overhead(folder: Path) -> dict[str, float]:
    """Measure a Ray of two cores: its servers, not its workers."""
    os.environ["PYTHONPATH"] = str(_ROOT)
    executor = make_executor("ray", num_workers=2)
    try:
        servers = [
            process
            for process in psutil.Process().children(recursive=True)
            if process.name() in ("gcs_server", "raylet")
        ]
        return overhead(executor, servers, folder)
    finally:
        executor.close()


def traced(num_videos: int, videos_per_shard: int, folder: Path) -> dict[str, int]:
    """Extract small videos under strace and count the calls that reach the shared folder."""
    shared = folder / f"shared-{num_videos}-{videos_per_shard}"
    frames = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), np.uint8)
    for number in range(num_videos):
        write_video(shared / "data" / "c" / f"{number}.avi", frames, (96, 128), 25.0)
    log = folder / "trace"
    subprocess.run(
        [
            *("strace", "-f", "-y", "-qq", "-e", "trace=%file,%desc", "-o", str(log)),
            *(sys.executable, "-m", "preprocess", "extract", "--dataset", "folder"),
            *("--data", str(shared / "data"), "--out", str(shared / "out"), "--jobs", "1"),
            *("--videos-per-shard", str(videos_per_shard)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
    )
    names, data = 0, 0
    moving = {"read", "write", "pread64", "pwrite64", "readv", "writev", "lseek", "mmap", "fcntl"}
    for line in log.read_text(errors="replace").splitlines():
        if str(shared) not in line:
            continue
        call = re.match(r"\d+ +(?:<\.\.\. )?(\w+)", line)
        if call is None or "resumed>" in line:
            continue
        if call.group(1) in moving:
            data += 1
        else:
            names += 1
    shutil.rmtree(shared)
    return {"metadata": names, "data": data}


def operations(folder: Path) -> dict[str, Any]:
    """Solve three extractions for what one video and one shard cost."""
    one, four, half = traced(8, 8, folder), traced(8, 2, folder), traced(4, 4, folder)
    video = (one["metadata"] - half["metadata"]) / 4
    shard = (four["metadata"] - one["metadata"]) / 3
    return {
        "calls": {"8 videos, 1 shard": one, "8 videos, 4 shards": four, "4 videos, 1 shard": half},
        "metadata_per_video": video,
        "metadata_per_shard": shard,
    }


def video_seconds(names: tuple[str, ...], folder: Path) -> list[float]:
    """Return the seconds of one core that each kinetics clip takes, in a job of its own."""
    data = clips_folder() / "kinetics"
    seconds = []
    for path in sorted(data.glob("*.mp4")):
        began = time.process_time()
        extract_dataset(
            Manifest("k", ("c",), (Record(path.name, 0, {}),)),
            data,
            folder / "-".join(names) / path.stem,
            modalities=[modality(name, "tvl1") for name in names],
            plan=SnippetPlan(snippets=25),
            videos_per_shard=1,
            executor=make_executor("local", num_workers=1),
            console=Console(quiet=True),
            options=Options(isolated=False),
        )
        seconds.append(time.process_time() - began)
    return seconds


def main() -> None:
    """Measure, simulate, write down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dask, ray = dask_overhead(folder), ray_overhead(folder)
        print("Dask", dask, "Ray", ray, flush=True)
        calls = operations(folder)
        print("folder", calls, flush=True)
        video_seconds(("rgb",), folder / "warm")  # opens libraries; compiled code is on the disk
        seconds = {
            "rgb": video_seconds(("rgb",), folder),
            "rgb, flow tvl1, rgbdiff": video_seconds(("rgb", "flow", "rgbdiff"), folder),
        }
        print("videos", seconds, flush=True)
    rows = []
    for kind, each in seconds.items():
        shards = 1 if kind == "rgb" else 3
        costs = Costs(
            dask["scheduler_seconds_per_job"],
            dask["parent_seconds_per_job"],
            each,
            shards * calls["metadata_per_shard"],
            calls["metadata_per_video"],
        )
        for cut in _CUTS:
            for workers in _WORKERS:
                row = simulate(costs, num_videos=_VIDEOS, videos_per_shard=cut, num_workers=workers)
                rows.append(
                    {"modalities": kind, "videos_per_shard": cut, "workers": workers, **row}
                )
    path = write_result(
        "cluster",
        {
            "load_average": os.getloadavg()[0],
            "dask": dask,
            "ray": ray,
            "shared_folder": calls,
            "video_seconds": seconds,
            "simulated_videos": _VIDEOS,
            "simulation": rows,
        },
    )
    print(path)


if __name__ == "__main__":
    main()
