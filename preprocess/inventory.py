"""What an earlier run has left in a dataset's folder of shards, and whether it fits this run."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tsn_core.atomic import TEMPORARY_SUFFIX
from tsn_core.check import modality_folders
from tsn_core.errors import SettingsError, ShardError, UnreadableError
from tsn_core.index import Index, ShardEntry, read_index, shard_entry
from tsn_core.location import RemotePath, is_remote
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader
from tsn_core.shard_reader import Shard, read_header

READING_THREADS = 16  # a store, or a file system over the network, answers many questions at once
_SHARD_NAME = re.compile(r"shard-([0-9]{5,9})\.h5")


@dataclass(frozen=True)
class Found:
    """The sound shards of one modality that are there already, by number.

    Attributes:
        headers: Their root attributes.
        entries: What the index says of them, or would say.
    """

    headers: dict[int, ShardHeader]
    entries: dict[int, ShardEntry]


def shard_paths(folder: Path) -> dict[int, Path]:
    """Return the files in a folder that are named as shards, by number."""
    found = {}
    for path in folder.glob("shard-*.h5"):
        number = shard_number(path.name)
        if number is not None:
            found[number] = path
    return dict(sorted(found.items()))


def shard_number(file: str) -> int | None:
    """Return the number in the name of a shard, or None if it is not named as one."""
    match = _SHARD_NAME.fullmatch(file)
    return int(match[1]) if match else None


def remove_leftovers(root: Path) -> None:
    """Remove the temporary files, or unfinished uploads, of runs that were killed.

    Raises:
        OSError: One cannot be removed.
    """
    if is_remote(root):
        cast(RemotePath, root).give_up_uploads()
        for token in root.glob(f".token-*{TEMPORARY_SUFFIX}"):  # jobs of its run give up then
            token.unlink(missing_ok=True)
        return
    for folder in (root, *(path for path in root.iterdir() if path.is_dir())):
        for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
            leftover.unlink(missing_ok=True)


def find_shards(
    folder: Path, modality: StoredModality, plan: SnippetPlan, videos_per_shard: int | None
) -> Found:
    """Return the sound shards in a modality's folder; damaged ones count as not there.

    A shard that the index names with its size is not opened further than its header.

    Raises:
        SettingsError: One of them was written with other settings.
        UnreadableError: The system does not hand out one of them.
    """
    found = Found({}, {})
    index = index_of(folder)
    known = {} if index is None else {entry.file: entry for entry in index.shards}
    wanted = flat_settings(modality, plan.to_json(), videos_per_shard)

    def look(path: Path) -> tuple[ShardHeader, ShardEntry] | None:
        header = read_header(path)
        if header is None:
            return None
        _check_settings(folder, header, wanted)
        entry = known.get(path.name)
        if (
            entry is None
            or entry.fingerprint != header.fingerprint
            or entry.num_bytes != path.stat().st_size
        ):
            try:
                entry = entry_of(path)
            except UnreadableError:
                raise
            except ShardError:
                return None
        return header, entry

    paths = shard_paths(folder)
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for number, seen in zip(paths, pool.map(look, paths.values())):
            if seen is not None:
                found.headers[number], found.entries[number] = seen
    return found


def entry_of(path: Path) -> ShardEntry:
    """Return what an index says of a shard.

    Raises:
        ShardError: It is not there or damaged.
    """
    shard = Shard(path)
    return shard_entry(path, shard.header, shard.tables)


def index_of(folder: Path) -> Index | None:
    """Return a folder's index, or None if it has none that can be read."""
    with suppress(ShardError):
        return read_index(folder)
    return None


def _check_settings(folder: Path, header: ShardHeader, wanted: dict[str, Any]) -> None:
    had = flat_settings(header.modality, header.sampling, header.videos_per_shard)
    for name in sorted(set(had) | set(wanted)):
        free = name == "videos_per_shard" and wanted[name] is None
        if not free and had.get(name) != wanted.get(name):
            remedy = "choose another --out or delete the folder"
            if name == "backend":
                remedy = f"go on with --flow-backend {had.get(name)}, {remedy}"
            raise SettingsError(
                f"{folder}: written with {name}={had.get(name)}, this run has "
                f"{name}={wanted.get(name)}; {remedy}"
            )


def flat_settings(
    modality: StoredModality, sampling: str, videos_per_shard: int | None
) -> dict[str, Any]:
    """Return all settings by the names that users know."""
    settings = json.loads(modality.to_json())
    settings.update(settings.pop("parameters"))
    settings.update(json.loads(sampling))
    settings["videos_per_shard"] = videos_per_shard
    return settings


def common_cut(root: Path) -> int | None:
    """Return the videos per shard of what is below ``root``; None if there is nothing.

    Raises:
        SettingsError: Two modalities differ in it.
    """
    cuts: dict[int, str] = {}
    for folder in modality_folders(root):
        headers = map(read_header, shard_paths(folder).values())
        header = next((header for header in headers if header is not None), None)
        if header is not None:
            cuts.setdefault(header.videos_per_shard, folder.name)
    if len(cuts) > 1:
        (first, name), (second, other) = list(cuts.items())[:2]
        raise SettingsError(
            f"{root}: {name} was written with videos_per_shard={first}, {other} with "
            f"videos_per_shard={second}; delete one of them"
        )
    return next(iter(cuts), None)


def names_in_shards(root: Path) -> dict[str, int]:
    """Return the number of the shard of every video that a sound shard below ``root`` names.

    Raises:
        UnreadableError: The system does not hand out one of them.
    """
    known: dict[str, int] = {}
    for folder in modality_folders(root):
        for number, path in shard_paths(folder).items():
            try:
                tables = Shard(path).tables
            except UnreadableError:
                raise
            except ShardError:
                continue
            for name in (*tables.video_name, *tables.failed_name):
                known.setdefault(name, number)
    return known


def damaged_names(path: Path) -> frozenset[str] | None:
    """Return the videos of a shard whose images are damaged; None if nothing of it can be used."""
    try:
        shard = Shard(path)
    except ShardError:
        return None
    if shard.tables.crc32() != shard.table_crc32:
        return None
    return frozenset(shard.damaged_videos())


def failed_names(folder: Path, entry: ShardEntry) -> set[str]:
    """Return the videos that a shard records as failed.

    Raises:
        ShardError: It is damaged.
    """
    return set(Shard(folder / entry.file).tables.failed_name) if entry.num_failures else set()
