"""``report.json``: what the last extraction of a dataset did, written at its end."""

from __future__ import annotations

import heapq
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from preprocess.job import JobReport, VideoReport
from preprocess.run_log import utc_text
from preprocess.tally import Counts
from preprocess.work import Work
from tsn_core.atomic import write_text
from tsn_core.index import ShardEntry

REPORT_NAME = "report.json"
_FORMAT, _VERSION = "tsn-report", 1
_SLOWEST = 10


class RunReport:
    """Gathers what a run does; threads may share it."""

    def __init__(
        self, work: Work, settings: Mapping[str, Any], versions: Mapping[str, Any]
    ) -> None:
        """Begin, now.

        Args:
            work: What the run has to do.
            settings: Of the run, fit for JSON.
            versions: Of what it runs with.
        """
        self._work = work
        self._settings = settings
        self._versions = versions
        self._started = datetime.now(timezone.utc)
        self._lock = threading.Lock()
        self._slowest: list[tuple[float, str, int]] = []  # a heap
        self._peak_bytes = 0
        self._made: dict[tuple[str, int], ShardEntry] = {}
        self._removed: list[str] = []  # folders, one for each shard

    def video(self, video: VideoReport) -> None:
        """Take note of a video that is through."""
        with self._lock:
            self._peak_bytes = max(self._peak_bytes, video.peak_bytes)
            if video.tries:
                heapq.heappush(self._slowest, (video.seconds, video.name, video.num_frames))
                if len(self._slowest) > _SLOWEST:
                    heapq.heappop(self._slowest)

    def shard(self, report: JobReport) -> None:
        """Take note of a shard that is finished."""
        with self._lock:
            for folder, entry in report.entries.items():
                self._made[folder, report.number] = entry

    def removed(self, path: Path) -> None:
        """Take note of a shard that the dataset no longer has."""
        with self._lock:
            self._removed.append(path.parent.name)

    def content(self, status: str, reason: str | None, counts: Counts) -> dict[str, Any]:
        """Return the report.

        Args:
            status: ``finished``, ``failed`` or ``interrupted``.
            reason: Why it did not finish, one line.
            counts: At the end.
        """
        with self._lock:
            return {
                "format": _FORMAT,
                "version": _VERSION,
                "dataset": self._work.manifest.dataset,
                "status": status,
                "reason": reason,
                "started": utc_text(self._started),
                "ended": utc_text(datetime.now(timezone.utc)),
                "seconds": round(counts.seconds, 3),
                "videos_per_second": round(counts.through / counts.seconds, 3)
                if counts.seconds > 0
                else 0.0,
                "videos": {
                    "in_dataset": len(self._work.manifest.records),
                    "to_extract": counts.to_extract,
                    "extracted": counts.extracted,
                    "failed": counts.failed,
                    "copied": counts.copied,
                    "retried": counts.retried,
                    "noted": counts.noted,
                },
                "failures_by_stage": dict(counts.stages),
                "modalities": [self._modality(m.folder) for m in self._work.modalities],
                "slowest_videos": [
                    {"name": name, "seconds": round(seconds, 3), "frames": frames}
                    for seconds, name, frames in sorted(self._slowest, reverse=True)
                ],
                "peak_memory_mb": round(self._peak_bytes / 1e6, 1) or None,
                "changed_sources": sorted(self._work.changed),
                "settings": {
                    "modalities": [asdict(modality) for modality in self._work.modalities],
                    "plan": self._work.plan.to_dict(),
                    **self._settings,
                },
                "versions": dict(self._versions),
            }

    def _modality(self, folder: str) -> dict[str, Any]:
        made = [entry for (of, _), entry in self._made.items() if of == folder]
        kept = [entry for (of, _), entry in self._work.entries.items() if of == folder]
        there = made + kept
        return {
            "folder": folder,
            "shards_made": len(made),
            "shards_kept": len(kept),
            "shards_removed": self._removed.count(folder),
            "videos": sum(entry.num_videos for entry in there),
            "images": sum(entry.num_images for entry in there),
            "bytes": sum(entry.num_bytes for entry in there),
            "failures": sum(entry.num_failures for entry in there),
        }


def write_report(content: Mapping[str, Any], root: Path) -> None:
    """Write ``report.json`` into the folder of a dataset's shards.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(root / REPORT_NAME, json.dumps(content, indent=1, default=str) + "\n")
