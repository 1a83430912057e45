"""Many names of videos: in one block of memory, found by their sorted order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

_BLOCK = 4096  # names that are decoded at a time


class VideoNames(Sequence[str]):
    """Names as a sequence of ``str``, each decoded when it is asked for; equal to a tuple of them.

    A list of 640,000 names takes more than 60 MB in Python, and a dictionary of their places as
    much again; this takes the bytes of the longest name for each, and 8 for its place.

    Attributes:
        data: UTF-8, filled up with zeros, (V,) bytes.
        order: The places of the names when they are sorted by their bytes, (V,) int64.

    Examples:
        >>> names = VideoNames.of([b"wave/b.avi", b"nod/a.avi"])
        >>> names[0], len(names), "nod/a.avi" in names, names.find(["nod/a.avi", "c"]).tolist()
        ('wave/b.avi', 2, True, [1, -1])
    """

    def __init__(self, data: np.ndarray, order: np.ndarray) -> None:
        self.data = data
        self.order = order

    @classmethod
    def of(cls, names: Sequence[bytes]) -> VideoNames:
        """Return names given in UTF-8."""
        data = np.array(names, f"S{max(map(len, names), default=1) or 1}")
        return cls(data, np.argsort(data, kind="stable"))

    @property
    def differ(self) -> bool:
        """Whether they stand in the order that ``order`` says, and no two are equal."""
        for start in range(0, len(self.data) - 1, _BLOCK):
            block = self.data[self.order[start : start + _BLOCK + 1]]
            if not (block[:-1] < block[1:]).all():
                return False
        return True

    def find(self, names: Sequence[str]) -> np.ndarray:
        """Return the place of each name, -1 where it is none of these, (len(names),) int64."""
        width = self.data.dtype.itemsize
        encoded = [name.encode("utf-8", "surrogatepass") for name in names]
        # One that is too long, or ends with a zero, would be taken for another.
        possible = np.array([len(n) <= width and n[-1:] != b"\0" for n in encoded], bool)
        found = np.full(len(encoded), -1, np.int64)
        if not len(self.data) or not possible.any():
            return found
        wanted = np.array(encoded, self.data.dtype)
        at = np.searchsorted(self.data, wanted, sorter=self.order)
        place = self.order[np.minimum(at, len(self.data) - 1)]
        there = possible & (self.data[place] == wanted)
        found[there] = place[there]
        return found

    def take(self, places: np.ndarray | slice) -> tuple[str, ...]:
        """Return the names at these places."""
        return tuple(name.decode() for name in self.data[places].tolist())

    def __len__(self) -> int:
        return len(self.data)

    @overload
    def __getitem__(self, which: int) -> str: ...

    @overload
    def __getitem__(self, which: slice) -> tuple[str, ...]: ...

    def __getitem__(self, which: int | slice) -> str | tuple[str, ...]:
        if isinstance(which, slice):
            return self.take(which)
        return bytes(self.data[which]).decode()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self.data), _BLOCK):
            yield from self[start : start + _BLOCK]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.find([name])[0] >= 0)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, VideoNames):
            return np.array_equal(self.data, other.data)
        if isinstance(other, tuple):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # large, and equal to tuples

    def __repr__(self) -> str:
        first = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} names: {first}{', …' if len(self) > 3 else ''}>"
