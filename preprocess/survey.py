"""Measuring a few videos of a dataset: what they cost, alone, together and side by side."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from preprocess.extraction import Extracted
from preprocess.isolation import VideoProcess
from preprocess.limits import Limits
from preprocess.measurements import Crowd, Failure, Probe, Process, Source, Survey
from preprocess.planning import sample_sizes, stratified
from preprocess.stages import Stages
from preprocess.task import Task
from tsn_core.errors import InputError, VideoError
from tsn_core.listing import count
from tsn_core.modality import StoredModality
from tsn_core.notice import say
from tsn_core.sampling import SnippetPlan

_SAMPLE_SHARE, _CROWD_SHARE, _CHECK_SHARE = 0.5, 0.15, 0.25  # of the time to measure for
_PILOT_EVERY = 25  # units; few enough to be quick, enough to tell what one costs
_NUM_ALONE = 3  # videos on which each modality is measured in a process of its own
_FEWEST_CHECKS = 2
_IMAGE_BYTES, _SNIPPET_BYTES, _VIDEO_BYTES = 12, 8, 80  # in the tables of a shard


def thinning(costs: Sequence[float], budget: float) -> tuple[int, ...]:
    """Return which units to make so that the modalities of a video cost no more than a budget.

    The cheap ones are made in full, the others cost about the same.

    Args:
        costs: Of each modality, all its units.
        budget: For all together, in the same unit.

    Returns:
        For each modality k: every k-th unit is made.

    Examples:
        >>> thinning([1.0, 2.0, 60.0], 13.0)
        (1, 1, 6)
    """
    level, left = 0.0, budget
    for rank, cost in enumerate(sorted(costs)):
        level = left / (len(costs) - rank)
        left -= min(cost, level)
    return tuple(max(-int(-cost // max(level, 1e-9)), 1) for cost in costs)


class Surveyor:
    """Measures videos of one dataset."""

    def __init__(
        self,
        sources: Sequence[Source],
        modalities: Sequence[StoredModality],
        plan: SnippetPlan,
        limits: Limits,
        stages: Stages,
    ) -> None:
        self._sources = tuple(sources)
        self._modalities = tuple(modalities)
        self._plan = plan
        self._limits = limits
        self._stages = stages
        self._failures: dict[int, Failure] = {}
        self._open: set[VideoProcess] = set()
        self._tried: set[int] = set()

    def survey(
        self, *, num_sample: int, seconds: float, num_cores: int, generator: np.random.Generator
    ) -> Survey:
        """Measure a sample, and others to check it with.

        Args:
            num_sample: How many to measure, where there are enough.
            seconds: About how long to take.
            num_cores: How many workers to try side by side.
            generator: Chooses the videos.

        Raises:
            InputError: No video of the sample can be extracted.
            TSNError: No process can be started.
        """
        say(f"measuring for about {seconds:g} s, longer where other programs are busy")
        began = time.perf_counter()
        sizes = [source.num_bytes for source in self._sources]
        num_sample, num_checks = sample_sizes(len(sizes), num_sample)
        sample = stratified(sizes, num_sample, generator)
        others = sorted(set(range(len(sizes))).difference(sample))
        checks = [others[n] for n in stratified([sizes[k] for k in others], num_checks, generator)]
        budget = seconds * _SAMPLE_SHARE / num_sample
        probes, every, together = self._measure(sample, budget)
        alone = self._each_alone(probes, together)
        crowd = self._crowd(probes, every, num_cores, seconds * _CROWD_SHARE)
        checked, check_workers = self._check(
            checks, probes, crowd, num_cores, seconds * _CHECK_SHARE
        )
        return Survey(
            self._sources,
            self._modalities,
            len(self._tried),
            probes,
            every,
            tuple(self._failures.values()),
            together,
            alone,
            crowd,
            checked,
            check_workers,
            time.perf_counter() - began,
        )

    def _measure(
        self, sample: Sequence[int], budget: float
    ) -> tuple[tuple[Probe, ...], tuple[int, ...], Process]:
        """Measure all modalities together, one video after the other."""
        every, start = (1,) * len(self._modalities), None
        probes = []
        label = f"measuring {count(len(sample), 'video')}, one at a time"
        with self._stages.stage(label, len(sample)) as advance, self._process() as process:
            for place in _from_the_middle(sample):
                if start is None:
                    pilot = self._started(process, place, self._modalities)
                    if pilot is not None:
                        start, first = pilot
                        left = max(budget - first.decode_seconds, budget / 5)
                        every = thinning(first.unit_seconds, left)
                probe = start is not None and self._probe(process, place, self._modalities, every)
                if probe:
                    probes.append(probe)
                advance()
            if start is None:
                first_failure = next(iter(self._failures.values()))
                raise InputError(
                    f"none of {count(len(sample), 'sampled video')} can be extracted; "
                    f"{first_failure.name}: {first_failure.reason}"
                )
            probes.sort(key=lambda probe: probe.place)
            return tuple(probes), every, Process(1.0, start, process.peak_bytes)

    def _started(
        self, process: VideoProcess, place: int, modalities: Sequence[StoredModality]
    ) -> tuple[float, Probe] | None:
        """Return what the first video of a process costs beyond the same one again, and that."""
        every = (_PILOT_EVERY,) * len(modalities)
        first = self._probe(process, place, modalities, every)
        again = first and self._probe(process, place, modalities, every)
        if not (first and again):
            return None
        late = _measured_seconds(first) - _measured_seconds(again)
        return first.start_seconds + max(late, 0.0), again

    def _each_alone(self, probes: Sequence[Probe], together: Process) -> tuple[Process, ...]:
        """Measure each modality in a process that does nothing else: its memory is its own."""
        if len(self._modalities) == 1:
            return (together,)
        chosen = sorted(probes, key=lambda probe: -probe.num_pixels)[:_NUM_ALONE]
        found = []
        names = ", ".join(modality.folder for modality in self._modalities)
        label = f"measuring each by itself: {names}"
        with self._stages.stage(label, len(self._modalities)) as advance:
            for modality in self._modalities:
                with self._process() as process:
                    start, decode, expected = 0.0, 0.0, 0.0
                    for known in chosen:
                        if not expected:
                            pilot = self._started(process, known.place, [modality])
                            start, probe = pilot or (0.0, None)
                        else:
                            probe = self._probe(process, known.place, [modality], (_PILOT_EVERY,))
                        if probe:
                            decode += probe.decode_seconds
                            expected += known.decode_seconds
                    share = min(decode / expected, 1.0) if expected else 1.0
                    found.append(Process(share, start, process.peak_bytes))
                advance()
        return tuple(found)

    def _crowd(
        self, probes: Sequence[Probe], every: tuple[int, ...], num_workers: int, budget: float
    ) -> Crowd:
        """Measure the same videos by workers side by side, for as long as all of them are busy."""
        nobody = Crowd(1, 1.0, (1.0,) * len(self._modalities))
        if num_workers == 1:
            return nobody
        mean = float(np.mean([probe.spent_seconds for probe in probes]))
        number = min(max(round(budget / mean), 2), max(len(probes), 2))
        known = {probe.place: probe for probe in probes}
        over = threading.Event()
        label = f"measuring {num_workers} workers side by side"
        with self._stages.stage(label, num_workers * number) as advance:

            def work(worker: int, gate: threading.Barrier) -> list[Probe]:
                found: list[Probe] = []
                with self._process() as process:
                    order = [probes[(worker + n) % len(probes)].place for n in range(number)]
                    self._started(process, order[0], self._modalities)
                    gate.wait()
                    for place in order:
                        probe = self._probe(process, place, self._modalities, every)
                        if over.is_set():  # another has ended: this one was not in full company
                            break
                        if probe:
                            found.append(probe)
                        advance()
                    over.set()
                return found

            found = self._side_by_side(num_workers, work)
        if not found:
            return nobody
        pairs = [(known[probe.place], probe) for probe in found]
        return Crowd(
            num_workers,
            _speed([(one.decode_seconds, many.decode_seconds) for one, many in pairs]),
            tuple(
                _speed([(one.unit_seconds[n], many.unit_seconds[n]) for one, many in pairs])
                for n in range(len(self._modalities))
            ),
        )

    def _check(
        self,
        places: Sequence[int],
        probes: Sequence[Probe],
        crowd: Crowd,
        num_cores: int,
        budget: float,
    ) -> tuple[tuple[Probe, ...], int]:
        """Extract other videos in full, as many as there is time for."""
        if not places:
            return (), 1
        mean = float(np.mean([probe.seconds for probe in probes])) / min(crowd.decode, *crowd.units)
        num_workers = min(num_cores, len(places))
        number = min(max(int(budget * num_workers / mean), _FEWEST_CHECKS), len(places))
        num_workers = min(num_workers, number)
        every = (1,) * len(self._modalities)
        queue = iter(_from_the_middle(places)[:number])
        lock = threading.Lock()
        label = f"checking with {count(number, 'other video')}, extracted in full"
        with self._stages.stage(label, number) as advance:

            def work(_: int, gate: threading.Barrier) -> list[Probe]:
                found: list[Probe] = []
                with self._process() as process:
                    self._started(process, probes[0].place, self._modalities)
                    gate.wait()
                    while True:
                        with lock:
                            place = next(queue, None)
                        if place is None:
                            return found
                        probe = self._probe(process, place, self._modalities, every)
                        if probe:
                            found.append(probe)
                        advance()

            return tuple(self._side_by_side(num_workers, work)), num_workers

    def _side_by_side(
        self, num_workers: int, work: Callable[[int, threading.Barrier], list[Probe]]
    ) -> list[Probe]:
        """Run a function in threads, which meet at a barrier; the first real error ends all."""
        gate = threading.Barrier(num_workers)

        def guarded(worker: int) -> list[Probe]:
            try:
                return work(worker, gate)
            except BaseException:
                gate.abort()
                raise

        with ThreadPoolExecutor(num_workers) as threads:
            tasks = [threads.submit(guarded, worker) for worker in range(num_workers)]
            try:
                errors = [error for error in (task.exception() for task in tasks) if error]
            except BaseException:  # interrupted
                gate.abort()
                for process in tuple(self._open):
                    process.close()
                raise
        errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
        if errors:
            raise errors[0]
        return [probe for task in tasks for probe in task.result()]

    @contextmanager
    def _process(self) -> Iterator[VideoProcess]:
        """Lend a fresh process, and end it."""
        process = VideoProcess()
        self._open.add(process)
        try:
            yield process
        finally:
            self._open.discard(process)
            process.dispose()

    def _probe(
        self,
        process: VideoProcess,
        place: int,
        modalities: Sequence[StoredModality],
        every: tuple[int, ...],
    ) -> Probe | None:
        """Extract a video and keep nothing but what it cost; None if it fails, which is noted."""
        source = self._sources[place]
        self._tried.add(place)
        task = Task(source.path, self._plan, tuple(modalities), self._limits, every)
        began = time.perf_counter()
        try:
            extracted = process.extract(task, _discard)
        except VideoError as error:
            stage = error.stage or "decode"
            self._failures.setdefault(place, Failure(place, source.name, f"{stage}: {error}"))
            return None
        return _probe_of(place, extracted, time.perf_counter() - began)


def _discard(place: int, unit: int, frame: int, data: bytes) -> None:
    """Take an image as a shard's writer would, which sums up its bytes, and forget it."""
    zlib.crc32(data)


def _probe_of(place: int, extracted: Extracted, seconds: float) -> Probe:
    costs = extracted.costs
    assert costs is not None
    rows = extracted.rows
    made = sum(unit.seconds for unit in costs.units)
    child_seconds = costs.decode_seconds + made
    queued = min(costs.queue_seconds, child_seconds)
    awake = 1 - queued / child_seconds if child_seconds else 1.0
    return Probe(
        place,
        costs.decode_seconds * awake,
        tuple(unit.all_seconds * awake for unit in costs.units),
        tuple(
            unit.all_bytes
            + _IMAGE_BYTES * unit.num_units
            + _SNIPPET_BYTES * len(row.starts)
            + _VIDEO_BYTES
            for unit, row in zip(costs.units, rows)
        ),
        seconds,
        queued,
        max(seconds - costs.past_queue_seconds - child_seconds, 0.0),
        rows[0].size[0] * rows[0].size[1],
    )


def _measured_seconds(probe: Probe) -> float:
    return probe.spent_seconds - probe.queue_seconds - probe.start_seconds


def _from_the_middle(places: Sequence[int]) -> list[int]:
    """Return places in the order of their distance from the middle: a usual video comes first."""
    middle = (len(places) - 1) / 2
    return [places[n] for n in sorted(range(len(places)), key=lambda n: abs(n - middle))]


def _speed(pairs: Sequence[tuple[float, float]]) -> float:
    """Return how fast many workers are, from (seconds of one, seconds of one of many)."""
    one, many = (sum(column) for column in zip(*pairs))
    return min(one / many, 1.0) if many > 0 and one > 0 else 1.0
