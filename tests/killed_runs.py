"""Extractions in processes of their own that are killed, and what they leave behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from conftest import moving_frames, write_clip

from preprocess.sources import SOURCES_NAME
from tsn_core.check import folder_defects

PROGRAM = [sys.executable, "-m", "preprocess", "extract", "--dataset", "folder"]
SMALL = ["--size", "32x24", "--codec", "raw", "--snippets", "3"]
BOTH = ["--modality", "rgb", "--modality", "rgbdiff"]


def make_videos(data: Path, number: int) -> Path:
    """Write that many tiny videos of two classes; return the folder of the dataset."""
    for video in range(number):
        path = data / "ab"[video % 2] / f"{video}.avi"
        write_clip(path, moving_frames(6, (24, 32), seed=video))
    return data


def start(data: Path, out: Path, *words: str, jobs: int = 2) -> subprocess.Popen[str]:
    """Start the program in a process group of its own."""
    command = [*PROGRAM, "--data", str(data), "--out", str(out), "--jobs", str(jobs), *SMALL]
    return subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def members(group: int) -> list[psutil.Process]:
    """Return the processes of a group that are alive."""

    def belongs(process: psutil.Process) -> bool:
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and os.getpgid(process.pid) == group
        except (ProcessLookupError, psutil.Error):
            return False

    return [process for process in psutil.process_iter() if belongs(process)]


def state(root: Path) -> tuple[object, ...]:
    """Return what changes with every step of a run: names, and the length of the journal."""
    names = sorted(str(path) for path in root.rglob("*")) if root.is_dir() else []
    try:
        size = (root / SOURCES_NAME).stat().st_size
    except OSError:
        size = 0
    return (*names, size)


def wait_for_steps(run: subprocess.Popen[str], root: Path, steps: int) -> None:
    """Return as soon as a run has changed its folder that often, or has ended."""
    before, seen = state(root), 0
    while seen < steps and run.poll() is None:
        now = state(root)
        seen += now != before
        before = now
        time.sleep(0.001)  # leaves the processor to the run


def kill(run: subprocess.Popen[str], victim: str, generator: random.Random) -> None:
    """Kill the run itself, one process that decodes for it, or all of them."""
    if victim == "all":
        with suppress(ProcessLookupError):  # it was faster
            os.killpg(run.pid, signal.SIGKILL)
    elif victim == "parent":
        run.kill()
    else:
        children = psutil.Process(run.pid).children() if run.poll() is None else []
        if children:
            with suppress(psutil.NoSuchProcess):
                generator.choice(children).kill()


def leftovers(root: Path) -> list[str]:
    """Return the hidden files below a folder, but for the two that belong there."""
    hidden = (path.name for path in root.rglob(".*"))
    return sorted(name for name in hidden if name not in (".lock", SOURCES_NAME))


def defects(root: Path) -> list[str]:
    """Return what is wrong with the shards that can be seen, finished or not."""
    found: list[str] = []
    for folder in (path for path in root.iterdir() if path.is_dir()):
        lines = folder_defects(folder).lines
        found += [line for line in lines if "index.json: not there;" not in line]
    return found


def timed(run: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    began = time.monotonic()
    run()
    return time.monotonic() - began
