"""``log.jsonl``: what happened in the extractions of a dataset, one JSON object a line."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from preprocess.job import JobReport, VideoReport
from tsn_core.atomic import unwritable

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
    """Appends to the log beside a dataset's shards; threads may share it.

    Every line is written at once, so that what a killed run has logged is there; the line that it
    died in stays a line of its own.
    """

    def __init__(self, root: Path, run: str, most_bytes: int = LOG_BYTES) -> None:
        """Open the log.

        Args:
            root: Folder of the dataset's shards.
            run: Stands in every line.
            most_bytes: Of the file, before another one is begun.

        Raises:
            OutputError: It cannot be written.
        """
        self.path = root / LOG_NAME
        self._run = run
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._torn = False
        with self._lock:
            try:
                self._open()
            except OSError as error:
                raise unwritable(self.path, error) from error

    def write(self, event: str, **fields: Any) -> None:
        """Append a line; fields that are None are left out.

        Raises:
            OutputError: It cannot be written.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        with self._lock:
            if self._file is None:  # threads may still be at work when the run has ended
                return
            now = utc_text(datetime.now(timezone.utc))
            line = {"time": now, "run": self._run, "event": event, **given}
            text = json.dumps(line, ensure_ascii=False, default=str) + "\n"
            try:
                self._append(text.encode("utf-8", "backslashreplace"))  # as JSON escapes are
            except OSError as error:
                raise unwritable(self.path, error) from error

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
        """Write no more."""
        with self._lock:
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
                self._file = None

    def _open(self) -> None:
        self._file = self.path.open("ab", buffering=0)
        self._torn = False
        if self._file.tell():
            with self.path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                self._torn = file.read(1) != b"\n"

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        if self._file.tell() and self._file.tell() + len(line) > self._most_bytes:
            self._file.close()
            self.path.replace(self.path.with_name(f"{LOG_NAME}.1"))
            self._open()
        if self._torn:
            line = b"\n" + line
        while line:
            written = self._file.write(line)
            line = line[written:]
            self._torn = bool(line)
