"""``failures.jsonl``: every video of a dataset that could not be extracted, and why."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from preprocess.inventory import index_of, shard_paths
from tsn_core.atomic import write_text
from tsn_core.check import modality_folders
from tsn_core.errors import ShardError
from tsn_core.shard_reader import Shard

FAILURES_NAME = "failures.jsonl"


def write_failures(root: Path, data: Path | None) -> dict[str, dict[str, Any]]:
    """Write the failures that all shards of a dataset record, or remove the file.

    Args:
        root: Folder of the dataset's shards.
        data: Folder of the videos, for the command that tries one of them; None where there are
            no videos to try.

    Returns:
        The lines by name of the video: ``name``, ``stage``, ``reason``, ``modalities`` (folders)
        and, with ``data``, ``command``.
    """
    failures: dict[str, dict[str, Any]] = {}
    for folder in modality_folders(root):
        for path in _shards_with_failures(folder):
            try:
                tables = Shard(path).tables
            except ShardError:  # of a modality that this run does not make; verify finds it
                continue
            rows = zip(tables.failed_name, tables.failed_stage, tables.failed_reason)
            for name, stage, reason in rows:
                entry = {"name": name, "stage": stage, "reason": reason, "modalities": []}
                failures.setdefault(name, entry)["modalities"].append(folder.name)
    if data is not None:
        for name, entry in failures.items():
            entry["command"] = try_command(root, data, name)
    lines = [json.dumps(failures[name], ensure_ascii=False) + "\n" for name in sorted(failures)]
    path = root / FAILURES_NAME
    if lines:
        text = "".join(lines)  # in which a path that is no Unicode is as JSON escapes it
        write_text(path, text.encode("utf-8", "backslashreplace").decode())
    else:
        path.unlink(missing_ok=True)
    return failures


def try_command(root: Path, data: Path, name: str) -> str:
    """Return the command that extracts one video alone."""
    options = ["--data", str(data)]
    words = [*options, "--", name] if name.startswith("-") else [name, *options]
    return shlex.join(["tsn-preprocess", "try", str(root), *words])


def _shards_with_failures(folder: Path) -> list[Path]:
    """Return the shards of a folder that record failures; all where no index tells."""
    index = index_of(folder)
    if index is None:
        return list(shard_paths(folder).values())
    return [folder / entry.file for entry in index.shards if entry.num_failures]
