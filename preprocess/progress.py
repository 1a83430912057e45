"""Progress of an extraction: a live bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from preprocess.job import VideoReport

_BAR_SECONDS = 0.25
_LINE_SECONDS = 10.0


class Tally:
    """Counts the videos that are through; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._through = self._failed = 0

    def add(self, video: VideoReport) -> None:
        """Count a video, unless it was merely copied."""
        if video.tries:
            with self._lock:
                self._through += 1
                self._failed += video.stage is not None

    @property
    def counts(self) -> tuple[int, int]:
        """(videos through, of these failed)."""
        with self._lock:
            return self._through, self._failed


def progress_line(label: str, through: int, failed: int, total: int, seconds: float) -> str:
    """Return one plain line of progress.

    Examples:
        >>> progress_line("hmdb51", 30, 2, 120, 15.0)
        'hmdb51: 30/120 videos, 2.0 videos/s, 0:00:45 left, 2 failed'
    """
    rate = through / seconds if seconds > 0 else 0.0
    left = f"{_clock((total - through) / rate)} left" if rate else "? left"
    return f"{label}: {through}/{total} videos, {rate:.1f} videos/s, {left}, {failed} failed"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


@contextmanager
def watch(tally: Tally, total: int, label: str, console: Console) -> Iterator[None]:
    """Show the progress that a tally counts, until the block ends.

    Args:
        tally: Counts what is through.
        total: Videos in all.
        label: What is being extracted.
        console: Where to show it.
    """
    show = _bar if console.is_terminal else _lines
    stop = threading.Event()
    thread = threading.Thread(target=show, args=(tally, total, label, console, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _lines(tally: Tally, total: int, label: str, console: Console, stop: threading.Event) -> None:
    began = time.monotonic()
    shown = 0
    while not stop.wait(_LINE_SECONDS):
        through, failed = tally.counts
        if through != shown:
            seconds = time.monotonic() - began
            console.print(
                progress_line(label, through, failed, total, seconds),
                highlight=False,
                soft_wrap=True,
            )
            shown = through


def _bar(tally: Tally, total: int, label: str, console: Console, stop: threading.Event) -> None:
    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} videos/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, rate=0.0, failed=0)
        while True:
            done = stop.wait(_BAR_SECONDS)
            through, failed = tally.counts
            rate = through / max(time.monotonic() - began, 1e-9)
            progress.update(task, completed=through, failed=failed, rate=rate)
            if done:
                return
