"""How well predicted actions overlap with annotated ones, in time.

Everywhere ``predicted`` and ``true`` hold the actions of every video, by the video's place: lists
of equal length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.actions import Action

Actions = Sequence[Sequence[Action]]
_LEAST_IOU = 0.5
_MAP_IOUS = (0.3, 0.5, 0.7)


def summarize(
    predicted: Actions,
    true: Actions,
    num_classes: int,
    num_frames: Sequence[int],
    fps: Sequence[float],
) -> dict[str, Any]:
    """Return every measure of this module by name, at the usual overlaps.

    Args:
        predicted: With their scores.
        true: What is annotated.
        num_classes: C.
        num_frames: Of every video.
        fps: Of every video, in Hz.
    """
    precision, recall = precision_and_recall(predicted, true, num_classes, _LEAST_IOU)
    return {
        "num_true": sum(map(len, true)),
        "num_predicted": sum(map(len, predicted)),
        "precision": precision,
        "recall": recall,
        **{
            f"map_{iou}": mean_average_precision(predicted, true, num_classes, iou)
            for iou in _MAP_IOUS
        },
        "frame_accuracy": frame_accuracy(predicted, true, num_frames, fps),
    }


def table(name: str, row: dict[str, Any]) -> str:
    """Return a text table of what ``summarize`` gave; precision and recall are at overlap 0.5."""
    width = max(len("modality"), len(name))
    percent = "  ".join(
        f"{'-':>{size + 1}}" if row[key] is None else f"{100 * row[key]:{size}.1f}%"
        for key, size in (
            ("precision", 8),
            ("recall", 5),
            ("map_0.3", 6),
            ("map_0.5", 6),
            ("map_0.7", 6),
            ("frame_accuracy", 11),
        )
    )
    return (
        f"{'modality':<{width}}  actions  found  precision  recall  mAP@0.3  mAP@0.5  mAP@0.7  "
        f"frames right\n{name:<{width}}  {row['num_true']:7d}  {row['num_predicted']:5d}  {percent}"
    )


def temporal_iou(first: Sequence[Action], second: Sequence[Action]) -> np.ndarray:
    """Return the intersection over the union of every pair of actions, (len(first), len(second)).

    Examples:
        >>> temporal_iou([Action(0, 4, 0)], [Action(2, 6, 0), Action(4, 5, 0)])
        array([[0.33333333, 0.        ]])
    """
    starts, ends = _spans(first)
    other_starts, other_ends = _spans(second)
    shared = np.minimum(ends[:, None], other_ends) - np.maximum(starts[:, None], other_starts)
    shared = shared.clip(min=0)
    union = (ends - starts)[:, None] + (other_ends - other_starts) - shared
    return shared / union


def _spans(actions: Sequence[Action]) -> tuple[np.ndarray, np.ndarray]:
    spans = np.array([(one.start_seconds, one.end_seconds) for one in actions], np.float64)
    return spans.reshape(-1, 2)[:, 0], spans.reshape(-1, 2)[:, 1]


def _hits(
    predicted: Actions, true: Actions, label: int, least_iou: float
) -> tuple[np.ndarray, int]:
    """Return whether each predicted action of a class finds a true one, and how many those are.

    The surest comes first, over all videos; it takes the true action of its video that it overlaps
    most among those not yet taken, if it overlaps enough.

    Returns:
        (P,) bool, from the surest to the least sure; number of true actions.
    """
    wanted = [[one for one in actions if one.label == label] for actions in true]
    ranked = sorted(
        (
            (one, video)
            for video, actions in enumerate(predicted)
            for one in actions
            if one.label == label
        ),
        key=lambda pair: -pair[0].score,
    )
    taken = [np.zeros(len(actions), bool) for actions in wanted]
    hits = []
    for one, video in ranked:
        iou = np.where(taken[video], -1.0, temporal_iou([one], wanted[video])[0])
        hit = iou.size > 0 and float(iou.max()) >= least_iou
        if hit:
            taken[video][iou.argmax()] = True
        hits.append(hit)
    return np.array(hits, bool), sum(map(len, wanted))


def average_precision(hits: np.ndarray, num_true: int) -> float:
    """Return the area under the interpolated curve of precision over recall.

    Args:
        hits: Whether each prediction is right, from the surest to the least sure, (P,).
        num_true: How many there are to find, > 0.

    Source: the PASCAL VOC development kit of 2011, as ActivityNet's evaluation takes it.

    Examples:
        >>> average_precision(np.array([True, False, True]), 2)
        0.8333333333333333
    """
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    return float(best[hits].sum() / num_true)


def mean_average_precision(
    predicted: Actions, true: Actions, num_classes: int, least_iou: float
) -> float | None:
    """Return the mean average precision over the classes that are annotated.

    Args:
        predicted: With their scores.
        true: What is annotated.
        num_classes: C.
        least_iou: Temporal overlap from which on a true action is found.

    Returns:
        From 0 to 1; None if nothing is annotated.

    Source: ActivityNet's evaluation of detections (Caba Heilbron et al., CVPR 2015).
    """
    precisions = []
    for label in range(num_classes):
        hits, num_true = _hits(predicted, true, label, least_iou)
        if num_true:
            precisions.append(average_precision(hits, num_true))
    return float(np.mean(precisions)) if precisions else None


def precision_and_recall(
    predicted: Actions, true: Actions, num_classes: int, least_iou: float
) -> tuple[float | None, float | None]:
    """Return the shares of predicted actions that are right, and of true ones that are found.

    A share of nothing is None.
    """
    results = [_hits(predicted, true, label, least_iou) for label in range(num_classes)]
    right = sum(int(hits.sum()) for hits, _ in results)
    num_predicted = sum(len(hits) for hits, _ in results)
    num_true = sum(count for _, count in results)
    return _share(right, num_predicted), _share(right, num_true)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def frame_accuracy(
    predicted: Actions, true: Actions, num_frames: Sequence[int], fps: Sequence[float]
) -> float | None:
    """Return the share of all frames whose class is right, background being a class too.

    A frame is at the middle of its time. It is predicted to show the class of the surest action
    that holds it, or background; where annotations overlap, any class of theirs is right.

    Args:
        predicted: With their scores.
        true: What is annotated.
        num_frames: Of every video.
        fps: Of every video, in Hz.
    """
    right = 0
    for found, wanted, count, rate in zip(predicted, true, num_frames, fps):
        times = (np.arange(count) + 0.5) / rate
        labels = np.full(count, -1)
        for one in sorted(found, key=lambda one: one.score):
            labels[_inside(one, times)] = one.label
        correct = np.zeros(count, bool)
        background = np.ones(count, bool)
        for one in wanted:
            inside = _inside(one, times)
            background &= ~inside
            correct |= inside & (labels == one.label)
        right += int((correct | (background & (labels == -1))).sum())
    return _share(right, sum(num_frames))


def _inside(action: Action, times: np.ndarray) -> np.ndarray:
    return (action.start_seconds <= times) & (times < action.end_seconds)
