"""A forecast as aligned text, and as JSON."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from preprocess.forecast import TOGETHER, Forecast, Outlook
from preprocess.measurements import Survey
from preprocess.planning import Estimate
from tsn_core.listing import count

_WIDTH = 80
_MOST_FAILURES = 5  # named on the terminal
_WORDS = (
    "decode: to open a video, read the frames that are needed and resize them; make: to compute "
    "its images and encode them; memory: of each worker",
    "CPU time: of all cores together while all are busy",
)
_LAW_WORDS = {
    "video": "by the number of videos",
    "byte": "by the size of their files",
    "both": "by the number of videos and the size of their files",
}


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them.

    Examples:
        >>> [duration(seconds) for seconds in (0.0042, 9.31, 300, 5000, 1e6)]
        ['4.2 ms', '9.3 s', '5.0 min', '1.4 h', '278 h']
    """
    if seconds < 0.9995:
        return _number(seconds * 1000, "ms")
    if seconds < 100:
        return _number(seconds, "s")
    return _number(seconds / 60, "min") if seconds < 3600 else _number(seconds / 3600, "h")


def volume(num_bytes: float) -> str:
    """Return bytes in the unit that suits them.

    Examples:
        >>> [volume(num_bytes) for num_bytes in (800, 2.5e6, 19.14e9, 3e12)]
        ['0.8 kB', '2.5 MB', '19.1 GB', '3.0 TB']
    """
    for factor, unit in ((1e3, "kB"), (1e6, "MB"), (1e9, "GB")):
        if num_bytes < 1000 * factor:
            return _number(num_bytes / factor, unit)
    return _number(num_bytes / 1e12, "TB")


def _number(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:.1f} {unit}"


def percent(share: float) -> str:
    """Return a share as a whole number of percent with its sign; unknown ones as a question mark.

    Examples:
        >>> percent(0.034), percent(-0.5), percent(float("nan"))
        ('+3 %', '-50 %', '?')
    """
    return "?" if math.isnan(share) else f"{round(100 * share):+d} %"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"


def money(amount: float) -> str:
    """Return an amount with two decimals, or with two digits that count where it is small.

    Examples:
        >>> money(12.3456), money(0.0000331), money(0.0)
        ('12.35', '0.000033', '0.00')
    """
    decimals = 2 if amount <= 0 else max(2, 1 - math.floor(math.log10(amount)))
    return f"{amount:.{decimals}f}"


def _error(found: Estimate) -> str:
    return percent(found.relative_error).replace("+", "±")


def outlook_lines(
    survey: Survey, outlook: Outlook, num_cores: int, price: float | None
) -> list[str]:
    """Return the forecast as lines of text.

    They are at most 80 columns wide for two numbers of workers, without prices.

    Args:
        survey: What was measured.
        outlook: What is foretold from it.
        num_cores: Of this machine.
        price: Of a core for one hour, in any currency; None leaves costs out.
    """
    remarks = [
        *_check_lines(survey, outlook),
        *_machine_lines(survey, outlook, num_cores),
        *_failure_lines(survey, outlook),
    ]
    wrapped = [line for remark in remarks for line in _wrapped(remark)]
    return [*_costs_table(outlook), "", *_workers_table(outlook, price), "", *wrapped]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _costs_table(outlook: Outlook) -> list[str]:
    rows = [
        (
            row.name,
            duration(row.decode_seconds),
            duration(row.own_seconds),
            duration(row.decode_seconds + row.own_seconds),
            f"{row.peak_bytes / 1e6:.0f} MB",
        )
        for row in outlook.rows
    ]
    heads = ("one video, one worker", "decode", "make", "both", "memory")
    return _aligned([heads, *rows])


def _workers_table(outlook: Outlook, price: float | None) -> list[str]:
    heads = ["all videos", "shards", "error"]
    heads += [count(schedule.num_workers, "worker") for schedule in outlook.rows[0].schedules]
    heads += ["CPU time", "error"]
    if price is not None:
        heads += ["price", "a video"]
    table = [tuple(heads)]
    for row in outlook.rows:
        hours = row.core_seconds / 3600
        cells = [row.name, volume(row.num_bytes.total), _error(row.num_bytes)]
        cells += [duration(schedule.seconds) for schedule in row.schedules]
        cells += [duration(row.core_seconds), _error(row.seconds)]
        if price is not None:
            cells += [money(hours * price), money(hours * price / outlook.num_videos)]
        table.append(tuple(cells))
    return _aligned(table)


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]
        ).rstrip()
        for row in table
    ]


def _check_lines(survey: Survey, outlook: Outlook) -> list[str]:
    last = outlook.rows[-1]
    lines = [
        *_WORDS,
        f"error: of the number left of it, a 90 % interval from "
        f"{count(len(survey.probes), 'measured video')}; foretold "
        f"{_LAW_WORDS[last.seconds.kind]}",
    ]
    if not math.isnan(last.seconds.spread):
        lines.append(
            "each measured video foretold from the others: time "
            f"{percent(last.seconds.left_out_error)}, shards "
            f"{percent(last.num_bytes.left_out_error)} in sum; time of a single one "
            f"{percent(last.seconds.spread).replace('+', '±')}"
        )
    if last.check is None:
        lines.append("no other video is left to check the estimate with")
    else:
        lines.append(
            f"measured error on {count(len(survey.checks), 'other video')}, extracted in full: "
            f"time {percent(last.check.seconds)}, shards {percent(last.check.num_bytes)}"
        )
    thinned = [
        f"{modality.folder} 1 in {every}"
        for modality, every in zip(survey.modalities, survey.every)
        if every > 1
    ]
    if thinned:
        lines.append(f"to save time, not all images of measured videos: {', '.join(thinned)}")
    return lines


def _machine_lines(survey: Survey, outlook: Outlook, num_cores: int) -> list[str]:
    last = outlook.rows[-1]
    lines = []
    if survey.crowd.num_workers > 1:
        lines.append(
            f"{survey.crowd.num_workers} workers at once, one on each core: each at "
            f"{_share(last.efficiency)} of the speed of one alone, measured"
        )
    beyond = [s for s in last.schedules if s.num_workers > num_cores]
    if beyond:
        cores = count(num_cores, "core")
        lines.append(
            f"more than {count(num_cores, 'worker')}: taken to run on more machines like this one "
            f"({cores}), reading and writing as fast as it does"
        )
    starts = [duration(min(r.start_seconds for r in outlook.rows))]
    starts.append(duration(max(r.start_seconds for r in outlook.rows)))
    lines.append(f"in these times, to start each worker: {' to '.join(dict.fromkeys(starts))}")
    for schedule in last.schedules:
        if schedule.num_workers > outlook.num_shards:
            lines.append(
                f"{schedule.num_workers} workers: only {count(outlook.num_shards, 'shard')} to "
                "share; a smaller --videos-per-shard makes more"
            )
        elif schedule.idle_share > 0.1:
            lines.append(
                f"{schedule.num_workers} workers: {_share(schedule.idle_share)} of their time is "
                "waiting for the last shard; a smaller --videos-per-shard makes it less"
            )
    fastest = last.schedules[-1]
    lines.append(
        f"{count(fastest.num_workers, 'worker')}, {last.name}: "
        f"{volume(fastest.bytes_per_second)}/s to write into --out"
    )
    if outlook.busy_share is not None:
        lines.append(
            f"other programs had the cores for {_share(outlook.busy_share)} of the time while this "
            "was measured; these are times without them"
        )
    return lines


def _failure_lines(survey: Survey, outlook: Outlook) -> list[str]:
    lines = []
    failed = len(survey.failures)
    if failed:
        low, high = map(round, outlook.failed_interval)
        expected = (
            f": expect about {round(outlook.failed)} of {outlook.num_videos} to ({low} to {high})"
        )
        lines.append(
            f"{failed} of {count(survey.num_tried, 'tried video')} failed"
            f"{expected if survey.num_tried < outlook.num_videos else ''}; the numbers above leave "
            "them out"
        )
    lines += [f"  {f.name}: {f.reason}" for f in survey.failures[:_MOST_FAILURES]]
    if len(survey.failures) > _MOST_FAILURES:
        lines.append(f"  … and {len(survey.failures) - _MOST_FAILURES} more")
    return lines


def outlook_content(
    survey: Survey, outlook: Outlook, num_cores: int, price: float | None
) -> dict[str, Any]:
    """Return the forecast as JSON holds it; what is unknown is null."""
    rows = []
    for row in outlook.rows:
        content: dict[str, Any] = {
            "name": row.name,
            "what": "all" if row.name == TOGETHER else "one modality",
        }
        for field in fields(Forecast):
            value = getattr(row, field.name)
            if isinstance(value, Estimate):
                value = _estimate_content(value)
            elif field.name == "schedules":
                value = [asdict(schedule) for schedule in value]
            elif field.name == "check" and value is not None:
                value = {"seconds": value.seconds, "num_bytes": value.num_bytes}
            content[field.name] = value
        if price is not None:
            content["price"] = row.core_seconds / 3600 * price
        rows.append(content)
    return _known(
        {
            "cores": num_cores,
            "videos": outlook.num_videos,
            "shards": outlook.num_shards,
            "measured_videos": [survey.sources[probe.place].name for probe in survey.probes],
            "checked_videos": [survey.sources[probe.place].name for probe in survey.checks],
            "failures": [asdict(failure) for failure in survey.failures],
            "failed": outlook.failed,
            "failed_interval": list(outlook.failed_interval),
            "busy_share": outlook.busy_share,
            "measuring_seconds": survey.seconds,
            "price_per_core_hour": price,
            "modalities": rows,
        }
    )


def _estimate_content(found: Estimate) -> dict[str, Any]:
    names = ("total", "low", "high", "kind", "left_out_error", "spread")
    return {**{name: getattr(found, name) for name in names}, **asdict(found.law)}


def _known(value: Any) -> Any:
    """Return JSON content with null for every number that is not known."""
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
