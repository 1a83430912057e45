"""What workers of clusters run in tests: imported by them under this name."""

import os
import threading
import time
from pathlib import Path

from preprocess.job import run_job
from tsn_core.errors import InputError


def run_job_and_hang_once(job, seen):
    """Extract, but the first to take shard 1 names its process after one video, and waits."""
    started = job.data.parent / "started"
    if job.number == 1:
        try:
            os.close(os.open(started, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return run_job(job, seen)

        def tell(_):
            (job.data.parent / "pid").write_text(str(os.getpid()))  # a pipe: waits for a reader
            threading.Event().wait()

        return run_job(job, tell)
    return run_job(job, seen)


def visible_gpus(number):
    """Return which GPUs a job may see."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def die(number):
    os._exit(1)


def fail(number):
    raise InputError(f"number {number}")


def fail_at_zero(job):
    """Leave a file for each job; job 0 fails, others go on until stopped."""
    folder, number = job
    (Path(folder) / str(number)).touch()
    if number == 0:
        raise InputError("number 0 is bad")
    end = time.monotonic() + 60
    while time.monotonic() < end and not (Path(folder) / "enough").exists():
        time.sleep(0.01)


def wait_for_the_end(pipe):
    """Say that the work has begun, and never end it."""
    Path(pipe).write_text("begun")
    threading.Event().wait()
