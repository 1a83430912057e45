"""What the tests of Dask and Ray have in common."""

import os
import signal
import threading
from contextlib import contextmanager

from cluster_jobs import run_job_and_hang_once
from conftest import moving_frames, stored, tree_bytes, write_clip
from rich.console import Console

from preprocess.executor import make_executor
from preprocess.extract import extract_dataset
from preprocess.isolation import end_processes
from tsn_core.manifest import Manifest, Record
from tsn_core.sampling import SnippetPlan


class Counted:
    """Jobs that count how many of them were handed out."""

    def __init__(self, number):
        self.number = number
        self.taken = 0

    def __len__(self):
        return self.number

    def __iter__(self):
        for number in range(self.number):
            self.taken += 1
            yield number


def extract(data, out, executor):
    """Extract six tiny videos as three shards of two."""
    names = [f"{number}.avi" for number in range(6)]
    for number, name in enumerate(names):
        if not (data / name).exists():
            write_clip(data / name, moving_frames(9 + number, (36, 48), seed=number))
    return extract_dataset(
        Manifest("d", ("c",), tuple(Record(name, 0, {}) for name in names)),
        data,
        out,
        modalities=[stored("rgb", height=24, width=32), stored("rgbdiff", height=24, width=32)],
        plan=SnippetPlan(snippets=2),
        videos_per_shard=2,
        executor=executor,
        console=Console(quiet=True),
    )


def bytes_of_a_run_on_this_machine(tmp_path):
    extract(tmp_path / "data", tmp_path / "one", make_executor("local", num_workers=1))
    end_processes()
    return tree_bytes(tmp_path / "one")


def bytes_of_a_run_that_loses_a_worker(tmp_path, monkeypatch, executor):
    """Kill the process that works on shard 1 when it has extracted one of two videos."""
    monkeypatch.setattr("preprocess.extract.run_job", run_job_and_hang_once)
    os.mkfifo(tmp_path / "pid")
    (tmp_path / "data").mkdir(exist_ok=True)
    killed = []

    def kill():
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    summary = extract(tmp_path / "data", tmp_path / "cluster", executor)
    killer.join(60)
    assert len(killed) == 1
    assert summary.num_jobs == 3
    assert [video.name for video in summary.videos if video.reason is not None] == []
    assert not list((tmp_path / "cluster").rglob(".*.tmp")), "what the killed one left is gone"
    return tree_bytes(tmp_path / "cluster")


@contextmanager
def closing_late(process):
    """End a process at the end of a block."""
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)
