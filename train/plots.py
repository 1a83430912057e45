"""Pictures of a run and of a fusion: curves, confusion matrix, gain of classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsn_core.atomic import atomic_path

_LABELLED_CLASSES = 40  # with more, their names could not be read
_NUMBERED_CLASSES = 15  # with more, neither could the counts in the cells
_BARS = 110  # in one panel; of more classes, the middle ones are left out


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """Return a figure that needs no display, and its canvas is the file's alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG, atomically."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def plot_curves(
    rows: Sequence[dict[str, Any]], path: Path, title: str, val_subset: str = "val"
) -> None:
    """Draw loss, accuracy and learning rate over the epochs.

    Args:
        rows: Of ``metrics.csv``, in order.
        path: PNG to write.
        title: Above the picture.
        val_subset: What the validation videos are called.
    """
    figure, subplots = new_figure(14, 4.2)
    losses, accuracies, rates = subplots(1, 3)
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 20 else None
    for axes, what, factor in ((losses, "loss", 1), (accuracies, "top1", 100)):
        for subset, style, label in (("train", "-", "train"), ("val", "--", val_subset)):
            values = [row[f"{subset}_{what}"] * factor for row in rows]
            axes.plot(epochs, values, style, marker=marker, markersize=3, label=label)
        axes.legend()
    rates.plot(epochs, [row["learning_rate"] for row in rows], marker=marker, markersize=3)
    for axes in (losses, accuracies, rates):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    losses.set_ylabel("loss")
    losses.set_ylim(bottom=0)
    accuracies.set_ylabel("top-1 accuracy, %")
    accuracies.set_ylim(0, 102)
    rates.set_ylabel("learning rate at the end of the epoch")
    rates.set_yscale("log")
    figure.suptitle(title)
    save_figure(figure, path)


def plot_confusion(
    confusion: np.ndarray, class_names: Sequence[str], path: Path, title: str
) -> None:
    """Draw a confusion matrix, each row as shares of its class.

    Args:
        confusion: Counts (C, C), rows are true classes.
        class_names: By class id.
        path: PNG to write.
        title: Above the picture.
    """
    number = len(class_names)
    side = min(4 + 0.25 * number, 16)
    figure, subplots = new_figure(side + 1, side)
    axes = subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    if number <= _LABELLED_CLASSES:
        axes.set_xticks(range(number), class_names, rotation=90 if number > 6 else 30, ha="right")
        axes.set_yticks(range(number), class_names)
    if number <= _NUMBERED_CLASSES:
        for row, column in np.argwhere(confusion > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, str(confusion[row, column]), ha="center", va="center", color=color
            )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    save_figure(figure, path)


def plot_gains(
    gains: Mapping[str, np.ndarray], class_names: Sequence[str], path: Path, title: str
) -> None:
    """Draw how much each class gains by one test over another, one panel for each pair.

    Args:
        gains: Differences of class accuracies by what they are of, (C,); NaN leaves a class out.
        class_names: By class id.
        path: PNG to write.
        title: Above the picture.
    """
    number = max(min(len(class_names), _BARS), 1)
    bar = 0.3 if number <= 20 else 0.16  # inches
    figure, subplots = new_figure(5.5 * len(gains), 1.6 + bar * number)
    panels = subplots(1, len(gains), squeeze=False)[0]
    reach = 105 * max(np.nanmax(np.abs(values), initial=0.01) for values in gains.values())
    for axes, (name, values) in zip(panels, gains.items()):
        order = np.argsort(-values, kind="stable")[: int(np.isfinite(values).sum())]
        left_out = max(len(order) - _BARS, 0)
        if left_out:
            order = np.concatenate([order[: _BARS // 2], order[-(_BARS // 2) :]])
        points = 100 * values[order]
        colors = ["tab:blue" if value >= 0 else "tab:red" for value in points]
        axes.barh(range(len(order)), points, color=colors)
        axes.set_yticks(
            range(len(order)),
            [class_names[label] for label in order],
            fontsize=10 if number <= 20 else 7,
        )
        axes.set_ylim(len(order) - 0.4, -0.6)  # the largest on top
        axes.set_xlim(-reach, reach)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(axis="x", alpha=0.3)
        note = f"; {left_out} classes in the middle are left out" if left_out else ""
        axes.set_xlabel(f"points of accuracy{note}")
        axes.set_title(f"{name}: {np.nanmean(values) * 100:+.1f} in the mean", fontsize=11)
    figure.suptitle(title)
    save_figure(figure, path)
