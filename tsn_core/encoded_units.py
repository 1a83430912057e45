"""Units of a video as they are stored, for whoever decodes them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsn_core.errors import ShardError


@dataclass(frozen=True)
class EncodedUnits:
    """The JPEGs of units of one video; their headers state the right shape.

    Attributes:
        images: The bytes of each, (n,) uint8, to be read only.
        numbers: Of these images in the shard.
        shape: That each has when it is decoded: (H, W) for gray, (H, W, 3) for RGB.
        source: The shard's path and the video's name, for messages.
    """

    images: Sequence[np.ndarray]
    numbers: Sequence[int]
    shape: tuple[int, ...]
    source: str


def source_of(path: object, name: str) -> str:
    """Return how messages name a video of a shard."""
    return f"{path}: {name}"


def damaged(source: str, image: int, error: Exception) -> ShardError:
    """Return the error about an image that cannot be decoded.

    Args:
        source: See ``source_of``.
        image: Its number in the shard.
        error: What is wrong with it.
    """
    return ShardError(f"{source}, image {image}: {error}; delete the file and extract again")
