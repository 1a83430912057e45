"""One job: the videos of one shard, in every modality whose shard has to be made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preprocess.devices import CPU
from preprocess.flow_method import method_of
from preprocess.flow_pool import lent_device, usage_of
from preprocess.flow_usage import FlowUsage
from preprocess.isolation import LostProcess, borrowed_process
from preprocess.limits import Limits
from preprocess.sources import Stamp, is_unchanged, stamp_of
from preprocess.task import Extractor, InProcess, Task
from tsn_core.errors import ShardError, UnreadableError, VideoError
from tsn_core.index import ShardEntry, shard_entry
from tsn_core.manifest import Record
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader
from tsn_core.shard_reader import Shard
from tsn_core.shard_writer import ShardWriter

_TRIES = 2  # of a video whose process is lost: the second one in a fresh process


@dataclass(frozen=True)
class Target:
    """A shard to make.

    Attributes:
        path: Of the file.
        header: Its root attributes.
        reuse: Whether videos may be copied from the shard that is at ``path`` now, which was made
            with the same settings.
    """

    path: Path
    header: ShardHeader
    reuse: bool = False


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs for one shard; travels to other processes.

    Attributes:
        number: Of the shard.
        records: Videos of the shard, in order.
        data: Folder that their names are relative to.
        plan: Which snippets to store.
        targets: The shard of each modality that has to be made.
        fresh: Names of the videos that must not be copied from older shards.
        sources: What the others' source files were when that was decided; a video whose file has
            changed since is not copied either.
        limits: What one video may cost.
        isolated: Whether videos are extracted in a process of their own.
        check_hash: Whether sources of any size are hashed.
        device: Where flow that is computed in batches is computed; ``cuda`` and lists mean one of
            the machine's own.
    """

    number: int
    records: tuple[Record, ...]
    data: Path
    plan: SnippetPlan
    targets: tuple[Target, ...]
    fresh: frozenset[str] = frozenset()
    sources: Mapping[str, Stamp | None] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    isolated: bool = True
    check_hash: bool = False
    device: str = CPU

    def __str__(self) -> str:
        return f"shard {self.number} of {self.targets[0].header.dataset}"

    @property
    def needs_device(self) -> bool:
        """Whether some of its flow is computed in batches."""
        return any(method_of(target.header.modality) is not None for target in self.targets)

    @property
    def num_to_extract(self) -> int:
        """Videos that cannot be copied, as far as is known beforehand."""
        everything = not all(target.reuse for target in self.targets)
        names = [record.name for record in self.records]
        return len(names) if everything else len(self.fresh.intersection(names))


@dataclass(frozen=True)
class VideoReport:
    """What became of one video.

    Attributes:
        name: Of the video.
        stage: Where it failed; None if it did not.
        reason: Why it failed, one line.
        note: What is odd about it, though it was extracted.
        seconds: Wall time.
        tries: How often it was tried; 0 if it was copied from older shards.
        num_frames: Frames decoded; 0 if it failed or was copied.
        peak_bytes: Largest resident memory so far of the process that extracted it; 0 if unknown.
        lost: Why processes were lost that tried it before the last one did.
        flow_seconds: Of ``seconds``, in which its process waited for flow that is computed in
            batches.
    """

    name: str
    stage: str | None = None
    reason: str | None = None
    note: str | None = None
    seconds: float = 0.0
    tries: int = 1
    num_frames: int = 0
    peak_bytes: int = 0
    lost: tuple[str, ...] = ()
    flow_seconds: float = 0.0

    @property
    def result(self) -> str:
        """Return ``extracted``, ``failed`` or ``copied``."""
        if self.stage is not None:
            return "failed"
        return "extracted" if self.tries else "copied"


@dataclass(frozen=True)
class JobReport:
    """What a job did.

    Attributes:
        number: Of the shard.
        entries: What the index says of the shard, by the modality's folder.
        videos: What became of each video.
        stamps: What each source was when it was read, by name.
        seconds: Wall time.
        flow: What computed flow in batches at its beginning, and how busy it had been then, and
            at its end; None where nothing did.
    """

    number: int
    entries: dict[str, ShardEntry]
    videos: tuple[VideoReport, ...]
    stamps: dict[str, Stamp | None]
    seconds: float
    flow: tuple[FlowUsage | None, FlowUsage | None] = (None, None)


def run_job(job: Job, seen: Callable[[VideoReport], None] | None = None) -> JobReport:
    """Extract the videos of one shard and write it, in each of the job's modalities.

    A video that fails, for whatever reason, is recorded in the shard and the next one is taken.

    Args:
        job: What to do.
        seen: Is told of every video as soon as it is through.

    Raises:
        OutputError: A shard cannot be written.
    """
    began = time.perf_counter()
    videos, stamps = [], {}
    with ExitStack() as stack:
        outputs = [
            _Output(stack.enter_context(ShardWriter(target.path, target.header)), target)
            for target in job.targets
        ]
        device = stack.enter_context(lent_device(job.device)) if job.needs_device else None
        before = device and usage_of(device, job.isolated)
        extractor = stack.enter_context(borrowed_process()) if job.isolated else InProcess()
        sources = _Sources(job, outputs, device)
        for record in job.records:
            stamp = sources.stamp(record)
            video = _extract(job, record, outputs, extractor, sources)
            if video.stage is not None and is_unchanged(job.data / record.name, None):
                stamp = None  # gone meanwhile: when it is back, that is a change
            if not video.tries and stamp is None:  # gone, but what was made of it is still there
                stamp = job.sources.get(record.name)
            stamps[record.name] = stamp
            videos.append(video)
            if seen is not None:
                seen(video)
        entries = {output.folder: output.finish() for output in outputs}
        after = device and usage_of(device, job.isolated)
    seconds = time.perf_counter() - began
    return JobReport(
        job.number, entries, tuple(videos), stamps, seconds, (before or None, after or None)
    )


class _Output:
    """The shard of one modality that is being made, and the older one that it may take from."""

    def __init__(self, writer: ShardWriter, target: Target) -> None:
        self.writer = writer
        self.modality = target.header.modality
        self.folder = self.modality.folder
        self._target = target
        self._places: dict[str, int] = {}
        self._failed: dict[str, tuple[str, str]] = {}
        if target.reuse:
            try:
                self._old = Shard(target.path)
            except UnreadableError:
                raise
            except ShardError:  # damaged: everything is made anew
                return
            tables = self._old.tables
            if tables.crc32() != self._old.table_crc32:
                return
            self._places = {name: place for place, name in enumerate(tables.video_name)}
            failures = zip(tables.failed_stage, tables.failed_reason)
            self._failed = dict(zip(tables.failed_name, failures))

    def has(self, record: Record) -> bool:
        """Return whether the older shard knows of a video."""
        return record.name in self._places or record.name in self._failed

    def copy(self, record: Record) -> bool:
        """Take a video, or its failure, from the older shard; return whether that was possible."""
        if record.name in self._places:
            try:
                self.writer.copy_video(self._old, self._places[record.name], record.label)
            except ShardError:  # its images are damaged
                return False
            return True
        if record.name in self._failed:
            self.writer.drop_video(record.name, *self._failed[record.name])
            return True
        return False

    def finish(self) -> ShardEntry:
        """Write the shard and return what the index says of it."""
        return shard_entry(self._target.path, self._target.header, self.writer.finish())


class _Sources:
    """The files of a job's videos, looked at while the one before is being extracted."""

    def __init__(self, job: Job, outputs: list[_Output], device: str | None) -> None:
        self._job = job
        self._device = device
        self._outputs = outputs
        names = (record.name for record in job.records)
        self._following = dict(zip(names, job.records[1:]))
        self._now: Record | None = None
        self._stamp: Stamp | None = None
        self._next: tuple[Record, Stamp | None] | None = None

    def stamp(self, record: Record) -> Stamp | None:
        """Return what the file of a video was before anybody read it for this job."""
        if record is not self._now:
            ahead = self._next is not None and self._next[0] is record
            self._stamp = self._next[1] if ahead and self._next else self._look(record)
            self._now, self._next = record, None
        return self._stamp

    def next_task(self) -> Task | None:
        """Return what comes after the present video, if that is sure to be read from its file."""
        following = None if self._now is None else self._following.get(self._now.name)
        if following is None:
            return None
        if self._next is None:
            self._next = following, self._look(following)
        if any(output.has(following) for output in self._outputs):
            return None
        return self.task(following, self._outputs)

    def task(self, record: Record, outputs: list[_Output]) -> Task:
        """Return what is to be done for a video."""
        path = (self._job.data / record.name).absolute()
        modalities = tuple(output.modality for output in outputs)
        return Task(path, self._job.plan, modalities, self._job.limits, device=self._device)

    def _look(self, record: Record) -> Stamp | None:
        return stamp_of(self._job.data / record.name, with_hash=self._job.check_hash)


def _is_as_planned(job: Job, name: str, stamp: Stamp | None) -> bool:
    """Return whether a video may be copied from older shards.

    One whose file has vanished since that was decided may, too: nothing better is to be had.
    """
    if name in job.fresh:
        return False
    planned = job.sources.get(name, stamp)
    if planned is None or stamp is None:
        return stamp is None
    return stamp.same(planned, check_hash=False)


def _extract(
    job: Job,
    record: Record,
    outputs: list[_Output],
    extractor: Extractor,
    sources: _Sources,
) -> VideoReport:
    """Bring one video into every shard, from the older shard or from its file."""
    stamp = sources.stamp(record)
    if _is_as_planned(job, record.name, stamp):
        outputs = [output for output in outputs if not output.copy(record)]
    if not outputs:
        return VideoReport(record.name, tries=0)
    task = sources.task(record, outputs)
    began = time.perf_counter()

    def emit(place: int, unit: int, frame: int, data: bytes) -> None:
        outputs[place].writer.add_image(unit, frame, data)

    def report(tries: int, **fields: Any) -> VideoReport:
        seconds = time.perf_counter() - began
        peak = getattr(extractor, "peak_bytes", 0)
        fields |= {"seconds": seconds, "tries": tries, "peak_bytes": peak}
        return VideoReport(record.name, lost=tuple(lost[: tries - 1]), **fields)

    lost: list[str] = []
    for number in range(1, _TRIES + 1):
        failure: VideoError | None = None
        try:
            extracted = extractor.extract(task, emit, sources.next_task)
            if not is_unchanged(task.path, stamp):
                raise VideoError("the file was changed while it was read; run the command again")
        except VideoError as error:
            failure = error
        if failure is None:
            for output, row in zip(outputs, extracted.rows):
                output.writer.end_video(record.name, record.label, **vars(row))
            return report(
                number,
                note=extracted.note,
                num_frames=extracted.rows[0].num_frames,
                flow_seconds=extracted.flow_seconds,
            )
        if not isinstance(failure, LostProcess):
            break
        lost.append(" ".join(str(failure).split()))
        for output in outputs:
            output.writer.discard_video()
    reason = " ".join(str(failure).split())
    if isinstance(failure, LostProcess):
        reason += f", in each of {_TRIES} tries"
    assert failure is not None
    stage = failure.stage or "decode"
    for output in outputs:
        output.writer.drop_video(record.name, stage, reason)
    return report(number, stage=stage, reason=reason)
