"""Unpacking archives that nobody has vouched for: only files, only where they may lie, and bounded.

A RAR archive inside an archive is unpacked in turn, once; what it holds appears whole, so that an
interrupted run goes on with the next one.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from preprocess.download.archive import (
    DamagedError,
    Member,
    have_libarchive,
    rar_members,
    read_kind,
    safe_path,
    zip_members,
)
from preprocess.download.programs import INSTALL, program_members, programs
from tsn_core.atomic import unwritable
from tsn_core.errors import ArchiveError, MissingDependencyError

_MOST_FILES = 200_000
_LEAST_ALLOWANCE = 200_000_000  # bytes; of small archives
_MOST_RATIO = 20  # videos can hardly be packed
_DONE, _INNER, _NEW, _BY_PROGRAM = "done.txt", "inner.rar", "new", "by-program"

Place = Callable[[PurePosixPath, str], PurePosixPath | None]
Reader = Callable[[Path], Iterator[Member]]


@dataclass
class _Budget:
    """What may still come out of an archive, its inner ones included."""

    label: str
    bytes_left: int
    files_left: int

    def spend(self, num_bytes: int = 0, files: int = 0) -> None:
        self.bytes_left -= num_bytes
        self.files_left -= files
        if self.bytes_left < 0 or self.files_left < 0:
            raise ArchiveError(
                f"{self.label}: far more comes out of it than such an archive holds; nothing was "
                "unpacked from here on, do not trust this archive"
            )


@dataclass
class Unpacking:
    """One archive on its way into a folder.

    Attributes:
        root: The folder; what an interrupted run left there is used.
        place: Gives a member its place below ``root``; None leaves it out.
        advance: Told the bytes that were written.
        workspace: A folder of its own for what is not finished.
    """

    root: Path
    place: Place
    advance: Callable[[int], None]
    workspace: Path
    _path: Path = Path()
    _done: set[str] = field(default_factory=set)

    def run(self, path: Path) -> None:
        """Unpack an archive.

        Raises:
            ArchiveError: It is damaged, or holds what must not be unpacked.
            MissingDependencyError: Nothing here can read RAR archives.
            OutputError: The files cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.workspace.mkdir(parents=True, exist_ok=True)
            with (self.workspace / _DONE).open("a+", encoding="utf-8") as file:
                file.seek(0)
                self._done = set(file.read().split("\n"))
            self._path, size = path, path.stat().st_size
            budget = _Budget(path.name, max(_LEAST_ALLOWANCE, _MOST_RATIO * size), _MOST_FILES)
            self._unpack(path, path.name, self.root, budget, outer=True)
        except OSError as error:
            if error.errno is None:
                raise
            remedy = "free space and run the same command again"
            raise unwritable(self.root, error, remedy) from error

    def _unpack(self, path: Path, label: str, root: Path, budget: _Budget, *, outer: bool) -> None:
        stem = PurePosixPath(label).stem
        problems: list[str] = []
        for name, reader in self._readers(path, outer=outer):
            with _damage(name, problems):
                self._write_all(reader(path), label, stem, root, budget, outer)
                return
        raise ArchiveError(
            f"{label}: damaged, cut short or protected ({'; '.join(problems)}); remove "
            f"{self._path} and fetch it again"
        )

    def _readers(self, path: Path, *, outer: bool) -> list[tuple[str, Reader]]:
        """Return all that can read an archive, the best first."""
        if read_kind(path) == "zip":
            return [("zipfile", zip_members)]
        readers: list[tuple[str, Reader]] = []
        if have_libarchive():
            readers.append(("libarchive", rar_members))
        folder = self.workspace / f"{_BY_PROGRAM}-{'outer' if outer else 'inner'}"
        readers.extend(
            (program[0], partial(program_members, program, folder=folder)) for program in programs()
        )
        if not readers:
            require_rar(path.name)
        return readers

    def _write_all(
        self,
        members: Iterator[Member],
        label: str,
        stem: str,
        root: Path,
        budget: _Budget,
        outer: bool,
    ) -> None:
        names: dict[str, str] = {}
        targets: dict[str, str] = {}
        for member in members:
            budget.spend(files=1)
            if member.kind == "folder" and member.name.strip("/."):
                safe_path(label, member.name)
            if member.kind == "folder":
                continue
            path = safe_path(label, member.name)
            if member.kind != "file":
                raise ArchiveError(
                    f"{label}: {member.name!r} is a {member.kind}; only files and folders are "
                    "unpacked, do not trust this archive"
                )
            _note(names, path, label)
            if outer and path.suffix.lower() == ".rar":
                self._inner(member, f"{label}/{path}", root, budget)
                continue
            target = self.place(path, stem)
            if target is not None:
                _note(targets, target, label)
                self._write(member, root / target, budget)

    def _inner(self, member: Member, label: str, root: Path, budget: _Budget) -> None:
        if label in self._done:
            return
        inner, new = self.workspace / _INNER, self.workspace / _NEW
        shutil.rmtree(new, ignore_errors=True)
        self._write(member, inner, budget, count=False)
        self._unpack(inner, label, new, budget, outer=False)
        for file in sorted(new.rglob("*")):
            target = root / file.relative_to(new)
            if file.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                file.replace(target)
        inner.unlink()
        with (self.workspace / _DONE).open("a", encoding="utf-8") as done:
            done.write(f"{label}\n")

    def _write(self, member: Member, path: Path, budget: _Budget, *, count: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for block in member.blocks():
                budget.spend(num_bytes=len(block))
                file.write(block)
                if count:
                    self.advance(len(block))


def require_rar(name: str) -> None:
    """Refuse before a long download what could not be unpacked after it.

    Raises:
        MissingDependencyError: Nothing here can read RAR archives.
    """
    if not have_libarchive() and not programs():
        raise MissingDependencyError(f"{name}: nothing here unpacks RAR; {INSTALL}")


@contextmanager
def _damage(reader: str, problems: list[str]) -> Iterator[None]:
    """Note what stopped a reader, so that another may be tried."""
    try:
        yield
    except DamagedError as error:
        problems.append(f"{reader}: {error}")


def _note(seen: dict[str, str], path: PurePosixPath, label: str) -> None:
    """Remember a path.

    Raises:
        ArchiveError: It was there before, where case does not matter.
    """
    key = unicodedata.normalize("NFKC", str(path)).casefold()
    if key in seen:
        raise ArchiveError(
            f"{label}: {seen[key]!r} and {str(path)!r} would be one file; nothing was unpacked "
            "from here on, do not trust this archive"
        )
    seen[key] = str(path)
