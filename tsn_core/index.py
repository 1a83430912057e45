"""``index.json``: which shards a modality's folder holds. Written last, atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tsn_core.atomic import write_text
from tsn_core.errors import ShardError, StoreError, UnknownModalityError
from tsn_core.location import location
from tsn_core.modality import StoredModality
from tsn_core.shard_format import ShardHeader, ShardTables

INDEX_NAME = "index.json"
_FORMAT, _VERSION = "tsn-index", 1
_MOST_NAME_BYTES, _SPECIAL = 255, frozenset("/\\:\0")
_COUNTS = ("num_bytes", "num_videos", "num_images", "num_snippets", "num_failures")


@dataclass(frozen=True)
class ShardEntry:
    """What the index says of one shard."""

    file: str
    fingerprint: str
    num_bytes: int
    num_videos: int
    num_images: int
    num_snippets: int
    num_failures: int

    def __post_init__(self) -> None:
        for name, kind in (("file", str), ("fingerprint", str)):
            if not isinstance(getattr(self, name), kind):
                raise ShardError(f"{name}: a text expected, got {getattr(self, name)!r}")
        for name in _COUNTS:
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ShardError(f"{name}: a number from 0 on expected, got {value!r}")
        if (
            _SPECIAL.intersection(self.file)
            or PurePosixPath(self.file).name != self.file
            or not 0 < len(self.file.encode("utf-8", "replace")) <= _MOST_NAME_BYTES
            or not self.file.isprintable()
        ):
            raise ShardError(f"{self.file!r}: a plain file name expected")


def shard_entry(path: Path, header: ShardHeader, tables: ShardTables) -> ShardEntry:
    """Return what an index says of a shard that is in place.

    Raises:
        OSError: The file is not there.
    """
    return ShardEntry(
        file=path.name,
        fingerprint=header.fingerprint,
        num_bytes=path.stat().st_size,
        num_videos=tables.num_videos,
        num_images=tables.num_images,
        num_snippets=tables.num_snippets,
        num_failures=len(tables.failed_name),
    )


@dataclass(frozen=True)
class Index:
    """All finished shards of one modality of a dataset."""

    dataset: str
    modality: StoredModality
    sampling: Mapping[str, Any]
    class_names: tuple[str, ...]
    shards: tuple[ShardEntry, ...]


def write_index(index: Index, folder: str | os.PathLike[str]) -> None:
    """Write ``index.json`` into a folder, and before it the catalogue of the same shards.

    Where the shards are not what the index says, there is no new catalogue: who opens one of them
    is told why.
    """
    from tsn_core.catalog import write_catalog

    folder = location(folder)
    content = {"format": _FORMAT, "version": _VERSION, **asdict(index)}
    text = json.dumps(content, indent=1) + "\n"
    with suppress(ShardError):
        write_catalog(index, text.encode(), folder)
    write_text(folder / INDEX_NAME, text)


def update_index(index: Index, folder: str | os.PathLike[str]) -> None:
    """Write ``index.json`` if it is out of date, or its catalogue alone if only that is."""
    from tsn_core.catalog import read_catalog, write_catalog

    folder = location(folder)
    there = None
    with suppress(ShardError):
        data = read_index_bytes(folder)
        there = parse_index(data, folder)
    if there != index:
        write_index(index, folder)
        return
    catalog = None
    with suppress(ShardError):
        catalog = read_catalog(index, data, folder)
    if catalog is None:
        with suppress(ShardError):
            write_catalog(index, data, folder)


def read_index(folder: str | os.PathLike[str]) -> Index:
    """Read ``index.json`` of a folder.

    Raises:
        ShardError: There is none, or it is not an index of this format and version.
        StoreError: The object store does not answer.
    """
    return parse_index(read_index_bytes(folder), folder)


def read_index_bytes(folder: str | os.PathLike[str]) -> bytes:
    """Return what ``index.json`` of a folder holds.

    Raises:
        ShardError: There is none, or it cannot be read.
        StoreError: The object store does not answer.
    """
    path = location(folder) / INDEX_NAME
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ShardError(
            f"{path}: not there; extract that modality, or let an unfinished extraction finish"
        ) from None
    except StoreError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ShardError:
    return ShardError(f"{path}: cannot be read: {error}; run extract again")


def parse_index(data: bytes, folder: str | os.PathLike[str]) -> Index:
    """Return the index that ``index.json`` of a folder holds.

    Raises:
        ShardError: It is not an index of this format and version.
    """
    path = location(folder) / INDEX_NAME
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None
    try:
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise ShardError(
                f"format {_FORMAT!r} version {_VERSION} expected, got "
                f"{content['format']!r} version {content['version']}"
            )
        dataset, names = content["dataset"], content["class_names"]
        if not isinstance(dataset, str):
            raise ShardError(f"dataset: a text expected, got {dataset!r}")
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ShardError("class_names: a list of texts expected")
        if not isinstance(content["sampling"], dict):
            raise ShardError(f"sampling: an object expected, got {content['sampling']!r}")
        return Index(
            dataset=dataset,
            modality=StoredModality(**content["modality"]),
            sampling=content["sampling"],
            class_names=tuple(names),
            shards=tuple(ShardEntry(**entry) for entry in content["shards"]),
        )
    except UnknownModalityError as error:
        raise ShardError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, ShardError) as error:
        raise ShardError(f"{path}: damaged: {error}; run extract again") from None
