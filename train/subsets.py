"""Which videos of the shards belong to a subset of a split."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from rich.console import Console

from tsn_core.errors import InputError
from tsn_core.listing import few
from tsn_core.manifest import Manifest
from tsn_core.shard_set import ShardSet


def subset_names(
    manifest: Manifest, split: int, subset: str, val_fraction: float = 0.0
) -> tuple[str, ...]:
    """Return the names of a subset's videos, in the manifest's order.

    Where a split has no val videos, as in the official splits of HMDB51 and UCF101, a share of the
    training videos can take their place: of every class the same share, at least one video of each
    that has two, chosen by the names alone, so that it is the same share whoever asks.

    Args:
        manifest: The dataset's.
        split: Number of the split.
        subset: ``train``, ``val`` or ``test``.
        val_fraction: Of the training videos, 0 to 1; of no effect where there are val videos.

    Raises:
        InputError: The split does not exist.
    """
    names = manifest.subset_names(split, subset)
    if subset == "test" or not val_fraction or manifest.subset_names(split, "val"):
        return names
    training = manifest.subset_names(split, "train")
    held = _held_out(manifest, training, split, val_fraction)
    return tuple(name for name in training if (name in held) == (subset == "val"))


def subset_numbers(
    shards: ShardSet, manifest: Manifest, split: int, subset: str, val_fraction: float = 0.0
) -> tuple[list[int], list[str]]:
    """Return where the videos of a subset lie, and the names of those that have no snippets.

    Returns:
        Numbers of the videos in the shards, in the manifest's order; names of videos that belong
        to the subset but could not be extracted.

    Raises:
        InputError: The split does not exist, or no video of the subset has snippets.
    """
    names = subset_names(manifest, split, subset, val_fraction)
    if not names:
        raise InputError(
            f"{shards.folder}: split {split} has no {subset} videos: {_no_names(subset)}"
        )
    numbers = shards.find(names).tolist()
    present = [number for number in numbers if number >= 0]
    if not present:
        raise InputError(
            f"{shards.folder}: split {split} has no {subset} videos with snippets: they failed, "
            f"or were never extracted ({few(names)}); try again with "
            f"tsn-preprocess retry {shards.folder.parent}"
        )
    return present, [name for name, number in zip(names, numbers) if number < 0]


def watched_subset(manifest: Manifest, split: int, val_fraction: float) -> str:
    """Return which subset is watched while training: ``val``, or ``test`` where there is none."""
    return "val" if subset_names(manifest, split, "val", val_fraction) else "test"


def remark_missing(
    console: Console, subset: str, missing: list[str], total: int, what: str = "snippets"
) -> None:
    """Say which of a subset's videos cannot be used, if any, for want of what."""
    if missing:
        console.print(
            f"{len(missing)} of {total} {subset} videos have no {what} and are left out: "
            f"{few(missing)}",
            highlight=False,
            soft_wrap=True,
        )


def _no_names(subset: str) -> str:
    """Return why a subset is empty, and what to do about it."""
    if subset == "val":
        return (
            "no list names one; hold training videos out with tsn-train fit --val-fraction 0.1, or "
            "name some and run the same tsn-preprocess extract again"
        )
    return (
        "no list names one, or, without lists, no class has two videos; mend that and run the same "
        "tsn-preprocess extract again, which decodes no video twice"
    )


def _held_out(manifest: Manifest, names: tuple[str, ...], split: int, fraction: float) -> set[str]:
    labels = {record.name: record.label for record in manifest.records}
    by_class: dict[int, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_class[labels[name]].append(name)
    held: set[str] = set()
    for label, members in by_class.items():
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        generator = np.random.default_rng((split, label))
        held.update(members[place] for place in generator.permutation(len(members))[:count])
    return held
