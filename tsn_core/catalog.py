"""``catalog.hdf5``: of all videos of a modality's folder, what its shards' tables say of each.

It saves opening every shard before the first video is read, and holds nothing else: where it is
missing, or belongs to another ``index.json``, the shards themselves are asked.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsn_core.errors import ShardError, StoreError, UnreadableError
from tsn_core.hdf5_reader import Hdf5Reader
from tsn_core.index import INDEX_NAME, Index
from tsn_core.shard_file import open_file
from tsn_core.shard_reader import Shard
from tsn_core.video_names import VideoNames

CATALOG_NAME = "catalog.hdf5"
_FORMAT, _VERSION = "tsn-catalog", 1
_VIDEO_DTYPES: dict[str, np.dtype] = {
    "name_order": np.dtype("<i8"),
    "video_label": np.dtype("<i4"),
    "video_snippets": np.dtype("<i8"),
    "video_frames": np.dtype("<i4"),
    "video_fps": np.dtype("<f8"),
}
_SHARD_DTYPES: dict[str, np.dtype] = {
    "shard_videos": np.dtype("<i8"),
    "shard_table_crc32": np.dtype("<u4"),
}
_THREADS = 16  # a store, or a file system over the network, answers many questions at once
_AT_ONCE = 64  # shards whose tables are in memory while a catalogue is made
_BLOCK = 1 << 16  # names


@dataclass(frozen=True)
class Catalog:
    """The videos of N shards, in storage order; V of them.

    Attributes:
        names: All different.
        labels: Class ids, (V,) int64.
        num_snippets: Stored snippets, (V,) int64.
        num_frames: Frames really decoded, (V,) int64.
        fps: Frame rate in Hz, 0 where unknown, (V,) float64.
        starts: First video of each shard, and V, (N + 1,) int64.
        checksums: ``table_crc32`` of each shard, (N,) uint32.
    """

    names: VideoNames
    labels: np.ndarray
    num_snippets: np.ndarray
    num_frames: np.ndarray
    fps: np.ndarray
    starts: np.ndarray
    checksums: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """Return what is stored, by name of the dataset."""
        return {
            "video_name": self.names.data,
            "name_order": self.names.order,
            "video_label": self.labels.astype("<i4"),
            "video_snippets": self.num_snippets,
            "video_frames": self.num_frames.astype("<i4"),
            "video_fps": self.fps,
            "shard_videos": np.diff(self.starts),
            "shard_table_crc32": self.checksums,
        }

    def agrees(self, number: int, shard: Shard) -> bool:
        """Return whether a shard is the one that the catalogue describes at that number."""
        if number >= len(self.checksums):
            return False
        videos = slice(int(self.starts[number]), int(self.starts[number + 1]))
        tables = shard.tables
        return (
            shard.table_crc32 == self.checksums[number]
            and tables.video_name == self.names[videos]
            and np.array_equal(tables.video_label, self.labels[videos])
            and np.array_equal(np.diff(tables.video_snippet), self.num_snippets[videos])
            and np.array_equal(tables.video_frames, self.num_frames[videos])
            and np.array_equal(tables.video_fps, self.fps[videos], equal_nan=True)
        )


def check_header(shard: Shard, fingerprint: str, class_names: tuple[str, ...], path: Path) -> None:
    """Check that a shard is the one that the index names.

    Args:
        shard: That was opened.
        fingerprint: Of it, in the index.
        class_names: In the index.
        path: Of the index, for messages.

    Raises:
        ShardError: It is not.
    """
    header = shard.header
    if header.fingerprint != fingerprint:
        raise ShardError(f"{shard.path}: not the shard that {path} names; run extract again")
    if header.class_names != class_names:
        raise ShardError(f"{shard.path}: other classes than {path} names; run extract again")


def unlike(shard: Path, folder: Path) -> str:
    """Return the message about a shard that is not as the catalogue of its folder says."""
    return (
        f"{shard}: not the shard that {folder / CATALOG_NAME} tells of; delete that file, or mend "
        "it with tsn-preprocess verify --repair"
    )


def catalog_of(index: Index, path: Path, shards: Iterable[Shard]) -> Catalog:
    """Return what the shards themselves say.

    Args:
        index: Of the folder.
        path: Of the index.
        shards: All that it names, in its order.

    Raises:
        ShardError: One of them is not the one in the index, or a video stands in two.
    """
    names: list[bytes] = []
    labels, counts, frames, rates = [], [], [], []
    starts, checksums = [0], []
    for entry, shard in zip(index.shards, shards):
        check_header(shard, entry.fingerprint, index.class_names, path)
        tables = shard.tables
        names.extend(name.encode() for name in tables.video_name)
        labels.append(tables.video_label)
        counts.append(np.diff(tables.video_snippet))
        frames.append(tables.video_frames)
        rates.append(tables.video_fps)
        starts.append(len(names))
        checksums.append(shard.table_crc32)
    catalog = Catalog(
        VideoNames.of(names),
        _joined(labels, np.int64),
        _joined(counts, np.int64),
        _joined(frames, np.int64),
        _joined(rates, np.float64),
        np.array(starts, np.int64),
        np.array(checksums, np.uint32),
    )
    if not catalog.names.differ:
        raise ShardError(f"{path.parent}: a video stands in two shards; run extract again")
    return catalog


def _joined(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)


def write_catalog(index: Index, index_bytes: bytes, folder: Path) -> None:
    """Open every shard of a folder, and write the catalogue of them.

    Args:
        index: Of the folder.
        index_bytes: What ``index.json`` holds, or will.
        folder: Of the shards.

    Raises:
        ShardError: A shard is missing, damaged or not the one in the index, or a video stands in
            two of them.
        OutputError: The file cannot be written.
    """
    from tsn_core.hdf5_file import (  # h5py, which readers do without
        fixed_texts,
        text_dtype,
        written_hdf5,
    )

    with ThreadPoolExecutor(_THREADS) as pool:
        catalog = catalog_of(index, folder / INDEX_NAME, _opened(index, folder, pool))
    columns = catalog.columns()
    with written_hdf5(folder / CATALOG_NAME) as file:
        texts = {"format": _FORMAT, "index_sha256": sha256_of(index_bytes)}
        for name, text in texts.items():
            file.attrs[name] = fixed_texts([text])[0]
        file.attrs["version"] = _VERSION
        file.attrs["column_crc32"] = np.uint32(crc32_of(columns))
        names = columns.pop("video_name")
        file.create_dataset("video_name", data=names.astype(text_dtype(names.dtype.itemsize)))
        for name, column in columns.items():
            file.create_dataset(name, data=column)


def _opened(index: Index, folder: Path, pool: ThreadPoolExecutor) -> Iterator[Shard]:
    paths = [folder / entry.file for entry in index.shards]
    for first in range(0, len(paths), _AT_ONCE):
        yield from pool.map(Shard, paths[first : first + _AT_ONCE])


def read_catalog(index: Index, index_bytes: bytes, folder: Path) -> Catalog | None:
    """Read the catalogue of a folder.

    Args:
        index: Of the folder.
        index_bytes: What ``index.json`` holds.
        folder: Of the shards.

    Returns:
        None if there is none, or one of another version or of another index.

    Raises:
        ShardError: It is damaged.
        StoreError: The object store does not answer.
    """
    path = folder / CATALOG_NAME
    try:
        file = open_file(path, None)
    except ShardError:  # there is none
        return None
    try:
        with file.opened() as stream:
            reader = Hdf5Reader(stream, file.num_bytes)
            wanted = {
                "format": _FORMAT, "version": _VERSION, "index_sha256": sha256_of(index_bytes),
            }  # fmt: skip
            if any(reader.attributes.get(name) != value for name, value in wanted.items()):
                return None
            return _checked(reader, index)
    except StoreError:
        raise
    except ShardError as error:
        raise ShardError(
            f"{path}: damaged: {error}; delete the file, or run extract again"
        ) from None
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnreadableError(f"{path}: cannot be read: {reason}; check the file") from None


def _checked(file: Hdf5Reader, index: Index) -> Catalog:
    """Return what a catalogue says, without trusting it.

    Raises:
        ShardError: Its columns cannot be those of the shards in the index.
    """
    stored = file.stored("video_name")
    if stored.dtype is None or stored.dtype.kind != "S" or len(stored.shape) != 1:
        raise ShardError("video_name: a list of strings of one length expected")
    num_videos = stored.shape[0]
    columns = {"video_name": file.array("video_name", stored.dtype)}
    for dtypes, length in ((_VIDEO_DTYPES, num_videos), (_SHARD_DTYPES, len(index.shards))):
        for name, dtype in dtypes.items():
            shape = file.stored(name).shape
            if shape != (length,):
                raise ShardError(f"{name}: shape ({length},) expected, got {shape}")
            columns[name] = file.array(name, dtype)
    if file.attributes.get("column_crc32") != crc32_of(columns):
        raise ShardError("the columns do not match their checksum")
    _check_ranges(columns, num_videos, len(index.class_names))
    names = VideoNames(columns["video_name"], columns["name_order"])
    if not names.differ:
        raise ShardError("name_order: different names in rising order expected")
    return Catalog(
        names,
        columns["video_label"].astype(np.int64),
        columns["video_snippets"],
        columns["video_frames"].astype(np.int64),
        columns["video_fps"],
        np.concatenate([[0], np.cumsum(columns["shard_videos"])]),
        columns["shard_table_crc32"],
    )


def _check_ranges(columns: dict[str, np.ndarray], num_videos: int, num_classes: int) -> None:
    """Check every number that others are found by.

    Raises:
        ShardError: One is out of its range.
    """
    for name, last in (
        ("name_order", num_videos - 1),
        ("video_label", num_classes - 1),
        ("shard_videos", num_videos),
    ):
        column = columns[name]
        if column.size and not 0 <= column.min() <= column.max() <= last:
            raise ShardError(f"{name}: 0 to {last} expected")
    if columns["video_snippets"].min(initial=0) < 0:
        raise ShardError("video_snippets: numbers from 0 on expected")
    total = sum(columns["shard_videos"].tolist())
    if total != num_videos:
        raise ShardError(f"shard_videos: {num_videos} videos expected, got {total}")
    names = columns["video_name"]
    for first in range(0, num_videos, _BLOCK):
        block = names[first : first + _BLOCK]
        if block.tobytes().isascii():
            continue
        try:
            for name in block.tolist():
                name.decode()
        except UnicodeDecodeError:
            raise ShardError("video_name: texts in UTF-8 expected, got other bytes") from None


def crc32_of(columns: dict[str, np.ndarray]) -> int:
    """Return the CRC-32 over the columns' names and bytes, sorted by name: ``column_crc32``."""
    value = 0
    for name in sorted(columns):
        column = np.ascontiguousarray(columns[name])
        value = zlib.crc32(column.view(np.uint8).data, zlib.crc32(name.encode(), value))
    return value


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
