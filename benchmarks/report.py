"""Where and how measurements are written."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# Elsewhere for runs that only try the scripts.
BESIDE = Path(__file__).parent / "results"  # what is published
RESULTS = Path(os.environ.get("TSN_RESULTS") or BESIDE)
_PACKAGES = ("numpy", "numba", "opencv-contrib-python", "torch", "torchvision")


def write_result(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write ``NAME.json`` with the machine and the versions into a folder, and return its path."""
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in _PACKAGES},
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n")
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def clips_folder() -> Path:
    """Return the folder of real clips that ``TSN_CLIPS`` names.

    Raises:
        SystemExit: It is not set.
    """
    folder = os.environ.get("TSN_CLIPS")
    if not folder:
        raise SystemExit("set TSN_CLIPS to the folder of real clips")
    return Path(folder)
