"""Measuring what the units of a video cost while it is extracted, without making all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.units import Frame, Unit, UnitMaker

Emit = Callable[[int, int, int, bytes], None]
_NOTHING = Unit(np.zeros((1, 1), np.uint8))


@dataclass(frozen=True)
class UnitCosts:
    """What the units of one video in one modality cost.

    Attributes:
        num_units: Units that its snippets need.
        num_made: Of these, those really made.
        seconds: Wall time of these: making, encoding and handing them out.
        num_bytes: Of their encoded images.
    """

    num_units: int
    num_made: int
    seconds: float
    num_bytes: int

    @property
    def all_seconds(self) -> float:
        """Wall time of all units, had they been made."""
        return self.seconds * self.num_units / max(self.num_made, 1)

    @property
    def all_bytes(self) -> float:
        """Bytes of all units, had they been made."""
        return self.num_bytes * self.num_units / max(self.num_made, 1)


@dataclass(frozen=True)
class Costs:
    """What one video cost.

    Attributes:
        decode_seconds: Wall time outside all units: opening, decoding, resizing.
        queue_seconds: Of the wall time, units included, that in which the process waited for a
            processor core that others had; 0 where the system does not tell.
        past_queue_seconds: The same of the process before this video.
        units: Of each modality.
    """

    decode_seconds: float
    queue_seconds: float
    past_queue_seconds: float
    units: tuple[UnitCosts, ...]

    @property
    def spent_seconds(self) -> float:
        """Wall time in all that was really spent."""
        return self.decode_seconds + sum(unit.seconds for unit in self.units)


def costs_from(content: dict[str, Any] | None) -> Costs | None:
    """Return costs as ``dataclasses.asdict`` gave them."""
    if content is None:
        return None
    return Costs(**{**content, "units": tuple(UnitCosts(**unit) for unit in content["units"])})


def queue_seconds() -> float:
    """Return how long this thread has waited for a processor core in all; 0 if unknown.

    Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat.
    """
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Meter:
    """Times the units of one video; of each modality it lets only every so many-th be made."""

    def __init__(self, every: Sequence[int]) -> None:
        """Start the clock.

        Args:
            every: For each modality k, at least 1: its first unit, its k-th after that, and so on
                are made.
        """
        self._every = every
        self._began, self._past_queue = time.perf_counter(), queue_seconds()
        self._entered = [0.0] * len(every)
        self._num_units, self._num_made = [0] * len(every), [0] * len(every)
        self._num_bytes = [0] * len(every)
        self._seconds = [0.0] * len(every)
        self._skipped_seconds = 0.0

    def maker(self, place: int, make: UnitMaker) -> UnitMaker:
        """Return what stands in for the unit maker of the modality at that place."""

        def metered(first: Frame, last: Frame) -> Unit:
            self._entered[place] = time.perf_counter()
            makes = self._num_units[place] % self._every[place] == 0
            return make(first, last) if makes else _NOTHING

        return metered

    def emit(self, emit: Emit) -> Emit:
        """Return what stands in for ``emit``: units that were not made are not handed out."""

        def metered(place: int, unit: int, frame: int, data: bytes) -> None:
            made = self._num_units[place] % self._every[place] == 0
            self._num_units[place] += 1
            if made:
                emit(place, unit, frame, data)
                self._num_made[place] += 1
                self._num_bytes[place] += len(data)
                self._seconds[place] += time.perf_counter() - self._entered[place]
            else:
                self._skipped_seconds += time.perf_counter() - self._entered[place]

        return metered

    def costs(self) -> Costs:
        """Stop the clock and return what the video cost."""
        seconds = time.perf_counter() - self._began - self._skipped_seconds - sum(self._seconds)
        queued = queue_seconds() - self._past_queue
        columns = zip(self._num_units, self._num_made, self._seconds, self._num_bytes)
        units = tuple(UnitCosts(*column) for column in columns)
        return Costs(seconds, queued, self._past_queue, units)
