"""What an extraction has stored, read back so that it can be repeated without its options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from preprocess.inventory import index_of, shard_paths
from preprocess.sources import Journal
from tsn_core.check import modality_folders
from tsn_core.errors import InputError
from tsn_core.manifest import MANIFEST_NAME, Manifest, read_manifest
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_reader import read_header


@dataclass(frozen=True)
class StoredDataset:
    """A dataset's folder of shards.

    Attributes:
        root: The folder.
        manifest: All videos.
        data: Folder of the videos.
        groups: Modalities that one decode can serve, with the plan that they share.
    """

    root: Path
    manifest: Manifest
    data: Path
    groups: tuple[tuple[SnippetPlan, tuple[StoredModality, ...]], ...]

    @property
    def modalities(self) -> tuple[StoredModality, ...]:
        """Those of all groups."""
        return tuple(modality for _, group in self.groups for modality in group)


def read_stored(root: Path, data: Path | None = None) -> StoredDataset:
    """Read back what an extraction has stored.

    Args:
        root: Folder of a dataset's shards, which holds its manifest.
        data: Folder of the videos; None takes the one that they were last read from.

    Raises:
        InputError: There is no manifest or no shard, or nobody knows where the videos are.
    """
    manifest = read_manifest(root / MANIFEST_NAME)
    if manifest.dataset != root.absolute().name:
        raise InputError(
            f"{root}: holds the shards of {manifest.dataset}; give the folder that name again"
        )
    if data is None:
        data = Journal(root).data
        if data is None:
            raise InputError(f"{root}: does not say where its videos are; use --data DIR")
    if not data.is_dir():
        raise InputError(f"{data}: no such folder of videos; use --data DIR")
    groups: dict[str, tuple[SnippetPlan, list[StoredModality]]] = {}
    for folder in modality_folders(root):
        settings = _settings(folder)
        if settings is None:
            continue
        modality, plan = settings
        size = f"{modality.height}x{modality.width}x{modality.short_side}"
        groups.setdefault(plan.to_json() + size, (plan, []))[1].append(modality)
    if not groups:
        raise InputError(f"{root}: no shards there; extract some, or check the path")
    return StoredDataset(
        root, manifest, data, tuple((plan, tuple(group)) for plan, group in groups.values())
    )


def _settings(folder: Path) -> tuple[StoredModality, SnippetPlan] | None:
    """Return how a folder's shards were made, as its index says, or else the first readable one."""
    index = index_of(folder)
    if index is not None:
        return index.modality, SnippetPlan.from_json(json.dumps(dict(index.sampling)))
    headers = map(read_header, shard_paths(folder).values())
    header = next((header for header in headers if header is not None), None)
    return None if header is None else (header.modality, SnippetPlan.from_json(header.sampling))
