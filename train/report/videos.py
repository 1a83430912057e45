"""What the tests say of each video, as columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from train.metrics import predictions, ranks
from train.scores import Scores, softmax


def video_columns(tests: Mapping[str, Scores]) -> dict[str, Any]:
    """Return the columns of the table of videos, one entry for each video in each.

    Args:
        tests: Aligned scores by name.

    Returns:
        ``names``; ``labels``, class ids; ``tests``, for each ``predicted`` (class id), ``rank`` of
        the true class, and ``confidence`` and ``own``: the probabilities of the predicted and the
        true class, the softmax of the scores, in thousandths, which keeps the page small.
    """
    first = next(iter(tests.values()))
    rows = np.arange(len(first.labels))
    columns = []
    for test in tests.values():
        predicted = predictions(test.video_scores, test.labels)
        probabilities = softmax(test.video_scores)
        columns.append(
            {
                "predicted": predicted.tolist(),
                "rank": ranks(test.video_scores, test.labels).tolist(),
                "confidence": _thousandths(probabilities[rows, predicted]),
                "own": _thousandths(probabilities[rows, test.labels]),
            }
        )
    return {"names": first.names.tolist(), "labels": first.labels.tolist(), "tests": columns}


def _thousandths(shares: np.ndarray) -> list[int]:
    return np.rint(1000 * shares).astype(np.int64).tolist()
