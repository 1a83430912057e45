"""Version 1 of the shard format: names, types, and what must hold between them.

``docs/shard-format.md`` describes the format to readers in other languages; this module is its
definition. Writer, reader and checker all use it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tsn_core.codec import MOST_PIXELS_PER_BYTE
from tsn_core.errors import ShardError
from tsn_core.modality import MOST_PIXELS, StoredModality

FORMAT, VERSION = "tsn-shard", 1

# Type of every table but the two of names, which are UTF-8 strings.
TABLE_DTYPES: dict[str, np.dtype] = {
    "image_start": np.dtype("<i8"),
    "image_frame": np.dtype("<i4"),
    "snippet_image": np.dtype("<i8"),
    "video_snippet": np.dtype("<i8"),
    "video_image": np.dtype("<i8"),
    "video_label": np.dtype("<i4"),
    "video_frames": np.dtype("<i4"),
    "video_fps": np.dtype("<f8"),
    "video_size": np.dtype("<i4"),
    "video_unit_size": np.dtype("<i4"),
    "video_padding": np.dtype("<i4"),
    "video_warped": np.dtype("<i4"),
    "video_crc32": np.dtype("<u4"),
}
_TEXT_BYTES = 128  # of memory that a usual text takes, and its place in a tuple
STRING_TABLES = ("video_name", "failed_name", "failed_stage", "failed_reason")


def shard_name(number: int) -> str:
    """Return the file name of a shard.

    Examples:
        >>> shard_name(3)
        'shard-00003.h5'
    """
    return f"shard-{number:05d}.h5"


@dataclass(frozen=True)
class ShardHeader:
    """The root attributes of a shard.

    Attributes:
        dataset: Name of the dataset.
        modality: How the units were made and stored.
        sampling: Which snippets are stored, as canonical JSON (``SnippetPlan.to_json``).
        class_names: By class id.
        videos_per_shard: How the dataset was cut; the last shard may hold fewer.
        fingerprint: Of everything that changes the stored bytes, see ``fingerprint``.
    """

    dataset: str
    modality: StoredModality
    sampling: str
    class_names: tuple[str, ...]
    videos_per_shard: int
    fingerprint: str


def fingerprint(
    modality: StoredModality,
    sampling: str,
    class_names: Iterable[str],
    videos: Iterable[tuple[str, int]],
) -> str:
    """Return the hash of every setting that changes a shard's bytes, in hexadecimal.

    Args:
        modality: How units are made and stored.
        sampling: Canonical JSON of the snippet plan.
        class_names: By class id.
        videos: (name, label) of the shard's videos, in their order.
    """
    settings = {
        "version": VERSION,
        "modality": modality.to_json(),
        "sampling": sampling,
        "class_names": list(class_names),
        "videos": [list(video) for video in videos],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ShardTables:
    """Every table of a shard but the images; V videos, S snippets, M images, F failures.

    Attributes:
        image_start: (M + 1,); image m is bytes ``image_start[m]`` to ``image_start[m + 1]``.
        image_frame: (M,); source frame of image m.
        snippet_image: (S,); first image of snippet s; its units are the next L images.
        video_snippet: (V + 1,); snippets of video v.
        video_image: (V + 1,); images of video v.
        video_label: (V,); class id.
        video_frames: (V,); frames really decoded.
        video_fps: (V,); frame rate in Hz that the container states, 0 where unknown.
        video_size: (V, 2); (height, width) of the source.
        video_unit_size: (V, 2); (height, width) of the stored units.
        video_padding: (V,); units made by repeating the last frame of a short video.
        video_warped: (V,); units from which the camera's motion was taken out (warpedflow).
        video_crc32: (V,); CRC-32 of the video's bytes in ``images``.
        video_name: (V,); unique names.
        failed_name: (F,); videos of this shard that could not be extracted.
        failed_stage: (F,); where it came up: open, decode, rgb, flow, …, crash, timeout, memory.
        failed_reason: (F,); why, one line each.
    """

    image_start: np.ndarray
    image_frame: np.ndarray
    snippet_image: np.ndarray
    video_snippet: np.ndarray
    video_image: np.ndarray
    video_label: np.ndarray
    video_frames: np.ndarray
    video_fps: np.ndarray
    video_size: np.ndarray
    video_unit_size: np.ndarray
    video_padding: np.ndarray
    video_warped: np.ndarray
    video_crc32: np.ndarray
    video_name: tuple[str, ...]
    failed_name: tuple[str, ...]
    failed_stage: tuple[str, ...]
    failed_reason: tuple[str, ...]

    @property
    def num_videos(self) -> int:
        """V."""
        return len(self.video_name)

    @property
    def num_images(self) -> int:
        """M."""
        return len(self.image_frame)

    @property
    def num_snippets(self) -> int:
        """S."""
        return len(self.snippet_image)

    @property
    def num_bytes(self) -> int:
        """About how much memory the tables take."""
        tables = [getattr(self, column.name) for column in fields(self)]
        return sum(
            _TEXT_BYTES * len(table) if isinstance(table, tuple) else table.nbytes
            for table in tables
        )

    def crc32(self) -> int:
        """Return the CRC-32 over all tables, the shard's ``table_crc32`` attribute."""
        value = 0
        for column in fields(self):
            table = getattr(self, column.name)
            if isinstance(table, tuple):
                data: Any = json.dumps(table).encode()
            else:
                data = np.ascontiguousarray(table, TABLE_DTYPES[column.name]).tobytes()
            value = zlib.crc32(data, zlib.crc32(column.name.encode(), value))
        return value

    def defects(self, num_bytes: int, header: ShardHeader) -> list[str]:
        """Return what does not hold between the tables, one line each; empty when sound.

        Args:
            num_bytes: Size of ``images``, B.
            header: Of the shard.
        """
        modality, num_classes = header.modality, len(header.class_names)
        videos, images, snippets = self.num_videos, self.num_images, self.num_snippets
        found = []
        shapes = {
            "image_start": (images + 1,),
            "image_frame": (images,),
            "snippet_image": (snippets,),
            "video_snippet": (videos + 1,),
            "video_image": (videos + 1,),
            "video_size": (videos, 2),
            "video_unit_size": (videos, 2),
        }
        for name in TABLE_DTYPES:
            shape, expected = getattr(self, name).shape, shapes.get(name, (videos,))
            if shape != expected:
                found.append(f"{name}: shape {expected} expected, got {shape}")
        for name in ("failed_stage", "failed_reason"):
            entries = len(getattr(self, name))
            if len(self.failed_name) != entries:
                found.append(f"{name}: {len(self.failed_name)} entries expected, got {entries}")
        if found:
            return found
        for name, total, what in (
            ("image_start", num_bytes, "bytes"),
            ("video_image", images, "images"),
            ("video_snippet", snippets, "snippets"),
        ):
            offsets = getattr(self, name)
            if offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
                found.append(f"{name}: offsets rising from 0 to {total} {what} expected")
        if found:
            return found
        owner = np.repeat(np.arange(videos), np.diff(self.video_snippet))
        first, last = self.video_image[owner], self.video_image[owner + 1]
        if (self.snippet_image < first).any() or (
            self.snippet_image > last - modality.snippet_length
        ).any():
            found.append("snippet_image: a snippet leaves the images of its video")
        if ((self.video_label < 0) | (self.video_label >= num_classes)).any():
            found.append(f"video_label: 0 to {num_classes - 1} expected")
        if (self.video_unit_size < 1).any() or (self.video_unit_size > MOST_PIXELS).any():
            found.append(f"video_unit_size: 1 to {MOST_PIXELS} expected")
        else:
            found.extend(self._size_defects(modality))
        if len(set(self.video_name)) != videos:
            found.append("video_name: a name stands there twice")
        return found

    def _size_defects(self, modality: StoredModality) -> list[str]:
        """Return what does not hold between the sizes of units in px and of images in bytes."""
        sizes = self.video_unit_size.astype(np.int64)
        fixed = (modality.height, modality.width)
        if modality.height is not None and (sizes != fixed).any():
            return [f"video_unit_size: {modality.height}, {modality.width} expected"]
        pixels = sizes.prod(axis=1) * (modality.channels if modality.kind.stacked else 1)
        pixels = np.repeat(pixels, np.diff(self.video_image))
        size = np.diff(self.image_start)
        if modality.codec == "raw":
            channels = 1 if modality.kind.stacked else modality.channels
            wrong = size != pixels * channels
        else:
            wrong = size < pixels // MOST_PIXELS_PER_BYTE
        if not wrong.any():
            return []
        image = int(wrong.argmax())
        return [
            f"image_start: {size[image]} bytes cannot be the {pixels[image]} px of image {image}"
        ]


def check_sound(path: object, defects: list[str]) -> None:
    """Raise the first defect of a shard, with its path.

    Raises:
        ShardError: There is one.
    """
    if defects:
        raise ShardError(f"{path}: damaged: {defects[0]}; delete the file and extract again")
