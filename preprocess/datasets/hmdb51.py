"""HMDB51 as distributed: a folder of videos for each class, and three official splits.

Videos lie in ``videos/``, ``hmdb51_org/`` or the folder itself; the split lists, named
``CLASS_test_splitN.txt``, in ``splits/``, ``testTrainMulti_7030_splits/`` or the folder itself.
Their lines are ``NAME ID `` with 1 for training, 2 for testing and 0 for neither.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from preprocess.datasets.files import (
    assign,
    class_videos,
    existing_folder,
    first_folder,
    read_lines,
)
from tsn_core.errors import InputError
from tsn_core.manifest import Manifest, Record

REMEDY = (
    "get HMDB51 with: tsn-preprocess download hmdb51 --out DIR; or put the class folders into its "
    "videos/ and the *_test_splitN.txt files into its splits/ yourself, from the archives at "
    "https://serre.lab.brown.edu/hmdb51.html"
)
_SPLIT_FILE = re.compile(r"^(?P<class>.+)_test_split(?P<split>\d+)$")
_SUBSETS = {"0": None, "1": "train", "2": "test"}


def scan_hmdb51(data: Path) -> Manifest:
    """Return the manifest of HMDB51, with its three splits."""
    existing_folder(data, REMEDY)
    root = first_folder(data, ["videos", "hmdb51_org"])
    videos = class_videos(root)
    splits, listed = _read_splits(first_folder(data, ["splits", "testTrainMulti_7030_splits"]))
    class_names = tuple(sorted(listed | set(videos)))
    records: list[Record] = []
    for name, files in videos.items():
        if name not in listed:
            raise InputError(f"{root / name}: no split list of HMDB51 names this class")
        label = class_names.index(name)
        records.extend(
            Record(file.relative_to(data).as_posix(), label, splits.get((name, file.name), {}))
            for file in files
        )
    return Manifest("hmdb51", class_names, tuple(records))


def _read_splits(folder: Path) -> tuple[dict[tuple[str, str], dict[int, str]], set[str]]:
    """Return the splits by (class, file name), and the classes that have lists."""
    splits: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    classes = set()
    for path in sorted(folder.glob("*_test_split*.txt")):
        match = _SPLIT_FILE.match(path.stem)
        if match is None:
            continue
        classes.add(match["class"])
        for line in read_lines(path):
            name, identifier = line.path_and_label()
            if identifier not in _SUBSETS:
                raise line.error(f"0, 1 or 2 expected after the name, got {identifier!r}")
            subset = _SUBSETS[identifier]
            if subset is not None:
                known = splits[match["class"], name]
                assign(known, int(match["split"]), subset, line, name)
    if not classes:
        raise InputError(f"{folder}: no *_test_splitN.txt files; {REMEDY}")
    return splits, classes
