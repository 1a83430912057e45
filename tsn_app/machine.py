"""Facts about this machine that need no heavy library."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from preprocess import OPENCV_VARIABLES
from preprocess.numba_cache import is_writable

PACKAGE = "tsn-shards"
OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_VARIABLES = re.compile(r"(OMP|MKL|OPENBLAS|NUMBA|OPENCV|TSN|CUDA|TORCH)_?[A-Z_]*")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


@dataclass(frozen=True)
class Machine:
    """Facts; sizes in GB of 10^9 bytes.

    Attributes:
        python: Its version.
        system: The operating system.
        in_venv: Whether Python runs in an environment of its own.
        cores: That this process may use.
        memory_gb: Of the machine, or of the container where that is less.
        free_memory_gb: Now.
        folder: Where shards would go.
        free_disk_gb: There.
        writable: Whether it can be written.
        shared_memory_gb: Free in /dev/shm; None where there is none.
        open_files: That a process may have; None where nobody says.
        encoding: Of text on the terminal.
        variables: From the environment, that change what programs here do; without those that
            this package itself sets.
        installed: Version of each package that this one needs, or None.
        wanted: The range of each.
        opencvs: Distributions of OpenCV, of which only one should be there.
    """

    python: str
    system: str
    in_venv: bool
    cores: int
    memory_gb: float
    free_memory_gb: float
    folder: Path
    free_disk_gb: float
    writable: bool
    shared_memory_gb: float | None
    open_files: int | None
    encoding: str
    variables: dict[str, str] = field(default_factory=dict)
    installed: dict[str, str | None] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    opencvs: dict[str, str] = field(default_factory=dict)


def look(folder: Path) -> Machine:
    """Return the facts of this machine."""
    memory = psutil.virtual_memory()
    limit = _container_limit()
    wanted = _wanted()
    shared = Path("/dev/shm")
    there = next((one for one in (folder, *folder.absolute().parents) if one.is_dir()), Path("/"))
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        in_venv=sys.prefix != sys.base_prefix,
        cores=len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity")
        else psutil.cpu_count() or 1,
        memory_gb=min(memory.total, limit or memory.total) / 1e9,
        free_memory_gb=min(memory.available, limit or memory.available) / 1e9,
        folder=there,
        free_disk_gb=shutil.disk_usage(there).free / 1e9,
        writable=is_writable(there),
        shared_memory_gb=shutil.disk_usage(shared).free / 1e9 if shared.is_dir() else None,
        open_files=_open_files(),
        encoding=sys.stdout.encoding or "",
        variables={
            name: "…" if _SECRET.search(name) else value
            for name, value in sorted(os.environ.items())
            if _VARIABLES.fullmatch(name) and OPENCV_VARIABLES.get(name) != value
        },
        installed={name: _version(name) for name in wanted},
        wanted=wanted,
        opencvs={name: found for name in OPENCVS if (found := _version(name)) is not None},
    )  # fmt: skip


def _wanted() -> dict[str, str]:
    """Return the range of every package that is always needed."""
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:
        return {}
    wanted = map(Requirement, lines)
    return {one.name: str(one.specifier) for one in wanted if one.marker is None}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _container_limit() -> int | None:
    """Return how much memory the container may use, in bytes."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal() and int(text) < 1 << 60:
            return int(text)
    return None


def short(path: str) -> str:
    """Return a path with the home folder as ``~``, as it may go into a report of a bug."""
    home = str(Path.home())
    return f"~{path[len(home) :]}" if home != "/" and path.startswith(home) else path


def all_versions() -> dict[str, str]:
    """Return every installed package with its version, for ``--json``."""
    found: dict[str, Any] = {}
    for one in distributions():
        found[str(one.metadata["Name"])] = one.version
    return dict(sorted(found.items()))
