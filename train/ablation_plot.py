"""A picture of a comparison: accuracy by consensus, and by number of segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.plots import new_figure, save_figure


def plot_ablation(
    accuracies: Mapping[tuple[str, int], Sequence[float]], path: Path, title: str
) -> None:
    """Draw accuracies by consensus and by number of segments: the mean, and each split as a dot.

    Args:
        accuracies: Of every split, by consensus and number of segments.
        path: PNG to write.
        title: Above the picture.
    """
    names = list(dict.fromkeys(name for name, _ in accuracies))
    numbers = sorted({number for _, number in accuracies})
    by_number = {n: [name for name in names if (name, n) in accuracies] for n in numbers}
    by_name = {name: [n for n in numbers if (name, n) in accuracies] for name in names}
    compared = [n for n in numbers if len(by_number[n]) > 1]
    lines = [name for name in names if len(by_name[name]) > 1]
    if not compared and not lines:
        compared = numbers[:1]
    number_of_panels = len(compared) + bool(lines)
    figure, subplots = new_figure(1 + 5 * number_of_panels, 4.2)
    panels = list(subplots(1, number_of_panels, squeeze=False, sharey=True)[0])
    for axes, number in zip(panels, compared):
        for place, name in enumerate(by_number[number]):
            shares = 100 * np.array(accuracies[name, number])
            axes.bar(place, shares.mean(), color="tab:blue", alpha=0.45)
            _dots(axes, place, shares)
        axes.set_xticks(range(len(by_number[number])), by_number[number])
        axes.set_title(f"consensus, {number} segment{'s' if number > 1 else ''}", fontsize=11)
    for name in lines:
        axes, parts = panels[-1], [100 * np.array(accuracies[name, n]) for n in by_name[name]]
        (line,) = axes.plot(by_name[name], [part.mean() for part in parts], label=name)
        for number, part in zip(by_name[name], parts if len(lines) == 1 else ()):
            _dots(axes, number, part, line.get_color(), width=0.15)
        axes.set_xticks(numbers)
        axes.set_xlabel("segments")
        axes.set_title("number of segments", fontsize=11)
        axes.legend(loc="lower right")
    for axes in panels:
        axes.set_ylim(0, 103)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("top-1 accuracy, %; dots are splits")
    figure.suptitle(title)
    save_figure(figure, path)


def _dots(
    axes: Any, place: float, values: np.ndarray, color: str = "black", width: float = 0.3
) -> None:
    """Draw values beside each other around a place, so that equal ones are seen."""
    offsets = (np.arange(len(values)) - (len(values) - 1) / 2) * width / max(len(values), 1)
    axes.plot(place + offsets, values, "o", color=color, markersize=4)
