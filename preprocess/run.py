"""One extraction as others see it: shown while it runs, logged, and reported of at its end."""

from __future__ import annotations

import os
import platform
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import av
import cv2

from preprocess.devices import Device, devices_text
from preprocess.executor import default_workers
from preprocess.flow_report import FlowFacts, FlowTally
from preprocess.job import JobReport, VideoReport
from preprocess.metrics import exposed
from preprocess.report import RunReport, write_report
from preprocess.run_log import RunLog
from preprocess.tally import Tally
from preprocess.work import Options, Work
from tsn_core.errors import TSNError
from tsn_core.version import __version__


class Observer(Protocol):
    """Is told what a run does, by several threads at a time."""

    def video(self, video: VideoReport) -> None:
        """See a video that is through."""

    def shard(self, report: JobReport) -> None:
        """See a shard that is finished."""


class Run:
    """Tells all observers of one run; is one itself.

    Attributes:
        tally: Its counts.
    """

    def __init__(self, work: Work, options: Options, devices: Sequence[Device] = ()) -> None:
        """Begin the log.

        Args:
            work: What the run has to do.
            options: How.
            devices: Of this machine, that flow is computed on in batches.

        Raises:
            OutputError: It cannot be written.
        """
        settings, versions = _settings(options), _versions()
        if any(job.needs_device for job in work.jobs):
            settings["device"] = options.device
            settings["devices"] = devices_text(devices) or None
            versions["torch"] = version("torch")
        self._flow = FlowTally()
        self._root = work.root
        self.tally = Tally(
            sum(job.num_to_extract for job in work.jobs),
            Counter(target.path.parent.name for job in work.jobs for target in job.targets),
        )
        self._report = RunReport(work, settings, versions)
        self._log = RunLog(work.root, run=secrets.token_hex(4))
        self._observers: tuple[Observer, ...] = (
            self.tally,
            self._report,
            self._log,
            self._flow,
        )
        self._log.write(
            "run-start",
            dataset=work.manifest.dataset,
            videos=len(work.manifest.records),
            videos_to_extract=self.tally.counts.to_extract,
            shards_to_make=len(work.jobs),
            changed_sources=len(work.changed),
            modalities=[modality.folder for modality in work.modalities],
            settings=settings,
            versions=versions,
            host=platform.node(),
            process=os.getpid(),
        )

    def video(self, video: VideoReport) -> None:
        """Tell of a video that is through.

        Raises:
            OutputError: The log cannot be written.
        """
        for observer in self._observers:
            observer.video(video)

    def shard(self, report: JobReport) -> None:
        """Tell of a shard that is finished.

        Raises:
            OutputError: The log cannot be written.
        """
        for observer in self._observers:
            observer.shard(report)

    def removed(self, path: Path) -> None:
        """Tell of a shard that was removed because the dataset no longer has it.

        Raises:
            OutputError: The log cannot be written.
        """
        self._report.removed(path)
        self._log.write("shard-removed", modality=path.parent.name, file=path.name)

    @property
    def flow(self) -> FlowFacts | None:
        """How its flow in batches has been computed until now, if any was."""
        return self._flow.facts(self.tally.counts.seconds)

    def end(self, status: str, reason: str | None = None) -> None:
        """Write the report and the last line of the log.

        Raises:
            OutputError: One of them cannot be written.
        """
        content = self._report.content(status, reason, self.tally.counts)
        content["flow"] = None if self.flow is None else self.flow.content()
        try:
            facts = ("status", "reason", "seconds", "videos", "failures_by_stage", "flow")
            self._log.write("run-end", **{name: content[name] for name in facts})
        finally:
            try:
                self._log.close()
            finally:
                write_report(content, self._root)


@contextmanager
def observed(work: Work, options: Options, devices: Sequence[Device] = ()) -> Iterator[Run]:
    """Keep log, report and metrics of the run that the block is.

    Raises:
        OutputError: The log or the report cannot be written.
    """
    run = Run(work, options, devices)
    try:
        with exposed(options.metrics, work.manifest.dataset, run.tally):
            yield run
    except BaseException as error:
        with suppress(TSNError):  # the first error counts
            run.end(*_outcome(error))
        raise
    run.end("finished")


def _outcome(error: BaseException) -> tuple[str, str]:
    """Return status and reason of a run that did not finish."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted by the user or a signal"
    text = " ".join(str(error).split())
    if isinstance(error, TSNError):
        return "failed", text
    return "failed", f"{type(error).__name__}: {text}"


def _settings(options: Options) -> dict[str, Any]:
    return {
        "limits": asdict(options.limits),
        "isolated": options.isolated,
        "cores": default_workers(),
        "command": {name: _plain(value) for name, value in options.command.items()},
    }


def _plain(value: Any) -> Any:
    """Return a value of an option as JSON can hold it."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def _versions() -> dict[str, str]:
    return {
        "package": __version__,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        "av": av.__version__,
    }
