"""Counting what a run does to a folder, to let something happen at the n-th step."""

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tsn_core import hdf5_file

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir")
_counting: list["Steps"] = []


@cache
def _listen_to_audit_events() -> None:
    """Once for all: no audit hook can be taken out again, and each slows down whatever follows."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if _counting and event in _EVENTS:
            for steps in _counting:
                steps.audit(event, arguments)

    sys.addaudithook(hook)


class Steps:
    """Every step of this process that touches a folder: files opened, listed, renamed, removed,
    written to and synced.

    Python's own audit events tell of most of them before they happen; what they do not tell of is
    replaced. Of the many writes of one file only some count.
    """

    def __init__(self, root: Path, number: int, act: Callable[[], None]) -> None:
        """Have ``act`` called before the step of that number, 1-based; it may raise."""
        self._root = str(root)
        self._number = number
        self._act: Callable[[], None] | None = act
        self.seen: list[str] = []
        self._patch = pytest.MonkeyPatch()

    def count(self) -> None:
        """Begin."""
        _counting.append(self)
        _listen_to_audit_events()
        fsync, write = os.fsync, hdf5_file._Sink.write
        self._patch.setattr(os, "fsync", lambda fd: (self._synced(fd), fsync(fd))[1])
        steps, writes = self, dict[Any, int]()

        def counted(sink: Any, data: Any) -> int:
            writes[sink] = writes.get(sink, -1) + 1
            if sink.error is None and (writes[sink] < 2 or writes[sink] % 10 == 0):
                try:
                    steps._step(f"write {sink.name}")
                except OSError as error:
                    sink.error = error
            return write(sink, data)

        self._patch.setattr(hdf5_file._Sink, "write", counted)

    def rest(self) -> None:
        """End."""
        _counting.remove(self)
        self._patch.undo()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count one of Python's audit events, if it touches the folder."""
        path = arguments[0]
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if isinstance(path, (str, os.PathLike)) and str(path).startswith(self._root):
            self._step(f"{event} {path}")

    def _synced(self, fd: int) -> None:
        if self in _counting:
            self._step(f"fsync {Path(f'/proc/self/fd/{fd}').readlink()}")

    def _step(self, what: str) -> None:
        self.seen.append(what)
        if len(self.seen) == self._number and self._act is not None:
            self._act()
