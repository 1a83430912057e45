"""The list of source videos of a dataset, with labels and splits, as JSON lines.

The first line describes the dataset (``format``, ``version``, ``dataset``, ``class_names``); every
further line is one record: ``{"name": …, "label": …, "splits": {"1": "train", …}}``, with the
number of its ``shard`` once there is one, and its ``origin`` where it was extracted under another
name.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import Any

from tsn_core.atomic import write_text
from tsn_core.errors import InputError, StoreError
from tsn_core.location import location

MANIFEST_NAME = "manifest.jsonl"  # beside the shards of a dataset
SUBSETS = ("train", "val", "test")
_FORMAT, _VERSION = "tsn-manifest", 1
_ANEW = "the same extract or scan writes it anew"
_MOST_SHARDS = 1 << 31
_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def check_relative(path: str) -> str:
    """Return ``path`` if it stays inside the folder that it is relative to.

    Raises:
        InputError: It is empty, absolute or climbs out, on whatever system, or is not Unicode.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path!r}: the name is not valid UTF-8; rename the file") from None
    odd = ".." in path or ":" in path or "\\" in path or "\0" in path
    if path[:1] not in ("", "/") and not odd:
        return path  # as most are, and a manifest has many
    pure = PureWindowsPath(path)  # there, a backslash is a slash, too; manifests travel
    if not path or pure.anchor or ".." in pure.parts or "\0" in path or ":" in path[:2]:
        raise InputError(f"{path!r}: expected a path inside the dataset folder")
    return path


@dataclass(frozen=True)
class Record:
    """One source video.

    Attributes:
        name: Path of the file relative to the dataset's folder, with ``/``; unique.
        label: Class id, 0-based.
        splits: Subset (``train``, ``val`` or ``test``) by number of the split; a split that does
            not use the video is absent.
        shard: Number of the shard that holds it; None before an extraction has decided.
        origin: (dataset, name) under which it was extracted, where either was another; else None.
    """

    name: str
    label: int
    splits: Mapping[int, str] = field(default_factory=dict)
    shard: int | None = None
    origin: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        check_relative(self.name)
        for split, subset in self.splits.items():
            if subset not in SUBSETS:
                raise InputError(
                    f"{self.name}: subset of split {split} must be one of {', '.join(SUBSETS)}, "
                    f"got {subset!r}"
                )


@dataclass(frozen=True)
class Manifest:
    """All records of a dataset, in a fixed order."""

    dataset: str
    class_names: tuple[str, ...]
    records: tuple[Record, ...]

    def __post_init__(self) -> None:
        try:
            "".join((self.dataset, *self.class_names)).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{self.dataset!r}: the name of the dataset or of a class is not valid UTF-8; "
                "rename its folder"
            ) from None
        if len({record.name for record in self.records}) < len(self.records):
            names = Counter(record.name for record in self.records)
            twice = next(name for name, count in names.items() if count > 1)
            raise InputError(f"{self.dataset}: duplicate video name {twice!r}; names must differ")
        for record in self.records:
            if not 0 <= record.label < len(self.class_names):
                raise InputError(
                    f"{record.name}: label must be 0 to {len(self.class_names) - 1}, "
                    f"got {record.label}"
                )

    @property
    def split_numbers(self) -> tuple[int, ...]:
        """Numbers of the splits that some record belongs to, ascending."""
        return tuple(sorted({split for record in self.records for split in record.splits}))

    @property
    def origins(self) -> dict[str, tuple[str, str]]:
        """(dataset, name) of videos that were extracted under another, by name."""
        return {one.name: one.origin for one in self.records if one.origin is not None}

    def subset_names(self, split: int, subset: str) -> tuple[str, ...]:
        """Return the names of a subset's videos, in the manifest's order.

        Raises:
            InputError: No video is in that split.
        """
        if split not in self.split_numbers:
            known = ", ".join(map(str, self.split_numbers)) or "none"
            raise InputError(f"{self.dataset}: no split {split}; it has {known}")
        return tuple(record.name for record in self.records if record.splits.get(split) == subset)


def write_manifest(manifest: Manifest, path: str | os.PathLike[str]) -> None:
    """Write the manifest atomically."""
    head = {
        "format": _FORMAT,
        "version": _VERSION,
        "dataset": manifest.dataset,
        "class_names": manifest.class_names,
    }
    lines: list[dict[str, Any]] = [head]
    for record in manifest.records:
        splits = {str(split): subset for split, subset in sorted(record.splits.items())}
        line: dict[str, Any] = {"name": record.name, "label": record.label, "splits": splits}
        if record.shard is not None:
            line["shard"] = record.shard
        if record.origin is not None:
            line["origin"] = record.origin
        lines.append(line)
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def parse_origin(value: Any) -> tuple[str, str] | None:
    """Return the origin of a record as JSON holds it.

    Raises:
        InputError: It is none.
    """
    if value is None:
        return None
    if not (isinstance(value, list) and [type(one) for one in value] == [str, str]):
        raise InputError(f"origin must be two texts, dataset and name, got {value!r}")
    try:
        "".join(value).encode()
    except UnicodeEncodeError:
        raise InputError(f"origin must be Unicode, got {value!r}") from None
    return value[0], value[1]


def _parsed(line: str) -> Any:
    """Return what a line of JSON says, as ``json.loads``, which takes three times as long."""
    try:
        value, end = _scan(line, 0)
    except StopIteration:
        end = -1
    return value if end == len(line) else json.loads(line)


def _splits(
    stored: Any, known: dict[tuple[tuple[str, str], ...], dict[int, str]]
) -> Mapping[int, str]:
    """Return splits by their numbers; those of many videos are the same, and one object."""
    key = tuple(stored.items())
    try:
        return known[key]
    except (KeyError, TypeError):
        splits = {int(split): subset for split, subset in key}
    with suppress(TypeError):  # a list in place of a text, which is refused later
        known[key] = splits
    return splits


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Raises:
        InputError: There is none, or a line is not what it should be; the message names both.
        StoreError: The object store does not answer.
    """
    path = location(path)
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError:
        raise InputError(
            f"{path}: no manifest there; give the folder of a dataset's shards, such as "
            "shards/hmdb51, or make one with tsn-preprocess scan or extract"
        ) from None
    except StoreError:
        raise
    except NotADirectoryError:
        raise InputError(
            f"{path.parent}: a file; give the folder of a dataset's shards, such as shards/hmdb51"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "allow that" if isinstance(error, PermissionError) else _ANEW
        raise InputError(f"{path}: cannot be read: {reason}; {remedy}") from None
    number = 1
    records = []
    try:
        head = json.loads(lines[0]) if lines[0] else {}
        if not isinstance(head, dict) or head.get("format") != _FORMAT:
            raise InputError(f"a line with format {_FORMAT!r} expected; {_ANEW}")
        if head["version"] != _VERSION:
            raise InputError(
                f"format version {_VERSION} expected, got {head['version']}; "
                "scan again, or update this package"
            )
        dataset, class_names = head["dataset"], head["class_names"]
        if not isinstance(dataset, str):
            raise InputError(f"dataset must be a text, got {dataset!r}")
        if not (isinstance(class_names, list) and all(isinstance(k, str) for k in class_names)):
            raise InputError(f"class_names must be a list of texts, got {class_names!r}")
        known: dict[tuple[tuple[str, str], ...], dict[int, str]] = {}
        for line in lines[1:]:
            number += 1
            entry = _parsed(line)
            splits = _splits(entry["splits"], known)
            if not isinstance(entry["name"], str):
                raise InputError(f"name must be a text, got {entry['name']!r}")
            if type(entry["label"]) is not int:
                raise InputError(f"label must be a whole number, got {entry['label']!r}")
            shard = entry.get("shard")
            if shard is not None and not (type(shard) is int and 0 <= shard < _MOST_SHARDS):
                raise InputError(f"shard must be a whole number >= 0, got {shard!r}")
            origin = parse_origin(entry.get("origin"))
            records.append(Record(entry["name"], entry["label"], splits, shard, origin))
    except InputError as error:
        raise InputError(f"{path}, line {number}: {error}") from None
    except json.JSONDecodeError as error:
        message = f"{path}, line {number}: cut short or damaged: {error.msg}; {_ANEW}"
        raise InputError(message) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{path}, line {number}: not a line of a manifest: {error!r}; {_ANEW}"
        raise InputError(message) from None
    try:
        return Manifest(dataset, tuple(class_names), tuple(records))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
