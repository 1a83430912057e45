"""The stored images of shards as they are, video by video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tsn_core.check import modality_folders
from tsn_core.codec import decode_image, encode_image
from tsn_core.errors import InputError, SettingsError, ShardError
from tsn_core.index import Index, read_index
from tsn_core.location import location
from tsn_core.manifest import MANIFEST_NAME, Manifest, Record, read_manifest
from tsn_core.modality import StoredModality
from tsn_core.shard_reader import Shard


@dataclass(frozen=True)
class StoredVideo:
    """One video in one modality.

    Attributes:
        shard: That holds it.
        place: Its place there.
    """

    shard: Shard
    place: int

    @property
    def modality(self) -> StoredModality:
        """How its units are stored."""
        return self.shard.header.modality

    @property
    def num_images(self) -> int:
        """Stored images."""
        first, last = self.shard.tables.video_image[self.place : self.place + 2].tolist()
        return last - first

    @property
    def frames(self) -> list[int]:
        """Source frame of every image."""
        tables = self.shard.tables
        first, last = tables.video_image[self.place : self.place + 2].tolist()
        return tables.image_frame[first:last].tolist()

    @property
    def snippets(self) -> list[int]:
        """First image of every snippet, 0 is the video's first."""
        first = int(self.shard.tables.video_image[self.place])
        return (self.shard.video_snippets(self.place) - first).tolist()

    @property
    def unit_size(self) -> tuple[int, int]:
        """(height, width) of the units."""
        height, width = self.shard.tables.video_unit_size[self.place].tolist()
        return height, width

    def images(self) -> Iterator[bytes]:
        """Yield the stored bytes of every image, checked against the video's checksum.

        Raises:
            ShardError: They are damaged.
        """
        tables = self.shard.tables
        data = self.shard.video_bytes(self.place)
        first, last = tables.video_image[self.place : self.place + 2].tolist()
        starts = (tables.image_start[first : last + 1] - tables.image_start[first]).tolist()
        for start, stop in pairwise(starts):
            yield data[start:stop].tobytes()

    def decoded(self, data: bytes) -> np.ndarray:
        """Return the pixels of one of its images: gray (H, W) or RGB (H, W, 3), uint8."""
        shape = self.modality.kind.image_shape(*self.unit_size)
        return decode_image(np.frombuffer(data, np.uint8), self.modality.codec, shape)


def read_indices(shards: str | os.PathLike[str]) -> dict[str, tuple[Path, Index]]:
    """Return (folder, index) of the modalities of a dataset's folder, or of one modality's.

    Returns:
        By the name of the folder that suits the modality; there is one at least.

    Raises:
        InputError: There are no shards.
        ShardError: An index is missing or damaged.
        SettingsError: The folders are not of one dataset.
    """
    found: dict[str, tuple[Path, Index]] = {}
    for folder in modality_folders(shards):
        index = read_index(folder)
        if index.modality.folder in found:
            raise SettingsError(
                f"{shards}: {index.modality.folder} stands there twice; give the folder of one "
                "dataset"
            )
        found[index.modality.folder] = folder, index
    if not found:
        raise InputError(f"{shards}: no shards there; extract some, or check the path")
    _, first = next(iter(found.values()))
    for _, index in found.values():
        if (index.dataset, index.class_names) != (first.dataset, first.class_names):
            raise SettingsError(
                f"{shards}: the datasets {first.dataset} and {index.dataset} differ in name or "
                "classes; give the folder of one"
            )
    return found


class StoredShards:
    """The shards of one or more modalities of a dataset.

    Attributes:
        root: Folder of the dataset.
        dataset: Its name.
        class_names: By class id.
        indices: Of every modality's folder, by its name.
        records: All videos, in the order of the manifest.
        labels: Class ids by name of the stored videos.
        cuts: Videos that a shard holds at most, by folder.
        failures: (name, stage, reason) of what could not be extracted, by folder and shard.
    """

    def __init__(self, shards: str | os.PathLike[str]) -> None:
        """Open the indices of a dataset's folder, or of one modality's.

        Raises:
            InputError: There are no shards.
            ShardError: An index is missing or damaged.
            SettingsError: The folders are not of one dataset.
        """
        found = read_indices(shards)
        self.indices: dict[str, Index] = {name: index for name, (_, index) in found.items()}
        self._folders: dict[str, Path] = {name: folder for name, (folder, _) in found.items()}
        first = next(iter(self.indices.values()))
        self.dataset, self.class_names = first.dataset, first.class_names
        self.root = next(iter(self._folders.values())).parent
        self._open: dict[str, Shard] = {}
        self._where: dict[str, dict[str, tuple[Path, int]]] = {}
        self._names: dict[str, dict[str, list[str]]] = {}
        self.failures: dict[str, dict[str, list[tuple[str, str, str]]]] = {}
        self.labels: dict[str, int] = {}
        self.cuts: dict[str, int] = {}
        for name, index in self.indices.items():
            self._where[name], self.failures[name], self._names[name] = {}, {}, {}
            for entry in index.shards:
                shard = Shard(self._folders[name] / entry.file)
                if shard.header.fingerprint != entry.fingerprint:
                    raise ShardError(
                        f"{shard.path}: not the shard that {self._folders[name] / 'index.json'} "
                        "names; run extract again"
                    )
                tables = shard.tables
                self._names[name][entry.file] = list(tables.video_name)
                self.cuts[name] = shard.header.videos_per_shard
                for place, video in enumerate(tables.video_name):
                    self._where[name][video] = shard.path, place
                self.labels.update(zip(tables.video_name, tables.video_label.tolist()))
                self.failures[name][entry.file] = list(
                    zip(tables.failed_name, tables.failed_stage, tables.failed_reason)
                )
                shard.close()
        self.records = self._records()

    def _records(self) -> tuple[Record, ...]:
        """Return the manifest's records of the stored and failed videos; without it, no splits."""
        path = location(self.root) / MANIFEST_NAME
        if path.is_file():
            return read_manifest(path).records
        return tuple(Record(name, label) for name, label in self.labels.items())

    @property
    def manifest(self) -> Manifest:
        """The dataset's manifest."""
        return Manifest(self.dataset, self.class_names, self.records)

    @property
    def modalities(self) -> tuple[StoredModality, ...]:
        """How the units of every modality are stored."""
        return tuple(index.modality for index in self.indices.values())

    def video(self, folder: str, name: str) -> StoredVideo | None:
        """Return a video in a modality, or None where that has no such video."""
        where = self._where[folder].get(name)
        if where is None:
            return None
        path, place = where
        shard = self._open.get(folder)
        if shard is None or shard.path != path:
            if shard is not None:
                shard.close()
            shard = self._open[folder] = Shard(path)
        return StoredVideo(shard, place)

    def names(self, folder: str, file: str) -> list[str]:
        """Return the names of the videos of one shard, in their order."""
        return self._names[folder][file]

    @property
    def digest(self) -> dict[str, list[str]]:
        """What tells these shards from others: fingerprints, sizes and names of all, by folder."""
        return {
            name: [f"{entry.file} {entry.fingerprint} {entry.num_bytes}" for entry in index.shards]
            for name, index in self.indices.items()
        }


def lossless(image: np.ndarray) -> bytes:
    """Return a PNG of a gray or RGB image."""
    import cv2

    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr)[1].tobytes()


def unit_images(video: StoredVideo, data: bytes, exact: bool) -> tuple[str, Sequence[bytes], bool]:
    """Return a stored image as the files of its unit.

    JPEGs stay as they are, stacked ones are cut at their blocks. Where that cannot be, since they
    are not a multiple of 8 pixels high or not stored as JPEGs, they are coded anew.

    Args:
        video: That holds the image.
        data: Its bytes.
        exact: Whether PNG is used then, which keeps every pixel, rather than JPEG.

    Returns:
        (ending, one file for each image of the unit, whether they were coded anew as JPEG).
    """
    from preprocess.exchange.jpeg_blocks import NotSplittableError, split_jpeg

    modality = video.modality
    parts = modality.channels if modality.kind.stacked else 1
    if modality.codec == "jpeg":
        if parts == 1:
            return "jpg", [data], False
        try:
            return "jpg", split_jpeg(data, parts), False
        except NotSplittableError:
            pass
    pixels = video.decoded(data)
    pieces = np.split(pixels, parts) if parts > 1 else [pixels]
    if exact:
        return "png", [lossless(piece) for piece in pieces], False
    return "jpg", [encode_image(piece, "jpeg", modality.quality) for piece in pieces], True
