"""Reading one shard: tables in memory, images straight from the mapped file or the store."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tsn_core.codec import check_jpeg, decode_image
from tsn_core.encoded_units import EncodedUnits, damaged, source_of
from tsn_core.errors import ShardError, StoreError, UnknownModalityError, UnreadableError
from tsn_core.hdf5_blocks import StructureError
from tsn_core.hdf5_reader import Hdf5Reader, decoded
from tsn_core.location import location
from tsn_core.modality import StoredModality
from tsn_core.shard_cache import ShardCache
from tsn_core.shard_file import CHANGED, Span, open_file
from tsn_core.shard_format import (
    FORMAT,
    STRING_TABLES,
    TABLE_DTYPES,
    VERSION,
    ShardHeader,
    ShardTables,
    check_sound,
)

_WRITERS = ("package", "opencv")


class _VersionError(ShardError):
    """The file is a shard, of another version of the format."""


class Shard:
    """One open shard.

    The tables are read and checked when it is opened; images are read from the memory-mapped file,
    so that no lock is taken and nothing is read that is not asked for. From an object store they
    come by ranges of bytes, or from a local copy.

    Attributes:
        path: Of the file.
        header: Its root attributes.
        tables: Everything but the images.
        table_crc32: Checksum of the tables, and with them of all images.
        versions: Of ``package`` and ``opencv``, that wrote it; those that it names.
    """

    def __init__(self, path: str | os.PathLike[str], cache: ShardCache | None = None) -> None:
        """Open a shard.

        Args:
            path: Of the file, or its URL in an object store.
            cache: Where a shard in a store is kept once images of it were asked for; None reads
                just what is needed, again and again.

        Raises:
            UnreadableError: The system does not hand it out.
            ShardError: There is none, or it is damaged, or of another format or version.
            StoreError: The object store does not answer.
        """
        self.path = location(path)
        try:
            self._file = open_file(self.path, cache)
            with self._file.opened() as stream:
                file = Hdf5Reader(stream, self._file.num_bytes)
                self.header = _read_header(file)
                self.tables = _read_tables(file)
                offset, size = _locate_images(file)
                self.table_crc32 = _attribute(file, "table_crc32", int)
                written = {name: file.attributes.get(f"{name}_version") for name in _WRITERS}
                self.versions = {name: text for name, text in written.items() if type(text) is str}
        except StructureError as error:
            raise ShardError(
                f"{self.path}: damaged: {error}; delete the file and extract again"
            ) from None
        except StoreError:
            raise
        except ShardError as error:
            raise ShardError(f"{self.path}: {error}") from None
        except OSError as error:
            raise _unreadable(self.path, error) from None
        defects = self.tables.defects(size, self.header)
        check_sound(self.path, defects)
        self._images_offset = offset

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        self._file.close()

    def _read_images(self, first: Sequence[int], last: Sequence[int]) -> list[np.ndarray]:
        """Return the bytes from each first image up to the last one, which is not included.

        Raises:
            ShardError: The file is not the one any more whose tables were read.
        """
        starts = self.tables.image_start[first].tolist()
        stops = self.tables.image_start[last].tolist()
        spans: list[Span] = [
            (self._images_offset + start, stop - start) for start, stop in zip(starts, stops)
        ]
        try:
            return self._file.read(spans)
        except ShardError as error:
            raise ShardError(f"{self.path}: {error}") from None

    def num_snippets(self, video: int) -> int:
        """Return how many snippets are stored of a video."""
        return int(self.tables.video_snippet[video + 1] - self.tables.video_snippet[video])

    def snippet_frames(self, video: int) -> np.ndarray:
        """Return the source frame that each snippet of a video begins at, (S,) int64."""
        return self.tables.image_frame[self.video_snippets(video)].astype(np.int64)

    def video_snippets(self, video: int) -> np.ndarray:
        """Return the first image of each snippet of a video, (S,) int64."""
        first, last = self.tables.video_snippet[video : video + 2]
        return self.tables.snippet_image[first:last]

    def video_bytes(self, video: int) -> np.ndarray:
        """Return all encoded images of a video, one after the other, uint8.

        Raises:
            ShardError: They do not match their checksum.
        """
        data = self._stored(video)
        if zlib.crc32(data.data) != self.tables.video_crc32[video]:
            raise ShardError(
                f"{self.path}: the images of {self.tables.video_name[video]} do not match their "
                "checksum; delete the file and extract again"
            )
        return data

    def read_snippets(self, video: int, snippets: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return snippets of one video.

        Args:
            video: Its place in the shard.
            snippets: Which of its snippets, 0-based, each below ``num_snippets(video)``; K of them.

        Returns:
            uint8, shape (K, L, H, W, C); RGB order for three channels, x then y for flow.

        Raises:
            ShardError: An image does not decode to what the tables say.
            StoreError: The object store does not answer.
            IndexError: A snippet is out of range.
        """
        units = self._copied(video, self._images_of(video, snippets))
        return units.reshape(-1, self.header.modality.snippet_length, *units.shape[1:])

    def unit_views(self, video: int, snippets: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return the units of snippets of one video without a copy, to be cut or looked at.

        Args:
            video: Its place in the shard.
            snippets: As for ``read_snippets``, which raises the same errors.

        Returns:
            K * L arrays of (H, W, C) uint8, one snippet after the other, to be read only: units
            that are stored raw lie in the mapped file, and one that is asked for twice is one
            array.
        """
        images = self._images_of(video, snippets).tolist()
        wanted = sorted(set(images))
        units = dict(zip(wanted, self._decoded(video, wanted)))
        return [units[image] for image in images]

    def encoded_units(self, video: int, snippets: Sequence[int] | np.ndarray) -> EncodedUnits:
        """Return the units of snippets of one video as they are stored: JPEGs.

        Args:
            video: Its place in the shard.
            snippets: As for ``read_snippets``.

        Returns:
            K * L images, one snippet after the other. Only their headers have been looked at.

        Raises:
            ShardError: A header does not say what the tables say.
            StoreError: The object store does not answer.
            IndexError: A snippet is out of range.
        """
        numbers = self._images_of(video, snippets).tolist()
        shape = self.header.modality.kind.image_shape(*self.unit_size(video))
        source = source_of(self.path, self.tables.video_name[video])
        images = self._read_images(numbers, [number + 1 for number in numbers])
        place = 0
        try:
            for place, data in enumerate(images):  # noqa: B007 - for the message
                check_jpeg(data, shape)
        except ShardError as error:
            raise damaged(source, numbers[place], error) from None
        return EncodedUnits(images, numbers, shape, source)

    def _images_of(self, video: int, snippets: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the images of snippets of a video, (K * L,) int64."""
        tables, length = self.tables, self.header.modality.snippet_length
        chosen = np.asarray(snippets, dtype=np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < self.num_snippets(video):
            raise IndexError(f"{self.path}: video {video} has {self.num_snippets(video)} snippets")
        firsts = tables.snippet_image[tables.video_snippet[video] + chosen]
        return (firsts[:, None] + np.arange(length)).ravel()

    def read_units(self, video: int, units: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return stored units of one video, whichever snippets they belong to.

        Args:
            video: Its place in the shard.
            units: Which of its stored units, 0-based, in storage order; N of them.

        Returns:
            uint8, shape (N, H, W, C), as ``read_snippets``, which raises the same errors.

        Raises:
            IndexError: A unit is out of range.
        """
        first, last = self.tables.video_image[video : video + 2].tolist()
        chosen = np.asarray(units, dtype=np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < last - first:
            raise IndexError(f"{self.path}: video {video} has {last - first} units")
        return self._copied(video, first + chosen)

    def unit_size(self, video: int) -> tuple[int, int]:
        """Return (height, width) in px of the stored units of a video."""
        height, width = self.tables.video_unit_size[video].tolist()
        return height, width

    def _copied(self, video: int, images: np.ndarray) -> np.ndarray:
        """Return the units of these images of a video, (N,), as (N, H, W, C) uint8."""
        size = (*self.unit_size(video), self.header.modality.channels)
        out = np.empty((len(images), *size), np.uint8)
        wanted, where = np.unique(images, return_inverse=True)  # images of overlaps stand once
        order = np.argsort(where, kind="stable")
        stops = np.searchsorted(where[order], np.arange(len(wanted)), side="right").tolist()
        first = 0
        for unit, stop in zip(self._decoded(video, wanted.tolist()), stops):
            out[order[first:stop]] = unit
            first = stop
        return out

    def _decoded(self, video: int, images: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the units of these images of a video, each (H, W, C) uint8."""
        shape = self.header.modality.kind.image_shape(*self.unit_size(video))
        stored = self._read_images(images, [image + 1 for image in images])
        for image, data in zip(images, stored):
            yield self._unit(video, image, data, shape)

    def _unit(self, video: int, image: int, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        modality = self.header.modality
        try:
            return modality.kind.unstack(decode_image(data, modality.codec, shape))
        except ShardError as error:
            source = source_of(self.path, self.tables.video_name[video])
            raise damaged(source, image, error) from None

    def checksum_defects(self) -> list[str]:
        """Read every byte and return what does not match its checksum, one line each."""
        tables = self.tables
        found = []
        if tables.crc32() != self.table_crc32:
            found.append("the tables do not match their checksum")
        found.extend(
            f"the images of {name} do not match their checksum" for name in self.damaged_videos()
        )
        return found

    def damaged_videos(self) -> list[str]:
        """Read every image and return the names of the videos that do not match their checksum."""
        return [
            name
            for video, name in enumerate(self.tables.video_name)
            if zlib.crc32(self._stored(video).data) != self.tables.video_crc32[video]
        ]

    def _stored(self, video: int) -> np.ndarray:
        first, last = self.tables.video_image[video : video + 2].tolist()
        return self._read_images([first], [last])[0]


def changed(path: object) -> str:
    """Return the message about a file that another one has taken the place of."""
    return f"{path}: {CHANGED}"


def read_header(path: str | os.PathLike[str]) -> ShardHeader | None:
    """Return the root attributes of a shard, or None if the file is not a readable shard.

    For deciding what to do with a file that is already there, without reading its tables.

    Raises:
        ShardError: It is a shard of another version or of a modality that nobody has installed
            here, or the system does not hand it out: it must
            not be overwritten by mistake.
        StoreError: The object store does not answer.
    """
    try:
        file = open_file(location(path), None)
        with file.opened() as stream:
            return _read_header(Hdf5Reader(stream, file.num_bytes))
    except StoreError:
        raise
    except (_VersionError, UnknownModalityError) as error:
        raise ShardError(f"{path}: {error}") from None
    except (ShardError, FileNotFoundError, IsADirectoryError):  # it is not a finished shard
        return None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | os.PathLike[str], error: OSError) -> UnreadableError:
    reason = error.strerror or str(error)
    return UnreadableError(f"{os.fspath(path)}: cannot be read: {reason}; check the file")


def _read_header(file: Hdf5Reader) -> ShardHeader:
    form, version = file.attributes.get("format"), file.attributes.get("version")
    if form != FORMAT:
        raise ShardError(f"format {FORMAT!r} expected, got {form!r}")
    if version != VERSION:
        raise _VersionError(
            f"format version {VERSION} expected, got {version!r}; "
            "delete the folder and extract again, or update this package"
        )
    class_names: tuple[bytes, ...] = _attribute(file, "class_names", tuple)
    sampling = _attribute(file, "sampling", str)
    try:
        known = isinstance(json.loads(sampling), dict)
    except (ValueError, RecursionError):
        known = False
    if not known:
        raise StructureError(f"attribute sampling: a JSON object expected, got {sampling[:40]!r}")
    return ShardHeader(
        dataset=_attribute(file, "dataset", str),
        modality=StoredModality.from_json(_attribute(file, "modality", str)),
        sampling=sampling,
        class_names=decoded("class_names", list(class_names)),
        videos_per_shard=_attribute(file, "videos_per_shard", int),
        fingerprint=_attribute(file, "fingerprint", str),
    )


_KINDS = {str: "a text", int: "a whole number", tuple: "texts"}


def _attribute(file: Hdf5Reader, name: str, kind: type) -> Any:
    value = file.attributes.get(name)
    if type(value) is not kind:
        found = "none" if value is None else "something else"
        raise StructureError(f"attribute {name}: {_KINDS[kind]} expected, got {found}")
    return value


def _read_tables(file: Hdf5Reader) -> ShardTables:
    columns: dict[str, Any] = {name: file.array(name, kind) for name, kind in TABLE_DTYPES.items()}
    columns.update({name: file.texts(name) for name in STRING_TABLES})
    return ShardTables(**columns)


def _locate_images(file: Hdf5Reader) -> tuple[int, int]:
    """Return (offset, size) in bytes of the images in the file."""
    stored = file.stored("images")
    if stored.dtype != np.uint8 or len(stored.shape) != 1:
        raise ShardError(f"images: (B,) uint8 expected, got {stored.shape} {stored.dtype_name}")
    return stored.offset, stored.shape[0]
