"""Whether a manifest and the shards beside it speak of the same classes."""

from __future__ import annotations

import numpy as np

from tsn_core.errors import InputError
from tsn_core.manifest import Manifest
from tsn_core.shard_set import ShardSet


def check_labels(manifest: Manifest, shards: ShardSet) -> None:
    """Check that the classes, and the labels of the videos, are those of the manifest.

    Raises:
        InputError: They differ: one of the two was made again without the other.
    """
    if tuple(manifest.class_names) != tuple(shards.class_names):
        raise InputError(
            f"{shards.folder}: {_difference(shards.class_names, manifest.class_names)} in the "
            "manifest; extract again"
        )
    numbers = shards.find([record.name for record in manifest.records])
    labels = np.array([record.label for record in manifest.records], np.int64)
    there = np.flatnonzero(numbers >= 0)
    wrong = there[shards.labels[numbers[there]] != labels[there]]
    if len(wrong):
        record, number = manifest.records[wrong[0]], numbers[wrong[0]]
        raise InputError(
            f"{shards.folder}: {record.name} has label {shards.labels[number]}, "
            f"{record.label} in the manifest; extract again"
        )


def _difference(names: tuple[str, ...], others: tuple[str, ...]) -> str:
    """Return how two lists of class names differ, which they do."""
    if len(names) != len(others):
        return f"{len(names)} classes, {len(others)}"
    number = next(n for n, pair in enumerate(zip(names, others)) if pair[0] != pair[1])
    return f"class {number} is {names[number]!r}, {others[number]!r}"
