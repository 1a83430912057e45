"""Accuracies from class scores."""

from __future__ import annotations

from typing import Any

import numpy as np


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
    own = scores[np.arange(len(labels)), labels]
    not_below = (~(scores < own[:, None])).sum(axis=1)  # itself included
    return float((not_below <= k).mean())


def confusion_matrix(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return counts (C, C) int64: rows are true classes, columns predicted ones."""
    num_classes = scores.shape[1]
    pairs = labels * num_classes + scores.argmax(axis=1)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def mean_class_accuracy(confusion: np.ndarray) -> float:
    """Return the mean over the classes that have videos of their share of right ones."""
    totals = confusion.sum(axis=1)
    present = totals > 0
    return float((np.diag(confusion)[present] / totals[present]).mean())


def summarize(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return num_videos, num_classes, top1, top5 and mean_class_accuracy.

    Args:
        scores: Of the videos, (V, C).
        labels: (V,) class ids.
    """
    return {
        "num_videos": len(labels),
        "num_classes": scores.shape[1],
        "top1": top_k_accuracy(scores, labels, 1),
        "top5": top_k_accuracy(scores, labels, 5),
        "mean_class_accuracy": mean_class_accuracy(confusion_matrix(scores, labels)),
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return a text table of metrics, one row for each name.

    Args:
        rows: What ``summarize`` returns, by name; may hold ``weight`` too.
    """
    width = max(len("modality"), *map(len, rows))
    weighted = any("weight" in row for row in rows.values())
    lines = [
        f"{'modality':<{width}}{'  weight' if weighted else ''}  videos   top-1   top-5  mean class"
    ]
    for name, row in rows.items():
        weight = f"  {row['weight']:6g}" if "weight" in row else " " * 8
        lines.append(
            f"{name:<{width}}{weight if weighted else ''}  {row['num_videos']:6d}  "
            f"{100 * row['top1']:5.1f}%  {100 * row['top5']:5.1f}%  "
            f"{100 * row['mean_class_accuracy']:9.1f}%"
        )
    return "\n".join(lines)
