"""Writing one shard: video after video, in bounded memory, whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import h5py
import numpy as np

from tsn_core.atomic import TEMPORARY_SUFFIX, unwritable
from tsn_core.hdf5_file import fixed_texts, written_hdf5
from tsn_core.location import is_remote, location
from tsn_core.shard_format import (
    FORMAT,
    STRING_TABLES,
    TABLE_DTYPES,
    VERSION,
    ShardHeader,
    ShardTables,
)
from tsn_core.shard_reader import Shard
from tsn_core.version import __version__

_COPIED = (
    "video_frames",
    "video_fps",
    "video_size",
    "video_unit_size",
    "video_padding",
    "video_warped",
    "video_crc32",
)
_SPOOL_BYTES = 16 << 20  # image bytes held in memory before they go to a temporary file
_COPY_BYTES = 4 << 20


class ShardWriter:
    """Collects the images of one shard and writes the file when told to.

    Image bytes wait in memory, and past 16 MiB in an unnamed temporary file in the shard's folder
    (for an object store, in the machine's folder for temporary files), because their dataset is
    contiguous and its size is known only at the end. Use as a context manager; without ``finish``
    nothing is left behind.

    One video at a time: ``add_image`` for each of its units in ascending order, then ``end_video``,
    ``discard_video`` to begin it anew, or ``drop_video``; or ``copy_video`` from another shard.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: ShardHeader,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        """Begin a shard.

        Args:
            path: Of the file.
            header: Its root attributes.
            versions: Of ``package`` and ``opencv`` that wrote the images, where all are copied;
                None for those at work here.
        """
        self._path = location(path)
        self._header = header
        self._versions = versions or {}
        self._spool = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed in __exit__
            max_size=_SPOOL_BYTES,
            dir=None if is_remote(self._path) else str(self._path.parent),
            prefix=f".{self._path.name}.",  # where a file cannot be made without a name, and a
            suffix=TEMPORARY_SUFFIX,  # kill hits before the name is gone: known as a leftover
        )
        self._tables: dict[str, list[Any]] = {name: [] for name in TABLE_DTYPES}
        self._tables.update({name: [] for name in STRING_TABLES})
        for name in ("image_start", "video_snippet", "video_image"):
            self._tables[name].append(0)
        self._units: list[int] = []  # unit numbers of the images of the open video
        self._crc32 = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk, which was reported before
            self._spool.close()

    @contextmanager
    def _spooling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._path, error) from error

    @property
    def num_videos(self) -> int:
        """Videos ended so far."""
        return len(self._tables["video_name"])

    @property
    def num_failures(self) -> int:
        """Videos recorded as failed so far."""
        return len(self._tables["failed_name"])

    def add_image(self, unit: int, frame: int, data: bytes) -> None:
        """Append the image of one unit of the open video.

        Args:
            unit: Its place on the video's timeline; greater than that of the image before.
            frame: Source frame of the unit.
            data: The encoded image.

        Raises:
            OutputError: The disk is full.
        """
        assert not self._units or unit > self._units[-1]
        with self._spooling():
            self._spool.write(data)
        self._units.append(unit)
        self._tables["image_start"].append(self._tables["image_start"][-1] + len(data))
        self._tables["image_frame"].append(frame)
        self._crc32 = zlib.crc32(data, self._crc32)

    def end_video(
        self,
        name: str,
        label: int,
        *,
        starts: np.ndarray | Sequence[int],
        num_frames: int,
        fps: float,
        size: tuple[int, int],
        unit_size: tuple[int, int],
        padding: int,
        warped: int = 0,
    ) -> None:
        """Close the open video.

        Args:
            name: Of the video.
            label: Class id.
            starts: First unit of each snippet, (S,); the images of all their units were added.
            num_frames: Frames decoded.
            fps: Frame rate in Hz.
            size: (height, width) of the source.
            unit_size: (height, width) of the units.
            padding: Units made by repeating the last frame.
            warped: Units from which the camera's motion was taken out.
        """
        tables = self._tables
        first_image = tables["video_image"][-1]
        place = np.searchsorted(np.asarray(self._units), starts)
        assert (np.asarray(self._units)[place] == starts).all()
        tables["snippet_image"].extend((first_image + place).tolist())
        tables["video_snippet"].append(len(tables["snippet_image"]))
        tables["video_image"].append(len(tables["image_frame"]))
        tables["video_name"].append(name)
        tables["video_label"].append(label)
        tables["video_frames"].append(num_frames)
        tables["video_fps"].append(fps)
        tables["video_size"].append(size)
        tables["video_unit_size"].append(unit_size)
        tables["video_padding"].append(padding)
        tables["video_warped"].append(warped)
        tables["video_crc32"].append(self._crc32)
        self._units, self._crc32 = [], 0

    def copy_video(self, shard: Shard, video: int, label: int, name: str | None = None) -> None:
        """Append a video as another shard of the same settings holds it.

        Args:
            shard: The other one.
            video: Its place there.
            label: Class id, which may have changed.
            name: Of the video, likewise; None for the same.

        Raises:
            OutputError: The disk is full.
        """
        assert not self._units
        tables, own = shard.tables, self._tables
        first, last = tables.video_image[video : video + 2].tolist()
        data = shard.video_bytes(video)
        shift = own["image_start"][-1] - int(tables.image_start[first])
        own["snippet_image"].extend(
            (shard.video_snippets(video) + len(own["image_frame"]) - first).tolist()
        )
        own["image_start"].extend((tables.image_start[first + 1 : last + 1] + shift).tolist())
        own["image_frame"].extend(tables.image_frame[first:last].tolist())
        own["video_snippet"].append(len(own["snippet_image"]))
        own["video_image"].append(len(own["image_frame"]))
        own["video_name"].append(tables.video_name[video] if name is None else name)
        own["video_label"].append(label)
        for column in _COPIED:
            own[column].append(getattr(tables, column)[video].tolist())
        with self._spooling():
            for start in range(0, data.size, _COPY_BYTES):
                self._spool.write(data[start : start + _COPY_BYTES].data)

    def discard_video(self) -> None:
        """Forget the images of the open video.

        Raises:
            OutputError: The disk is full.
        """
        images = self._tables["video_image"][-1]
        del self._tables["image_frame"][images:]
        del self._tables["image_start"][images + 1 :]
        with self._spooling():
            self._spool.seek(self._tables["image_start"][-1])
            self._spool.truncate()
        self._units, self._crc32 = [], 0

    def drop_video(self, name: str, stage: str, reason: str) -> None:
        """Forget the images of the open video and record where and why it failed.

        Raises:
            OutputError: The disk is full.
        """
        self.discard_video()
        self._tables["failed_name"].append(name)
        self._tables["failed_stage"].append(stage)
        self._tables["failed_reason"].append(reason)

    def finish(self) -> ShardTables:
        """Write the shard and return its tables.

        Raises:
            OutputError: The file cannot be written; nothing is left of it.
        """
        columns: dict[str, Any] = {
            name: np.array(self._tables[name], dtype=dtype).reshape(_shape(name))
            for name, dtype in TABLE_DTYPES.items()
        }
        columns.update({name: tuple(self._tables[name]) for name in STRING_TABLES})
        tables = ShardTables(**columns)
        with written_hdf5(self._path) as file:
            self._write_attributes(file, tables)
            for name in TABLE_DTYPES:
                file.create_dataset(name, data=getattr(tables, name))
            for name in STRING_TABLES:
                file.create_dataset(name, data=fixed_texts(getattr(tables, name)))
            self._write_images(file)
        return tables

    def _write_attributes(self, file: h5py.File, tables: ShardTables) -> None:
        import cv2

        header = self._header
        texts = {
            "format": FORMAT,
            "dataset": header.dataset,
            "modality": header.modality.to_json(),
            "sampling": header.sampling,
            "fingerprint": header.fingerprint,
            "package_version": self._versions.get("package", __version__),
            "opencv_version": self._versions.get("opencv", cv2.__version__),
        }
        for name, text in texts.items():
            file.attrs[name] = fixed_texts([text])[0]
        file.attrs["class_names"] = fixed_texts(header.class_names)
        file.attrs["version"] = VERSION
        file.attrs["videos_per_shard"] = header.videos_per_shard
        file.attrs["table_crc32"] = np.uint32(tables.crc32())

    def _write_images(self, file: h5py.File) -> None:
        size = self._tables["image_start"][-1]
        images = file.create_dataset("images", shape=(size,), dtype=np.uint8)
        self._spool.seek(0)
        for start in range(0, size, _COPY_BYTES):
            block = np.frombuffer(self._spool.read(_COPY_BYTES), dtype=np.uint8)
            images[start : start + block.size] = block


def _shape(name: str) -> tuple[int, ...]:
    return (-1, 2) if name.endswith("_size") else (-1,)
