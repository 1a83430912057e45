"""One extraction at a time in a dataset's folder of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from filelock import FileLock, Timeout

from tsn_core.atomic import unwritable
from tsn_core.errors import OutputError
from tsn_core.location import RemotePath, is_remote

_LOCK_NAME = ".lock"


@contextmanager
def locked(root: Path, *, wait: bool, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Hold a folder's lock. It goes with the process that holds it, however that ends.

    In an object store it outlives a process that is killed; see ``preprocess.remote_lock``.

    Args:
        root: The folder; made if it is not there.
        wait: Whether to wait for an extraction that is writing there, rather than to refuse.
        tell: Takes the one line that says that it waits.

    Yields:
        A function to call now and then: raises an ``OutputError`` once the lock was lost.

    Raises:
        OutputError: Another extraction is writing there, or the folder cannot be written.
        StoreError: The object store does not answer.
    """
    if is_remote(root):
        from preprocess.remote_lock import locked_remotely

        with locked_remotely(cast(RemotePath, root), wait=wait, tell=tell) as remote:
            yield remote.check
        return
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
        yield lambda: None
    finally:
        lock.release()
