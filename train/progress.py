"""Progress of training and testing: a live bar on a terminal, one plain line an epoch otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console

Item = TypeVar("Item")
_LINE_SECONDS = 30.0


class EpochProgress:
    """Shows batches as they pass, and what every epoch brought."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._console = console
        self._epochs = epochs
        self._began = time.monotonic()
        self._done = 0

    def batches(self, epoch: int, subset: str) -> Callable[[int, int], None]:
        """Return a function of (batch, batches) that shows the place in an epoch."""
        began = time.monotonic()

        def show(batch: int, total: int) -> None:
            if self._console.is_terminal:
                rate = batch / max(time.monotonic() - began, 1e-9)
                text = (
                    f"epoch {epoch + 1}/{self._epochs} {subset} {batch}/{total} "
                    f"{rate:.1f} batches/s"
                )
                self._console.print(text.ljust(70), end="\r", highlight=False, soft_wrap=True)

        return show

    def epoch_done(self, row: dict[str, Any], val_subset: str) -> None:
        """Print the line of an epoch."""
        self._done += 1
        seconds = (time.monotonic() - self._began) / self._done * (self._epochs - row["epoch"])
        self._console.print(
            f"epoch {row['epoch']}/{self._epochs}: loss {row['train_loss']:.3f}, "
            f"top-1 {100 * row['train_top1']:.1f}% | {val_subset} loss {row['val_loss']:.3f}, "
            f"top-1 {100 * row['val_top1']:.1f}% | {row['duration_seconds']:.1f} s, "
            f"{seconds / 60:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )


def track(items: Iterable[Item], total: int, label: str, console: Console) -> Iterator[Item]:
    """Yield the items, showing how many are through: a bar, or a line now and then."""
    if console.is_terminal:
        from rich.progress import track as rich_track

        yield from rich_track(items, label, total=total, console=console, transient=True)
        return
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
