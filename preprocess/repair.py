"""Finding the damaged shards of a dataset, to make just those anew."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from preprocess.inventory import damaged_names, shard_paths
from preprocess.stored_dataset import StoredDataset


def damaged_shards(
    stored: StoredDataset, damaged: Collection[Path]
) -> dict[tuple[str, int], frozenset[str]]:
    """Return the names of the videos that have to be made anew, by folder and number of the shard.

    Where only the images of some videos are damaged, these; where the tables are, or nothing can
    be read, all. Shards that are missing are none of these: every extraction makes them.

    Args:
        stored: The dataset.
        damaged: The shards that something is wrong with, as ``FolderDefects`` names them.
    """
    by_number: dict[int, set[str]] = {}
    for record in stored.manifest.records:
        if record.shard is not None:
            by_number.setdefault(record.shard, set()).add(record.name)
    found = {}
    for _, modalities in stored.groups:
        for modality in modalities:
            folder = stored.root / modality.folder
            for number, path in shard_paths(folder).items():
                if path in damaged and number in by_number:
                    names = damaged_names(path)
                    found[modality.folder, number] = frozenset(
                        by_number[number] if names is None else names
                    )
    return found
