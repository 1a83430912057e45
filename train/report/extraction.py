"""What the extraction left beside the shards that the runs were trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.report.files import Remark, read_lines, read_object
from tsn_core.errors import TSNError
from tsn_core.index import read_index
from tsn_core.location import location
from tsn_core.shard_reader import Shard
from tsn_core.shard_set import ShardSet

FAILURE_COLUMNS = ("name", "stage", "reason", "modalities", "command")


@dataclass(frozen=True)
class Extraction:
    """One dataset's folder of shards.

    Attributes:
        root: The folder.
        report: Content of its ``report.json``; empty where there is none.
        failures: Rows of texts by ``FAILURE_COLUMNS``.
        stages: How many failed where, the most first.
    """

    root: str
    report: dict[str, Any]
    failures: list[list[str]]
    stages: list[tuple[str, int]]

    @property
    def counts(self) -> list[tuple[str, str]]:
        """What the report counts, as texts; videos first."""
        videos = self.report.get("videos")
        found = list(videos.items()) if isinstance(videos, Mapping) else []
        return [(str(name).replace("_", " "), str(value)) for name, value in found]


@dataclass(frozen=True)
class ShardRecord:
    """The shards of one run, as they are now.

    Attributes:
        folder: Where they lie.
        digest: What they are known by now; None where they cannot be read.
        modality: How their units are stored.
        sampling: Which snippets they hold.
        versions: That wrote the first of them.
    """

    folder: str
    digest: str | None
    modality: dict[str, Any]
    sampling: dict[str, Any]
    versions: dict[str, str]


def extractions(configs: Sequence[Mapping[str, Any]], remark: Remark) -> list[Extraction]:
    """Return what the extractions of the runs' datasets tell, each folder once."""
    roots = dict.fromkeys(str(c["shards"]) for c in configs if isinstance(c.get("shards"), str))
    found = []
    for root in roots:
        try:
            folder = location(root)
            there = folder.is_dir()
        except TSNError as error:
            remark(f"{root}: {error}")
            continue
        if not there:
            remark(f"{root}: the shards are not there any more: no pictures, no failures")
            continue
        lines = read_lines(folder / "failures.jsonl", remark)
        failures = [[_text(line.get(column)) for column in FAILURE_COLUMNS] for line in lines]
        stages = Counter(row[1] for row in failures).most_common()
        found.append(
            Extraction(root, read_object(folder / "report.json", remark), failures, stages)
        )
    return found


def shard_record(config: Mapping[str, Any]) -> ShardRecord | None:
    """Return what the shards of a run are now; None if its settings do not name any."""
    root, name = config.get("shards"), config.get("modality_folder")
    if not isinstance(root, str) or not isinstance(name, str):
        return None
    try:
        folder = location(root) / name
        shards = ShardSet(folder)
        first = read_index(folder).shards[:1]
        versions = Shard(folder / first[0].file).versions if first else {}
    except TSNError:
        return ShardRecord(f"{root}/{name}", None, {}, {}, {})
    stored = vars(shards.modality)
    return ShardRecord(str(folder), shards.digest, dict(stored), shards.sampling, versions)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
