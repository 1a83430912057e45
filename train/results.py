"""The files that a test or a fusion leaves in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train import class_table
from train import mistakes as mistake_table
from train.bootstrap import differences
from train.csv_file import write_csv
from train.fuse import fuse
from train.gain import best_input, class_accuracies, gain_rows, gains, right_videos
from train.metrics import confusion_matrix, summarize, table
from train.plots import plot_confusion, plot_gains
from train.scores import SCORES_NAME, Scores, subset_path, write_scores
from tsn_core.atomic import write_text

RESULT_FILES = (SCORES_NAME, "metrics.json", "classes.csv", "mistakes.csv", "confusion.png")
GAIN_FILES = ("gain.csv", "gain.png")


def write_results(
    scores: Scores, folder: Path, more: dict[str, Any], subset: str = "test"
) -> dict[str, Any]:
    """Write the files of a test and return its metrics.

    Args:
        scores: Of the tested videos.
        folder: Where ``RESULT_FILES`` go.
        more: Goes into ``metrics.json`` too.
        subset: Of the videos; the files of another one than ``test`` have it in their names.
    """
    metrics = {**summarize(scores.video_scores, scores.labels), **more}
    confusion = confusion_matrix(scores.video_scores, scores.labels)
    class_names = scores.class_names.tolist()
    paths = [subset_path(folder / name, subset) for name in RESULT_FILES]
    title = f"{scores.name}: {100 * metrics['top1']:.1f}% of {metrics['num_videos']} videos"
    write_scores(scores, paths[0])
    write_csv(paths[2], class_table.COLUMNS, class_table.class_rows(confusion, class_names))
    write_csv(paths[3], mistake_table.COLUMNS, mistake_table.mistakes(scores))
    plot_confusion(confusion, class_names, paths[4], title)
    write_text(paths[1], json.dumps(metrics, indent=1) + "\n")
    return metrics


def results_text(scores: Scores, rows: Mapping[str, dict[str, Any]]) -> str:
    """Return what is printed of a test: its metrics, its classes, its worst mistakes.

    Args:
        scores: Of the tested videos.
        rows: Metrics by name, as ``table`` takes them.
    """
    confusion = confusion_matrix(scores.video_scores, scores.labels)
    classes = class_table.class_rows(confusion, scores.class_names.tolist())
    parts = (
        table(dict(rows)),
        class_table.class_text(classes),
        mistake_table.mistakes_text(mistake_table.mistakes(scores)),
    )
    return "\n\n".join(part for part in parts if part)


def write_fusion(
    parts: Mapping[str, Scores], weights: Sequence[float], folder: Path, more: dict[str, Any]
) -> dict[str, Any]:
    """Fuse aligned scores, write the files of a test of them, and with two or more ``GAIN_FILES``.

    Args:
        parts: The inputs, by a name for each.
        weights: One for each.
        folder: Where the files go.
        more: Goes into ``metrics.json`` too.

    Returns:
        The metrics; ``inputs`` has those of each input with its weight, ``gain`` what
        ``write_gains`` returns.

    Raises:
        InputError: The weights do not fit.
    """
    fused = fuse(list(parts.values()), weights)
    inputs = {
        name: {**summarize(part.video_scores, part.labels), "weight": weight}
        for (name, part), weight in zip(parts.items(), weights)
    }
    more = {"inputs": inputs, **more}
    if len(parts) > 1:
        more["gain"] = write_gains(parts, fused, folder)
    return write_results(fused, folder, more)


def fusion_text(fused: Scores, metrics: dict[str, Any]) -> str:
    """Return what is printed of a fusion, given what ``write_fusion`` returns."""
    text = results_text(fused, {**metrics["inputs"], fused.name: metrics})
    if "gain" not in metrics:
        return text
    gain, parts = metrics["gain"], []
    for name, what in (("top1", "top-1"), ("mean_class_accuracy", "mean class")):
        low, high = (100 * end for end in gain[f"{name}_interval"])
        parts.append(f"{what} {100 * gain[name]:+.1f} points ({low:+.1f} to {high:+.1f})")
    return f"{text}\n\n{fused.name} over {gain['over']}: {', '.join(parts)}"


def write_gains(parts: Mapping[str, Scores], fused: Scores, folder: Path) -> dict[str, Any]:
    """Write ``GAIN_FILES`` and return what the fusion gains over its best input.

    Args:
        parts: The inputs, aligned, two or more, by a name for each.
        fused: Their fusion.
        folder: Where the files go.

    Returns:
        ``over``, the name of the input with the best top-1 accuracy, the first of equals, and what
        ``bootstrap.differences`` says.
    """
    class_names = fused.class_names.tolist()
    tests = {**parts, fused.name: fused}
    right = right_videos(tests)
    best = best_input(right)
    accuracies = {
        name: class_accuracies(confusion_matrix(test.video_scores, test.labels))
        for name, test in tests.items()
    }
    by_class = gains(accuracies, best)
    num_videos = np.bincount(fused.labels, minlength=len(class_names))
    rows = gain_rows(accuracies, by_class, num_videos, class_names)
    write_csv(folder / GAIN_FILES[0], list(rows[0]), rows)
    title = f"gain of each class, {len(fused.labels)} videos"
    plot_gains(by_class, class_names, folder / GAIN_FILES[1], title)
    return {
        "over": best,
        **differences(fused.labels, right[fused.name], right[best], len(class_names)),
    }
