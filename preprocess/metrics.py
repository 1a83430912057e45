"""A file for the textfile collector of Prometheus's node exporter."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from preprocess.background import in_background
from preprocess.tally import Counts, Tally
from tsn_core.errors import InputError

_SUFFIX = ".prom"
_SECONDS = 15.0
_LARGEST_BYTES = 1_000_000  # of an older file
_LAST_SUCCESS = "tsn_extract_last_success_timestamp_seconds"


def check_metrics_path(path: Path) -> None:
    """Refuse a name that the collector would pass over.

    Raises:
        InputError: It does not end in .prom.
    """
    if path.suffix != _SUFFIX:
        raise InputError(
            f"--metrics {path}: a name ending in {_SUFFIX} expected, as Prometheus's textfile "
            f"collector reads no other; got {path.name!r}"
        )


class MetricsFile:
    """The numbers of one extraction in a file, written again and again.

    A file that cannot be written costs a warning and nothing else.
    """

    def __init__(self, path: Path, dataset: str, tally: Tally) -> None:
        """Take over from an older file when an extraction last succeeded.

        Args:
            path: Of the file.
            dataset: A label of every number.
            tally: Where the numbers come from.
        """
        self._path = path
        self._dataset = dataset
        self._tally = tally
        self._running = True
        self._warned = False
        self._last_success = _last_success(path, dataset)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers of this moment; called by the registry."""
        yield from _families(self._dataset, self._tally.counts)
        running = GaugeMetricFamily(
            "tsn_extract_running", "1 while the extraction goes on, else 0.", labels=["dataset"]
        )
        running.add_metric([self._dataset], float(self._running))
        yield running
        if self._last_success is not None:
            last = GaugeMetricFamily(
                _LAST_SUCCESS,
                "When an extraction last finished.",
                labels=["dataset"],
            )
            last.add_metric([self._dataset], self._last_success)
            yield last

    def write(self) -> None:
        """Write the file as it is now to be."""
        try:
            write_to_textfile(str(self._path), self._registry)
        except (OSError, ValueError) as error:
            if not self._warned:
                self._warned = True
                reason = getattr(error, "strerror", None) or error
                warnings.warn(
                    f"{self._path}: metrics cannot be written: {reason}; the extraction goes on",
                    stacklevel=2,
                )

    def end(self, success: bool) -> None:
        """Write the file for the last time."""
        self._running = False
        if success:
            self._last_success = time.time()
        self.write()

    def loop(self, stop: threading.Event) -> None:
        """Write the file again and again."""
        while True:
            self.write()
            if stop.wait(_SECONDS):
                return


@contextmanager
def exposed(path: Path | None, dataset: str, tally: Tally) -> Iterator[None]:
    """Keep a file of metrics up to date until the block ends; do nothing without a path."""
    if path is None:
        yield
        return
    file = MetricsFile(path, dataset, tally)
    success = False
    try:
        with in_background(file.loop):
            yield
        success = True
    finally:
        file.end(success)


def _families(dataset: str, counts: Counts) -> Iterator[Metric]:
    def family(
        kind: Callable[..., Metric],
        name: str,
        text: str,
        values: Mapping[str, float],
        label: str | None = None,
    ) -> Metric:
        made = kind(f"tsn_extract_{name}", text, labels=["dataset", *[label] * bool(label)])
        for value, number in values.items():
            made.add_metric([dataset, *[value] * bool(label)], number)  # type: ignore[attr-defined]
        return made

    counter, gauge = CounterMetricFamily, GaugeMetricFamily
    results = {name: getattr(counts, name) for name in ("extracted", "failed", "copied")}
    yield family(counter, "videos", "Videos that are through.", results, "result")
    to_do = {"": counts.to_extract - counts.through}
    yield family(gauge, "videos_to_do", "Videos that are still to be extracted.", to_do)
    yield family(counter, "retries", "Videos tried once more.", {"": counts.retried})
    yield family(counter, "failures", "Videos that failed.", dict(counts.stages), "stage")
    modalities = counts.modalities.items()
    for name, text, attribute in (
        ("shards", "Shards finished.", "shards"),
        ("bytes", "Bytes of the shards finished.", "num_bytes"),
    ):
        values = {folder: getattr(modality, attribute) for folder, modality in modalities}
        yield family(counter, name, text, values, "modality")
    yield family(gauge, "videos_per_second", "Rate of late.", {"": counts.rate})


def _last_success(path: Path, dataset: str) -> float | None:
    """Return what an older file says of the dataset."""
    with suppress(Exception):  # anything may stand there, and the parser has no error of its own
        if path.stat().st_size <= _LARGEST_BYTES:
            for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
                for sample in family.samples:
                    if sample.name == _LAST_SUCCESS and sample.labels.get("dataset") == dataset:
                        return float(sample.value)
    return None
