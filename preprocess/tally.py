"""What an extraction has done so far: counts, recent rate, remaining time."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from preprocess.job import JobReport, VideoReport
from tsn_core.index import ShardEntry

_RECENT_SECONDS = 60.0
_RECENT_ARRIVALS = 10  # at least: one every few minutes is no reason for a rate of zero
_GRAIN_SECONDS = 1.0  # videos that are through within this time count as one arrival


@dataclass(frozen=True)
class ModalityCounts:
    """What was made of one modality.

    Attributes:
        shards: That are finished.
        shards_to_make: In all.
        num_bytes: Of the finished ones.
        failures: Videos that the finished ones lack.
    """

    shards: int = 0
    shards_to_make: int = 0
    num_bytes: int = 0
    failures: int = 0


@dataclass(frozen=True)
class Counts:
    """What an extraction has done at one moment.

    Attributes:
        to_extract: Videos in all, those through included.
        extracted: Videos that were.
        failed: Videos that could not be.
        copied: Videos taken from older shards, which are not among those to extract.
        retried: Videos that were tried once more because their process was lost.
        noted: Videos extracted that something is odd about.
        stages: How many failed where.
        modalities: What was made of each, by folder; those of which nothing is to make are left
            out.
        seconds: Since it began.
        rate: Videos per second, of late.
        seconds_left: As it looks now; None if nobody can say.
    """

    to_extract: int
    extracted: int
    failed: int
    copied: int
    retried: int
    noted: int
    stages: Mapping[str, int]
    modalities: Mapping[str, ModalityCounts]
    seconds: float
    rate: float
    seconds_left: float | None

    @property
    def through(self) -> int:
        """Videos extracted or failed."""
        return self.extracted + self.failed


class Pace:
    """How fast videos get through, which changes; not for two threads at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._times = [-math.inf]  # of arrivals, and how many videos were through with each
        self._totals = [0]

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._began

    def add(self) -> None:
        """Count a video that is through."""
        now = self._clock()
        total = self._totals[-1] + 1
        if now - self._times[-1] < _GRAIN_SECONDS:
            self._totals[-1] = total
        else:
            self._times.append(now)
            self._totals.append(total)

    @property
    def rate(self) -> float:
        """Videos per second in the last minute, or since the last ten arrivals if that is longer.

        A cluster tells of a shard's videos all at once: that is one arrival.
        """
        return self._rate_since(self._clock() - _RECENT_SECONDS)

    def seconds_left(self, videos: int) -> float | None:
        """Return how long further videos take, at the rate of the second half of the time so far.

        Videos differ in length, so a minute says little; and the first minutes are no measure of
        the rest either, as functions were compiled then, or another number of workers was there.
        """
        if not videos:
            return 0.0
        rate = self._rate_since(self._began + self.seconds / 2)
        return videos / rate if rate else None

    def _rate_since(self, start: float) -> float:
        start = max(min(start, self._times[-1 - _RECENT_ARRIVALS :][0]), self._began)
        seconds = self._clock() - start
        videos = self._totals[-1] - self._totals[bisect_right(self._times, start) - 1]
        return videos / seconds if seconds > 0 else 0.0


class Tally:
    """Counts videos and shards; threads may share it."""

    def __init__(
        self,
        to_extract: int,
        shards_to_make: Mapping[str, int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin at zero, now.

        Args:
            to_extract: Videos, as far as is known beforehand.
            shards_to_make: By folder.
            clock: Returns seconds.
        """
        self._lock = threading.Lock()
        self._to_extract = to_extract
        self._results: Counter[str] = Counter()
        self._stages: Counter[str] = Counter()
        self._modalities = {
            folder: ModalityCounts(shards_to_make=number)
            for folder, number in shards_to_make.items()
            if number
        }
        self._pace = Pace(clock)

    def video(self, video: VideoReport) -> None:
        """Count a video that is through; one that was merely copied says nothing of the rate."""
        with self._lock:
            self._results[video.result] += 1
            self._results["noted"] += video.note is not None
            self._results["retried"] += video.tries > 1
            if video.stage is not None:
                self._stages[video.stage] += 1
            if video.tries:
                self._pace.add()

    def shard(self, report: JobReport) -> None:
        """Count a shard that is finished, in every modality."""
        for folder, entry in report.entries.items():
            self.made(folder, entry)

    def made(self, folder: str, entry: ShardEntry) -> None:
        """Count a shard of one modality that is finished."""
        with self._lock:
            had = self._modalities.get(folder, ModalityCounts())
            self._modalities[folder] = replace(
                had,
                shards=had.shards + 1,
                num_bytes=had.num_bytes + entry.num_bytes,
                failures=had.failures + entry.num_failures,
            )

    @property
    def counts(self) -> Counts:
        """What was counted until now."""
        with self._lock:
            extracted, failed = self._results["extracted"], self._results["failed"]
            # more than was known beforehand if copying met a damaged shard
            to_extract = max(self._to_extract, extracted + failed)
            return Counts(
                to_extract=to_extract,
                extracted=extracted,
                failed=failed,
                copied=self._results["copied"],
                retried=self._results["retried"],
                noted=self._results["noted"],
                stages=dict(sorted(self._stages.items())),
                modalities=dict(self._modalities),
                seconds=self._pace.seconds,
                rate=self._pace.rate,
                seconds_left=self._pace.seconds_left(to_extract - extracted - failed),
            )
