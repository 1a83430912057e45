"""Accuracies from class scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from train.bootstrap import LEVEL, intervals


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Return the share of videos whose label is among the k largest of their scores.

    Equal scores count against the video, and so does NaN: a constant score is no knowledge.

    Args:
        scores: (V, C).
        labels: (V,) class ids.
        k: At most C classes count.

    Examples:
        >>> top_k_accuracy(np.array([[1.0, 2.0], [2.0, 2.0]]), np.array([1, 0]), 1)
        0.5
    """
    return float((ranks(scores, labels) <= k).mean())


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the place of each video's label among its scores, (V,) int64; 1 is the largest score.

    Of equal scores its own comes last, and so does NaN, as ``top_k_accuracy`` counts.

    Examples:
        >>> ranks(np.array([[1.0, 2.0], [2.0, 2.0]]), np.array([1, 0]))
        array([1, 2])
    """
    own = scores[np.arange(len(labels)), labels]
    return (~(scores < own[:, None])).sum(axis=1)  # itself included


def predictions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the class of the largest score of each video, (V,) int64.

    Of equal scores it is one that is not the video's own class, as ``top_k_accuracy`` counts.

    Examples:
        >>> predictions(np.array([[1.0, 2.0], [2.0, 2.0]]), np.array([1, 0]))
        array([1, 1])
    """
    rows = np.arange(len(labels))
    others = scores.astype(np.float64)
    others[rows, labels] = -np.inf
    rivals = others.argmax(axis=1)
    right = scores[rows, labels] > others[rows, rivals]
    return np.where(right, labels, rivals)


def confusion_matrix(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return counts (C, C) int64: rows are true classes, columns predicted ones."""
    num_classes = scores.shape[1]
    pairs = labels * num_classes + predictions(scores, labels)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_class_accuracy(confusion: np.ndarray) -> float:
    """Return the mean over the classes that have videos of their share of right ones."""
    totals = confusion.sum(axis=1)
    present = totals > 0
    return float((np.diag(confusion)[present] / totals[present]).mean())


def summarize(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return the accuracies of a test, with 95 % intervals of two of them.

    Args:
        scores: Of the videos, (V, C).
        labels: (V,) class ids.

    Returns:
        num_videos, num_classes, top1, top5, mean_class_accuracy, top1_interval,
        mean_class_accuracy_interval; the latter two as low and high end.
    """
    confusion = confusion_matrix(scores, labels)
    return {
        "num_videos": len(labels),
        "num_classes": scores.shape[1],
        "top1": top_k_accuracy(scores, labels, 1),
        "top5": top_k_accuracy(scores, labels, 5),
        "mean_class_accuracy": mean_class_accuracy(confusion),
        **intervals(confusion),
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return a text table of metrics, one row for each name.

    Args:
        rows: What ``summarize`` returns, by name; may hold ``weight`` too. Intervals are shown if
            all rows have them.
    """
    width = max(len("modality"), *map(len, rows))
    weighted = any("weight" in row for row in rows.values())
    sure = all("top1_interval" in row for row in rows.values())
    level = f"{100 * LEVEL:g}% interval"
    lines = [
        f"{'modality':<{width}}{'  weight' if weighted else ''}  videos   top-1"
        f"{f'  {level:<14}' if sure else ''}   top-5  mean class{f'  {level}' if sure else ''}"
    ]
    for name, row in rows.items():
        weight = f"  {row['weight']:6.4g}" if "weight" in row else " " * 8
        lines.append(
            f"{name:<{width}}{weight if weighted else ''}  {row['num_videos']:6d}  "
            f"{100 * row['top1']:5.1f}%{_interval(row, 'top1') if sure else ''}  "
            f"{100 * row['top5']:5.1f}%  {100 * row['mean_class_accuracy']:9.1f}%"
            f"{_interval(row, 'mean_class_accuracy') if sure else ''}".rstrip()
        )
    return "\n".join(lines)


def _interval(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"  {f'{100 * low:.1f} to {100 * high:.1f}':<14}"
