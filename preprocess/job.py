"""One job: the videos of one shard, in every modality that is still missing."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2

from preprocess.extraction import Output, extract_video
from preprocess.units import unit_maker
from tsn_core.errors import OutputError
from tsn_core.manifest import Record
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader
from tsn_core.shard_writer import ShardWriter

DONE, FAILED = b".", b"x"


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs for one shard; travels to other processes.

    Attributes:
        records: Videos of the shard, in order.
        data: Folder that their names are relative to.
        plan: Which snippets to store.
        targets: Path and root attributes of the shard of each missing modality.
        ticks: File to which a byte is appended for every video that is through: ``.`` if it was
            extracted, ``x`` if it failed.
    """

    records: tuple[Record, ...]
    data: Path
    plan: SnippetPlan
    targets: tuple[tuple[Path, ShardHeader], ...]
    ticks: Path


@dataclass(frozen=True)
class JobReport:
    """What a job did.

    Attributes:
        num_videos: Videos extracted.
        num_failures: Videos that failed.
        duration_seconds: What it took.
        notes: (name, note) of extracted videos that something is odd about.
    """

    num_videos: int
    num_failures: int
    duration_seconds: float
    notes: tuple[tuple[str, str], ...]


def run_job(job: Job) -> JobReport:
    """Extract the videos of one shard and write it, in each of the job's modalities.

    A video that fails, for whatever reason, is recorded in the shard and the next one is taken.

    Raises:
        OutputError: A shard cannot be written.
    """
    cv2.setNumThreads(1)
    began = time.perf_counter()
    failures = 0
    notes: list[tuple[str, str]] = []
    with ExitStack() as stack:
        outputs = [
            Output(
                header.modality,
                unit_maker(header.modality),
                stack.enter_context(ShardWriter(path, header)),
            )
            for path, header in job.targets
        ]
        for record in job.records:
            reason = _extract(job, record, outputs, notes)
            failures += reason is not None
            _tick(job.ticks, DONE if reason is None else FAILED)
        for output in outputs:
            output.writer.finish()
    seconds = time.perf_counter() - began
    return JobReport(len(job.records) - failures, failures, seconds, tuple(notes))


def _extract(
    job: Job, record: Record, outputs: list[Output], notes: list[tuple[str, str]]
) -> str | None:
    """Extract one video, adding to the notes; return why it failed, or None."""
    try:
        note = extract_video(job.data / record.name, record, job.plan, outputs)
    except OutputError:
        raise
    except Exception as error:  # one bad file must not cost the others
        reason = " ".join(str(error).split()) or type(error).__name__
        for output in outputs:
            output.writer.drop_video(record.name, reason)
        return reason
    if note is not None:
        notes.append((record.name, note))
    return None


def _tick(path: Path, mark: bytes) -> None:
    """Append one byte; appends this small do not interleave."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, mark)
    finally:
        os.close(file)
