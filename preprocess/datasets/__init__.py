"""Datasets as they lie on disk, read into a manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from preprocess.datasets.folder import scan_folder, scan_synthetic
from preprocess.datasets.hmdb51 import scan_hmdb51
from preprocess.datasets.listing import scan_list
from preprocess.datasets.ucf101 import scan_ucf101
from tsn_core.errors import InputError
from tsn_core.manifest import Manifest

_SCANNERS: dict[str, Callable[[Path], Manifest]] = {
    "hmdb51": scan_hmdb51,
    "ucf101": scan_ucf101,
    "folder": scan_folder,
    "synthetic": scan_synthetic,
}
DATASETS = ("hmdb51", "ucf101", "folder", "list", "synthetic")


def scan_dataset(kind: str, data: Path, lists: Sequence[Path] = ()) -> Manifest:
    """Return the manifest of the dataset in a folder.

    Args:
        kind: One of ``DATASETS``.
        data: Folder of the dataset.
        lists: Files in a format of ``preprocess.datasets.annotation``; for ``list`` only.

    Raises:
        InputError: The folder or a list is not what it should be; the message names file and line.
    """
    if kind == "list":
        if not lists:
            raise InputError("--dataset list needs at least one --list FILE")
        return scan_list(data, lists)
    if lists:
        raise InputError(f"--list goes with --dataset list, got --dataset {kind}")
    if kind not in _SCANNERS:
        raise InputError(f"unknown dataset {kind!r}; choose from {', '.join(DATASETS)}")
    return _SCANNERS[kind](data)
