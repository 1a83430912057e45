"""Where files lie: on this machine, or in an object store such as ``s3://bucket/prefix``."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import total_ordering
from pathlib import Path
from typing import Any, cast

from tsn_core.errors import InputError, MissingDependencyError, StoreError

# Schemes of stores that publish an object whole or not at all, and what to install for each.
_STORES = {"s3": "'tsn-shards[s3]'", "gs": "gcsfs", "az": "adlfs", "memory": "fsspec"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_PART_BYTES, _PARTS_AT_ONCE = 16 << 20, 2  # of an upload: bounds its memory

# By process and scheme. Those of the process that this one was forked from stay in here: their
# connections are still used over there, and must not be closed when they are thrown away here.
_filesystems: dict[tuple[int, str], Any] = {}


def location(path: str | os.PathLike[str]) -> Path:
    """Return a ``Path``, or for ``scheme://…`` a ``RemotePath``, which can do what we need of one.

    Raises:
        InputError: Unknown scheme, or no bucket.
        MissingDependencyError: The library for the store is not installed.

    Examples:
        >>> location("memory://bucket/shards/") / "rgb"
        RemotePath('memory://bucket/shards/rgb')
    """
    if is_remote(path):
        return cast(Path, path)
    match = _URL.fullmatch(path) if isinstance(path, str) else None
    if match is None:
        return Path(path)
    scheme, key = match[1].lower(), match[2].strip("/")
    if scheme not in _STORES:
        raise InputError(
            f"{path}: unknown kind of store; choose from "
            f"{', '.join(f'{name}://' for name in _STORES)}, or a folder"
        )
    if not key:
        raise InputError(f"{path}: {scheme}://BUCKET or {scheme}://BUCKET/PREFIX expected")
    _filesystem(scheme)
    return cast(Path, RemotePath(scheme, key))


def is_remote(path: object) -> bool:
    """Return whether a location is in an object store."""
    return isinstance(path, RemotePath)


def _filesystem(scheme: str) -> Any:
    """Return fsspec's file system of this process; it keeps no listings, which would go stale.

    Raises:
        MissingDependencyError: The library for the store is not installed.
    """
    owner = os.getpid(), scheme
    if owner not in _filesystems:
        try:
            import fsspec

            options = {"use_listings_cache": False, "skip_instance_cache": True}
            _filesystems.setdefault(owner, fsspec.filesystem(scheme, **options))
        except ImportError as error:
            raise MissingDependencyError(
                f"{scheme}:// needs a package that is not installed ({error}); "
                f"pip install {_STORES[scheme]}"
            ) from None
    return _filesystems[owner]


@dataclass(frozen=True)
class ObjectStatus:
    """What a store says of an object.

    Attributes:
        st_size: In bytes.
        identity: Another text for every object that ever had this name.
        etag: For conditional requests; None if the store gives none.
    """

    st_size: int
    identity: str
    etag: str | None = None


@total_ordering
class RemotePath:
    """An object in a store, or a prefix of several, with the methods of ``pathlib.Path``.

    Only what this package needs of them. Nothing about the store is remembered between calls, so
    that what other machines write is seen. Safe to hand to other processes, forked or spawned.
    Every method may raise ``StoreError``, and besides ``FileNotFoundError`` where pathlib does.
    """

    def __init__(self, scheme: str, key: str) -> None:
        self._scheme = scheme
        self._key = key

    def __str__(self) -> str:
        return f"{self._scheme}://{self._key}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __hash__(self) -> int:
        return hash(str(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __lt__(self, other: RemotePath) -> bool:
        return str(self) < str(other)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self._scheme, f"{self._key}/{name}".rstrip("/"))

    @property
    def name(self) -> str:
        """What comes behind the last slash."""
        return self._key.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """What comes before the last slash; the bucket is its own."""
        return RemotePath(self._scheme, self._key.rpartition("/")[0] or self._key)

    def absolute(self) -> RemotePath:
        """Return this very path."""
        return self

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: stores have no folders."""

    def stat(self) -> ObjectStatus:
        """Return what the store says of the object, by one request if it is there."""
        with self._requests() as store:
            return _status(store.info(self._key))

    def exists(self) -> bool:
        """Return whether there is an object of that name."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    is_file = exists

    def read_bytes(self) -> bytes:
        """Return the whole object."""
        with self._requests() as store:
            return store.cat_file(self._key)

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the whole object as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(
        self, data: bytes, *, exclusive: bool = False, replacing: ObjectStatus | None = None
    ) -> None:
        """Make or replace the object, by one request.

        Of several that try at the same time on conditions, one succeeds; on other stores than S3
        ``replacing`` is checked just before.

        Args:
            data: All of it, small.
            exclusive: Whether to raise ``FileExistsError`` where there is one already.
            replacing: Raise ``FileExistsError`` or ``FileNotFoundError`` unless the object is this
                one.
        """
        options = {}
        if replacing is not None:
            if self._scheme == "s3" and replacing.etag:
                options = {"IfMatch": replacing.etag}
            elif self.stat() != replacing:
                raise FileExistsError(errno.EEXIST, "another one has taken its place")
        try:
            with self._requests() as store:
                mode = "create" if exclusive else "overwrite"
                store.pipe_file(self._key, data, mode=mode, **options)
        except StoreError:
            if replacing is None or self.stat() == replacing:
                raise
            raise FileExistsError(errno.EEXIST, "another one has taken its place") from None

    def upload(self, source: Path) -> None:
        """Make the object from a file, or replace it; others see all of it or nothing."""
        with self._requests() as store:
            options: dict[str, Any] = {}
            if self._scheme == "s3":
                options = {"chunksize": _PART_BYTES, "max_concurrency": _PARTS_AT_ONCE}
            store.put_file(str(source), self._key, **options)

    def give_up_uploads(self) -> None:
        """Remove what uploads below that were never completed have left, where that is allowed."""
        if self._scheme != "s3":
            return
        bucket, _, prefix = self._key.partition("/")
        with suppress(StoreError), self._requests() as store:
            there = store.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
            for upload in there.get("Uploads", []):
                store.call_s3(
                    "abort_multipart_upload",
                    Bucket=bucket,
                    Key=upload["Key"],
                    UploadId=upload["UploadId"],
                )

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        try:
            with self._requests() as store:
                store.rm_file(self._key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the objects below this prefix whose name matches, part by part."""
        wanted = pattern.split("/")
        for parts, path in self._below():
            if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
                yield path

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the objects below this prefix whose last part matches."""
        for parts, path in self._below():
            if fnmatchcase(parts[-1], pattern):
                yield path

    def _below(self) -> list[tuple[list[str], RemotePath]]:
        """Return every object below, by its parts; a request for every thousand."""
        try:
            with self._requests() as store:
                found = [key.strip("/") for key in store.find(self._key)]
        except FileNotFoundError:
            return []
        return [
            (key.removeprefix(f"{self._key}/").split("/"), RemotePath(self._scheme, key))
            for key in sorted(found)
            if key.startswith(f"{self._key}/")
        ]

    @contextmanager
    def opened(self) -> Iterator[RemoteStream]:
        """Yield the object for reading parts of it, all of them of the same version."""
        stream = RemoteStream(self)
        try:
            yield stream
        finally:
            stream.close()

    @contextmanager
    def _requests(self) -> Iterator[Any]:
        """Yield the store; what its libraries raise is translated."""
        store = _filesystem(self._scheme)
        try:
            yield store
        except Exception as error:
            if type(error).__module__ == "builtins" and not isinstance(error, OSError):
                raise  # ours
            raise _translated(error, self) from error


class RemoteStream:
    """An object that is open for reading; every ``read`` is one request.

    Belongs to the process that made it.

    Attributes:
        pid: Of that process.
        status: What the store said of the object. On S3, reads fail once there is another one.
    """

    def __init__(self, path: RemotePath) -> None:
        self.pid = os.getpid()
        self._path = path
        with path._requests() as store:
            self._file = store.open(path._key, "rb", cache_type="none", block_size=1 << 20)
            details = getattr(self._file, "details", None) or store.info(path._key)
            self.status = _status(details)

    def read(self, start: int, size: int) -> bytes:
        """Return the bytes from ``start`` on, all of which the object has."""
        with self._path._requests():
            self._file.seek(start)
            data = self._file.read(size)
            if len(data) != size:
                raise OSError(0, f"{size} bytes expected from byte {start} on, got {len(data)}")
            return data

    def close(self) -> None:
        """Let go of the object."""
        if self.pid == os.getpid():
            with suppress(OSError):
                self._file.close()


def _status(details: dict[str, Any]) -> ObjectStatus:
    if details.get("type") == "directory":
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    marks = ("ETag", "etag", "generation", "LastModified", "last_modified", "mtime", "created")
    identity = [f"{mark}={details[mark]}" for mark in marks if details.get(mark)]
    size = int(details["size"])
    return ObjectStatus(size, " ".join([*identity[:1], str(size)]), details.get("ETag"))


def _translated(error: Exception, path: RemotePath) -> OSError:
    """Return what the error of some library means."""
    for kind, number in ((FileNotFoundError, errno.ENOENT), (FileExistsError, errno.EEXIST)):
        if isinstance(error, kind):
            return kind(number, str(error.strerror or error))
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StoreError(
        f"{path}: {' '.join(str(text).split())}; check the address and what you may do there, "
        "then run the same command again"
    )
