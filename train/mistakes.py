"""The videos that a test got wrong, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from train.metrics import predictions
from train.scores import Scores

_PRINTED = 5
COLUMNS = ("video", "true", "predicted", "probability_true", "probability_predicted")


def mistakes(scores: Scores) -> list[dict[str, Any]]:
    """Return one row for each wrong video, by the names of ``COLUMNS``.

    Those come first whose true class got least probability, the softmax of the video's scores.
    """
    logits = scores.video_scores.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    predicted = predictions(scores.video_scores, scores.labels)
    wrong = np.flatnonzero(predicted != scores.labels)
    wrong = wrong[np.argsort(logits[wrong, scores.labels[wrong]], kind="stable")]
    return [
        {
            "video": str(scores.names[video]),
            "true": str(scores.class_names[scores.labels[video]]),
            "predicted": str(scores.class_names[predicted[video]]),
            "probability_true": float(np.exp(logits[video, scores.labels[video]])),
            "probability_predicted": float(np.exp(logits[video, predicted[video]])),
        }
        for video in wrong.tolist()
    ]


def mistakes_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return the worst mistakes as text, one line each; no text if there are none."""
    if not rows:
        return ""
    shown = rows[:_PRINTED]
    some = f"the {len(shown)} worst of {len(rows)} mistakes"
    lines = [f"{some if len(shown) < len(rows) else 'mistakes'}, with probabilities:"]
    lines += [
        f"  {row['video']}: {row['true']} ({row['probability_true']:.3f}) taken for "
        f"{row['predicted']} ({row['probability_predicted']:.3f})"
        for row in shown
    ]
    return "\n".join(lines)
