"""The shards that a process has used last: their tables and files, within limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tsn_core.shard_reader import Shard

_MOST_BYTES = 128 << 20  # of tables; those of a shard of 64 sparse videos take some 60 KB
_SHARD_BYTES = 8 << 10  # about what a shard takes besides
_MOST_OPEN = 128  # files; large datasets have more shards than a process may open


class ShardPool:
    """Open shards by number; those used longest ago make room for others.

    Where it travels to another process, it arrives empty.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES, most_open: int = _MOST_OPEN) -> None:
        self._most_bytes = most_bytes
        self._most_open = most_open
        self._empty()

    def _empty(self) -> None:
        self._shards: dict[int, Shard] = {}  # oldest use first
        self._with_file: dict[int, None] = {}  # those of them whose files are open, likewise
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._shards)

    def __getstate__(self) -> dict[str, Any]:
        return {"most_bytes": self._most_bytes, "most_open": self._most_open}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def get(self, number: int, open_shard: Callable[[int], Shard], images: bool = False) -> Shard:
        """Return a shard.

        Args:
            number: Of the shard.
            open_shard: Opens the one of a number, where it is not here.
            images: Whether images are to be read of it, which opens its file.
        """
        shard = self._shards.pop(number, None)
        if shard is None:
            shard = open_shard(number)
            self._num_bytes += memory_of(shard)
        self._shards[number] = shard
        if images:
            self._with_file.pop(number, None)
            self._with_file[number] = None
            if len(self._with_file) > self._most_open:
                oldest = next(iter(self._with_file))
                del self._with_file[oldest]
                self._shards[oldest].close()
        while self._num_bytes > self._most_bytes and len(self._shards) > 1:
            oldest = next(iter(self._shards))
            self._with_file.pop(oldest, None)
            dropped = self._shards.pop(oldest)
            self._num_bytes -= memory_of(dropped)
            dropped.close()
        return shard


def memory_of(shard: Shard) -> int:
    """Return about how many bytes of memory an open shard takes."""
    return shard.tables.num_bytes + _SHARD_BYTES
