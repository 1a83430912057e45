"""Images to shards: the jobs, what they need, and a run of all of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from preprocess.exchange.images import image_size, stored_image
from preprocess.exchange.source import ImageReader, ImageRun
from preprocess.executor import Executor
from preprocess.failures import write_failures
from preprocess.folder_lock import locked
from preprocess.inventory import find_shards, index_of, remove_leftovers, shard_paths
from preprocess.job import VideoReport
from preprocess.progress import watch
from preprocess.tally import Tally
from tsn_core.atomic import unwritable
from tsn_core.errors import InputError, TSNError
from tsn_core.index import INDEX_NAME, Index, ShardEntry, shard_entry, write_index
from tsn_core.manifest import MANIFEST_NAME, Manifest, write_manifest
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader
from tsn_core.shard_writer import ShardWriter


@dataclass(frozen=True)
class VideoPlan:
    """One video to import, in one modality.

    Attributes:
        name: Of the video.
        label: Class id.
        runs: Its images, one run for each image of a unit.
        offset: Number of the image of place 0.
        places: Of the images to store, ascending.
        frames: Source frame of each.
        starts: First place of each snippet; images of all its places are stored.
        num_frames: Of the video.
        padding: Units made by repeating the last frame.
        repeats: How often the last image is to be repeated.
        fps: Frame rate in Hz, 0 where unknown.
        size: (height, width) of the source; None takes that of the images.
        warped: Units from which the camera's motion was taken out.
        crc32: What all stored bytes should have, where that is known.
        problem: (stage, reason) why it is not to be imported.
    """

    name: str
    label: int
    runs: tuple[ImageRun, ...] = ()
    offset: int = 0
    places: Sequence[int] = ()
    frames: Sequence[int] = ()
    starts: Sequence[int] = ()
    num_frames: int = 0
    padding: int = 0
    repeats: int = 0
    fps: float = 0.0
    size: tuple[int, int] | None = None
    warped: int = 0
    crc32: int | None = None
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class ImportJob:
    """One shard to make.

    Attributes:
        path: Of the file.
        header: Its root attributes.
        videos: In order.
    """

    path: Path
    header: ShardHeader
    videos: tuple[VideoPlan, ...]


@dataclass(frozen=True)
class Folder:
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
    jobs: tuple[ImportJob, ...]


@dataclass(frozen=True)
class Imported:
    """What an import has done.

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
class _Report:
    folder: str
    entry: ShardEntry
    recoded: int
    changed: int


def import_dataset(
    manifest: Manifest,
    out: Path,
    folders: Sequence[Folder],
    *,
    executor: Executor,
    console: Console,
) -> Imported:
    """Make the shards that are not there yet, then the index.

    Raises:
        SettingsError: Shards with other settings are there already.
        OutputError: Something cannot be written, or another run is writing there.
    """
    root = out / manifest.dataset
    tell = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    try:
        with locked(root, wait=False, tell=tell) as check_lock:
            remove_leftovers(root)
            return _import_all(manifest, root, folders, executor, console, check_lock)
    except OSError as error:
        if error.errno is None or isinstance(error, TSNError):
            raise
        raise unwritable(error.filename or root, error, "choose another --out") from error


def _import_all(
    manifest: Manifest,
    root: Path,
    folders: Sequence[Folder],
    executor: Executor,
    console: Console,
    check_lock: Callable[[], None],
) -> Imported:
    entries: dict[tuple[str, str], ShardEntry] = {}
    jobs: list[ImportJob] = []
    for folder in folders:
        path = root / folder.modality.folder
        path.mkdir(exist_ok=True)
        found = find_shards(path, folder.modality, folder.plan, folder.videos_per_shard)
        sound = {found.entries[n].file: found.entries[n] for n in found.entries}
        for job in folder.jobs:
            entry = sound.get(job.path.name)
            if entry is not None and entry.fingerprint == job.header.fingerprint:
                entries[path.name, entry.file] = entry
            else:
                jobs.append(job)
    write_manifest(manifest, root / MANIFEST_NAME)
    for job in jobs:  # a folder that is being changed has no index
        (job.path.parent / INDEX_NAME).unlink(missing_ok=True)
    made = dict.fromkeys((job.path.parent.name for job in jobs), 0)
    for job in jobs:
        made[job.path.parent.name] += 1
    tally = Tally(sum(len(job.videos) for job in jobs), made)
    recoded = changed = 0
    with watch(tally, manifest.dataset, console):
        for report in executor.run(partial(_import_shard, seen=tally.video), jobs):
            check_lock()
            entries[report.folder, report.entry.file] = report.entry
            tally.made(report.folder, report.entry)
            recoded += report.recoded
            changed += report.changed
    indices = [_finish(root, manifest, folder, entries) for folder in folders]
    return Imported(root, tuple(indices), len(jobs), write_failures(root, None), recoded, changed)


def _finish(
    root: Path, manifest: Manifest, folder: Folder, entries: Mapping[tuple[str, str], ShardEntry]
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
    if index != index_of(path):
        write_index(index, path)
    return index


def _import_shard(job: ImportJob, seen: Callable[[VideoReport], None]) -> _Report:
    """Write one shard; videos that fail are recorded in it."""
    recoded = changed = 0
    with ShardWriter(job.path, job.header) as writer, ImageReader() as reader:
        for video in job.videos:
            problem = video.problem
            if problem is None:
                try:
                    again, differs = _import_video(writer, reader, job.header.modality, video)
                    recoded += again
                    changed += differs
                except (InputError, TSNError) as error:
                    if not isinstance(error, ValueError):  # the disk, not the image
                        raise
                    problem = job.header.modality.name, str(error)
            if problem is not None:
                writer.drop_video(video.name, *problem)
                seen(VideoReport(video.name, stage=problem[0], reason=problem[1]))
            else:
                seen(VideoReport(video.name, num_frames=video.num_frames))
        entry = shard_entry(job.path, job.header, writer.finish())
    return _Report(job.path.parent.name, entry, recoded, changed)


def _import_video(
    writer: ShardWriter, reader: ImageReader, modality: StoredModality, video: VideoPlan
) -> tuple[bool, bool]:
    """Store one video; return whether it was coded anew, and whether bytes differ from before."""
    from preprocess.video import target_size

    recoded, crc32, data = False, 0, b""
    size: tuple[int, int] | None = None
    for place, frame in zip(video.places, video.frames):
        parts = []
        for run in video.runs:
            number = video.offset + place
            name = run.name(number)
            part = reader.read(run, number)
            try:
                found = image_size(part)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
            size = size or found
            if found != size:
                raise InputError(
                    f"{name}: {found[1]}x{found[0]} pixels, the first image has {size[1]}x{size[0]}"
                )
            parts.append(part)
        assert size is not None
        try:
            data, again = stored_image(modality, parts, size)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        recoded |= again
        crc32 = zlib.crc32(data, crc32)
        writer.add_image(place, frame, data)
    if size is None:
        raise InputError("no images")
    last = video.places[-1]
    for extra in range(1, video.repeats + 1):
        writer.add_image(last + extra, video.frames[-1], data)
    fixed = None if modality.height is None else (modality.height, modality.width)
    writer.end_video(
        video.name,
        video.label,
        starts=video.starts,
        num_frames=video.num_frames,
        fps=video.fps,
        size=video.size or size,
        unit_size=target_size(size, fixed, modality.short_side),  # type: ignore[arg-type]
        padding=video.padding,
        warped=video.warped,
    )
    return recoded, video.crc32 is not None and crc32 != video.crc32
