"""Keeping the videos that a network was trained on out of its test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from tsn_core.errors import CheckpointError
from tsn_core.listing import few

Origins = Mapping[str, tuple[str, str]]  # see ``tsn_core.manifest.Manifest.origins``
_NONE: Origins = MappingProxyType({})


def name_hash(dataset: str, name: str) -> int:
    """Return a number for a video, the same on every machine and in every version.

    Args:
        dataset: Name of the dataset.
        name: Of the video in it.

    Returns:
        A signed 64-bit number: the first eight bytes of SHA-256 of both names, little end first.

    Examples:
        >>> name_hash("hmdb51", "wave/a.avi")
        -1091428938741943060
    """
    digest = hashlib.sha256(f"{dataset}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def hashes(dataset: str, names: Sequence[str], origins: Origins = _NONE) -> np.ndarray:
    """Return the numbers of some videos, shape (V,), int64, in the order of the names.

    Those that ``tsn-preprocess repack`` has renamed have the numbers of their origins.
    """
    known = (origins.get(name, (dataset, name)) for name in names)
    return np.array([name_hash(*one) for one in known], dtype=np.int64)


def trained_videos(
    names: Sequence[str], dataset: str, trained_on: np.ndarray, origins: Origins = _NONE
) -> list[str]:
    """Return those of some videos that were trained on, see ``check_not_trained_on``."""
    seen = np.isin(hashes(dataset, names, origins), trained_on)
    return [name for name, trained in zip(names, seen.tolist()) if trained]


def check_not_trained_on(
    source: object,
    names: Sequence[str],
    dataset: str,
    trained_on: np.ndarray,
    *,
    subset: str,
    split: int,
    trained_split: int,
    origins: Origins = _NONE,
) -> None:
    """Check that none of the videos of a test was trained on.

    Args:
        source: The checkpoint, for the message.
        names: Videos to test on.
        dataset: Whose they are.
        trained_on: What ``hashes`` gave for the videos that the network was trained on.
        subset: That the videos are.
        split: They belong to.
        trained_split: That the network was trained on.
        origins: Of the videos that were extracted under another name.

    Raises:
        CheckpointError: Some were.
    """
    met = trained_videos(names, dataset, trained_on, origins)
    if not met:
        return
    if split != trained_split:
        remedy = f"choose the split that it was trained on ({trained_split})"
    elif subset == "train":
        remedy = "choose another --subset"
    else:
        remedy = (
            f"split {split} has changed since, or its --weights were trained on another split; "
            "train again, into another --out"
        )
    raise CheckpointError(
        f"{source}: {len(met)} of {len(names)} {subset} videos are among those that it was "
        f"trained on ({few(met)}); {remedy}, "
        "or --allow-trained to test on them anyway"
    )
