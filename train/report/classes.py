"""What the tests say of each class, as columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from train.bootstrap import class_differences
from train.class_table import class_rows
from train.gain import best_input, class_accuracies, gain_pairs, gains, right_videos
from train.metrics import confusion_matrix
from train.scores import Scores

_FEWEST = 5  # videos of a class: with fewer, resampling them says nothing
_Z = 1.959964  # of the standard normal distribution, for 95 %


def wilson(right: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the 95 % score intervals of shares, (n, 2); NaN where there is nothing to share.

    Unlike a resampled interval it has a width where all were right, which matters for the few
    videos of one class.

    Args:
        right: Numbers of right ones, (n,).
        total: Numbers of all, (n,).

    Source: Wilson, Probable inference, the law of succession, and statistical inference,
        JASA 22 (1927).

    Examples:
        >>> wilson(np.array([10, 0]), np.array([10, 0])).round(3).tolist()
        [[0.722, 1.0], [nan, nan]]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = right / total
        spread = _Z * np.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
        middle = share + _Z**2 / (2 * total)
        ends = np.stack([middle - spread, middle + spread], axis=1)
        return np.clip(ends / (1 + _Z**2 / total)[:, None], 0, 1)


def class_columns(tests: Mapping[str, Scores]) -> dict[str, Any]:
    """Return the columns of the table of classes, one entry for each class id in each.

    Args:
        tests: Aligned scores by name, a fusion last where there are several.

    Returns:
        ``videos``; ``tests``, for each ``accuracy``, ``low`` and ``high``, ``precision``,
        ``taken_for`` (class id) and ``times``; ``gains``, for each ``name``, ``value``, ``low``
        and ``high``. None stands for what a class without videos does not have, and for intervals
        of fewer than 5 videos.
    """
    first = next(iter(tests.values()))
    class_names = [str(number) for number in range(len(first.class_names))]
    confusions = {
        name: confusion_matrix(test.video_scores, test.labels) for name, test in tests.items()
    }
    videos = np.bincount(first.labels, minlength=len(class_names))
    columns = []
    for confusion in confusions.values():
        rows = class_rows(confusion, class_names)
        interval = wilson(np.diag(confusion), videos)
        columns.append(
            {
                "accuracy": _column([row["accuracy"] for row in rows]),
                "low": _column(interval[:, 0]),
                "high": _column(interval[:, 1]),
                "precision": _column([row["precision"] for row in rows]),
                "taken_for": [
                    None if row["taken_for"] is None else int(row["taken_for"]) for row in rows
                ],
                "times": [row["times"] for row in rows],
            }
        )
    return {"videos": videos.tolist(), "tests": columns, "gains": _gains(tests, confusions)}


def _gains(
    tests: Mapping[str, Scores], confusions: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    if len(tests) < 2:
        return []
    right = right_videos(tests)
    best = best_input(right)
    accuracies = {name: class_accuracies(confusion) for name, confusion in confusions.items()}
    labels = next(iter(tests.values())).labels
    num_classes = len(next(iter(accuracies.values())))
    few = np.bincount(labels, minlength=num_classes) < _FEWEST
    found = []
    pairs = gain_pairs(list(tests), best)
    for (better, worse), (name, values) in zip(pairs, gains(accuracies, best).items()):
        interval = class_differences(labels, right[better], right[worse], num_classes)
        interval[few] = np.nan
        found.append(
            {
                "name": name,
                "value": _column(values),
                "low": _column(interval[:, 0]),
                "high": _column(interval[:, 1]),
            }
        )
    return found


def _column(values: Any) -> list[float | None]:
    """Return numbers to four digits; None for those that are none."""
    array = np.array(values, dtype=np.float64)
    return [None if np.isnan(value) else round(value, 4) for value in array.tolist()]
