"""Videos named by list files, wherever they lie under a folder.

The formats are those of ``preprocess.datasets.annotation``. Lists whose names hold ``train``,
``val`` or ``test``, with an optional number of the split, say which subset their videos belong to,
unless the entries say so themselves; if nothing does, every fifth video of each class is for
testing. Labels are all 0-based numbers, or all class names. ``classes.txt`` in the dataset's
folder, one class a line, or a JSON object of numbers by name among the lists gives the classes;
otherwise names are sorted, numbers name themselves. A listed path that does not exist is no error
here: it fails at extraction, like any other video that cannot be read. Where a list has ids, the
videos are looked for, and those that nobody could download are left out with a warning.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from preprocess.datasets.annotation import Annotations, Entry, given_list, read_annotations
from preprocess.datasets.files import (
    VIDEO_SUFFIXES,
    Line,
    automatic_splits,
    class_ids,
    existing_folder,
    read_class_names,
)
from preprocess.datasets.folder import label_number
from tsn_core.errors import InputError
from tsn_core.listing import few
from tsn_core.manifest import Manifest, Record, check_relative

_MOST_CLASSES, _MOST_DIGITS = 100_000, 20
_NUMBER = re.compile(r"^[-+]?[0-9]+$")
_UNSAFE = re.compile(r"[^\w]+")

Place = tuple[str, int]  # subset, split


def scan_list(data: Path, lists: Sequence[Path]) -> Manifest:
    """Return the manifest of the videos in list files, named as the folder is."""
    existing_folder(data, "give the folder that the listed paths are relative to with --data DIR")
    given = [given_list(path) for path in lists]
    read = [(read_annotations(path), place) for path, place in given]
    entries = _with_files(
        data,
        [
            (entry, (entry.subset, place[1] if place else 1) if entry.subset else place)
            for annotations, place in read
            for entry in annotations.entries
        ],
    )
    if not entries:
        raise InputError(
            f"{given[0][0]}: no videos listed; 'path label' lines, or CSV or JSON, expected"
        )
    labels_given = [(entry.line, entry.label) for entry, _ in entries]
    class_names = _class_names(data, [annotations for annotations, _ in read], labels_given)
    ids = class_ids(class_names)
    labels: dict[str, int] = {}
    splits: dict[str, dict[int, str]] = defaultdict(dict)
    seen: dict[tuple[str, object], Line] = {}
    for entry, place in entries:
        line, name, label = entry.line, entry.name, entry.label
        number = label_number(label, ids)
        if number is None:
            what = "label" if _NUMBER.match(label) else "class"
            raise line.error(
                f"{what} {label} is none of the {len(class_names)} classes, "
                f"0 to {len(class_names) - 1}"
            )
        if labels.setdefault(name, number) != number:
            raise line.error(f"{name} had label {class_names[labels[name]]} before, now {label}")
        first = seen.setdefault((name, place and place[1]), line)
        if first is not line:
            raise line.error(f"duplicate video name {name!r}; it stands in {first.where}")
        if place is not None:
            splits[name][place[1]] = place[0]
    if not splits:
        splits.update(automatic_splits(labels.items()))
    records = tuple(Record(name, label, splits.get(name, {})) for name, label in labels.items())
    return Manifest(data.resolve().name, class_names, records)


def _with_files(
    data: Path, entries: list[tuple[Entry, Place | None]]
) -> list[tuple[Entry, Place | None]]:
    """Return the entries that have files, with the paths of these.

    Raises:
        InputError: None of those with ids has one, or several are parts of the same file.
    """
    files = _files_by_stem(data) if any(entry.by_id for entry, _ in entries) else {}
    found: list[tuple[Entry, Place | None]] = []
    missing: list[str] = []
    whole: dict[str, Entry] = {}
    for entry, place in entries:
        if not entry.by_id:
            name = _relative(entry.line, entry.name, data)
        else:
            name = next((_nearest(files[s], entry) for s in entry.stems if s in files), "")
            if not name:
                missing.append(entry.stems[0])
                continue
            _check_whole(entry, whole.setdefault(name, entry), name)
        found.append((replace(entry, name=name), place))
    if missing and not found:
        raise InputError(
            f"{data}: none of the {len(missing)} listed videos is there ({few(missing)}, with any "
            "ending, in any folder); give the folder that holds them with --data"
        )
    if missing:
        number = len(missing) + len(found)
        warnings.warn(
            f"{len(missing)} of {number} listed videos are not under {data} and left out: "
            f"{few(missing)}",
            stacklevel=2,
        )
    return found


def _files_by_stem(data: Path) -> dict[str, list[str]]:
    """Return the paths of all videos under a folder, by their names without ending."""
    files: dict[str, list[str]] = defaultdict(list)
    for folder, folders, names in os.walk(data):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                files[path.stem].append(check_relative(path.relative_to(data).as_posix()))
    return files


def _nearest(paths: Sequence[str], entry: Entry) -> str:
    """Return the path that lies in the folder of the entry's class, or else the first."""
    wanted = _UNSAFE.sub("_", entry.label).casefold()
    folders = {_UNSAFE.sub("_", PurePosixPath(path).parent.name).casefold(): path for path in paths}
    return folders.get(wanted, paths[0])


def _check_whole(entry: Entry, first: Entry, name: str) -> None:
    if entry is not first and entry.times != first.times:
        raise entry.line.error(
            f"{name} is listed with other times in {first.line.where}; whole files are extracted, "
            "so cut the parts out first (docs/datasets.md)"
        )


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


def _warn_of_numbers(labels: list[tuple[Line, str]]) -> None:
    """Warn where names stand among numbers: a comment, or a mistake."""
    number = next((label for _, label in labels if _NUMBER.match(label)), None)
    if number is not None:
        line, name = next((line, label) for line, label in labels if not _NUMBER.match(label))
        warnings.warn(
            f"{line.where}: label {name!r} is a name, {number} elsewhere a number: all are taken "
            "for names; lists hold no comments",
            stacklevel=2,
        )


def _class_names(
    data: Path, read: Sequence[Annotations], labels: list[tuple[Line, str]]
) -> tuple[str, ...]:
    path = data / "classes.txt"
    if path.is_file():
        return read_class_names(path)
    named = next((annotations.classes for annotations in read if annotations.classes), ())
    if named:
        return named
    if not all(_NUMBER.match(label) for _, label in labels):
        _warn_of_numbers(labels)
        return tuple(sorted({label for _, label in labels}))
    for line, label in labels:
        if len(label) > _MOST_DIGITS or not 0 <= int(label) < _MOST_CLASSES:
            raise line.error(f"label must be 0 to {_MOST_CLASSES - 1}, got {label}")
    largest = max(int(label) for _, label in labels)
    return tuple(str(number) for number in range(largest + 1))
