"""Videos named by list files of ``path label`` lines, wherever they lie under a folder.

Lists named ``train*.txt``, ``val*.txt`` or ``test*.txt``, with an optional number of the split,
say which subset their videos belong to; with other names, every fifth video of each class is for
testing. Labels are all 0-based numbers, or all class names. ``classes.txt`` in the dataset's
folder, one class a line, names the classes; otherwise names are sorted, numbers name themselves.
A listed file that does not exist is no error here: it fails at extraction, like any other video
that cannot be read.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from preprocess.datasets.files import (
    Line,
    automatic_splits,
    class_ids,
    existing_folder,
    read_class_names,
    read_lines,
    split_of,
)
from preprocess.datasets.folder import label_number
from tsn_core.errors import InputError
from tsn_core.manifest import Manifest, Record, check_relative

_MOST_CLASSES, _MOST_DIGITS = 100_000, 20
_NUMBER = re.compile(r"^[-+]?[0-9]+$")


def scan_list(data: Path, lists: Sequence[Path]) -> Manifest:
    """Return the manifest of the videos in list files, named as the folder is."""
    existing_folder(data, "give the folder that the listed paths are relative to with --data DIR")
    entries: list[tuple[Line, str, str]] = []
    for path in lists:
        for line in read_lines(path):
            name, label = line.path_and_label()
            entries.append((line, _relative(line, name, data), label))
    if not entries:
        raise InputError(f"{lists[0]}: no videos listed; 'path label' lines expected")
    class_names = _class_names(data, [(line, label) for line, _, label in entries])
    ids = class_ids(class_names)
    labels: dict[str, int] = {}
    splits: dict[str, dict[int, str]] = defaultdict(dict)
    seen: dict[tuple[str, object], Line] = {}
    for line, name, label in entries:
        number = label_number(label, ids)
        if number is None:
            what = "label" if _NUMBER.match(label) else "class"
            raise line.error(
                f"{what} {label} is none of the {len(class_names)} classes, "
                f"0 to {len(class_names) - 1}"
            )
        if labels.setdefault(name, number) != number:
            raise line.error(f"{name} had label {class_names[labels[name]]} before, now {label}")
        place = split_of(line.path)
        first = seen.setdefault((name, place and place[1]), line)
        if first is not line:
            raise line.error(
                f"duplicate video name {name!r}; it stands in {first.path}, line {first.number}"
            )
        if place is not None:
            splits[name][place[1]] = place[0]
    if not splits:
        splits.update(automatic_splits(labels.items()))
    records = tuple(Record(name, label, splits.get(name, {})) for name, label in labels.items())
    return Manifest(data.resolve().name, class_names, records)


def _relative(line: Line, name: str, data: Path) -> str:
    """Return the listed path relative to the dataset's folder, which it must not leave."""
    path = Path(name)
    try:
        if path.is_absolute():
            name = Path(os.path.relpath(path, data.absolute())).as_posix()
        return check_relative(PurePosixPath(name).as_posix())
    except ValueError:  # on Windows also for another drive
        message = f"{path} lies outside {data}; give a folder above it with --data"
        raise line.error(message) from None


def _class_names(data: Path, labels: list[tuple[Line, str]]) -> tuple[str, ...]:
    path = data / "classes.txt"
    if path.is_file():
        return read_class_names(path)
    if not all(_NUMBER.match(label) for _, label in labels):
        return tuple(sorted({label for _, label in labels}))
    for line, label in labels:
        if len(label) > _MOST_DIGITS or not 0 <= int(label) < _MOST_CLASSES:
            raise line.error(f"label must be 0 to {_MOST_CLASSES - 1}, got {label}")
    largest = max(int(label) for _, label in labels)
    return tuple(str(number) for number in range(largest + 1))
