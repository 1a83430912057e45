"""One video in shards, as users of the library meet it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tsn_core.clips import ClipShape, find_clip
from tsn_core.quantization import dequantize
from tsn_core.shard_set import ShardSet


@dataclass(frozen=True)
class Video:
    """What the shards say of one video; its images are read when they are asked for.

    Numbers in shapes: K snippets of L consecutive units, H x W pixels, C channels of a unit.

    Attributes:
        name: Path of the source, relative to the dataset's folder.
        label: Class id.
        class_name: Name of the class.
        num_frames: Frames really decoded.
        fps: Frame rate in Hz that the file states, 0 where it states none.
        num_snippets: Stored snippets.
        splits: ``train``, ``val`` or ``test`` by number of the split, from the manifest; empty
            where there is none beside the shards.

    Examples:
        >>> from tsn_core import open_shards
        >>> shards = open_shards("shards/gestures")
        >>> video = shards["wave/3.avi"]
        >>> video.class_name, video.num_frames, video.num_snippets, dict(video.splits)
        ('wave', 15, 10, {1: 'test'})
        >>> video.snippets([0, 9]).shape  # two snippets of 5 flow units
        (2, 5, 24, 32, 2)
    """

    name: str
    label: int
    class_name: str
    num_frames: int
    fps: float
    num_snippets: int
    splits: Mapping[int, str] = field(hash=False)
    _shard_set: ShardSet = field(repr=False, compare=False)
    _number: int = field(repr=False, compare=False)

    @property
    def snippet_frames(self) -> np.ndarray:
        """Source frame that each snippet begins at, (num_snippets,) int64."""
        return self._shard_set.snippet_frames(self._number)

    def snippets(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return some of the stored snippets.

        Args:
            numbers: 0-based, each below ``num_snippets``; K of them, in any order.

        Returns:
            Codes, uint8, shape (K, L, H, W, C): RGB order for three channels, x then y for flow.

        Raises:
            IndexError: There is no such snippet.
            ShardError: An image is damaged.
            StoreError: The object store does not answer.
        """
        return self._shard_set.read(self._number, numbers)

    def read(self) -> np.ndarray:
        """Return all stored snippets, as ``snippets`` does: (num_snippets, L, H, W, C) uint8.

        Of dense shards this holds every unit L times; ``clip(0, …)`` has each once.
        """
        return self.snippets(np.arange(self.num_snippets))

    def values(self, numbers: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Return snippets as the numbers that their codes stand for.

        Args:
            numbers: As for ``snippets``; None for all.

        Returns:
            float32, shape (K, L, H, W, C): displacements in px for flow, gray levels for others.
            Stillness in flow comes back as half a step, 0.08 px at the usual bound.

        Examples:
            >>> from tsn_core import open_shards
            >>> video = open_shards("shards/gestures")[0]
            >>> codes, px = video.snippets([2]), video.values([2])
            >>> bool(np.allclose(px, (codes - 127.5) * 2 * 20 / 255, atol=1e-5))
            True
        """
        modality = self._shard_set.modality
        codes = self.read() if numbers is None else self.snippets(numbers)
        return dequantize(codes, modality.scale, modality.zero)

    def clip(self, start: int, length: int, stride: int = 1) -> np.ndarray:
        """Return consecutive units, as networks of video take them.

        Any clip of a dense video (``tsn-preprocess extract --dense``); of others, those that lie
        within one snippet.

        Args:
            start: Frame of the first unit, 0-based.
            length: Number of units, T.
            stride: From one to the next, in frames.

        Returns:
            Codes, uint8, shape (T, H, W, C).

        Raises:
            InputError: The video ends before, or not all units of the clip are stored.
            ShardError: An image is damaged.
            StoreError: The object store does not answer.

        Examples:
            >>> from tsn_core import open_shards
            >>> open_shards("shards/gestures")[0].clip(start=1, length=4, stride=2).shape
            (4, 24, 32, 2)
        """
        units = find_clip(self._shard_set, self._number, start, ClipShape(length, stride))
        return self._shard_set.read_units(self._number, units)
