"""How well videos are scored that may show several classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from train.overlap import average_precision
from train.scores import softmax


def summarize(scores: np.ndarray, shown: Sequence[Collection[int]]) -> dict[str, Any]:
    """Return num_videos, top1 and mean_average_precision.

    A video is right at once if one of its classes has the largest score; equal scores count against
    it. For the average precision of a class videos are ranked by its softmax, earlier ones first
    where equal; the mean is over the classes that some video shows.

    Args:
        scores: Of the videos before softmax, (V, C), V > 0.
        shown: Class ids that each video shows, at least one.
    """
    own = np.zeros(scores.shape, bool)
    for row, labels in zip(own, shown):
        row[list(labels)] = True
    best = np.where(own, scores, -np.inf).max(axis=1)
    others = np.where(own, -np.inf, scores).max(axis=1)
    ranks = softmax(scores)
    precisions = [
        average_precision(own[np.argsort(-ranks[:, label], kind="stable"), label], int(count))
        for label, count in enumerate(own.sum(axis=0))
        if count
    ]
    return {
        "num_videos": len(scores),
        "top1": float((best > others).mean()),
        "mean_average_precision": float(np.mean(precisions)),
    }


def table(name: str, row: dict[str, Any]) -> str:
    """Return a text table of what ``summarize`` gave."""
    width = max(len("modality"), len(name))
    return (
        f"{'modality':<{width}}  videos   top-1     mAP\n"
        f"{name:<{width}}  {row['num_videos']:6d}  {100 * row['top1']:5.1f}%  "
        f"{100 * row['mean_average_precision']:5.1f}%"
    )
