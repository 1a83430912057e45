"""Which folder of a dataset holds the shards of a modality."""

from __future__ import annotations

from pathlib import Path

from tsn_core.errors import InputError
from tsn_core.index import INDEX_NAME
from tsn_core.modality import get_modality, modality_folder


def finished_folders(root: Path) -> tuple[str, ...]:
    """Return the names of a dataset's folders that hold finished shards, sorted."""
    return tuple(sorted(file.parent.name for file in root.glob(f"*/{INDEX_NAME}")))


def find_folder(root: Path, modality: str, flow: str | None, option: str = "--{}") -> Path:
    """Return the folder of a modality's shards.

    Args:
        root: Folder of the dataset's shards, the one with ``manifest.jsonl``.
        modality: Name of the modality.
        flow: Flow algorithm; None takes the only one that is there.
        option: How messages spell an option, with its name in place of ``{}``.

    Raises:
        InputError: It is not there, or there are several.
    """
    there = finished_folders(root)
    several = get_modality(modality).has_algorithm
    if several and flow is None:
        flows = [name for name in there if name.startswith(f"{modality}-")]
        if len(flows) > 1:
            raise InputError(
                f"{root}: has {', '.join(flows)}; choose one with {option.format('flow')}"
            )
        folder = flows[0] if flows else modality
    else:
        folder = modality_folder(modality, flow if several else None)
    if folder not in there:
        raise InputError(
            f"{root}: no {folder} shards, only {', '.join(there) or 'nothing'}; extract them "
            f"with tsn-preprocess extract, or choose another {option.format('modality')}"
        )
    return root / folder
