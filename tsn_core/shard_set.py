"""All shards of one modality of a dataset, as one sequence of videos."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tsn_core.errors import ShardError, StoreError
from tsn_core.index import INDEX_NAME, read_index
from tsn_core.location import is_remote, location
from tsn_core.modality import StoredModality
from tsn_core.shard_cache import cache_from_environment
from tsn_core.shard_reader import Shard, changed

_MOST_OPEN = 128  # files; large datasets have more shards than a process may open


class ShardSet:
    """The videos of a folder of shards, by number or by name.

    Safe to hand to worker processes, forked or spawned: only the path travels, and every process
    opens the files for itself.

    Of shards in an object store, those that fit into the local cache together (see
    ``tsn_core.shard_cache``) are downloaded when images of them are asked for first; of the others
    only what is asked for is read, since shards that push each other out would be downloaded over
    and over.

    Attributes:
        folder: The one that holds ``index.json``; may be given as a URL such as ``s3://…``.
        modality: How the units are stored.
        class_names: By class id.
        names: Of all videos, in storage order.
        labels: Class ids, (V,) int64.
        num_snippets: Stored snippets of every video, (V,) int64.
        num_frames: Frames really decoded of every video, (V,) int64.
        fps: Frame rate of every video in Hz, 0 where its file states none, (V,) float64.
        sampling: Which snippets are stored, such as ``{"fps": 2.0}``; see ``SnippetPlan``.
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
        self._index_bytes = self._read_index()
        index = read_index(self.folder)
        self.dataset = index.dataset
        self.modality: StoredModality = index.modality
        self.class_names = index.class_names
        self.sampling = dict(index.sampling)
        self._shards: dict[int, Shard] = {}
        self._open: dict[int, None] = {}  # shards whose files are open, oldest use first
        self._files = [entry.file for entry in index.shards]
        self._cache = cache_from_environment() if is_remote(self.folder) else None
        most = 0 if self._cache is None else self._cache.max_bytes
        totals = np.cumsum([entry.num_bytes for entry in index.shards])
        self._num_cached = int(np.searchsorted(totals, most, side="right"))
        self._checksums: list[int] = []
        names: list[str] = []
        labels, counts, frames, rates = [], [], [], []
        where: list[tuple[int, int]] = []
        for number, entry in enumerate(index.shards):
            shard = self._shard(number)
            if shard.header.fingerprint != entry.fingerprint:
                raise ShardError(
                    f"{shard.path}: not the shard that {self.folder / 'index.json'} names; "
                    "run extract again"
                )
            if shard.header.class_names != index.class_names:
                raise ShardError(
                    f"{shard.path}: other classes than {self.folder / 'index.json'} names; "
                    "run extract again"
                )
            self._checksums.append(shard.table_crc32)
            names.extend(shard.tables.video_name)
            labels.append(shard.tables.video_label.astype(np.int64))
            counts.append(np.diff(shard.tables.video_snippet))
            frames.append(shard.tables.video_frames.astype(np.int64))
            rates.append(shard.tables.video_fps)
            where.extend((number, video) for video in range(shard.tables.num_videos))
        self.names = tuple(names)
        self.labels = np.concatenate(labels) if labels else np.empty(0, np.int64)
        self.num_snippets = np.concatenate(counts) if counts else np.empty(0, np.int64)
        self.num_frames = np.concatenate(frames) if frames else np.empty(0, np.int64)
        self.fps = np.concatenate(rates) if rates else np.empty(0, np.float64)
        known = [self.modality.to_json(), *self.class_names, *map(str, self._checksums)]
        self.digest = hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
        self._where = where
        self._numbers = {name: number for number, name in enumerate(names)}
        if len(self._numbers) != len(names):
            raise ShardError(f"{self.folder}: a video stands in two shards; run extract again")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._numbers

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}, "_open": {}}

    def number(self, name: str) -> int:
        """Return the place of the video of that name.

        Raises:
            KeyError: There is none.
        """
        return self._numbers[name]

    def snippet_frames(self, video: int) -> np.ndarray:
        """Return the source frame that each snippet of a video begins at, (S,) int64."""
        number, place = self._where[video]
        return self._shard(number).snippet_frames(place)

    def snippet_units(self, video: int) -> np.ndarray:
        """Return the stored unit that each snippet of a video begins at, (S,) int64."""
        number, place = self._where[video]
        shard = self._shard(number)
        return shard.video_snippets(place) - shard.tables.video_image[place]

    def read(self, video: int, snippets: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return snippets of one video, uint8, shape (K, L, H, W, C); see ``Shard``."""
        shard, place = self._used(video)
        return shard.read_snippets(place, snippets)

    def unit_views(self, video: int, snippets: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return the units of snippets without a copy, K * L of (H, W, C) uint8; see ``Shard``."""
        shard, place = self._used(video)
        return shard.unit_views(place, snippets)

    def unit_size(self, video: int) -> tuple[int, int]:
        """Return (height, width) in px of the stored units of a video."""
        if self.modality.height is not None and self.modality.width is not None:
            return self.modality.height, self.modality.width
        number, place = self._where[video]
        return self._shard(number).unit_size(place)

    def read_units(self, video: int, units: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return stored units of one video, uint8, shape (N, H, W, C); see ``Shard``."""
        shard, place = self._used(video)
        return shard.read_units(place, units)

    def shard_numbers(self) -> np.ndarray:
        """Return the number of the shard that each video lies in, (V,) int64, non-decreasing."""
        return np.array([number for number, _ in self._where], np.int64)

    def _used(self, video: int) -> tuple[Shard, int]:
        """Return the shard of a video and the video's place in it; the oldest of many is closed."""
        number, place = self._where[video]
        shard = self._shard(number)
        self._open.pop(number, None)
        self._open[number] = None
        if len(self._open) > _MOST_OPEN:
            oldest = next(iter(self._open))
            del self._open[oldest]
            self._shards[oldest].close()
        return shard, place

    def _shard(self, number: int) -> Shard:
        if number not in self._shards:
            cache = self._cache if number < self._num_cached else None
            shard = Shard(self.folder / self._files[number], cache)
            if number < len(self._checksums) and shard.table_crc32 != self._checksums[number]:
                raise ShardError(changed(shard.path))  # opened anew, in a worker process
            self._shards[number] = shard
        return self._shards[number]

    def check_unchanged(self) -> None:
        """Check that nobody has extracted into the folder since it was opened.

        Raises:
            ShardError: Somebody has.
        """
        if self._read_index() != self._index_bytes:
            raise ShardError(changed(self.folder / INDEX_NAME))

    def _read_index(self) -> bytes | None:
        try:
            return (self.folder / INDEX_NAME).read_bytes()
        except StoreError:
            raise
        except OSError:
            return None
