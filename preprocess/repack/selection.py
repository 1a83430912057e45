"""Which videos of which sets the new shards hold, and what they are called there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from preprocess.repack.source import SourceSet
from tsn_core.errors import InputError
from tsn_core.listing import few
from tsn_core.manifest import Record


@dataclass(frozen=True)
class Selection:
    """Which videos to take; each choice that is empty takes all.

    Attributes:
        subsets: (split, subset) pairs; a video of any of them is taken.
        names: Of videos, as the result calls them.
        classes: Names of classes; the result has no others.
        prefix: Whether the videos of each set are named after it.
    """

    subsets: tuple[tuple[int, str], ...] = ()
    names: frozenset[str] = frozenset()
    classes: tuple[str, ...] = ()
    prefix: bool = False


@dataclass(frozen=True)
class Taken:
    """One video of the result.

    Attributes:
        record: What its manifest says of it.
        source: The set that it comes from.
        name: What it is called there.
    """

    record: Record
    source: SourceSet
    name: str


def select(
    sets: Sequence[SourceSet], selection: Selection, dataset: str
) -> tuple[tuple[str, ...], tuple[Taken, ...]]:
    """Return the class names and the videos of the result.

    Classes are united by name, in the order of the sets; splits are kept, and where dataset or name
    become others, what they were when the video was extracted.

    Args:
        sets: What to take videos from.
        selection: Which videos.
        dataset: Name of the result.

    Raises:
        InputError: A name stands in two sets, a choice is of something that is not there, or
            nothing is left.
    """
    if selection.prefix:
        datasets = [one.dataset for one in sets]
        if twice := next((name for name in datasets if datasets.count(name) > 1), None):
            raise InputError(f"two sets are named {twice}; --prefix cannot tell their videos apart")
    class_names = tuple(dict.fromkeys(name for one in sets for name in one.class_names))
    if selection.classes:
        _check_there("--class", selection.classes, class_names)
        class_names = tuple(name for name in class_names if name in selection.classes)
    labels = {name: label for label, name in enumerate(class_names)}
    taken: dict[str, Taken] = {}
    for one in sets:
        for record in one.records:
            name = f"{one.dataset}/{record.name}" if selection.prefix else record.name
            if name in taken:
                raise InputError(
                    f"{name} stands in {taken[name].source.root} and in {one.root}; --prefix puts "
                    "the name of its set before each"
                )
            label = labels.get(one.class_names[record.label], -1)
            origin = record.origin or (one.dataset, record.name)
            known = None if origin == (dataset, name) else origin
            changed = replace(record, name=name, label=label, origin=known)
            taken[name] = Taken(changed, one, record.name)
    splits = {split for one in taken.values() for split in one.record.splits}
    _check_there("--subset", [split for split, _ in selection.subsets], sorted(splits))
    _check_there("--list", sorted(selection.names), taken)
    chosen = tuple(one for one in taken.values() if _is_chosen(one.record, selection))
    if not chosen:
        raise InputError("no video is left; choose others with --subset, --list and --class")
    return class_names, chosen


def _is_chosen(record: Record, selection: Selection) -> bool:
    """Return whether all choices take a video."""
    subsets, names = selection.subsets, selection.names
    return (
        record.label >= 0
        and (not subsets or any(record.splits.get(split) == part for split, part in subsets))
        and (not names or record.name in names)
    )


def _check_there(option: str, asked: Sequence[object], there: object) -> None:
    """Refuse a choice of something that is not there."""
    missing = [one for one in asked if one not in there]  # type: ignore[operator]
    if not missing:
        return
    noun = {"--class": "class", "--subset": "split", "--list": "video"}[option]
    known = ""
    if option != "--list":
        known = f"; there are {few([str(one) for one in there], 10) or 'none'}"  # type: ignore[attr-defined]
    raise InputError(
        f"{option}: no {noun} {few([str(one) for one in missing])} in the shards{known}"
    )
