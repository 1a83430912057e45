"""How messages list and count things."""

from __future__ import annotations

from collections.abc import Sequence


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and an ellipsis if there are more.

    Examples:
        >>> few(["a", "b", "c"]), few(["a", "b", "c", "d"])
        ('a, b, c', 'a, b, c, …')
    """
    return ", ".join([*names[:most], *["…"][: len(names) > most]])


def count(number: int, noun: str) -> str:
    """Return a number of things, in words.

    Examples:
        >>> count(1, "video"), count(2, "video")
        ('1 video', '2 videos')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
