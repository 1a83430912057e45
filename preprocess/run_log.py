"""``log.jsonl``: what happened in the extractions of a dataset, one JSON object a line."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from preprocess.job import JobReport, VideoReport
from preprocess.log_file import LogFile, open_log
from tsn_core.atomic import unwritable
from tsn_core.errors import TSNError

LOG_NAME = "log.jsonl"
LOG_BYTES = 64_000_000  # about 300,000 videos; then the file is set aside as log.jsonl.1


def utc_text(moment: datetime) -> str:
    """Return a moment in UTC, as ISO 8601.

    Examples:
        >>> utc_text(datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc))
        '2026-03-01T12:30:00.000Z'
    """
    text = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class RunLog:
    """Appends to the log beside a dataset's shards; threads may share it."""

    def __init__(self, root: Path, run: str, most_bytes: int = LOG_BYTES) -> None:
        """Open the log.

        Args:
            root: Folder of the dataset's shards.
            run: Stands in every line.
            most_bytes: Of the file, before another one is begun.

        Raises:
            OutputError: It cannot be written.
            StoreError: The object store does not answer as it should.
        """
        self.path = root / LOG_NAME
        self._run = run
        self._lock = threading.Lock()
        with _told(self.path):
            self._file: LogFile | None = open_log(self.path, most_bytes)

    def write(self, event: str, **fields: Any) -> None:
        """Append a line; fields that are None are left out.

        Raises:
            OutputError: It cannot be written.
            StoreError: The object store does not take it.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        with self._lock:
            if self._file is None:  # threads may still be at work when the run has ended
                return
            now = utc_text(datetime.now(timezone.utc))
            line = {"time": now, "run": self._run, "event": event, **given}
            text = json.dumps(line, ensure_ascii=False, default=str) + "\n"
            with _told(self.path):
                # a name that is no Unicode: as JSON escapes it
                self._file.append(text.encode("utf-8", "backslashreplace"))

    def video(self, video: VideoReport) -> None:
        """Log a video that is through, and the processes that were lost with it."""
        for number, reason in enumerate(video.lost, start=1):
            self.write("video-retry", name=video.name, tries=number, reason=reason)
        self.write(
            "video",
            name=video.name,
            result=video.result,
            stage=video.stage,
            reason=video.reason,
            note=video.note,
            seconds=round(video.seconds, 3),
            tries=video.tries,
            frames=video.num_frames,
            peak_mb=round(video.peak_bytes / 1e6, 1) or None,
        )

    def shard(self, report: JobReport) -> None:
        """Log a shard that is finished."""
        modalities = {
            folder: {
                "bytes": entry.num_bytes,
                "videos": entry.num_videos,
                "images": entry.num_images,
                "failures": entry.num_failures,
            }
            for folder, entry in report.entries.items()
        }
        seconds = round(report.seconds, 3)
        self.write("shard", number=report.number, seconds=seconds, modalities=modalities)

    def close(self) -> None:
        """Write no more.

        Raises:
            StoreError: The object store does not take the last lines.
        """
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn errors of the file system into one line for the user."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TSNError):
            raise
        raise unwritable(path, error) from error
