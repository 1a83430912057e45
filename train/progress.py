"""Progress of training and testing: a live bar on a terminal, one plain line an epoch otherwise."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from train.learner import Sums
from tsn_core.listing import count
from tsn_core.notice import say

Item = TypeVar("Item")
_LINE_SECONDS = 30.0


class EpochProgress:
    """Shows batches as they pass, and what every epoch brought."""

    def __init__(
        self, console: Console, epochs: int, done: int = 0, val_subset: str = "val"
    ) -> None:
        """Begin to show.

        Args:
            console: Where.
            epochs: Of the whole training.
            done: So many were finished before.
            val_subset: What the validation videos are called.
        """
        self._console = console
        self._epochs = epochs
        self._val_subset = val_subset
        self._began = time.monotonic()
        self._first = done
        self._bar: Progress | None = None
        self._task: tuple[TaskID, tuple[int, str]] | None = None

    def __enter__(self) -> EpochProgress:
        if self._console.is_terminal and not self._console.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[sums]}"),
                console=self._console,
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def batch(self, epoch: int, subset: str, number: int, total: int, sums: Sums) -> None:
        """Show the place in an epoch.

        Args:
            epoch: 0-based.
            subset: ``train`` or ``val``.
            number: Batches that are through, of ``total``.
            total: Batches of the epoch.
            sums: Over the videos so far.
        """
        if self._bar is None:
            return
        name = self._val_subset if subset == "val" else subset
        if self._task is None or self._task[1] != (epoch, subset):
            if self._task is not None:
                self._bar.remove_task(self._task[0])
            label = f"epoch {epoch + 1}/{self._epochs} {name}"
            task = self._bar.add_task(label, total=total, completed=number, rate="", sums="")
            self._task = task, (epoch, subset)
        task = self._task[0]
        speed = self._bar.tasks[self._bar.task_ids.index(task)].speed
        self._bar.update(
            task,
            completed=number,
            rate=f"{speed:.1f} batches/s" if speed else "",
            sums=f"loss {sums.loss / max(sums.videos, 1):.3f}",
        )

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Print the line of an epoch."""
        done = row["epoch"] - self._first
        seconds = (time.monotonic() - self._began) / done * (self._epochs - row["epoch"])
        self._console.print(
            f"epoch {row['epoch']}/{self._epochs}: loss {row['train_loss']:.3f}, "
            f"top-1 {100 * row['train_top1']:.1f}% | {self._val_subset} loss "
            f"{row['val_loss']:.3f}, top-1 {100 * row['val_top1']:.1f}% | "
            f"{row['duration_seconds']:.1f} s, {seconds / 60:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )


def track(items: Iterable[Item], total: int, label: str, console: Console) -> Iterator[Item]:
    """Yield the items, showing how many are through: a bar, or a line at first and now and then.

    Args:
        items: One for each video.
        total: How many there are.
        label: What happens to them.
        console: Where it is shown.
    """
    if console.is_terminal:
        from rich.progress import track as rich_track

        yield from rich_track(items, label, total=total, console=console, transient=True)
        return
    if not console.quiet:
        say(f"{label}: {count(total, 'video')}")
    began = shown = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= _LINE_SECONDS:
            rate = number / (now - began)
            left = (total - number) / rate / 60
            console.print(
                f"{label}: {number}/{total}, {rate:.1f}/s, {left:.1f} min left",
                highlight=False,
                soft_wrap=True,
            )
            shown = now
