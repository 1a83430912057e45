"""What is printed of a prediction: bars for a person, JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from train.actions import Action
from train.scores import softmax
from train.timeline import Timeline, actions_to_json
from tsn_app.prediction import Ensemble, Prediction
from tsn_core.version import __version__

_BAR, _SHORT_BAR = 24, 8  # letters
_NARROW = 60  # letters of a terminal
_PERCENT = len("100.0 %")
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, length: int = _BAR) -> str:
    """Return a bar of that share of the full length, to an eighth of a letter.

    Examples:
        >>> bar(0.5), bar(0.01)
        ('████████████', '▎')
    """
    eighths = round(share * length * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def table(ensemble: Ensemble, prediction: Prediction, count: int, width: int = 80) -> Table:
    """Return the most probable classes as bars, best first, and what each network says.

    Args:
        ensemble: What predicted.
        prediction: Of it.
        count: How many classes.
        width: Of the terminal, in letters; where that is little, bars are shorter.
    """
    narrow = width < _NARROW
    length = _SHORT_BAR if narrow else _BAR
    several = len(ensemble.predictors) > 1
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=28)
    grid.add_column(min_width=_PERCENT if narrow else None, justify="right", no_wrap=True)
    grid.add_column(min_width=length, no_wrap=True)
    for _ in ensemble.predictors if several else ():
        grid.add_column(justify="right", style="dim", no_wrap=True)
    if several:
        grid.add_row("", "fused", "", *ensemble.names, style="dim")
    each = softmax(prediction.scores)
    for place, label in enumerate(prediction.best(count)):
        share = float(prediction.probabilities[label])
        columns = [f"{100 * row[label]:.0f} %" for row in each] if several else []
        grid.add_row(
            Text(ensemble.class_names[label]),
            f"{100 * share:.1f} %",
            Text(bar(share, length), style="cyan" if place == 0 else "blue"),
            *columns,
        )
    return grid


def pace(prediction: Prediction) -> str:
    """Return how long it took, beside how long the video plays."""
    if not prediction.duration_seconds:
        return f"{prediction.seconds:.2f} s"
    times = prediction.duration_seconds / prediction.seconds
    return (
        f"{prediction.duration_seconds:.1f} s of video in {prediction.seconds:.2f} s, "
        f"{times:.2g} times as fast as it plays"
    )


def action_lines(actions: Sequence[Action], class_names: Sequence[str]) -> list[str]:
    """Return a line for each action: from, to, probability, class."""
    if not actions:
        return ["no action found; lower --threshold, or look at --timeline-png"]
    return [
        f"{one.start_seconds:8.1f} – {one.end_seconds:6.1f} s  {100 * one.score:3.0f} %  "
        f"{class_names[one.label]}"
        for one in actions
    ]


def to_json(
    ensemble: Ensemble, prediction: Prediction, count: int, timeline: Timeline | None = None
) -> str:
    """Return one line of JSON; ``docs/predict.md`` tells what is in it."""
    each = softmax(prediction.scores)
    best = prediction.best(count)
    content: dict[str, Any] = {
        "video": prediction.name,
        "version": __version__,
        "duration_seconds": prediction.duration_seconds,
        "seconds": round(prediction.seconds, 4),
        "label": ensemble.class_names[best[0]],
        "probability": round(float(prediction.probabilities[best[0]]), 6),
        "top": [
            {
                "label": ensemble.class_names[label],
                "probability": round(float(prediction.probabilities[label]), 6),
                "score": float(prediction.fused[label]),
            }
            for label in best
        ],
        "runs": [
            {
                "run": str(predictor.run),
                "modality": predictor.modality.folder,
                "weight": weight,
                "top": [
                    {
                        "label": ensemble.class_names[label],
                        "probability": round(float(shares[label]), 6),
                        "score": float(row[label]),
                    }
                    for label in (-row).argsort(kind="stable")[:count].tolist()
                ],
            }
            for predictor, weight, row, shares in zip(
                ensemble.predictors, ensemble.weights, prediction.scores, each
            )
        ],
    }
    if prediction.note:
        content["note"] = prediction.note
    if timeline is not None:
        content["actions"] = actions_to_json(timeline.found, ensemble.class_names)
    return json.dumps(content, ensure_ascii=False)
