"""Whole shards of an object store, kept in a folder of this machine up to a limit of bytes."""

from __future__ import annotations

import hashlib
import math
import os
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tsn_core.atomic import TEMPORARY_SUFFIX, publish, temporary_path
from tsn_core.errors import InputError, OutputError, StoreError
from tsn_core.location import RemotePath, RemoteStream

if TYPE_CHECKING:
    from filelock import BaseFileLock

FOLDER_VARIABLE, SIZE_VARIABLE = "TSN_CACHE", "TSN_CACHE_SIZE"
DEFAULT_GIGABYTES = 20.0
_BLOCK_BYTES = 16 << 20  # of a download: bounds its memory
_DEAD_SECONDS = 600  # a download that has not grown for so long belongs to a dead process
_NUM_LOCKS = 64
_OWN_NAME = re.compile(r"\.?[0-9a-f]{32}-")


@dataclass(frozen=True)
class ShardCache:
    """A folder of shards that were read before, which processes may share.

    The shards that were used longest ago make room for new ones, before these are downloaded:
    finished and unfinished files together stay within the limit.

    Attributes:
        folder: Of the files; made when it is needed.
        max_bytes: Limit of their sizes.
    """

    folder: Path
    max_bytes: int

    def open(self, path: RemotePath, stream: RemoteStream) -> BinaryIO | None:
        """Return the local copy of an object, downloading it if it is not there.

        Args:
            path: Of the object.
            stream: The same, open.

        Returns:
            None if the cache has no room for it.

        Raises:
            OutputError: The cache cannot be written.
            StoreError: The object cannot be read.
            FileNotFoundError: It is not there any more.
        """
        copy = self._copy(path, stream)
        found = self.find(path, stream)
        if found is not None:
            return found
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked(f".{int(copy.name[:8], 16) % _NUM_LOCKS}.lock"):
                # several processes download a shard once
                found = self.find(path, stream)
                return self._download(copy, stream) if found is None else found
        except (StoreError, FileNotFoundError):
            raise
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be written: {error.strerror or error}; free space, name "
                "another folder with --cache, or read without one by --cache-size 0"
            ) from error

    def find(self, path: RemotePath, stream: RemoteStream) -> BinaryIO | None:
        """Return the local copy of an object if there is one, which counts as a use of it."""
        copy = self._copy(path, stream)
        try:
            file = copy.open("rb")
        except OSError:
            return None
        with suppress(OSError):  # another user's folder may be readable only
            os.utime(copy)
        return file

    def _copy(self, path: RemotePath, stream: RemoteStream) -> Path:
        digest = hashlib.sha256(f"{path} {stream.status.identity}".encode()).hexdigest()
        return self.folder / f"{digest[:32]}-{path.name}"

    def _download(self, copy: Path, stream: RemoteStream) -> BinaryIO | None:
        size = stream.status.st_size
        temporary = temporary_path(copy)
        try:
            with self._locked(".lock"):
                if not self._make_room(size):
                    return None
                with temporary.open("wb") as file:
                    file.truncate(size)  # takes its room before others look
            with temporary.open("rb+") as file:
                for start in range(0, size, _BLOCK_BYTES):
                    file.write(stream.read(start, min(_BLOCK_BYTES, size - start)))
            with self._locked(".lock"):
                publish(temporary, copy)
                return copy.open("rb")
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _locked(self, name: str) -> BaseFileLock:
        from filelock import FileLock

        return FileLock(self.folder / name)

    def _make_room(self, size: int) -> bool:
        """Remove the files used longest ago until so many bytes fit; tell whether they do."""
        kept, used = 0, []
        for file in self.folder.iterdir():
            if not _OWN_NAME.match(file.name):
                continue  # what else lies there is not ours to remove
            with suppress(OSError):
                status = file.stat()
                unfinished = file.name.endswith(TEMPORARY_SUFFIX)
                if unfinished and time.time() - status.st_mtime > _DEAD_SECONDS:
                    file.unlink()
                elif unfinished:
                    kept += status.st_size
                else:
                    used.append((status.st_mtime_ns, status.st_size, file))
        room = self.max_bytes - kept - sum(bytes_ for _, bytes_, _ in used)
        if room + sum(bytes_ for _, bytes_, _ in used) < size:
            return False
        for _, bytes_, file in sorted(used):
            if room >= size:
                break
            with suppress(OSError):
                file.unlink()
                room += bytes_
        return room >= size


def cache_from_environment() -> ShardCache | None:
    """Return the cache that ``TSN_CACHE`` (folder) and ``TSN_CACHE_SIZE`` (GB) describe.

    Returns:
        None if its size is 0.

    Raises:
        InputError: The size is not a number, or negative.
    """
    text = os.environ.get(SIZE_VARIABLE) or str(DEFAULT_GIGABYTES)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if not 0 <= gigabytes < math.inf:
        raise InputError(f"{SIZE_VARIABLE} (--cache-size) must be 0 or more GB, got {text!r}")
    folder = os.environ.get(FOLDER_VARIABLE)
    if not gigabytes:
        return None
    return ShardCache(Path(folder) if folder else default_folder(), round(gigabytes * 1e9))


def default_folder() -> Path:
    """Return the folder for this package in the user's cache folder."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tsn-shards"
