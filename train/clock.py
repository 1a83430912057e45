"""Where the time of an epoch goes: waiting for data, copying, computing, and the rest."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


class Clock:
    """Splits the time since it was made, and what went before an interruption."""

    def __init__(
        self, data: float = 0.0, compute: float = 0.0, duration: float = 0.0, copy: float = 0.0
    ) -> None:
        self._data = data
        self._compute = compute
        self._copy = copy
        self._began = time.perf_counter() - duration

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; the time until each is there was spent waiting for data."""
        iterator = iter(items)
        while True:
            asked = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.add(waiting=time.perf_counter() - asked)
            yield item

    @contextmanager
    def copying(self) -> Iterator[None]:
        """The time within was spent on bringing data to where they are computed with."""
        began = time.perf_counter()
        yield
        self.add(copying=time.perf_counter() - began)

    def add(self, *, waiting: float = 0.0, copying: float = 0.0) -> None:
        """Count seconds in which nothing could be computed, for want of a batch."""
        self._data += waiting
        self._copy += copying

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The time within was spent computing, apart from waiting and copying in it."""
        began, before = time.perf_counter(), self._data + self._copy
        yield
        self._compute += time.perf_counter() - began - (self._data + self._copy - before)

    def seconds(self) -> list[float]:
        """Return data, compute, duration and copy, from which a clock goes on."""
        return [self._data, self._compute, time.perf_counter() - self._began, self._copy]

    def columns(self) -> dict[str, float]:
        """Return the columns of ``metrics.csv``; the first is the sum of the others."""
        data, compute, duration, copy = self.seconds()
        return {
            "duration_seconds": duration,
            "data_seconds": data,
            "copy_seconds": copy,
            "compute_seconds": compute,
            "other_seconds": duration - data - copy - compute,
        }
