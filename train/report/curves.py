"""Curves of a training run as the shapes of small charts, for a template to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.bottleneck import step_shares

WIDTH, HEIGHT = 360, 210  # px of a chart's own coordinates
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 28
_TICKS = 5
_MOST_POINTS = 600  # of one curve: more than there are px


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: Of the videos it is of; empty where there is only one curve.
        style: ``train`` or ``val``.
        points: As an SVG polyline takes them.
        values: Texts for the reader, one for each epoch.
    """

    name: str
    style: str
    points: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        title: What it shows.
        y_ticks: (y, text) of the grid's lines.
        x_ticks: (x, text) of some epochs.
        series: Its curves.
        epochs: Numbers of all epochs.
        xs: Where they lie.
    """

    title: str
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    series: tuple[Series, ...]
    epochs: tuple[int, ...]
    xs: tuple[float, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def charts(rows: Sequence[dict[str, float]], val_subset: str) -> list[Chart]:
    """Return the charts of loss, accuracy, learning rate and time over the epochs.

    Args:
        rows: Of ``metrics.csv``, in order.
        val_subset: What the validation videos are called.
    """
    if not rows:
        return []
    step = math.ceil(len(rows) / _MOST_POINTS)
    rows = rows[::step]
    train, val = ("train", "train"), (val_subset, "val")
    found = [
        _chart(rows, "loss", {train: "train_loss", val: "val_loss"}, low=0.0),
        _chart(
            rows,
            "top-1 accuracy, %",
            {train: "train_top1", val: "val_top1"},
            factor=100,
            low=0.0,
            high=100.0,
        ),
        _chart(rows, "learning rate", {("", "train"): "learning_rate"}, logarithmic=True),
        _chart(
            [_step_shares(row) for row in rows],
            "a step's time, %",
            {("waiting", "val"): "waiting", ("computing", "train"): "computing"},
            factor=100,
            low=0.0,
            high=100.0,
        ),
    ]
    return [chart for chart in found if chart is not None]


def _step_shares(row: dict[str, float]) -> dict[str, float]:
    waiting, _, computing = step_shares([row]) or (math.nan,) * 3
    return {"epoch": row.get("epoch", math.nan), "waiting": waiting, "computing": computing}


def _chart(
    rows: Sequence[dict[str, float]],
    title: str,
    columns: dict[tuple[str, str], str],
    *,
    factor: float = 1,
    low: float | None = None,
    high: float | None = None,
    logarithmic: bool = False,
) -> Chart | None:
    curves = {}
    for key, column in columns.items():
        values = [row.get(column, math.nan) * factor for row in rows]
        curves[key] = [v if not logarithmic or v > 0 else math.nan for v in values]
    finite = [v for values in curves.values() for v in values if math.isfinite(v)]
    if not finite:
        return None
    if logarithmic:
        low, high = _decades(min(finite), max(finite))
        ticks = [
            10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)
        ]
        ticks = ticks[:: math.ceil(len(ticks) / _TICKS)]
    else:
        low = min(finite) if low is None else low
        ticks = tick_values(low, max(finite) if high is None else high)
        high = max(ticks[-1], max(finite))
    bottom, top = HEIGHT - _BOTTOM, _TOP
    scale = math.log10 if logarithmic else float

    def y(value: float) -> float:
        share = (scale(value) - scale(low)) / (scale(high) - scale(low))
        return round(bottom - share * (bottom - top), 1)

    epochs = [int(row.get("epoch", number)) for number, row in enumerate(rows, start=1)]
    span = max(epochs[-1] - epochs[0], 1)
    reach = WIDTH - _LEFT - _RIGHT
    xs = [round(_LEFT + reach * (epoch - epochs[0]) / span, 1) for epoch in epochs]
    return Chart(
        title=title,
        y_ticks=tuple((y(tick), _short(tick)) for tick in ticks),
        x_ticks=tuple(_epoch_ticks(epochs, xs)),
        series=tuple(
            Series(
                name=name,
                style=style,
                points=" ".join(
                    f"{x:g},{y(value):g}" for x, value in zip(xs, values) if math.isfinite(value)
                ),
                values=tuple(_read(value) for value in values),
            )
            for (name, style), values in curves.items()
        ),
        epochs=tuple(epochs),
        xs=tuple(xs),
    )


def tick_values(low: float, high: float) -> list[float]:
    """Return a few round numbers from ``low`` up, the last of which is ``high`` or a bit more.

    Examples:
        >>> tick_values(0, 1.7), tick_values(0, 100), tick_values(3, 3)
        ([0.0, 0.5, 1.0, 1.5, 2.0], [0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [3.0, 4.0])
    """
    span = high - low
    if not span > 0:
        return [float(low), float(low) + 1]
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= _TICKS)
    first = math.floor(low / step)
    last = math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _decades(low: float, high: float) -> tuple[float, float]:
    """Return powers of ten around some positive numbers, two different ones."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return 10.0**first, 10.0 ** max(last, first + 1)


def _epoch_ticks(epochs: Sequence[int], xs: Sequence[float]) -> list[tuple[float, str]]:
    places = dict(zip(epochs, xs))
    chosen = [int(tick) for tick in tick_values(epochs[0] - 1, epochs[-1])]
    ticks = [(places[epoch], str(epoch)) for epoch in chosen if epoch in places]
    return ticks or [(xs[0], str(epochs[0]))]


def _short(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if 0 < abs(value) < 1e-2 else f"{value:g}"


def _read(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def hover_data(chart: Chart) -> dict[str, Any]:
    """Return what the page's script needs to read a chart out, fit for JSON."""
    return {
        "epochs": chart.epochs,
        "xs": chart.xs,
        "series": [{"name": series.name, "values": series.values} for series in chart.series],
    }
