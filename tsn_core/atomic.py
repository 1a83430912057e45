"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tsn_core.errors import OutputError

TEMPORARY_SUFFIX = ".tmp"
_DISK_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)


_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow that or choose another place"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n)"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "check the disk or choose another place"),
}


def unwritable(
    path: str | os.PathLike[str], error: OSError, remedy: str = "free space or choose another place"
) -> OutputError:
    """Return the error that says that something cannot be written, why, and what helps.

    Args:
        path: What was to be written.
        error: What was raised.
        remedy: What helps where the reason asks for nothing special.
    """
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, remedy)
    return OutputError(f"{os.fspath(path)}: cannot be written: {reason}; {remedy}")


def temporary_path(path: Path) -> Path:
    """Return a name under which to write ``path`` first: in its folder, and nobody else's."""
    token = f"{os.getpid()}-{secrets.token_hex(4)}"  # other machines may write there, too
    return path.with_name(f".{path.name}.{token}{TEMPORARY_SUFFIX}")


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

    Raises:
        OutputError: The folder cannot be made, or the file cannot be written.
    """
    path = Path(path)
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


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
