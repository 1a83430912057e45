"""The videos that several results have in common, matched by name and never by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tsn_core.errors import InputError


class Labelled(Protocol):
    """Something that is known of named videos with labels."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def names(self) -> Any:
        """Names of the videos, a sequence of texts."""

    @property
    def labels(self) -> np.ndarray:
        """Class ids, (V,)."""

    @property
    def class_names(self) -> Any:
        """Names by class id, a sequence of texts."""


def common_rows(parts: Sequence[Labelled], remedy: str) -> list[np.ndarray]:
    """Return, for each part, the places of the videos that all have, in the first one's order.

    Args:
        parts: At least one.
        remedy: What to do about parts that do not fit, before "the same dataset" or "split".

    Raises:
        InputError: The classes or a video's labels differ, or no video is common.
    """
    first = parts[0]
    for part in parts[1:]:
        if list(part.class_names) != list(first.class_names):
            raise InputError(
                f"{part.name} has other classes than {first.name}: "
                f"{_difference(list(part.class_names), list(first.class_names))}; "
                f"{remedy} the same dataset"
            )
    places = [{str(name): place for place, name in enumerate(part.names)} for part in parts]
    common = [name for name in places[0] if all(name in place for place in places)]
    if not common:
        raise InputError(
            f"{', '.join(part.name for part in parts)} have no video in common; "
            f"{remedy} the same split"
        )
    rows = [np.array([place[name] for name in common]) for place in places]
    for part, own in zip(parts[1:], rows[1:]):
        differs = np.flatnonzero(part.labels[own] != first.labels[rows[0]])
        if differs.size:
            place = differs[0]
            raise InputError(
                f"{common[place]}: label {part.labels[own[place]]} in {part.name}, "
                f"{first.labels[rows[0][place]]} in {first.name}; {remedy} the same dataset"
            )
    return rows


def _difference(names: list[str], others: list[str]) -> str:
    """Return how two lists of class names differ, which they do."""
    if len(names) != len(others):
        return f"{len(names)} against {len(others)}"
    number = next(n for n, pair in enumerate(zip(names, others)) if pair[0] != pair[1])
    return f"class {number} is {str(names[number])!r} against {str(others[number])!r}"
