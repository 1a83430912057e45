"""What testing asks of stored videos, wherever they lie: in shards, or in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tsn_core.modality import StoredModality


class VideoSource(Protocol):
    """Videos by number, each with its snippets; ``ShardSet`` tells what the attributes are."""

    @property
    def folder(self) -> Any:
        """What messages call it."""

    @property
    def modality(self) -> StoredModality:
        """How the units are stored."""

    @property
    def class_names(self) -> Sequence[str]:
        """By class id."""

    @property
    def names(self) -> Sequence[str]:
        """Of all videos."""

    @property
    def labels(self) -> np.ndarray:
        """Class ids, (V,) int64."""

    @property
    def num_snippets(self) -> np.ndarray:
        """Stored snippets of every video, (V,) int64."""

    @property
    def num_frames(self) -> np.ndarray:
        """Of every video, (V,) int64."""

    @property
    def fps(self) -> np.ndarray:
        """Of every video in Hz, 0 where unknown, (V,) float64."""

    @property
    def sampling(self) -> Mapping[str, Any]:
        """Which snippets are stored."""

    def snippet_frames(self, video: int) -> np.ndarray:
        """Return the source frame that each snippet of a video begins at, (S,) int64."""

    def unit_views(self, video: int, snippets: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Return the units of snippets of one video, K * L of (H, W, C) uint8, to be read only."""
