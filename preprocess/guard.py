"""What a worker on a cluster must have before it gets a job: our versions, our folders."""

from __future__ import annotations

import os
import secrets
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from platform import python_version_tuple
from typing import Any, TypeVar

from preprocess.devices import GPU_SHARE, find_devices, needs_gpu
from tsn_core.atomic import TEMPORARY_SUFFIX, write_text
from tsn_core.errors import ClusterError, TSNError
from tsn_core.location import is_remote
from tsn_core.version import __version__

Job = TypeVar("Job")
Report = TypeVar("Report")

_OF_DEVICES = ("torch", "triton")
_PACKAGES = ("av", "h5py", "numba", "numpy", "opencv-contrib-python", *_OF_DEVICES)
_LOOK_SECONDS = 5.0  # between two looks whether a run is over
_passed: set[Guard] = set()  # by this process


@dataclass(frozen=True)
class Guard:
    """What is asked of every worker.

    Attributes:
        versions: (package, version) of everything that decides about bytes.
        token: File in the folder of results that the run has put there.
        secret: Its content.
        files: Input files that must be there.
        device: Where flow is computed in batches; None where none is.
    """

    versions: tuple[tuple[str, str], ...]
    token: Path
    secret: str
    files: tuple[Path, ...]
    device: str | None = None

    @property
    def num_gpus(self) -> float:
        """How much of a GPU a job asks a scheduler for."""
        return GPU_SHARE if self.device is not None and needs_gpu(self.device) else 0.0

    def problem(self) -> str | None:
        """Return why the machine that this runs on cannot take part, in one line, or None."""
        host = socket.gethostname()
        here = dict(versions())
        for package, wanted in self.versions:
            if here[package] != wanted:
                return (
                    f"worker on {host}: has {package} {here[package]}, this run has {wanted}; "
                    "install the same versions everywhere and start the cluster again"
                )
        folder = self.token.parent
        try:
            seen = self.token.read_text(encoding="utf-8") == self.secret
        except OSError:
            seen = False
        if not seen:
            return (
                f"worker on {host}: does not see the files of this run in {folder}; choose an "
                "--out that all machines share under the same path"
            )
        if not is_remote(folder) and not os.access(folder, os.W_OK):
            return f"worker on {host}: must not write to {folder}; give its user the permission"
        for file in self.files:
            if not os.access(file, os.R_OK):
                return (
                    f"worker on {host}: cannot read {file}; choose a --data that all machines "
                    "share under the same path"
                )
        if self.device is not None:
            try:
                find_devices(self.device)
            except TSNError as error:
                return f"worker on {host}: {error}"
        return None

    def around(self, function: Callable[[Job, Callable[[Any], None]], Report]) -> Guarded:
        """Return a function of a job alone, which workers can run.

        It checks before the first job in each process, so that workers that join in the middle of
        a run are checked, too, and gives up when the run is over, whatever ended it.

        Args:
            function: Takes a job, and what to call every now and then while it works.
        """
        return Guarded(self, function)

    @property
    def is_over(self) -> bool:
        """Whether the run that put the token there has ended, or another has begun."""
        return not self.token.exists()


@dataclass(frozen=True)
class Guarded:
    """A function that checks whether it may run here, and whether it still should."""

    guard: Guard
    function: Callable[[Any, Callable[[Any], None]], Any]

    def __call__(self, job: Any) -> Any:
        """Run one job.

        Raises:
            ClusterError: The machine cannot take part, or the run is over.
        """
        if self.guard not in _passed:
            problem = self.guard.problem()
            if problem is not None:
                raise ClusterError(problem)
            _passed.add(self.guard)
        self._give_up_if_over(job)
        looked = time.monotonic()

        def look(_: Any) -> None:
            nonlocal looked
            if time.monotonic() - looked >= _LOOK_SECONDS:
                self._give_up_if_over(job)
                looked = time.monotonic()

        return self.function(job, look)

    def _give_up_if_over(self, job: Any) -> None:
        if self.guard.is_over:
            raise ClusterError(f"{job}: given up, the run that it belonged to is over")


def first_readable(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the first path that can be read from here, if there is one."""
    return tuple(islice((path for path in paths if os.access(path, os.R_OK)), 1))


@contextmanager
def guarding(
    folder: Path, files: tuple[Path, ...] = (), device: str | None = None
) -> Iterator[Guard]:
    """Put a token into a folder while the block runs, and yield what to ask of workers.

    Args:
        folder: Exists; workers will write there. Absolute.
        files: Workers will read them. Absolute.
        device: Where workers compute flow in batches; None: nowhere.

    Raises:
        OutputError: The token cannot be written.
    """
    token = folder / f".token-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    secret = secrets.token_hex(16)
    write_text(token, secret)
    try:
        here = versions()
        if device is None:  # then torch has no say in what is stored
            here = tuple(one for one in here if one[0] not in _OF_DEVICES)
        yield Guard(here, token, secret, files, device)
    finally:
        token.unlink(missing_ok=True)


@cache
def versions() -> tuple[tuple[str, str], ...]:
    """Return (package, version) of what decides about the bytes of a shard, on this machine.

    Besides version numbers there is a checksum of our own source, which changes between releases.
    """
    python = ".".join(python_version_tuple()[:2])
    packages = ((package, _version(package)) for package in _PACKAGES)
    return (("Python", python), ("tsn-shards", _own_version()), *packages)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _own_version() -> str:
    checksum = 0
    here = Path(__file__).parent
    for folder in (here, here.parent / "tsn_core"):
        for file in sorted(folder.rglob("*.py")):
            checksum = zlib.crc32(file.relative_to(here.parent).as_posix().encode(), checksum)
            checksum = zlib.crc32(file.read_bytes(), checksum)
    return f"{__version__} (source {checksum:08x})"
