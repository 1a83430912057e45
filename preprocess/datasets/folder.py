"""A folder of one's own videos: one folder for each class, with or without split lists.

Class folders lie in ``videos/`` or in the folder itself. Split lists are files of ``path label``
lines named ``train_split_1.txt``, ``test_split_1.txt``, ``val_split_1.txt`` and so on, in
``splits/`` or in the folder itself; paths are relative to the class folders' parent, a label is
the class name or its 0-based number. ``classes.txt`` may give the order of the classes, which is
alphabetical otherwise. Without lists, every fifth video of each class is for testing.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from preprocess.datasets.files import (
    assign,
    automatic_splits,
    class_ids,
    class_videos,
    existing_folder,
    first_folder,
    read_class_names,
    read_lines,
    split_of,
)
from tsn_core.errors import InputError
from tsn_core.manifest import Manifest, Record

_MOST_DIGITS = 9  # of a class id
_LIKE_A_LIST = re.compile(r"(train|val|test)[_-]?(split|list)", re.IGNORECASE)


def scan_folder(data: Path) -> Manifest:
    """Return the manifest of a folder of class folders, named as the folder is."""
    existing_folder(
        data, "give the folder that holds one folder of videos for each class with --data DIR"
    )
    return _scan(data, data.resolve().name)


def scan_synthetic(data: Path) -> Manifest:
    """Return the manifest of the synthetic videos that ``tsn-preprocess synth`` made."""
    existing_folder(data, f"make the synthetic videos with: tsn-preprocess synth --out {data}")
    return _scan(data, "synthetic")


def _scan(data: Path, dataset: str) -> Manifest:
    root = first_folder(data, ["videos"])
    videos = class_videos(root)
    class_names = _class_names(data, root, videos)
    ids = class_ids(class_names)
    labels = {
        file.relative_to(root).as_posix(): ids[name]
        for name, files in videos.items()
        for file in files
    }
    splits = _read_splits(data, root, class_names, labels) or automatic_splits(labels.items())
    prefix = root.relative_to(data)
    records = [
        Record((prefix / name).as_posix(), label, splits.get(name, {}))
        for name, label in labels.items()
    ]
    return Manifest(dataset, class_names, tuple(records))


def _class_names(data: Path, root: Path, videos: dict[str, list[Path]]) -> tuple[str, ...]:
    path = data / "classes.txt"
    if not path.is_file():
        return tuple(sorted(videos))
    names = read_class_names(path)
    ids = class_ids(names)
    missing = next((name for name in videos if name not in ids), None)
    if missing is not None:
        raise InputError(f"{root / missing}: {path} does not name this class")
    return names


def _read_splits(
    data: Path, root: Path, class_names: tuple[str, ...], labels: dict[str, int]
) -> dict[str, dict[int, str]]:
    splits: dict[str, dict[int, str]] = defaultdict(dict)
    ids = class_ids(class_names)
    lists = []
    for path in sorted(first_folder(data, ["splits"]).glob("*.txt")):
        place = split_of(path)
        if place is None:
            if _LIKE_A_LIST.match(path.stem):
                warnings.warn(
                    f"{path}: not read; names of split lists are train_split_1.txt, "
                    "test_split_1.txt and so on",
                    stacklevel=2,
                )
            continue
        lists.append(path)
        subset, split = place
        for line in read_lines(path):
            name, label = line.path_and_label()
            number = label_number(label, ids)
            if number is None:
                raise line.error(
                    f"unknown class {label!r}; a class folder's name or 0 to "
                    f"{len(class_names) - 1} expected"
                )
            if name not in labels:
                raise line.error(f"{name}: no such video under {root}")
            if labels[name] != number:
                raise line.error(
                    f"{name} lies in the folder of {class_names[labels[name]]}, "
                    f"the list says {class_names[number]}"
                )
            assign(splits[name], split, subset, line, name)
    if lists and not splits:
        raise InputError(
            f"{lists[0]}: no videos listed, nor in other split lists; 'path label' lines expected, "
            "or no lists, for every fifth video to be for testing"
        )
    return splits


def label_number(label: str, ids: Mapping[str, int]) -> int | None:
    """Return the class id that a label in a list means, by name or number; None if unknown.

    Args:
        label: As it stands in the list.
        ids: Class ids by name.
    """
    if label in ids:
        return ids[label]
    if label.isdecimal() and len(label) <= _MOST_DIGITS and int(label) < len(ids):
        return int(label)
    return None
