"""The shards that others are made from: what they hold, and what tells them from others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.exchange.stored import read_indices
from preprocess.inventory import READING_THREADS, shard_number
from tsn_core.errors import InputError, SettingsError, ShardError, UnreadableError
from tsn_core.index import Index, ShardEntry
from tsn_core.listing import few
from tsn_core.location import is_remote
from tsn_core.manifest import MANIFEST_NAME, Record, read_manifest
from tsn_core.shard_format import ShardTables
from tsn_core.shard_reader import Shard

STAGE = "repack"  # of videos that only here turn out to be damaged


@dataclass(frozen=True)
class SourceShard:
    """One shard as it was when the work was planned.

    Attributes:
        path: Of the file.
        table_crc32: Checksum of its tables.
        versions: Of what wrote it, see ``tsn_core.shard_reader.Shard``.
    """

    path: Path
    table_crc32: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class SourceVideo:
    """One stored video.

    Attributes:
        shard: That holds it.
        place: Its place there.
        digest: Of everything that the tables say of it, the checksum of its images included.
        num_frames: Frames decoded.
        num_images: Stored.
        num_snippets: Stored.
        size: (height, width) of the source in px.
        unit_size: (height, width) of the units in px.
    """

    shard: SourceShard
    place: int
    digest: str
    num_frames: int
    num_images: int
    num_snippets: int
    size: tuple[int, int]
    unit_size: tuple[int, int]


@dataclass(frozen=True)
class SourceFolder:
    """One modality of a set.

    Attributes:
        path: Of the folder.
        index: Its index.
        videos_per_shard: How it is cut.
        videos: That it holds, by name.
        failures: (stage, reason) of those that it lacks, by name; those of damaged shards among
            them.
    """

    path: Path
    index: Index
    videos_per_shard: int
    videos: Mapping[str, SourceVideo]
    failures: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class SourceSet:
    """The shards of one dataset.

    Attributes:
        root: Folder of the dataset.
        dataset: Its name.
        class_names: By class id.
        records: All videos, in the order of the manifest.
        folders: By the name of the modality's folder.
    """

    root: Path
    dataset: str
    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    folders: Mapping[str, SourceFolder]


def read_sets(shards: Sequence[Path], modalities: Sequence[str]) -> list[SourceSet]:
    """Return the sets that some folders are of, in their order.

    Args:
        shards: Folders of datasets or of single modalities; those of one dataset make one set.
        modalities: Names of those to take; none takes all.

    Raises:
        InputError: There are no shards, or none of a modality, or the manifest has other labels.
        ShardError: An index is missing or damaged, or nobody knows which videos a damaged shard
            holds.
        SettingsError: Folders of one set are not of one dataset.
        UnreadableError: The system does not hand out a shard.
        StoreError: The object store does not answer.
    """
    found: dict[Path, dict[str, tuple[Path, Index]]] = {}
    for path in shards:
        for name, (folder, index) in read_indices(path).items():
            if not modalities or index.modality.name in modalities:
                found.setdefault(resolved(folder.parent), {})[name] = folder, index
    there = {index.modality.name for one in found.values() for _, index in one.values()}
    for modality in modalities:
        if modality not in there:
            places = few([str(path) for path in shards])
            raise InputError(f"{places}: no {modality} shards there; choose another --modality")
    return [_read_set(root, folders) for root, folders in found.items()]


def resolved(folder: Path) -> Path:
    """Return a folder by the name that it has however somebody gets there."""
    return folder if is_remote(folder) else folder.resolve()


def _read_set(root: Path, folders: Mapping[str, tuple[Path, Index]]) -> SourceSet:
    _, first = next(iter(folders.values()))
    manifest = None
    if (root / MANIFEST_NAME).exists():
        manifest = read_manifest(root / MANIFEST_NAME)
    for folder, index in folders.values():
        known = (index if manifest is None else manifest).class_names
        if (index.dataset, index.class_names) != (first.dataset, known):
            raise SettingsError(
                f"{folder}: of another dataset or other classes than the folders or the manifest "
                "beside it; give the folder of one dataset"
            )
    records = () if manifest is None else manifest.records
    read, labels = {}, {}
    for name, (folder, index) in folders.items():
        read[name], stored = _read_folder(folder, index, records)
        labels.update(stored)
    for record in records:
        if labels.get(record.name, record.label) != record.label:
            raise InputError(
                f"{root}: {record.name} has label {labels[record.name]} in its shards, "
                f"{record.label} in the manifest; extract again"
            )
    if manifest is None:
        records = tuple(Record(name, label) for name, label in labels.items())
    return SourceSet(root, first.dataset, first.class_names, records, read)


def _read_folder(
    folder: Path, index: Index, records: Sequence[Record]
) -> tuple[SourceFolder, dict[str, int]]:
    """Return what a folder holds, and the labels of the stored videos by name."""
    videos: dict[str, SourceVideo] = {}
    failures: dict[str, tuple[str, str]] = {}
    labels: dict[str, int] = {}
    cut = 0
    with ThreadPoolExecutor(READING_THREADS) as pool:
        shards = pool.map(lambda entry: _opened(folder, entry, index), index.shards)
        for entry, shard in zip(index.shards, shards):
            if isinstance(shard, ShardError):
                number = shard_number(entry.file)
                lost = [one.name for one in records if number is not None and one.shard == number]
                if not lost:
                    raise shard
                failures.update(dict.fromkeys(lost, (STAGE, str(shard))))
                continue
            tables = shard.tables
            source = SourceShard(shard.path, shard.table_crc32, shard.versions)
            cut = max(cut, shard.header.videos_per_shard)
            digests = _digests(tables, index.modality.to_json())
            for place, name in enumerate(tables.video_name):
                videos[name] = _video(tables, source, place, digests[place])
            labels.update(zip(tables.video_name, tables.video_label.tolist()))
            rows = zip(tables.failed_stage, tables.failed_reason)
            failures.update(zip(tables.failed_name, rows))
    return SourceFolder(folder, index, cut, videos, failures), labels


def _opened(folder: Path, entry: ShardEntry, index: Index) -> Shard | ShardError:
    """Return a shard, or what is wrong with it.

    Raises:
        ShardError: It is sound, but not the one that the index names.
        UnreadableError: The system does not hand it out.
    """
    path = folder / entry.file
    try:
        shard = Shard(path)
    except UnreadableError:
        raise
    except ShardError as error:
        return error
    shard.close()
    if shard.tables.crc32() != shard.table_crc32:
        return ShardError(f"{path}: damaged: the tables do not match their checksum")
    found = shard.header.fingerprint, shard.header.modality, shard.header.class_names
    if found != (entry.fingerprint, index.modality, index.class_names):
        raise ShardError(
            f"{path}: not the shard that {folder / 'index.json'} names; run extract again"
        )
    return shard


def _video(tables: ShardTables, shard: SourceShard, place: int, digest: str) -> SourceVideo:
    def pair(table: np.ndarray) -> tuple[int, int]:
        return int(table[place, 0]), int(table[place, 1])

    def number_of(table: np.ndarray) -> int:
        return int(table[place + 1] - table[place])

    return SourceVideo(
        shard,
        place,
        digest,
        num_frames=int(tables.video_frames[place]),
        num_images=number_of(tables.video_image),
        num_snippets=number_of(tables.video_snippet),
        size=pair(tables.video_size),
        unit_size=pair(tables.video_unit_size),
    )


def _digests(tables: ShardTables, modality: str) -> list[str]:
    """Return what tells each video of a shard from others, wherever it stands in it."""
    images = tables.video_image.tolist()
    snippets = tables.video_snippet.tolist()
    lengths = np.diff(tables.image_start)
    rows = [
        getattr(tables, name)
        for name in (
            *("video_crc32", "video_frames", "video_fps", "video_size", "video_unit_size"),
            *("video_padding", "video_warped"),
        )
    ]
    found = []
    for place in range(tables.num_videos):
        first, last = images[place : place + 2]
        starts = tables.snippet_image[snippets[place] : snippets[place + 1]] - first
        digest = hashlib.sha256(modality.encode())
        parts = (lengths[first:last], tables.image_frame[first:last], starts)
        for array in (*parts, *(row[place] for row in rows)):
            digest.update(array.tobytes())
        found.append(digest.hexdigest()[:32])
    return found
