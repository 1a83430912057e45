"""Whether the source videos are still those that the shards were made from.

A hidden file beside a dataset's shards, ``.sources.jsonl``, records size, modification time and
hash of every source at the time when it was extracted: a line for each shard, appended once the
shard is in place, the last line of a shard being the one that counts. A shard that was never there
has a line before it is made, too, so that it is known what it was made from if the run is killed
in between. In an object store the file is written anew every minute: what a killed run had just
made anew is made once more. It is no part of the shards, whose bytes do not depend on when a file
was copied.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from tsn_core.atomic import unwritable, write_text
from tsn_core.errors import OutputError, StoreError
from tsn_core.location import is_remote

SOURCES_NAME = ".sources.jsonl"
_HASHED_BYTES = 64 << 20  # of larger files only on demand: hashing would cost as much as extracting
_BLOCK_BYTES = 1 << 20
_EVERY_SECONDS = 60.0  # in an object store, where the file is written as a whole each time
_THREADS = 16  # a file system over the network answers many questions at once


@dataclass(frozen=True)
class Stamp:
    """What tells a file from another of the same name.

    Attributes:
        num_bytes: Its size.
        mtime_ns: When it was modified, in nanoseconds since 1970.
        digest: BLAKE2b hash of its content, 32 hexadecimal digits; None where it was not computed.
    """

    num_bytes: int
    mtime_ns: int
    digest: str | None = None

    def same(self, other: Stamp, check_hash: bool) -> bool:
        """Return whether both are of one file: by content if asked to and known, else by time."""
        if self.num_bytes != other.num_bytes:
            return False
        if check_hash and self.digest is not None and other.digest is not None:
            return self.digest == other.digest
        return self.mtime_ns == other.mtime_ns


def stamp_of(path: Path, *, with_hash: bool) -> Stamp | None:
    """Return the stamp of a file, or None if there is none; one that cannot be read has no hash.

    Args:
        path: Of the file.
        with_hash: Whether a file of any size is hashed; else only one up to 64 MiB.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    digest = None
    if with_hash or status.st_size <= _HASHED_BYTES:
        with suppress(OSError):
            digest = _digest(path)
    return Stamp(status.st_size, status.st_mtime_ns, digest)


def _digest(path: Path) -> str:
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()


def stamps_of(data: Path, names: Iterable[str], *, check_hash: bool) -> dict[str, Stamp | None]:
    """Return the stamps of many files below a folder, by name; hashed only if asked to."""

    def stamp(name: str) -> Stamp | None:
        if check_hash:
            return stamp_of(data / name, with_hash=True)
        try:
            status = (data / name).stat()
        except OSError:
            return None
        return Stamp(status.st_size, status.st_mtime_ns)

    names = list(names)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(stamp, names)))


Stamps = Mapping[str, "Stamp | None"]


class Journal:
    """The stamps of the sources of every shard of a dataset.

    Attributes:
        data: Folder that the sources were last read from; None if nobody has said.
    """

    def __init__(self, root: Path) -> None:
        """Read what is recorded beside the shards below ``root``; a damaged line counts as none.

        Raises:
            OutputError: The system does not hand out the file, which would be written anew.
        """
        self._path = root / SOURCES_NAME
        self._stamps: dict[tuple[str, int], dict[str, Stamp | None]] = {}
        self.data: Path | None = None
        self._written = time.monotonic()
        try:
            lines = self._path.read_bytes().split(b"\n")
        except StoreError:
            raise
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(
                f"{self._path}: cannot be read: {error.strerror}; check the file, or delete it: "
                "then no source counts as changed"
            ) from error
        for line in lines:
            with suppress(
                ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError
            ):
                self._take(json.loads(line))

    def _take(self, entry: Any) -> None:
        if "data" in entry:
            self.data = Path(entry["data"])
            return
        stamps = {
            str(name): None if stamp is None else Stamp(*stamp)
            for name, stamp in entry["videos"].items()
        }
        for folder in entry["folders"]:
            self._stamps[str(folder), int(entry["shard"])] = stamps

    def changed(
        self, folder: str, shard: int, names: Iterable[str], now: Stamps, check_hash: bool
    ) -> set[str]:
        """Return which of a shard's videos are not what they were when it was made.

        One of which nothing is recorded counts as unchanged.
        """
        then = self._stamps.get((folder, shard), {})
        found = set()
        for name in names:
            if name in then:
                old, new = then[name], now[name]
                same = old is new if old is None or new is None else new.same(old, check_hash)
                if not same:
                    found.add(name)
        return found

    def expect(self, folder: str, shard: int, now: Stamps, *, is_there: bool) -> None:
        """Note for ``start`` what the sources are of a shard that is about to be made.

        Args:
            folder: Of its modality.
            shard: Its number.
            now: Stamps of its videos.
            is_there: Whether it is there already, and stays if the run is killed: then only
                videos count of which nothing is recorded.
        """
        then = self._stamps.get((folder, shard), {}) if is_there else {}
        self._stamps[folder, shard] = {**now, **then}

    def num_gone(self, now: Stamps) -> int:
        """Return how many of the sources that were there once are not there now."""
        once = {name for then in self._stamps.values() for name, stamp in then.items() if stamp}
        return sum(name in once for name, stamp in now.items() if stamp is None)

    def start(self, data: Path) -> None:
        """Record the folder of the sources, dropping lines that no longer count.

        Raises:
            OutputError: The file cannot be written.
        """
        self.data = data.absolute()
        self._write()

    def close(self) -> None:
        """Record what was not recorded yet.

        Raises:
            OutputError: The file cannot be written.
        """
        if is_remote(self._path):
            self._write()

    def _write(self) -> None:
        lines = [json.dumps({"data": str(self.data)})]
        lines += [self._line(folders, n, stamps) for folders, n, stamps in self._grouped()]
        write_text(self._path, "".join(line + "\n" for line in lines))
        self._written = time.monotonic()

    def _grouped(self) -> list[tuple[list[str], int, Stamps]]:
        """Return (folders, shard, stamps): one for all modalities made from the same sources."""
        groups: dict[int, list[tuple[list[str], int, Stamps]]] = {}
        for (folder, shard), stamps in self._stamps.items():
            others = groups.setdefault(shard, [])
            same = next((folders for folders, _, known in others if known == stamps), None)
            if same is None:
                others.append(([folder], shard, stamps))
            else:
                same.append(folder)
        return [group for of_shard in groups.values() for group in of_shard]

    def append(self, folders: Iterable[str], shard: int, stamps: Stamps) -> None:
        """Record the sources of a shard that is now in place.

        Raises:
            OutputError: The file cannot be written.
        """
        folders = list(folders)
        for folder in folders:
            self._stamps[folder, shard] = dict(stamps)
        if is_remote(self._path):  # nothing can be appended there
            if time.monotonic() - self._written > _EVERY_SECONDS:
                self._write()
            return
        line = self._line(folders, shard, stamps) + "\n"
        try:
            with self._path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(line)
        except OSError as error:
            raise unwritable(self._path, error) from error

    @staticmethod
    def _line(folders: list[str], shard: int, stamps: Stamps) -> str:
        videos = {name: stamp and astuple(stamp) for name, stamp in stamps.items()}
        content = {"folders": folders, "shard": shard, "videos": videos}
        return json.dumps(content, ensure_ascii=False)


def is_unchanged(path: Path, stamp: Stamp | None) -> bool:
    """Return whether size and time of a file are still those of a stamp."""
    try:
        status = path.stat()
    except OSError:
        return stamp is None
    return stamp is not None and (status.st_size, status.st_mtime_ns) == (
        stamp.num_bytes,
        stamp.mtime_ns,
    )
