"""One video, extracted into memory as a shard would hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocess.extraction import Emit, Extracted, VideoRow
from tsn_core.codec import decode_image
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan


@dataclass(frozen=True)
class MemoryVideo:
    """A ``tsn_core.video_source.VideoSource`` of one video, number 0.

    Attributes:
        folder: What messages call it.
        modality: How its units are coded.
        class_names: Of the network that is to see it.
        plan: Which snippets were extracted.
        row: What a shard's tables would say of it.
        images: Encoded, by number of the unit.
        frames: Source frame of each, by number of the unit.
    """

    folder: str
    modality: StoredModality
    class_names: tuple[str, ...]
    plan: SnippetPlan
    row: VideoRow
    images: Mapping[int, bytes]
    frames: Mapping[int, int]

    @property
    def names(self) -> Sequence[str]:
        """Its name."""
        return (self.folder,)

    @property
    def labels(self) -> np.ndarray:
        """A class, though nobody knows it: (1,) int64."""
        return np.zeros(1, np.int64)

    @property
    def num_snippets(self) -> np.ndarray:
        """(1,) int64."""
        return np.array([len(self.row.starts)], np.int64)

    @property
    def num_frames(self) -> np.ndarray:
        """(1,) int64."""
        return np.array([self.row.num_frames], np.int64)

    @property
    def fps(self) -> np.ndarray:
        """In Hz, 0 where unknown, (1,) float64."""
        return np.array([self.row.fps])

    @property
    def sampling(self) -> Mapping[str, Any]:
        """As an index has it."""
        return {k: v for k, v in vars(self.plan).items() if v}

    def snippet_frames(self, video: int) -> np.ndarray:
        """Return the source frame that each snippet begins at, (S,) int64."""
        return np.array([self.frames[start] for start in self.row.starts], np.int64)

    def unit_views(self, video: int, snippets: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return the units of snippets, K * L of (H, W, C) uint8, decoded as from a shard."""
        kind, length = self.modality.kind, self.modality.snippet_length
        shape = kind.image_shape(*self.row.unit_size)
        starts = [self.row.starts[int(snippet)] for snippet in snippets]
        stored = [self.images[start + unit] for start in starts for unit in range(length)]
        return [
            kind.unstack(decode_image(np.frombuffer(data, np.uint8), self.modality.codec, shape))
            for data in stored
        ]


class Collector:
    """Takes the images of an extraction and hands out its videos."""

    def __init__(self, num_modalities: int) -> None:
        self._images: list[dict[int, bytes]] = [{} for _ in range(num_modalities)]
        self._frames: list[dict[int, int]] = [{} for _ in range(num_modalities)]

    @property
    def emit(self) -> Emit:
        """What to give to an extraction."""
        return self._take

    def _take(self, place: int, unit: int, frame: int, data: bytes) -> None:
        self._images[place][unit] = data
        self._frames[place][unit] = frame

    def videos(
        self,
        name: str,
        modalities: Sequence[StoredModality],
        class_names: tuple[str, ...],
        plan: SnippetPlan,
        extracted: Extracted,
    ) -> list[MemoryVideo]:
        """Return the video in each modality."""
        return [
            MemoryVideo(name, modality, class_names, plan, row, images, frames)
            for modality, row, images, frames in zip(
                modalities, extracted.rows, self._images, self._frames
            )
        ]
