"""How messages list names."""

from __future__ import annotations

from collections.abc import Sequence


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and an ellipsis if there are more.

    Examples:
        >>> few(["a", "b", "c"]), few(["a", "b", "c", "d"])
        ('a, b, c', 'a, b, c, …')
    """
    return ", ".join([*names[:most], *["…"][: len(names) > most]])
