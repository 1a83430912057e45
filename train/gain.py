"""What each class gains by one modality over another, and by their fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.metrics import predictions
from train.scores import Scores


def right_videos(tests: Mapping[str, Scores]) -> dict[str, np.ndarray]:
    """Return which videos each test had right, (V,) bool, by its name."""
    return {
        name: predictions(test.video_scores, test.labels) == test.labels
        for name, test in tests.items()
    }


def best_input(right: Mapping[str, np.ndarray]) -> str:
    """Return the input of a fusion with the best top-1 accuracy, the first of equals.

    Args:
        right: What ``right_videos`` returns of the inputs and, last, of the fusion.
    """
    *inputs, _ = right
    return max(inputs, key=lambda name: right[name].mean())


def class_accuracies(confusion: np.ndarray) -> np.ndarray:
    """Return the share of right videos of each class, (C,); NaN for a class without videos."""
    totals = confusion.sum(axis=1)
    shares = np.full(len(confusion), np.nan)
    np.divide(np.diag(confusion), totals, out=shares, where=totals > 0)
    return shares


def gains(accuracies: Mapping[str, np.ndarray], best: str) -> dict[str, np.ndarray]:
    """Return differences of class accuracies, (C,), by ``A over B``.

    Args:
        accuracies: Of the inputs of a fusion in their order, then of the fusion, (C,) each.
        best: Name of the best input.

    Returns:
        Of every input over the first, and of the fusion over the best.
    """
    pairs = gain_pairs(list(accuracies), best)
    return {f"{a} over {b}": accuracies[a] - accuracies[b] for a, b in pairs}


def gain_pairs(tests: Sequence[str], best: str) -> list[tuple[str, str]]:
    """Return which test is compared with which, as ``gains`` does.

    Args:
        tests: Names of the inputs of a fusion in their order, then of the fusion.
        best: Name of the best input.
    """
    *names, fusion = tests
    return [(name, names[0]) for name in names[1:]] + [(fusion, best)]


def gain_rows(
    accuracies: Mapping[str, np.ndarray],
    differences: Mapping[str, np.ndarray],
    num_videos: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
) -> list[dict[str, Any]]:
    """Return one row for each class: ``class``, ``videos``, its accuracies and gains.

    They are sorted by the first of the gains, the largest first; classes without videos are last,
    and None stands for what they do not have.
    """
    first = next(iter(differences.values()))
    rows = []
    for label in np.argsort(-first, kind="stable").tolist():  # NaN comes last
        row: dict[str, Any] = {"class": class_names[label], "videos": int(num_videos[label])}
        for name, values in (*accuracies.items(), *differences.items()):
            row[name] = float(values[label]) if num_videos[label] else None
        rows.append(row)
    return rows
