"""One extraction at a time below a prefix of an object store.

The lock is an object that only one process can create. Its holder renews it every minute; after ten
minutes without that, or once its process is seen to be gone, it counts as dead and may be taken
over. Creating, renewing and taking over are conditional requests: of several that try at
the same time, one succeeds, and a holder that was presumed dead is told.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from preprocess.background import in_background
from tsn_core.atomic import unwritable
from tsn_core.errors import OutputError, StoreError
from tsn_core.location import ObjectStatus, RemotePath

RENEW_SECONDS, DEAD_SECONDS, POLL_SECONDS = 60.0, 600.0, 5.0


@dataclass(frozen=True)
class _Holder:
    """What the lock says.

    Attributes:
        host: Name of the machine.
        place: Tells process numbers of one machine, or container, from those of others.
        process: Number of the process.
        token: Of this one lock.
        renewed: When it was renewed, seconds since 1970.
    """

    host: str
    place: str
    process: int
    token: str
    renewed: float

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def is_dead(self) -> bool:
        """Return whether it was not renewed for too long, or its process is seen to be gone."""
        if time.time() - self.renewed > DEAD_SECONDS:
            return True
        return self.place == _place() != "" and not psutil.pid_exists(self.process)


class RemoteLock:
    """The lock of a prefix, held by this process."""

    def __init__(self, path: RemotePath, holder: _Holder, status: ObjectStatus) -> None:
        self._path = path
        self._holder = holder
        self._status = status
        self._lost = False

    def check(self) -> None:
        """Check that nobody has taken the lock over.

        Raises:
            OutputError: Somebody has, or it could not be renewed for too long.
        """
        if self._lost or time.time() - self._holder.renewed > DEAD_SECONDS:
            raise OutputError(
                f"{self._path.parent}: the lock could not be renewed for {DEAD_SECONDS:.0f} "
                "seconds, and another extraction may have taken it over; run the same command again"
            )

    def renew(self) -> None:
        """Say that this process is alive."""
        holder = replace(self._holder, renewed=time.time())
        try:
            with suppress(FileExistsError):  # another's, or this one's, whose answer was lost
                self._path.write_bytes(holder.to_bytes(), replacing=self._status)
            there, status = _read(self._path)
        except FileNotFoundError:
            self._lost = True
        except StoreError:
            return  # perhaps the next time
        else:
            if there is None or there.token != self._holder.token:
                self._lost = True
            else:
                self._holder, self._status = there, status

    def release(self) -> None:
        """Remove the lock, if it is still this process's."""
        with suppress(OSError):
            holder, _ = _read(self._path)
            if holder is not None and holder.token == self._holder.token:
                self._path.unlink()


@contextmanager
def locked_remotely(
    root: RemotePath, *, wait: bool, tell: Callable[[str], None]
) -> Iterator[RemoteLock]:
    """Hold the lock of a prefix; see ``preprocess.folder_lock.locked``.

    Raises:
        OutputError: Another extraction is writing there, or there is no such bucket.
        StoreError: The store does not answer.
    """
    path = root / ".lock"
    told = False
    while (lock := _try(path)) is None:
        holder = _holder_of(path)
        if holder is None:
            continue  # let go of meanwhile
        who = f"{root}: another extraction is writing there (process {holder.process} on "
        who += f"{holder.host}, seen {max(time.time() - holder.renewed, 0):.0f} seconds ago); "
        if not wait:
            raise OutputError(
                f"{who}wait for it, use --wait, or remove {path} if that process is gone"
            )
        if not told:
            tell(f"{who}waiting for it")
            told = True
        time.sleep(POLL_SECONDS)

    def keep(stop: threading.Event) -> None:
        while not stop.wait(RENEW_SECONDS):
            lock.renew()

    try:
        with in_background(keep):
            yield lock
    finally:
        lock.release()


def _try(path: RemotePath) -> RemoteLock | None:
    """Create the lock, or take a dead one over; None if another process holds it."""
    holder = _Holder(
        platform.node(), _place(), os.getpid(), secrets.token_hex(8), renewed=time.time()
    )
    try:
        try:
            path.write_bytes(holder.to_bytes(), exclusive=True)
        except FileNotFoundError as error:  # no such bucket
            raise unwritable(path.parent, error, "choose another --out") from error
        except FileExistsError:
            other, status = _read(path)
            if other is not None and other != holder and not other.is_dead():
                return None  # nor is it this very lock, whose first answer was lost
            path.write_bytes(holder.to_bytes(), replacing=status)
        other, status = _read(path)
    except (FileExistsError, FileNotFoundError):  # another one was faster, or has just ended
        return None
    return RemoteLock(path, holder, status) if other == holder else None


def _holder_of(path: RemotePath) -> _Holder | None:
    try:
        return _read(path)[0]
    except FileNotFoundError:
        return None


def _read(path: RemotePath) -> tuple[_Holder | None, ObjectStatus]:
    """Return what the lock says, None if it makes no sense, and its status at the same time."""
    with path.opened() as stream:
        status = stream.status
        data = stream.read(0, min(status.st_size, 4096)) if status.st_size else b""
    try:
        content = json.loads(data)
        return (
            _Holder(
                " ".join(str(content["host"]).split()),
                str(content["place"]),
                int(content["process"]),
                str(content["token"]),
                float(content["renewed"]),
            ),
            status,
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None, status


def _place() -> str:
    """Return what tells this machine's, or container's, process numbers from others'."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return ""
