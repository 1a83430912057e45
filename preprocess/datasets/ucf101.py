"""UCF101 as distributed: a folder of videos for each class, and three official splits.

Videos lie in ``videos/``, ``UCF-101/`` or the folder itself; ``classInd.txt``, ``trainlist0N.txt``
and ``testlist0N.txt`` in ``splits/``, ``ucfTrainTestlist/`` or the folder itself. Class ids are
1-based there, and the test lists have none.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

from preprocess.datasets.files import (
    assign,
    class_ids,
    class_videos,
    existing_folder,
    first_folder,
    read_lines,
    split_of,
)
from tsn_core.errors import InputError
from tsn_core.manifest import Manifest, Record

REMEDY = (
    "get UCF101 with: tsn-preprocess download ucf101 --out DIR; or put the class folders into its "
    "videos/ and classInd.txt, trainlist0N.txt and testlist0N.txt into its splits/ yourself, from "
    "the archives at https://www.crcv.ucf.edu/data/UCF101.php"
)


def scan_ucf101(data: Path) -> Manifest:
    """Return the manifest of UCF101, with its three splits."""
    existing_folder(data, REMEDY)
    root = first_folder(data, ["videos", "UCF-101"])
    videos = class_videos(root)
    folder = first_folder(data, ["splits", "ucfTrainTestlist"])
    class_names = _read_classes(folder / "classInd.txt")
    ids = class_ids(class_names)
    splits = _read_splits(folder, ids)
    records: list[Record] = []
    for name, files in videos.items():
        if name not in ids:
            raise InputError(f"{root / name}: classInd.txt does not name this class")
        label = ids[name]
        records.extend(
            Record(file.relative_to(data).as_posix(), label, splits.get(f"{name}/{file.name}", {}))
            for file in files
        )
    return Manifest("ucf101", class_names, tuple(records))


def _read_classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; {REMEDY}")
    names: list[str] = []
    for line in read_lines(path):
        number, _, name = line.text.partition(" ")
        if number != str(len(names) + 1) or not name:
            raise line.error(f"'{len(names) + 1} CLASS' expected, got {line.text!r}")
        names.append(name.strip())
    return tuple(names)


def _read_splits(folder: Path, ids: dict[str, int]) -> dict[str, dict[int, str]]:
    """Return the splits by ``CLASS/FILE``."""
    splits: dict[str, dict[int, str]] = defaultdict(dict)
    lists = sorted([*folder.glob("trainlist*.txt"), *folder.glob("testlist*.txt")])
    if not lists:
        raise InputError(f"{folder}: no trainlist0N.txt and testlist0N.txt; {REMEDY}")
    for path in lists:
        place = split_of(path)
        if place is None:
            continue
        subset, split = place
        for line in read_lines(path):
            words = line.text.split()
            name, label = line.path_and_label() if len(words) > 1 else (words[0], "")
            class_name = PurePosixPath(name).parent.name
            if class_name not in ids:
                raise line.error(f"unknown class {class_name!r}; classInd.txt does not name it")
            if subset == "train" and not label:
                raise line.error(f"'path label' expected, got {line.text!r}")
            if label and label != str(ids[class_name] + 1):
                raise line.error(
                    f"class id {ids[class_name] + 1} of {class_name} expected, got {label}"
                )
            assign(splits[name], split, subset, line, name)
    return splits
