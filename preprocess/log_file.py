"""Files that lines are appended to, run after run, and that do not grow without end."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from tsn_core.location import RemotePath, is_remote

_UPLOAD_SECONDS = 300.0


class LogFile(Protocol):
    """Takes lines; not for two threads at once.

    Before the file has more than ``most_bytes`` it is set aside as ``NAME.1``, which replaces an
    older one. A line that a killed run has left unfinished stays a line of its own.
    """

    def append(self, line: bytes) -> None:
        """Append a line, which ends with a line feed.

        Raises:
            OSError: It cannot be written.
        """

    def close(self) -> None:
        """Append no more.

        Raises:
            StoreError: An object store does not take the last lines.
        """


def open_log(path: Path, most_bytes: int) -> LogFile:
    """Open a log on this machine or in an object store.

    Raises:
        OSError: It cannot be written, or read.
    """
    if is_remote(path):
        return LogObject(cast(RemotePath, path), most_bytes)
    return LocalLog(path, most_bytes)


class LocalLog:
    """A log on this machine. Every line is written at once: a killed run loses none."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """Open the file, or make it."""
        self._path = path
        self._most_bytes = most_bytes
        self._torn = False
        self._open()

    def append(self, line: bytes) -> None:
        """Append a line, as `LogFile.append`."""
        if self._file.tell() and self._file.tell() + len(line) > self._most_bytes:
            full = self._file  # stays open until there is another one
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._open()
            full.close()
        if self._torn:
            line = b"\n" + line
        while line:
            written = self._file.write(line)
            line = line[written:]
            self._torn = bool(line)

    def close(self) -> None:
        """Append no more."""
        with suppress(OSError):
            self._file.close()

    def _open(self) -> None:
        self._file = cast(BinaryIO, self._path.open("ab", buffering=0))
        self._torn = False
        if self._file.tell():
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                self._torn = file.read(1) != b"\n"


class LogObject:
    """A log in an object store, where nothing can be appended: written as a whole, now and then.

    A killed run loses the lines of some minutes.
    """

    def __init__(self, path: RemotePath, most_bytes: int) -> None:
        """Read what is there."""
        self._path = path
        self._most_bytes = most_bytes
        self._uploaded = time.monotonic()
        try:
            self._content = bytearray(path.read_bytes())
        except FileNotFoundError:
            self._content = bytearray()

    def append(self, line: bytes) -> None:
        """Append a line, as `LogFile.append`; it may take minutes until others see it."""
        if self._content and len(self._content) + len(line) > self._most_bytes:
            (self._path.parent / f"{self._path.name}.1").write_bytes(bytes(self._content))
            self._content.clear()
        self._content += line
        if time.monotonic() - self._uploaded >= _UPLOAD_SECONDS:
            self._upload()

    def close(self) -> None:
        """Write the object for the last time."""
        self._upload()

    def _upload(self) -> None:
        self._path.write_bytes(bytes(self._content))
        self._uploaded = time.monotonic()
