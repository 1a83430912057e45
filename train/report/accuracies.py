"""The accuracies of every test, and what the fusion gains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from train.bootstrap import differences
from train.gain import best_input, right_videos
from train.metrics import confusion_matrix, mean_class_accuracy, summarize, top_k_accuracy
from train.report.inputs import Inputs
from train.scores import Scores

_INTERVALS = ("top1_interval", "mean_class_accuracy_interval")


def accuracy_rows(inputs: Inputs) -> list[dict[str, Any]]:
    """Return what ``summarize`` says of every test, with its ``name`` and ``weight`` or None.

    Intervals that a test has stored are taken from there, since many classes take seconds.
    """
    stored = {run.name: run.metrics for run in inputs.runs}
    stored["fusion"] = inputs.how
    return [
        {
            "name": name,
            "weight": inputs.weights.get(name),
            **(_stored(test, stored.get(name, {})) or summarize(test.video_scores, test.labels)),
        }
        for name, test in inputs.tests.items()
    ]


def _stored(test: Scores, metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return ``metrics.json`` as ``summarize`` gives it; None if it is of other scores."""
    if not all(_is_interval(metrics.get(name)) for name in _INTERVALS):
        return None
    scores, labels = test.video_scores, test.labels
    found = {
        "num_videos": len(labels),
        "num_classes": scores.shape[1],
        "top1": top_k_accuracy(scores, labels, 1),
        "top5": top_k_accuracy(scores, labels, 5),
        "mean_class_accuracy": mean_class_accuracy(confusion_matrix(scores, labels)),
    }
    for name, value in found.items():
        other = metrics.get(name)
        if not isinstance(other, (int, float)) or not math.isclose(value, other, abs_tol=1e-9):
            return None
    return {**found, **{name: metrics[name] for name in _INTERVALS}}


def _is_interval(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(end, (int, float)) for end in value)
        and 0 <= value[0] <= value[1] <= 1
    )


def fusion_gain(tests: Mapping[str, Scores]) -> dict[str, Any] | None:
    """Return what the fusion gains over its best input, as ``bootstrap.differences`` says it."""
    if len(tests) < 2:
        return None
    right = right_videos(tests)
    best, fusion = best_input(right), list(tests)[-1]
    scores = tests[fusion]
    return {
        "of": fusion,
        "over": best,
        **differences(scores.labels, right[fusion], right[best], len(scores.class_names)),
    }
