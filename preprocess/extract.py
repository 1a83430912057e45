"""Extracting a whole dataset: decide what is missing, make it, then write the index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from preprocess.executor import run_jobs
from preprocess.job import Job, run_job
from preprocess.progress import watch
from tsn_core.atomic import TEMPORARY_SUFFIX, write_text
from tsn_core.check import modality_folders
from tsn_core.errors import InputError, OutputError, SettingsError, ShardError
from tsn_core.index import INDEX_NAME, Index, ShardEntry, read_index, write_index
from tsn_core.manifest import MANIFEST_NAME, Manifest, Record, write_manifest
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader, fingerprint, shard_name
from tsn_core.shard_reader import Shard, read_header

FAILURES_NAME = "failures.jsonl"
_MOST_VIDEOS_PER_SHARD, _FEWEST_SHARDS = 64, 16


@dataclass(frozen=True)
class Summary:
    """What is on disk after an extraction.

    Attributes:
        root: Folder of the dataset's shards.
        num_jobs: Shards' worth of videos that had to be done; 0 if everything was there.
        notes: (name, note) of videos extracted in this run that something is odd about.
        failures: Reason by name of every video that has failed in one of these modalities.
        indices: The index of every modality that was asked for.
    """

    root: Path
    num_jobs: int
    notes: tuple[tuple[str, str], ...]
    failures: dict[str, str]
    indices: tuple[Index, ...]


def extract_dataset(
    manifest: Manifest,
    data: Path,
    out: Path,
    *,
    modalities: Sequence[StoredModality],
    plan: SnippetPlan,
    videos_per_shard: int | None,
    num_workers: int,
    console: Console,
    retry_failures: bool = False,
) -> Summary:
    """Make the shards of every modality that are not there yet.

    A shard is there if a readable file with the right fingerprint is; nothing else is asked.

    Args:
        manifest: Videos, labels and splits.
        data: Folder that the names in the manifest are relative to.
        out: Folder of all shards; those of this dataset go to ``out/DATASET/MODALITY/``.
        modalities: What to extract.
        plan: Which snippets to store.
        videos_per_shard: None takes what the shards already there have, or else 64 and fewer for
            a small dataset, so that there are at least 16 shards to work on side by side.
        num_workers: Worker processes.
        console: Where progress is shown.
        retry_failures: Whether shards that record failed videos are made again.

    Raises:
        SettingsError: Shards with other settings are there already.
        OutputError: Something cannot be written, or another run is writing there.
        InputError: A number is out of range.
    """
    for option, value in (("--videos-per-shard", videos_per_shard), ("--jobs", num_workers)):
        if value is not None and value < 1:
            raise InputError(f"{option} must be > 0, got {value}")
    root = out / manifest.dataset
    folders = {modality.folder: root / modality.folder for modality in modalities}
    try:
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"{root}: another extraction is writing there; wait for it") from None
    except OSError as error:
        raise OutputError(
            f"{root}: cannot be written: {error.strerror}; choose another --out"
        ) from error
    with lock:
        return _extract_locked(
            manifest,
            data,
            root,
            modalities,
            plan,
            videos_per_shard,
            num_workers,
            console,
            retry_failures,
        )


def _extract_locked(
    manifest: Manifest,
    data: Path,
    root: Path,
    modalities: Sequence[StoredModality],
    plan: SnippetPlan,
    videos_per_shard: int | None,
    num_workers: int,
    console: Console,
    retry_failures: bool = False,
) -> Summary:
    for leftover in root.rglob(f".*{TEMPORARY_SUFFIX}"):  # of runs that were killed
        leftover.unlink()
    found = {
        modality.folder: _check_settings(root / modality.folder, modality, plan, videos_per_shard)
        for modality in modalities
    }
    if videos_per_shard is None:
        videos_per_shard = _cut_of(root, found) or default_videos_per_shard(len(manifest.records))
    if retry_failures:
        for modality in modalities:
            for path in _shards_with_failures(root / modality.folder):
                if path.exists() and Shard(path).tables.failed_name:
                    found[modality.folder].pop(path.name)
    cuts = [
        manifest.records[start : start + videos_per_shard]
        for start in range(0, len(manifest.records), videos_per_shard)
    ]
    jobs, headers = [], {}
    ticks = root / f".ticks{TEMPORARY_SUFFIX}"
    for number, records in enumerate(cuts):
        targets = []
        for modality in modalities:
            path = root / modality.folder / shard_name(number)
            header = _header(manifest, modality, plan, videos_per_shard, records)
            headers[path] = header
            there_now = found[modality.folder].get(path.name)
            if there_now is None or there_now.fingerprint != header.fingerprint:
                targets.append((path, header))
        if targets:
            jobs.append(Job(records, data, plan, tuple(targets), ticks))
    write_manifest(manifest, root / MANIFEST_NAME)
    notes: list[tuple[str, str]] = []
    if jobs:
        for modality in modalities:  # a folder that is being changed has no index
            (root / modality.folder / INDEX_NAME).unlink(missing_ok=True)
        total = sum(len(job.records) for job in jobs)
        try:
            with watch(ticks, total, manifest.dataset, console):
                for report in run_jobs(run_job, jobs, num_workers):
                    notes.extend(report.notes)
        finally:
            ticks.unlink(missing_ok=True)
    indices = [_finish_folder(root, modality, plan, manifest, headers) for modality in modalities]
    failures = _collect_failures(root, {modality.folder for modality in modalities})
    return Summary(root, len(jobs), tuple(sorted(notes)), failures, tuple(indices))


def _cut_of(root: Path, found: dict[str, dict[str, ShardHeader]]) -> int | None:
    """Return the videos per shard that the shards already there have; None if there are none.

    Raises:
        SettingsError: Two modalities differ in it.
    """
    cuts: dict[int, str] = {}
    for folder, headers in found.items():
        for header in headers.values():
            cuts.setdefault(header.videos_per_shard, folder)
    if len(cuts) > 1:
        (first, folder), (second, other) = list(cuts.items())[:2]
        raise SettingsError(
            f"{root}: {folder} was written with videos_per_shard={first}, {other} with "
            f"videos_per_shard={second}; extract one of them in a run of its own"
        )
    return next(iter(cuts), None)


def default_videos_per_shard(num_videos: int) -> int:
    """Return 64, or fewer where that would make less than 16 shards.

    Examples:
        >>> default_videos_per_shard(27), default_videos_per_shard(6766)
        (2, 64)
    """
    return min(max(-(-num_videos // _FEWEST_SHARDS), 1), _MOST_VIDEOS_PER_SHARD)


def _header(
    manifest: Manifest,
    modality: StoredModality,
    plan: SnippetPlan,
    videos_per_shard: int,
    records: Sequence[Record],
) -> ShardHeader:
    videos = [(record.name, record.label) for record in records]
    return ShardHeader(
        dataset=manifest.dataset,
        modality=modality,
        sampling=plan.to_json(),
        class_names=manifest.class_names,
        videos_per_shard=videos_per_shard,
        fingerprint=fingerprint(modality, plan.to_json(), manifest.class_names, videos),
    )


def _check_settings(
    folder: Path, modality: StoredModality, plan: SnippetPlan, videos_per_shard: int | None
) -> dict[str, ShardHeader]:
    """Return the headers of the readable shards in a folder, by file name.

    Raises:
        SettingsError: One of them was written with other settings.
    """
    headers = {}
    wanted = _flat(modality, plan.to_json(), videos_per_shard)
    for path in sorted(folder.glob("shard-*.h5")):
        header = read_header(path)
        if header is None:
            continue
        had = _flat(header.modality, header.sampling, header.videos_per_shard)
        if videos_per_shard is None:
            had["videos_per_shard"] = None
        for name in sorted(set(had) | set(wanted)):
            if had.get(name) != wanted.get(name):
                raise SettingsError(
                    f"{folder}: written with {name}={had.get(name)}, this run has "
                    f"{name}={wanted.get(name)}; choose another --out or delete the folder"
                )
        headers[path.name] = header
    return headers


def _flat(modality: StoredModality, sampling: str, videos_per_shard: int | None) -> dict[str, Any]:
    """Return all settings by the names that users know."""
    settings = json.loads(modality.to_json())
    settings.update(settings.pop("parameters"))
    settings.update(json.loads(sampling))
    settings["videos_per_shard"] = videos_per_shard
    return settings


def _finish_folder(
    root: Path,
    modality: StoredModality,
    plan: SnippetPlan,
    manifest: Manifest,
    headers: dict[Path, ShardHeader],
) -> Index:
    """Remove shards that the dataset no longer has, and write the index if it is out of date."""
    folder = root / modality.folder
    mine = [path for path in headers if path.parent == folder]
    for path in set(folder.glob("shard-*.h5")) - set(mine):
        path.unlink()
    try:
        index = read_index(folder)
    except ShardError:  # none, or a damaged one, which is not missed
        index = None
    if (
        index is not None
        and [entry.file for entry in index.shards] == [path.name for path in mine]
        and all(
            entry.fingerprint == headers[path].fingerprint
            and entry.num_bytes == path.stat().st_size
            for entry, path in zip(index.shards, mine)
        )
    ):
        return index
    entries = []
    for path in mine:
        tables = Shard(path).tables
        entries.append(
            ShardEntry(
                file=path.name,
                fingerprint=headers[path].fingerprint,
                num_bytes=path.stat().st_size,
                num_videos=tables.num_videos,
                num_images=tables.num_images,
                num_snippets=tables.num_snippets,
                num_failures=len(tables.failed_name),
            )
        )
    index = Index(manifest.dataset, modality, plan.to_dict(), manifest.class_names, tuple(entries))
    write_index(index, folder)
    return index


def _shards_with_failures(folder: Path) -> list[Path]:
    """Return the shards of a folder that record failures; all where no index tells."""
    try:
        return [folder / entry.file for entry in read_index(folder).shards if entry.num_failures]
    except ShardError:
        return sorted(folder.glob("shard-*.h5"))


def _collect_failures(root: Path, folders: set[str]) -> dict[str, str]:
    """Write ``failures.jsonl`` from what all shards of the dataset record.

    Returns:
        Reasons by name of the video, of those that failed in one of the folders.
    """
    failures: dict[str, dict[str, Any]] = {}
    for folder in modality_folders(root):
        for path in _shards_with_failures(folder):
            tables = Shard(path).tables
            for name, reason in zip(tables.failed_name, tables.failed_reason):
                entry = failures.setdefault(
                    name, {"name": name, "reason": reason, "modalities": []}
                )
                entry["modalities"].append(folder.name)
    lines = [json.dumps(failures[name], ensure_ascii=False) + "\n" for name in sorted(failures)]
    path = root / FAILURES_NAME
    if lines:
        write_text(path, "".join(lines))
    else:
        path.unlink(missing_ok=True)
    return {
        name: entry["reason"]
        for name, entry in failures.items()
        if folders.intersection(entry["modalities"])
    }
