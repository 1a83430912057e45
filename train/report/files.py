"""The small files of a run's folder and of shards, which may lack or be damaged."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tsn_core.errors import TSNError
from tsn_core.listing import few

Remark = Callable[[str], None]


def read_object(path: Path, remark: Remark) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one, with a remark, where it is damaged.

    A file that is not there is no damage.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, TSNError):
        content = None
    if not isinstance(content, dict):
        remark(f"{path}: damaged, or not readable; the page goes without it")
        return {}
    return content


def read_lines(path: Path, remark: Remark) -> list[dict[str, Any]]:
    """Return the objects in a file of JSON lines; those that are damaged are counted in a remark.

    A file that is not there has no lines.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, TSNError):
        remark(f"{path}: not readable; the page goes without it")
        return []
    objects, damaged = [], []
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            objects.append(content)
        elif line:
            damaged.append(str(number))
    if damaged:
        remark(f"{path}: damaged lines are left out: {few(damaged)}")
    return objects


def read_epochs(path: Path, remark: Remark) -> list[dict[str, float]]:
    """Return the rows of a run's ``metrics.csv`` as numbers; none where there is no such file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [_numbers(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error):
        rows = None
    if rows is None or not all(math.isfinite(row.get("epoch", 0.0)) for row in rows):
        remark(f"{path}: damaged; the page goes without its curves")
        return []
    return rows


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value}
