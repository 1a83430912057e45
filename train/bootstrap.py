"""How much accuracies would vary with other videos: percentile intervals of resampled videos.

Only how many videos of each kind a resample holds matters, a kind being the class and whether the
video was right. So no video is drawn: these numbers are, from their multinomial distribution, and
memory does not grow with the number of videos. Where every video is right the interval has no
width: resampling cannot show what was never met.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

LEVEL = 0.95
NUM_RESAMPLES = 10_000
_CLASS_RESAMPLES = 2_000  # of each class: there are many classes, and their ends are coarse
_NUMBERS_AT_ONCE = 1_000_000


def intervals(confusion: np.ndarray) -> dict[str, list[float]]:
    """Return 95 % intervals of the accuracies.

    Args:
        confusion: Counts (C, C), rows are true classes.

    Returns:
        Low and high end, by ``top1_interval`` and ``mean_class_accuracy_interval``. The latter is
        over the classes of a resample, which may lack small ones.
    """
    right = np.diag(confusion)
    kinds = np.stack([right, confusion.sum(axis=1) - right], axis=1)  # (C, 2)
    accuracies = [_accuracies(draws[..., 0], draws.sum(axis=2)) for draws in _resamples(kinds)]
    return {f"{name}_interval": _interval(values) for name, values in _joined(accuracies)}


def differences(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, num_classes: int
) -> dict[str, Any]:
    """Return how much better the first of two tests of the same videos is, with 95 % intervals.

    Both are resampled together, so that what is hard for both does not widen the intervals.

    Args:
        labels: (V,) class ids.
        first: Whether each video was right, (V,) bool.
        second: The same of the other test.
        num_classes: C.

    Returns:
        ``top1``, ``mean_class_accuracy`` and their intervals, like ``intervals`` names them.
    """
    kinds = _paired_kinds(labels, first, second, num_classes)

    def of(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        totals = draws.sum(axis=(2, 3))
        better = _accuracies(draws[:, :, 1].sum(axis=2), totals)
        worse = _accuracies(draws[:, :, :, 1].sum(axis=2), totals)
        return better[0] - worse[0], better[1] - worse[1]

    result: dict[str, Any] = {name: float(values[0]) for name, values in _joined([of(kinds[None])])}
    resampled = _joined([of(draws) for draws in _resamples(kinds)])
    return result | {f"{name}_interval": _interval(values) for name, values in resampled}


def class_differences(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, num_classes: int
) -> np.ndarray:
    """Return 95 % intervals of how much better the first of two tests is in each class.

    The videos of each class are resampled by themselves.

    Args:
        labels: (V,) class ids.
        first: Whether each video was right, (V,) bool.
        second: The same of the other test.
        num_classes: C.

    Returns:
        Low and high ends, (C, 2); NaN for a class without videos.
    """
    kinds = _paired_kinds(labels, first, second, num_classes).reshape(num_classes, 4)
    totals = kinds.sum(axis=1)
    generator = np.random.default_rng(0)
    found = np.full((num_classes, 2), np.nan)
    for label in np.flatnonzero(totals).tolist():
        total = int(totals[label])
        draws = generator.multinomial(total, kinds[label] / total, size=_CLASS_RESAMPLES)
        found[label] = _interval((draws[:, 2] - draws[:, 1]) / total)
    return found


def _paired_kinds(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, num_classes: int
) -> np.ndarray:
    """Return numbers of videos, (C, 2, 2): by whether the first and the second test was right."""
    numbers = labels * 4 + first * 2 + second
    return np.bincount(numbers, minlength=4 * num_classes).reshape(num_classes, 2, 2)


def _resamples(kinds: np.ndarray) -> Iterator[np.ndarray]:
    """Yield resamples, (n, *kinds.shape): numbers of videos of each kind, always the same."""
    counts = kinds.ravel()
    there = np.flatnonzero(counts)
    total = int(counts.sum())
    generator = np.random.default_rng(0)
    step = max(_NUMBERS_AT_ONCE // counts.size, 1)
    for done in range(0, NUM_RESAMPLES, step):
        number = min(step, NUM_RESAMPLES - done)
        draws = np.zeros((number, counts.size), np.int64)
        draws[:, there] = generator.multinomial(total, counts[there] / total, size=number)
        yield draws.reshape(number, *kinds.shape)


def _accuracies(right: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return top-1 and mean class accuracy, (n,) each, from numbers (n, C)."""
    shares = right / np.maximum(totals, 1)
    return right.sum(axis=1) / totals.sum(axis=1), shares.sum(axis=1) / (totals > 0).sum(axis=1)


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    top1, mean_class = (np.concatenate(values) for values in zip(*parts))
    return [("top1", top1), ("mean_class_accuracy", mean_class)]


def _interval(values: np.ndarray) -> list[float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
