"""Progress of a download: a bar on a terminal, a line now and then otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from preprocess.progress import clock_text, size_text

_LINE_SECONDS = 10.0

Show = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Display:
    """Shows how far things are.

    Attributes:
        console: Where.
        clock: Tells seconds.
    """

    console: Console
    clock: Callable[[], float] = time.monotonic

    def tell(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, label: str) -> Iterator[Show]:
        """Yield a function that shows how many bytes are through, and of how many (or None)."""
        if self.console.is_terminal:
            with self._bar(label) as show:
                yield show
        else:
            yield self._lines(label)

    @contextmanager
    def _bar(self, label: str) -> Iterator[Show]:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(label, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def _lines(self, label: str) -> Show:
        start = shown = self.clock()
        first: int | None = None

        def show(done: int, total: int | None) -> None:
            nonlocal shown, first
            first = done if first is None else first
            now = self.clock()
            if now - shown >= _LINE_SECONDS:
                shown = now
                self.tell(progress_line(label, done, total, (done - first) / (now - start)))

        return show


def progress_line(label: str, done: int, total: int | None, rate: float) -> str:
    """Return one plain line of progress.

    Args:
        label: Of what.
        done: Bytes so far.
        total: Bytes in the end, or None where nobody knows.
        rate: Bytes a second.

    Examples:
        >>> progress_line("a.rar", 50_000_000, 2_000_000_000, 1e7)
        'a.rar: 50.0 MB of 2.00 GB, 10.0 MB/s, 0:03:15 left'
        >>> progress_line("a.rar", 50_000_000, None, 0.0)
        'a.rar: 50.0 MB, 0.0 MB/s'
    """
    of = "" if total is None else f" of {size_text(total)}"
    left = f", {clock_text((total - done) / rate)} left" if total is not None and rate > 0 else ""
    return f"{label}: {size_text(done)}{of}, {size_text(round(rate))}/s{left}"
