"""The bytes of a shard: mapped into memory, read by ranges from a store, or from a local copy."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from tsn_core.errors import ShardError, StoreError
from tsn_core.location import RemotePath, RemoteStream, is_remote
from tsn_core.shard_cache import ShardCache

_BLOCK_BYTES = 128 << 10  # of tables; those of 64 sparse videos fit into one
_MOST_BLOCKS = 256
_SMALL_GAP = 1 << 20  # bytes that are cheaper to read than another request

CHANGED = "changed since this program opened it; run the same command again"

Span = tuple[int, int]  # first byte and number of bytes


class ShardFile(Protocol):
    """What a ``Shard`` needs of its file. Its messages do not name the file."""

    num_bytes: int

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """Yield the whole file as a stream, for reading its tables."""

    def read(self, spans: Sequence[Span]) -> list[np.ndarray]:
        """Return the bytes of each span, uint8.

        Raises:
            ShardError: They are those of another file of the same name.
            StoreError: The store does not give them.
        """

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""


def open_file(path: Path, cache: ShardCache | None) -> ShardFile:
    """Return the file of a shard.

    Raises:
        ShardError: There is none.
        StoreError: The store cannot be asked.
    """
    if is_remote(path):
        return RemoteFile(cast(RemotePath, path), cache)
    return LocalFile(path)


class LocalFile:
    """A shard on this machine, mapped into memory: no lock is taken, nothing is read twice."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ShardError("no such shard; extract it, or check the path")
        self._path = path
        self._identity = _identity(path)
        self.num_bytes = path.stat().st_size
        self._bytes: np.ndarray | None = None

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """Yield the open file."""
        return self._path.open("rb")

    def read(self, spans: Sequence[Span]) -> list[np.ndarray]:
        """Return views of the mapped file."""
        if self._bytes is None:
            if _identity(self._path) != self._identity:
                raise ShardError(CHANGED)
            # As a plain array: cutting a memmap into pieces costs ten times as much.
            self._bytes = np.memmap(self._path, np.uint8, "r").view(np.ndarray)
        return [self._bytes[start : start + size] for start, size in spans]

    def close(self) -> None:
        """Unmap the file."""
        self._bytes = None


class RemoteFile:
    """A shard in an object store.

    Without a cache, tables are read in blocks and images by ranges; with one, the first images
    that are asked for bring the whole shard, if there is room for it.
    """

    def __init__(self, path: RemotePath, cache: ShardCache | None) -> None:
        self._path = path
        self._cache = cache
        self._stream: RemoteStream | None = None
        try:
            self._stream = RemoteStream(path)
        except FileNotFoundError:
            raise ShardError("no such shard; extract it, or check the path") from None
        self._status = self._stream.status
        self.num_bytes = self._status.st_size

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Yield the local copy, or the object itself."""
        stream = self._own_stream()
        copy = None if self._cache is None else self._cache.find(self._path, stream)
        with self._unchanged():
            if copy is None:
                yield cast(BinaryIO, _Blocks(stream))
            else:
                with copy:
                    yield copy

    def read(self, spans: Sequence[Span]) -> list[np.ndarray]:
        """Return the bytes, by one request where they lie close together."""
        with self._unchanged():
            stream = self._own_stream()
            copy = None if self._cache is None else self._cache.open(self._path, stream)
            if copy is not None:
                with copy:
                    return [_read_at(copy, span) for span in spans]
            whole = {span: stream.read(*span) for span in merged(spans)}
        parts = []
        for start, size in spans:
            first, data = next(
                (first, data)
                for (first, length), data in whole.items()
                if first <= start and start + size <= first + length
            )
            parts.append(np.frombuffer(data, np.uint8)[start - first : start - first + size])
        return parts

    def close(self) -> None:
        """Let go of the object."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _own_stream(self) -> RemoteStream:
        """Return the open object, opened anew in a forked process.

        Raises:
            ShardError: It is another one now.
        """
        if self._stream is None or self._stream.pid != os.getpid():
            with self._unchanged():
                self._stream = RemoteStream(self._path)
            if self._stream.status != self._status:
                raise ShardError(CHANGED)
        return self._stream

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Tell a store that refuses because there is another object from one that just refuses."""
        try:
            yield
        except FileNotFoundError:
            raise ShardError(CHANGED) from None
        except StoreError:
            if self._replaced():
                raise ShardError(CHANGED) from None
            raise

    def _replaced(self) -> bool:
        try:
            return self._stream is not None and self._path.stat() != self._stream.status
        except OSError:
            return False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stream": None}


class _Blocks(io.RawIOBase):
    """An object as a file, read in blocks that are kept while it is open."""

    def __init__(self, stream: RemoteStream) -> None:
        super().__init__()
        self._stream = stream
        self._size = stream.status.st_size
        self._place = 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = base + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, as far as there is something to fill it with."""
        view = memoryview(buffer).cast("B")
        start, stop = self._place, min(self._place + len(view), self._size)
        if start >= stop:
            return 0
        numbers = range(start // _BLOCK_BYTES, (stop - 1) // _BLOCK_BYTES + 1)
        missing = [number for number in numbers if number not in self._blocks]
        if missing:
            self._load(range(missing[0], missing[-1] + 1))
        data = b"".join(self._blocks[number] for number in numbers)
        view[: stop - start] = data[start - numbers[0] * _BLOCK_BYTES :][: stop - start]
        self._place = stop
        while len(self._blocks) > _MOST_BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        return stop - start

    def _load(self, numbers: range) -> None:
        """Read blocks that lie side by side, by one request."""
        start = numbers.start * _BLOCK_BYTES
        data = self._stream.read(start, min(numbers.stop * _BLOCK_BYTES, self._size) - start)
        for place, number in enumerate(numbers):
            self._blocks[number] = data[place * _BLOCK_BYTES :][:_BLOCK_BYTES]


def merged(spans: Sequence[Span], gap: int = _SMALL_GAP) -> list[Span]:
    """Return spans that hold all of these, joined where at most ``gap`` bytes lie between them.

    Examples:
        >>> merged([(50, 10), (0, 10), (5, 15), (40, 5)], gap=5)
        [(0, 20), (40, 20)]
    """
    out: list[Span] = []
    for start, size in sorted(spans):
        if out and start <= out[-1][0] + out[-1][1] + gap:
            first, length = out[-1]
            out[-1] = first, max(length, start + size - first)
        else:
            out.append((start, size))
    return out


def _read_at(file: Any, span: Span) -> np.ndarray:
    start, size = span
    file.seek(start)
    return np.frombuffer(file.read(size), np.uint8)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file from another of the same name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
