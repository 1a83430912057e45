"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from tsn_core.errors import OutputError, TSNError
from tsn_core.location import RemotePath, is_remote, location

TEMPORARY_SUFFIX = ".tmp"
_MOST_BYTES = 200  # of a name within the 255 that file systems take, so that more can be added
_DISK_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)


_REMEDIES = {
    errno.ENAMETOOLONG: "shorten the name",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow that or choose another place"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "check the disk or choose another place"),
}


def unwritable(
    path: object, error: OSError, remedy: str = "free space or choose another place"
) -> OutputError:
    """Return the error that says that something cannot be written, why, and what helps.

    Args:
        path: What was to be written.
        error: What was raised.
        remedy: What helps where the reason asks for nothing special.
    """
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, remedy)
    return OutputError(f"{path}: cannot be written: {reason}; {remedy}")


def temporary_path(path: Path) -> Path:
    """Return a name under which to write ``path`` first: in its folder, and nobody else's."""
    token = f"{os.getpid()}-{secrets.token_hex(4)}"  # other machines may write there, too
    name = os.fsencode(path.name)[:_MOST_BYTES].decode(errors="ignore")
    return path.with_name(f".{name}.{token}{TEMPORARY_SUFFIX}")


def publish(temporary: Path, path: Path) -> None:
    """Give a finished temporary file its name, once its bytes are on the disk."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Bring a folder's names to the disk, where that is possible.

    Raises:
        OSError: The disk failed.
    """
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:  # not every platform can open a folder
        return
    try:
        os.fsync(folder)
    except OSError as error:  # nor every file system sync it
        if error.errno in _DISK_ERRORS:
            raise
    finally:
        os.close(folder)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write; on success it becomes ``path``, on error it is removed.

    For a URL it lies in the machine's folder for temporary files and is uploaded as one object.

    Raises:
        OutputError: The folder cannot be made, or the file cannot be written.
        StoreError: The object store does not take it.
    """
    path = location(path)
    if is_remote(path):
        with _uploaded(cast(RemotePath, path)) as temporary:
            yield temporary
        return
    temporary = temporary_path(path)
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            publish(temporary, path)
        except OSError as error:
            if isinstance(error, OutputError) or error.errno is None:
                raise
            raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _uploaded(path: RemotePath) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix="tsn-", ignore_cleanup_errors=True) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            try:
                path.upload(temporary)
            except FileNotFoundError as error:
                raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    except OSError as error:
        if isinstance(error, TSNError) or error.errno is None:
            raise
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error} in {tempfile.gettempdir()}; "
            "free space there, or name another folder with TMPDIR"
        ) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
