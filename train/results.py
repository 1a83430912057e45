"""The files that a test leaves in a run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from train.metrics import confusion_matrix, summarize
from train.plots import plot_confusion
from train.scores import SCORES_NAME, Scores, write_scores
from tsn_core.atomic import write_text


def write_results(scores: Scores, folder: Path, more: dict[str, Any]) -> dict[str, Any]:
    """Write the files of a test and return its metrics."""
    metrics = summarize(scores.video_scores, scores.labels)
    confusion = confusion_matrix(scores.video_scores, scores.labels)
    write_scores(scores, folder / SCORES_NAME)
    write_text(folder / "metrics.json", json.dumps({**metrics, **more}, indent=1) + "\n")
    title = f"{scores.name}: {100 * metrics['top1']:.1f}% of {metrics['num_videos']} videos"
    plot_confusion(confusion, scores.class_names.tolist(), folder / "confusion.png", title)
    return metrics
