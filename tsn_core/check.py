"""Finding what is wrong with shards, as lines to read rather than as an exception."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tsn_core.errors import ShardError
from tsn_core.index import INDEX_NAME, Index, ShardEntry, read_index
from tsn_core.shard_reader import Shard


def modality_folders(root: str | os.PathLike[str]) -> list[Path]:
    """Return every folder at or below ``root`` that holds shards or an index, sorted."""
    root = Path(root)
    files = [*root.rglob(INDEX_NAME), *root.rglob("shard-*.h5")]
    return sorted({file.parent for file in files})


def folder_defects(folder: str | os.PathLike[str]) -> list[str]:
    """Return the defects of a modality's folder, one line each; empty when it is sound.

    Checked: structure, offsets and checksums of every shard; that the index names each of them and
    no other; that its counts are theirs; that no video stands in two shards.
    """
    folder = Path(folder)
    try:
        index = read_index(folder)
    except ShardError as error:
        return [str(error)]
    known = {entry.file for entry in index.shards}
    found = [
        f"{path}: not in the index; run extract again, or delete the file"
        for path in sorted(folder.glob("shard-*.h5"))
        if path.name not in known
    ]
    owner: dict[str, str] = {}
    for entry in index.shards:
        path = folder / entry.file
        try:
            shard = Shard(path)
        except ShardError as error:
            found.append(str(error))
            continue
        found.extend(f"{path}: {defect}" for defect in _header_defects(shard, index))
        found.extend(f"{path}: {defect}" for defect in _entry_defects(shard, entry))
        found.extend(f"{path}: {defect}" for defect in shard.checksum_defects())
        for name in shard.tables.video_name:
            other = owner.setdefault(name, entry.file)
            if other != entry.file:
                found.append(f"{path}: {name} also stands in {other}")
    return found


def _header_defects(shard: Shard, index: Index) -> list[str]:
    header = shard.header
    pairs = {
        "dataset": (header.dataset, index.dataset),
        "modality": (header.modality, index.modality),
        "sampling": (header.sampling, json.dumps(index.sampling, sort_keys=True)),
        "class_names": (header.class_names, index.class_names),
    }
    return [f"{key} is not the index's" for key, (own, other) in pairs.items() if own != other]


def _entry_defects(shard: Shard, entry: ShardEntry) -> list[str]:
    tables = shard.tables
    actual = {
        "fingerprint": shard.header.fingerprint,
        "num_bytes": shard.path.stat().st_size,
        "num_videos": tables.num_videos,
        "num_images": tables.num_images,
        "num_snippets": tables.num_snippets,
        "num_failures": len(tables.failed_name),
    }
    return [
        f"the index says {key}={getattr(entry, key)}, got {value}"
        for key, value in actual.items()
        if getattr(entry, key) != value
    ]
