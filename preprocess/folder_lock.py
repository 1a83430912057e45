"""One extraction at a time in a dataset's folder of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tsn_core.atomic import unwritable
from tsn_core.errors import OutputError

_LOCK_NAME = ".lock"


@contextmanager
def locked(root: Path, *, wait: bool, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder's lock. It goes with the process that holds it, however that ends.

    Args:
        root: The folder; made if it is not there.
        wait: Whether to wait for an extraction that is writing there, rather than to refuse.
        tell: Takes the one line that says that it waits.

    Raises:
        OutputError: Another extraction is writing there, or the folder cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / _LOCK_NAME)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise OutputError(
                    f"{root}: another extraction is writing there; wait for it, or use --wait"
                ) from None
            tell(f"{root}: another extraction is writing there; waiting for it")
            lock.acquire()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise unwritable(root, error, "choose another --out") from error
    try:
        yield
    finally:
        lock.release()
