"""Finding what is wrong with shards, as lines to read rather than as an exception."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tsn_core.catalog import CATALOG_NAME, Catalog, read_catalog, unlike
from tsn_core.errors import InputError, ShardError, TSNError, one_line
from tsn_core.index import INDEX_NAME, Index, ShardEntry, parse_index, read_index_bytes
from tsn_core.location import is_remote, location
from tsn_core.shard_reader import Shard


def modality_folders(root: str | os.PathLike[str]) -> list[Path]:
    """Return every folder at or below ``root`` that holds shards or an index, sorted.

    Raises:
        InputError: It cannot be looked through.
        StoreError: The object store does not answer.
    """
    root = location(root)
    try:
        if not is_remote(root):
            _check_readable(root)
        files = [*root.rglob(INDEX_NAME), *root.rglob("shard-*.h5")]
    except OSError as error:
        if isinstance(error, TSNError):
            raise
        remedy = "give the folder of a dataset's shards, such as shards/hmdb51"
        if isinstance(error, PermissionError):
            remedy = f"allow that, or {remedy}"
        raise InputError(
            f"{root}: cannot be looked through: {error.filename}: {error.strerror}; {remedy}"
        ) from None
    return sorted({file.parent for file in files})


def _check_readable(root: Path) -> None:
    """Raise an OSError where a folder at or below ``root`` must not be read: ``rglob`` skips it."""

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError):
            raise error

    for _ in os.walk(root, onerror=refuse):
        pass


@dataclass(frozen=True)
class FolderDefects:
    """What is wrong with a modality's folder, one line each.

    Attributes:
        folder: Of the folder itself: its index is missing or damaged, or a file lies there that
            the index does not name.
        shards: By path of the shard; only those that something is wrong with, missing ones among
            them. Extracting these again mends them, and writing the index anew mends the folder.
        catalog: The catalogue, if the folder's lines say something about it: once it is deleted,
            the next extraction writes it anew.
    """

    folder: tuple[str, ...]
    shards: dict[Path, list[str]]
    catalog: Path | None = None

    @property
    def lines(self) -> list[str]:
        """All of them, the folder's first."""
        return [*self.folder, *(line for lines in self.shards.values() for line in lines)]


def folder_defects(folder: str | os.PathLike[str]) -> FolderDefects:
    """Return the defects of a modality's folder.

    Checked: structure, offsets and checksums of every shard; that the index names each of them and
    no other; that its counts are theirs; that no video stands in two shards; that the catalogue of
    the index, if there is one, says what the shards do. Where there is no index, every shard is
    checked by itself.

    Raises:
        StoreError: The object store that the shards lie in does not answer.
    """
    folder = location(folder)
    lying = sorted(folder.glob("shard-*.h5"))
    index: Index | None = None
    catalog: Catalog | None = None
    own: list[str] = []
    broken: list[str] = []  # lines about the catalogue
    try:
        data = read_index_bytes(folder)
        index = parse_index(data, folder)
    except ShardError as error:
        own.append(str(error))
    else:
        try:
            catalog = read_catalog(index, data, folder)
        except ShardError as error:
            broken.append(str(error))
    if index is None:
        entries: dict[Path, ShardEntry | None] = dict.fromkeys(lying)
    else:
        entries = {folder / entry.file: entry for entry in index.shards}
        own.extend(
            one_line(f"{path}: not in the index; run extract again, or delete the file")
            for path in lying
            if path not in entries
        )
        if len(entries) != len(index.shards):
            own.append(f"{folder / INDEX_NAME}: a shard stands there twice; run extract again")
    shards: dict[Path, list[str]] = {}
    owner: dict[str, Path] = {}
    for number, (path, entry) in enumerate(entries.items()):
        try:
            shard = Shard(path)
            lines = _shard_defects(shard, entry, index, owner)
        except ShardError as error:
            lines = [str(error)]
        if lines:
            shards[path] = lines
        elif catalog is not None and not catalog.agrees(number, shard):
            broken.append(one_line(unlike(path, folder)))
    return FolderDefects((*own, *broken), shards, folder / CATALOG_NAME if broken else None)


def _shard_defects(
    shard: Shard, entry: ShardEntry | None, index: Index | None, owner: dict[str, Path]
) -> list[str]:
    """Return what is wrong with one shard; its videos are added to ``owner``.

    Raises:
        ShardError: It cannot be read.
    """
    path = shard.path
    found = shard.checksum_defects()
    if index is not None and entry is not None:
        found = [*_header_defects(shard, index), *_entry_defects(shard, entry), *found]
    for name in shard.tables.video_name:
        other = owner.setdefault(name, path)
        if other != path:
            found.append(f"{name} also stands in {other.name}")
    shard.close()
    return [one_line(f"{path}: {defect}") for defect in found]


def _header_defects(shard: Shard, index: Index) -> list[str]:
    header = shard.header
    pairs = {
        "dataset": (header.dataset, index.dataset),
        "modality": (header.modality, index.modality),
        "sampling": (header.sampling, json.dumps(index.sampling, sort_keys=True)),
        "class_names": (header.class_names, index.class_names),
    }
    return [f"{key} is not the index's" for key, (own, other) in pairs.items() if own != other]


def _entry_defects(shard: Shard, entry: ShardEntry) -> list[str]:
    tables = shard.tables
    actual = {
        "fingerprint": shard.header.fingerprint,
        "num_bytes": shard.path.stat().st_size,
        "num_videos": tables.num_videos,
        "num_images": tables.num_images,
        "num_snippets": tables.num_snippets,
        "num_failures": len(tables.failed_name),
    }
    return [
        f"the index says {key}={getattr(entry, key)}, got {value}"
        for key, value in actual.items()
        if getattr(entry, key) != value
    ]
