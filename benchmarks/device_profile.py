"""Where the time of steps goes on a device: its largest operators, and when it does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_MOST = 15  # operators and gaps that are told of

Span = tuple[str, float, float]  # name, begin and end in microseconds


def profiled(run: Callable[[], Any], device: torch.device) -> dict[str, Any]:
    """Return what was found while something ran.

    Args:
        run: Some steps, up to the end of the last one.
        device: That computes.

    Returns:
        ``operators`` by the time that the device spent in what they began, on a GPU its ``kernels``
        likewise, ``span_ms`` from the first to the last thing that the stream that computes did,
        ``idle_share`` of it, and the largest ``gaps`` in it with what came before and after. On a
        CPU, that of the thread with the most work.
    """
    is_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as profiler:
        run()
    real = [one for one in profiler.key_averages() if not getattr(one, "is_user_annotation", False)]
    found = {"operators": _largest(one for one in real if one.device_type == DeviceType.CPU)}
    if is_gpu:
        found["kernels"] = _largest(one for one in real if one.device_type == DeviceType.CUDA)
    kind = DeviceType.CUDA if is_gpu else DeviceType.CPU
    by_stream: dict[Any, list[Span]] = {}
    for event in profiler.events():
        if event.device_type == kind and not getattr(event, "is_user_annotation", False):
            stream = event.device_resource_id if is_gpu else event.thread
            span = (event.name, event.time_range.start, event.time_range.end)
            by_stream.setdefault(stream, []).append(span)
    busiest = max(
        by_stream.values(),
        key=lambda spans: sum(end - begin for _, begin, end in spans),
        default=[],  # of a GPU whose counters may not be read
    )
    return {**found, **idleness(busiest)}


def _largest(averages: Iterable[Any]) -> list[dict[str, Any]]:
    """Return what took most of the device's time by itself, and its share of all of these."""
    timed = [(one.self_device_time_total or 0.0, one) for one in averages]
    if not any(time for time, _ in timed):  # the device is this processor
        timed = [(one.self_cpu_time_total, one) for _, one in timed]
    whole = sum(time for time, _ in timed)
    return [
        {"name": one.key, "calls": one.count, "ms": time / 1000, "share": time / whole}
        for time, one in sorted(timed, key=lambda pair: -pair[0])[:_MOST]
        if time > 0
    ]


def idleness(spans: Sequence[Span]) -> dict[str, Any]:
    """Return how long something took from end to end, and when nothing of it went on.

    Examples:
        >>> found = idleness([("a", 0, 1000), ("b", 500, 2000), ("c", 3000, 4000)])
        >>> found["span_ms"], found["idle_share"]
        (4.0, 0.25)
        >>> found["gaps"]
        [{'ms': 1.0, 'after': 'b', 'before': 'c'}]
    """
    if not spans:
        return {"span_ms": 0.0, "idle_share": 0.0, "gaps": []}
    ordered = sorted(spans, key=lambda span: (span[1], span[2]))
    gaps, (last, begin, busy_until) = [], ordered[0]
    for name, start, end in ordered[1:]:
        if start > busy_until:
            gaps.append({"ms": (start - busy_until) / 1000, "after": last, "before": name})
        if end > busy_until:
            last, busy_until = name, end
    span = (busy_until - begin) / 1000
    idle = sum(gap["ms"] for gap in gaps)
    return {
        "span_ms": span,
        "idle_share": idle / span if span else 0.0,
        "gaps": sorted(gaps, key=lambda gap: -gap["ms"])[:_MOST],
    }
