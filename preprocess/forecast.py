"""What extracting a whole dataset will cost, from what was measured of a few of its videos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocess.measurements import Probe, Survey
from preprocess.planning import Estimate, efficiency, estimate, failure_interval, makespan

_SHARD_BYTES = 9000  # of a shard without a single video
_BUSY_SHARE = 0.1  # of the time waited for a core, from which on it is worth telling
TOGETHER = "together"


@dataclass(frozen=True)
class Schedule:
    """A number of workers, and when they are done.

    Attributes:
        num_workers: How many.
        seconds: Until the last one is done.
        bytes_per_second: What all of them write into the folder of the shards, on average.
        idle_share: Of the workers' time, that in which they wait for the last of them.
    """

    num_workers: int
    seconds: float
    bytes_per_second: float
    idle_share: float


@dataclass(frozen=True)
class Check:
    """What was foretold of other videos, over what they then took, minus 1."""

    seconds: float
    num_bytes: float


@dataclass(frozen=True)
class Forecast:
    """What one modality, or all of them from one decode, will cost.

    Attributes:
        name: Folder of the modality, or ``TOGETHER``.
        seconds: Of one worker alone on a machine like this one, without starting it.
        num_bytes: Of the shards.
        decode_seconds: Mean per video: opening, decoding, resizing.
        own_seconds: Mean per video: everything else.
        peak_bytes: Largest resident memory of a worker.
        start_seconds: What every worker takes once.
        efficiency: Speed of a worker on a machine with as many workers as cores.
        schedules: By number of workers.
        core_seconds: Of processor cores, on machines that are full.
        check: Error found with other videos; None where there are none.
    """

    name: str
    seconds: Estimate
    num_bytes: Estimate
    decode_seconds: float
    own_seconds: float
    peak_bytes: int
    start_seconds: float
    efficiency: float
    schedules: tuple[Schedule, ...]
    core_seconds: float
    check: Check | None


@dataclass(frozen=True)
class Outlook:
    """What is foretold of a dataset.

    Attributes:
        rows: One for each modality and, where there are several, one for all together.
        num_videos: Whose files are there.
        num_shards: That they are cut into.
        failed: How many videos fail, as far as that can be foretold.
        failed_interval: 90 % interval of that number.
        busy_share: Of the time in which other programs had the cores; None if that is little.
    """

    rows: tuple[Forecast, ...]
    num_videos: int
    num_shards: int
    failed: float
    failed_interval: tuple[float, float]
    busy_share: float | None


def forecast(
    survey: Survey,
    shards: Sequence[int],
    workers: Sequence[int],
    num_cores: int,
    generator: np.random.Generator,
) -> Outlook:
    """Foretell what a dataset costs.

    Args:
        survey: What was measured.
        shards: Number of the shard of every source.
        workers: Numbers of workers to foretell for.
        num_cores: Of this machine.
        generator: Of the intervals.
    """
    failed = len(survey.failures)
    share = 1 - failed / survey.num_tried
    maker = _Maker(survey, np.asarray(shards), tuple(workers), num_cores, generator, share)
    rows = [maker.row(n) for n in range(len(survey.modalities))]
    if len(rows) > 1:
        rows.append(maker.row(None))
    untried = len(survey.sources) - survey.num_tried
    low, high = failure_interval(failed, survey.num_tried)
    busy = sum(p.queue_seconds for p in survey.probes) / sum(p.spent_seconds for p in survey.probes)
    return Outlook(
        tuple(rows),
        len(survey.sources),
        maker.num_shards,
        failed + (1 - share) * untried,
        (failed + low * untried, failed + high * untried),
        busy if busy > _BUSY_SHARE else None,
    )


class _Maker:
    """Makes the forecast of one modality after the other."""

    def __init__(
        self,
        survey: Survey,
        shards: np.ndarray,
        workers: tuple[int, ...],
        num_cores: int,
        generator: np.random.Generator,
        share: float,
    ) -> None:
        self._survey = survey
        self._shards = np.unique(shards, return_inverse=True)[1]
        self.num_shards = int(self._shards.max()) + 1
        self._workers = workers
        self._num_cores = num_cores
        self._generator = generator
        self._share = share
        self._sizes = np.array([source.num_bytes for source in survey.sources])

    def row(self, modality: int | None) -> Forecast:
        """Return the forecast of one modality, or of all together."""
        survey, probes = self._survey, self._survey.probes
        process = survey.together if modality is None else survey.alone[modality]
        seconds = self._estimate(self._seconds(probes, modality))
        num_bytes = self._estimate(_bytes(probes, modality))
        decode = float(np.mean([process.decode_share * probe.decode_seconds for probe in probes]))
        full = self._full_speed(modality)
        name = TOGETHER if modality is None else survey.modalities[modality].folder
        num_folders = len(survey.modalities) if modality is None else 1
        written = num_bytes.total + num_folders * self.num_shards * _SHARD_BYTES
        schedules = tuple(
            self._schedule(number, seconds, written, process.start_seconds, full)
            for number in self._workers
        )
        return Forecast(
            name=name,
            seconds=seconds,
            num_bytes=_shifted(num_bytes, written - num_bytes.total),
            decode_seconds=decode,
            own_seconds=float(np.mean(self._seconds(probes, modality))) - decode,
            peak_bytes=process.peak_bytes,
            start_seconds=process.start_seconds,
            efficiency=full,
            schedules=schedules,
            core_seconds=seconds.total / full,
            check=self._check(modality, seconds, num_bytes, full),
        )

    def _seconds(self, probes: Sequence[Probe], modality: int | None) -> np.ndarray:
        if modality is None:
            return np.array([probe.seconds for probe in probes])
        share = self._survey.alone[modality].decode_share
        return np.array(
            [share * probe.decode_seconds + probe.unit_seconds[modality] for probe in probes]
        )

    def _estimate(self, costs: np.ndarray) -> Estimate:
        places = [probe.place for probe in self._survey.probes]
        failed = [failure.place for failure in self._survey.failures]
        return estimate(
            self._sizes, places, costs, self._generator, failed=failed, share=self._share
        )

    def _full_speed(self, modality: int | None) -> float:
        """Return the speed of a worker on a full machine, over that of one alone."""
        crowd, probes = self._survey.crowd, self._survey.probes
        parts = range(len(crowd.units)) if modality is None else [modality]
        share = 1.0 if modality is None else self._survey.alone[modality].decode_share
        decode = share * sum(probe.decode_seconds for probe in probes)
        units = [(sum(probe.unit_seconds[n] for probe in probes), crowd.units[n]) for n in parts]
        one = decode + sum(seconds for seconds, _ in units)
        many = decode / crowd.decode + sum(seconds / speed for seconds, speed in units)
        return one / many if many else 1.0

    def _schedule(
        self, number: int, seconds: Estimate, written: float, start: float, full: float
    ) -> Schedule:
        speed = efficiency(number, self._num_cores, full)
        jobs = np.bincount(self._shards, seconds.each) / speed
        last = makespan(jobs.tolist(), number)
        idle = 1 - float(jobs.sum()) / (number * last) if last else 0.0
        return Schedule(number, start + last, written / (start + last) if last else 0.0, idle)

    def _check(
        self, modality: int | None, seconds: Estimate, num_bytes: Estimate, full: float
    ) -> Check | None:
        checks = self._survey.checks
        if not checks:
            return None
        sizes = self._sizes[[probe.place for probe in checks]].astype(np.float64)
        speed = efficiency(self._survey.check_workers, self._num_cores, full)
        took, gave = self._seconds(checks, modality).sum(), _bytes(checks, modality).sum()
        return Check(
            float(seconds.law(sizes).sum() / speed / took - 1) if took else math.nan,
            float(num_bytes.law(sizes).sum() / gave - 1) if gave else math.nan,
        )


def _bytes(probes: Sequence[Probe], modality: int | None) -> np.ndarray:
    if modality is None:
        return np.array([sum(probe.num_bytes) for probe in probes])
    return np.array([probe.num_bytes[modality] for probe in probes])


def _shifted(found: Estimate, more: float) -> Estimate:
    """Return an estimate with something added that is known for sure."""
    content = {**vars(found), "total": found.total + more}
    return Estimate(**{**content, "low": found.low + more, "high": found.high + more})
