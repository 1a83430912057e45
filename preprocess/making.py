"""Shards from images that are there already: those that are missing are made, then the index.

What ``import`` and ``repack`` share: both know beforehand which shard holds which videos, and what
is to be stored of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from rich.console import Console

from preprocess.executor import Executor
from preprocess.failures import write_failures
from preprocess.folder_lock import locked
from preprocess.inventory import find_shards, remove_leftovers, shard_paths
from preprocess.job import VideoReport
from preprocess.progress import watch
from preprocess.tally import Tally
from tsn_core.atomic import unwritable
from tsn_core.errors import TSNError
from tsn_core.index import INDEX_NAME, Index, ShardEntry, shard_entry, update_index
from tsn_core.manifest import MANIFEST_NAME, Manifest, write_manifest
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader
from tsn_core.shard_writer import ShardWriter


class PlannedVideo(Protocol):
    """A video that a shard is to hold."""

    @property
    def name(self) -> str:
        """Of the video."""

    @property
    def num_frames(self) -> int:
        """Of the video; 0 where there is a problem."""

    @property
    def problem(self) -> tuple[str, str] | None:
        """(stage, reason) why it is recorded as failed instead."""


Planned = TypeVar("Planned", bound=PlannedVideo)


@dataclass(frozen=True)
class ShardJob(Generic[Planned]):
    """One shard to make.

    Attributes:
        path: Of the file.
        header: Its root attributes.
        videos: In order.
        versions: Of what wrote the images, see ``ShardWriter``; None for this program's.
    """

    path: Path
    header: ShardHeader
    videos: tuple[Planned, ...]
    versions: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Folder(Generic[Planned]):
    """All shards of one modality.

    Attributes:
        modality: How units are stored.
        plan: Which snippets are.
        videos_per_shard: How the dataset is cut.
        jobs: Of all shards.
    """

    modality: StoredModality
    plan: SnippetPlan
    videos_per_shard: int
    jobs: tuple[ShardJob[Planned], ...]


@dataclass(frozen=True)
class Made:
    """What a run has done.

    Attributes:
        root: Folder of the dataset's shards.
        indices: Of every modality.
        num_jobs: Shards that had to be made.
        failures: Lines of ``failures.jsonl`` by name.
        recoded: Videos, in modalities, whose images were coded anew or resized.
        changed: Videos, likewise, that are not byte for byte what was exported.
    """

    root: Path
    indices: tuple[Index, ...]
    num_jobs: int
    failures: Mapping[str, Mapping[str, object]]
    recoded: int
    changed: int


@dataclass(frozen=True)
class ShardReport:
    """What a job did; see ``Made``."""

    folder: str
    entry: ShardEntry
    recoded: int
    changed: int


Seen = Callable[[VideoReport], None]


class Write(Protocol[Planned]):
    """Does one job, and tells of every video that is through."""

    def __call__(self, job: ShardJob[Planned], seen: Seen) -> ShardReport:
        """See ``write_shard``."""


def write_shard(
    job: ShardJob[Planned],
    put: Callable[[ShardWriter, Planned], tuple[bool, bool]],
    seen: Seen,
    stage: str,
) -> ShardReport:
    """Write one shard; videos that fail are recorded in it.

    Args:
        job: Which one.
        put: Adds a video to it; returns whether it was coded anew, and whether its bytes differ
            from what was exported. A ``ValueError`` of ours says what is wrong with the video.
        seen: Told of every video that is through.
        stage: Of failures that ``put`` tells of.

    Raises:
        OutputError: The shard cannot be written.
    """
    recoded = changed = 0
    with ShardWriter(job.path, job.header, job.versions) as writer:
        for video in job.videos:
            problem = video.problem
            if problem is None:
                try:
                    again, differs = put(writer, video)
                    recoded += again
                    changed += differs
                except TSNError as error:
                    if not isinstance(error, ValueError):  # the disk, not the image
                        raise
                    problem = stage, str(error)
            if problem is not None:
                writer.drop_video(video.name, *problem)
                seen(VideoReport(video.name, stage=problem[0], reason=problem[1]))
            else:
                seen(VideoReport(video.name, num_frames=video.num_frames))
        entry = shard_entry(job.path, job.header, writer.finish())
    return ShardReport(job.path.parent.name, entry, recoded, changed)


def has_fingerprint(job: ShardJob[Planned], entry: ShardEntry) -> bool:
    """Return whether a shard that is there is the one that a job would make."""
    return entry.fingerprint == job.header.fingerprint


def make_shards(
    manifest: Manifest,
    out: Path,
    folders: Sequence[Folder[Planned]],
    write: Write[Planned],
    *,
    executor: Executor,
    console: Console,
    wait: bool = False,
    is_made: Callable[[ShardJob[Planned], ShardEntry], bool] = has_fingerprint,
    begin: Callable[[Sequence[ShardJob[Planned]]], None] = lambda jobs: None,
) -> Made:
    """Make the shards that are not there yet, then the index.

    Args:
        manifest: Of the dataset, with the shards' numbers.
        out: Folder of all shards.
        folders: What is to be there at the end.
        write: Does one job.
        executor: Runs the jobs.
        console: Where progress is shown.
        wait: Whether to wait for another run that is writing there, rather than to refuse.
        is_made: Whether a sound shard that is there will do.
        begin: Told which jobs are to be done, before the first of them.

    Raises:
        SettingsError: Shards with other settings are there already.
        OutputError: Something cannot be written, or another run is writing there.
    """
    root = out / manifest.dataset
    tell = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    try:
        with locked(root, wait=wait, tell=tell) as check_lock:
            remove_leftovers(root)
            entries, jobs = _missing(root, folders, is_made)
            begin(jobs)
            write_manifest(manifest, root / MANIFEST_NAME)
            for job in jobs:  # a folder that is being changed has no index
                (job.path.parent / INDEX_NAME).unlink(missing_ok=True)
            made = Counter(job.path.parent.name for job in jobs)
            tally = Tally(sum(len(job.videos) for job in jobs), made)
            recoded = changed = 0
            with watch(tally, manifest.dataset, console):
                for report in executor.run(partial(write, seen=tally.video), jobs):
                    check_lock()
                    entries[report.folder, report.entry.file] = report.entry
                    tally.made(report.folder, report.entry)
                    recoded += report.recoded
                    changed += report.changed
            indices = tuple(_finish(root, manifest, folder, entries) for folder in folders)
            failures = write_failures(root, None)
            return Made(root, indices, len(jobs), failures, recoded, changed)
    except OSError as error:
        if error.errno is None or isinstance(error, TSNError):
            raise
        raise unwritable(error.filename or root, error, "choose another --out") from error


def _missing(
    root: Path,
    folders: Sequence[Folder[Planned]],
    is_made: Callable[[ShardJob[Planned], ShardEntry], bool],
) -> tuple[dict[tuple[str, str], ShardEntry], list[ShardJob[Planned]]]:
    """Return what the index says of the shards that are there, and the jobs of the others."""
    entries: dict[tuple[str, str], ShardEntry] = {}
    jobs: list[ShardJob[Planned]] = []
    for folder in folders:
        path = root / folder.modality.folder
        path.mkdir(exist_ok=True)
        found = find_shards(path, folder.modality, folder.plan, folder.videos_per_shard)
        sound = {entry.file: entry for entry in found.entries.values()}
        for job in folder.jobs:
            entry = sound.get(job.path.name)
            if entry is not None and is_made(job, entry):
                entries[path.name, entry.file] = entry
            else:
                jobs.append(job)
    return entries, jobs


def _finish(
    root: Path,
    manifest: Manifest,
    folder: Folder[Planned],
    entries: Mapping[tuple[str, str], ShardEntry],
) -> Index:
    """Remove shards that do not belong there, and write the index if it is out of date."""
    path = root / folder.modality.folder
    mine = tuple(entries[path.name, job.path.name] for job in folder.jobs)
    names = {entry.file for entry in mine}
    for other in shard_paths(path).values():
        if other.name not in names:
            other.unlink()
    index = Index(
        manifest.dataset, folder.modality, folder.plan.to_dict(), manifest.class_names, mine
    )
    update_index(index, path)
    return index
