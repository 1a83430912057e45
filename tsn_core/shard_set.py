"""All shards of one modality of a dataset, as one sequence of videos."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tsn_core.catalog import (
    Catalog,
    catalog_of,
    check_header,
    read_catalog,
    sha256_of,
    unlike,
)
from tsn_core.encoded_units import EncodedUnits
from tsn_core.errors import ShardError
from tsn_core.index import INDEX_NAME, parse_index, read_index_bytes
from tsn_core.location import is_remote, location
from tsn_core.modality import StoredModality
from tsn_core.shard_cache import cache_from_environment
from tsn_core.shard_pool import ShardPool
from tsn_core.shard_reader import Shard, changed
from tsn_core.video_names import VideoNames


class ShardSet:
    """The videos of a folder of shards, by number or by name.

    What ``catalog.hdf5`` says of the videos is read when the folder is opened; a shard is opened,
    and compared with that, when a video of it is asked for first. Where there is no catalogue of
    this ``index.json``, every shard is opened at once. A process keeps the tables and the open
    files of those shards that it used last.

    Safe to hand to worker processes, forked or spawned: the path and what the catalogue says
    travel, and every process opens the files for itself.

    Of shards in an object store, those that fit into the local cache together (see
    ``tsn_core.shard_cache``) are downloaded when images of them are asked for first; of the others
    only what is asked for is read, since shards that push each other out would be downloaded over
    and over.

    Attributes:
        folder: The one that holds ``index.json``; may be given as a URL such as ``s3://…``.
        modality: How the units are stored.
        class_names: By class id.
        names: Of all videos, in storage order; a sequence that is equal to a tuple of them.
        labels: Class ids, (V,) int64.
        num_snippets: Stored snippets of every video, (V,) int64.
        num_frames: Frames really decoded of every video, (V,) int64.
        fps: Frame rate of every video in Hz, 0 where its file states none, (V,) float64.
        sampling: Which snippets are stored, such as ``{"fps": 2.0}``; see ``SnippetPlan``.
        mean_image_bytes: Of a stored image, tables included.
        digest: 16 hex digits that are others if any stored byte is.

    Examples:
        ``ShardSet("shards/hmdb51/rgb").read(0, [0, 12, 24])`` gives the first, the middle and the
        last of the 25 snippets of the first video, shape (3, 1, 256, 340, 3).
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a folder of shards.

        Raises:
            ShardError: No index, or a shard is missing, damaged or not the one in the index.
            StoreError: The object store does not answer.
            InputError: The size of the cache is not a number.
        """
        self.folder = location(folder)
        data = read_index_bytes(self.folder)
        self._index_sha256 = sha256_of(data)
        index = parse_index(data, self.folder)
        self.dataset = index.dataset
        self.modality: StoredModality = index.modality
        self.class_names = index.class_names
        self.sampling = dict(index.sampling)
        self._files = [entry.file for entry in index.shards]
        self._fingerprints = [entry.fingerprint for entry in index.shards]
        self._cache = cache_from_environment() if is_remote(self.folder) else None
        most = 0 if self._cache is None else self._cache.max_bytes
        totals = np.cumsum([entry.num_bytes for entry in index.shards])
        self._num_cached = int(np.searchsorted(totals, most, side="right"))
        images = sum(entry.num_images for entry in index.shards)
        self.mean_image_bytes = int(totals[-1]) // max(images, 1) if len(totals) else 0
        self._pool = ShardPool()
        catalog = read_catalog(index, data, self.folder)
        self._catalogued = catalog is not None
        if catalog is None:
            opened = (self._pool.get(n, self._open) for n in range(len(self._files)))
            catalog = catalog_of(index, self.folder / INDEX_NAME, opened)
        self._catalog: Catalog = catalog
        self.names: VideoNames = catalog.names
        self.labels = catalog.labels
        self.num_snippets = catalog.num_snippets
        self.num_frames = catalog.num_frames
        self.fps = catalog.fps
        known = [self.modality.to_json(), *self.class_names, *map(str, catalog.checksums.tolist())]
        self.digest = hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def number(self, name: str) -> int:
        """Return the place of the video of that name.

        Raises:
            KeyError: There is none.
        """
        number = int(self.names.find([name])[0])
        if number < 0:
            raise KeyError(name)
        return number

    def find(self, names: Sequence[str]) -> np.ndarray:
        """Return the places of many videos, -1 where there is none of a name, (n,) int64."""
        return self.names.find(names)

    def snippet_frames(self, video: int) -> np.ndarray:
        """Return the source frame that each snippet of a video begins at, (S,) int64."""
        shard, place = self._find(video)
        return shard.snippet_frames(place)

    def snippet_units(self, video: int) -> np.ndarray:
        """Return the stored unit that each snippet of a video begins at, (S,) int64."""
        shard, place = self._find(video)
        return shard.video_snippets(place) - shard.tables.video_image[place]

    def read(self, video: int, snippets: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return snippets of one video, uint8, shape (K, L, H, W, C); see ``Shard``."""
        shard, place = self._find(video, images=True)
        return shard.read_snippets(place, snippets)

    def unit_views(self, video: int, snippets: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return the units of snippets without a copy, K * L of (H, W, C) uint8; see ``Shard``."""
        shard, place = self._find(video, images=True)
        return shard.unit_views(place, snippets)

    def encoded_units(self, video: int, snippets: Sequence[int] | np.ndarray) -> EncodedUnits:
        """Return the units of snippets as they are stored, K * L JPEGs; see ``Shard``."""
        shard, place = self._find(video, images=True)
        return shard.encoded_units(place, snippets)

    def unit_size(self, video: int) -> tuple[int, int]:
        """Return (height, width) in px of the stored units of a video."""
        if self.modality.height is not None and self.modality.width is not None:
            return self.modality.height, self.modality.width
        shard, place = self._find(video)
        return shard.unit_size(place)

    def read_units(self, video: int, units: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return stored units of one video, uint8, shape (N, H, W, C); see ``Shard``."""
        shard, place = self._find(video, images=True)
        return shard.read_units(place, units)

    def shard_numbers(self) -> np.ndarray:
        """Return the number of the shard that each video lies in, (V,) int64, non-decreasing."""
        return np.repeat(np.arange(len(self._files)), np.diff(self._catalog.starts))

    def _find(self, video: int, *, images: bool = False) -> tuple[Shard, int]:
        """Return the shard of a video, and the video's place in it.

        Args:
            video: Its number; negative ones count from the end.
            images: Whether its images are to be read.
        """
        if not -len(self) <= video < len(self):
            raise IndexError(f"{self.folder}: {len(self)} videos, asked for number {video}")
        video %= len(self)
        starts = self._catalog.starts
        number = int(np.searchsorted(starts, video, side="right")) - 1
        shard = self._pool.get(number, self._open_checked, images=images)
        return shard, video - int(starts[number])

    def _open(self, number: int) -> Shard:
        cache = self._cache if number < self._num_cached else None
        return Shard(self.folder / self._files[number], cache)

    def _open_checked(self, number: int) -> Shard:
        """Open a shard that is the one in the index and in the catalogue, or raise ShardError."""
        shard = self._open(number)
        check_header(shard, self._fingerprints[number], self.class_names, self.folder / INDEX_NAME)
        if self._catalog.agrees(number, shard):
            # equal to what is in memory already, once for all shards
            shard.header = replace(shard.header, class_names=self.class_names)
            return shard
        if self._catalogued and self._is_unchanged():
            raise ShardError(unlike(shard.path, self.folder))
        raise ShardError(changed(shard.path))

    def check_unchanged(self) -> None:
        """Check that nobody has extracted into the folder since it was opened.

        Raises:
            ShardError: Somebody has.
        """
        if not self._is_unchanged():
            raise ShardError(changed(self.folder / INDEX_NAME))

    def _is_unchanged(self) -> bool:
        try:
            return sha256_of(read_index_bytes(self.folder)) == self._index_sha256
        except ShardError:
            return False
