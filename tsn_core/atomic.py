"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tsn_core.errors import OutputError

TEMPORARY_SUFFIX = ".tmp"


def temporary_path(path: Path) -> Path:
    """Return a name under which to write ``path`` first: in its folder, and nobody else's."""
    token = f"{os.getpid()}-{secrets.token_hex(4)}"  # other machines may write there, too
    return path.with_name(f".{path.name}.{token}{TEMPORARY_SUFFIX}")


def publish(temporary: Path, path: Path) -> None:
    """Give a finished temporary file its name, once its bytes are on the disk."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    with suppress(OSError):  # not every platform can open a folder, nor every file system sync it
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
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
            reason = error.strerror or str(error)
            raise OutputError(
                f"{path}: cannot be written: {reason}; free space or choose another place"
            ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
