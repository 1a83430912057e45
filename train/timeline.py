"""What is written of a long video: its timeline as JSON and as a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.actions import Action
from train.plots import new_figure, save_figure
from tsn_core.atomic import write_text

_MOST_CLASSES = 10  # in the picture; as many as there are colours
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Timeline:
    """Class probabilities of one video over time, and its actions.

    Attributes:
        name: Of the video.
        duration_seconds: Of the video.
        fps: Of the video, in Hz.
        times: Of the moments in seconds, (S,).
        edges: Where the moments begin and end in seconds, (S + 1,).
        probabilities: (S, C).
        found: What was made of these.
        annotated: What a person says; None if nobody did.
    """

    name: str
    duration_seconds: float
    fps: float
    times: np.ndarray
    edges: np.ndarray
    probabilities: np.ndarray
    found: Sequence[Action]
    annotated: Sequence[Action] | None


def file_names(names: Sequence[str]) -> list[str]:
    """Return a plain file name for every video, without an ending, each different.

    Whatever else than ASCII letters, digits, ``.``, ``_`` and ``-`` a name holds becomes ``_``, so
    that none leaves the folder; where two agree, but for upper and lower case, numbers tell them
    apart.

    Examples:
        >>> file_names(["run/a.avi", "run_a.avi", "../../x", ""])
        ['run_a.avi', 'run_a.avi-2', 'x', 'video']
    """
    taken: set[str] = set()
    plain = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")[:_LONGEST_NAME] or "video"
        chosen, number = stem, 1
        while chosen.lower() in taken:
            number += 1
            chosen = f"{stem}-{number}"
        taken.add(chosen.lower())
        plain.append(chosen)
    return plain


def actions_to_json(actions: Sequence[Action], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return actions as ``annotations.json`` has them, with their scores."""
    return [
        {
            "label": class_names[one.label],
            "start_seconds": round(one.start_seconds, 3),
            "end_seconds": round(one.end_seconds, 3),
            "score": round(one.score, 4),
        }
        for one in actions
    ]


def write_timeline(timeline: Timeline, class_names: Sequence[str], path: Path) -> None:
    """Write a timeline as JSON, atomically."""
    content: dict[str, Any] = {
        "name": timeline.name,
        "duration_seconds": round(timeline.duration_seconds, 3),
        "fps": timeline.fps,
        "class_names": list(class_names),
        "actions": actions_to_json(timeline.found, class_names),
    }
    if timeline.annotated is not None:
        content["annotated"] = actions_to_json(timeline.annotated, class_names)
    content["times_seconds"] = np.round(timeline.times, 3).tolist()
    content["probabilities"] = np.round(timeline.probabilities, 4).tolist()
    write_text(path, json.dumps(content) + "\n")


def plot_timeline(
    timeline: Timeline, class_names: Sequence[str], path: Path, threshold: float
) -> None:
    """Draw probabilities over time, and found and annotated actions below, as a PNG.

    Of many classes those are drawn that have actions, and those that are most probable.
    """
    shown = _shown_classes(timeline, len(class_names))
    colors = {label: f"C{place}" for place, label in enumerate(shown)}
    rows = [("found", timeline.found)]
    if timeline.annotated is not None:
        rows.append(("annotated", timeline.annotated))
    width = float(np.clip(timeline.duration_seconds / 8, 9, 30))
    figure, subplots = new_figure(width, 3.2 + 0.35 * len(rows))
    lines, bars = subplots(2, 1, sharex=True, height_ratios=(4, 0.6 * len(rows)))
    for label in shown:
        lines.stairs(
            timeline.probabilities[:, label],
            timeline.edges,
            color=colors[label],
            label=_plain(class_names[label]),
            baseline=None,
        )
    lines.axhline(threshold, color="gray", linewidth=0.8, linestyle=":")
    lines.set_ylim(0, 1.02)
    lines.set_ylabel("probability")
    lines.set_title(_plain(timeline.name))
    lines.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    seconds_per_letter = timeline.duration_seconds / width / 13
    for row, (_, actions) in enumerate(rows):
        for one in actions:
            length = one.end_seconds - one.start_seconds
            bars.barh(
                row,
                length,
                left=one.start_seconds,
                height=0.8,
                color=colors.get(one.label, "silver"),
            )
            name = _plain(class_names[one.label])
            letters = int(length / seconds_per_letter)
            if letters >= min(len(name), 3):
                text = name if len(name) <= letters else name[: letters - 1] + "…"
                middle = (one.start_seconds + one.end_seconds) / 2
                bars.text(middle, row, text, ha="center", va="center", fontsize=7, color="white")
    bars.set_yticks(range(len(rows)), [name for name, _ in rows])
    bars.set_ylim(len(rows) - 0.5, -0.5)
    bars.set_xlim(0, timeline.duration_seconds)
    bars.set_xlabel("seconds")
    save_figure(figure, path)


def _shown_classes(timeline: Timeline, num_classes: int) -> list[int]:
    """Return the classes to draw, in the order of their ids."""
    weight = timeline.probabilities.max(axis=0).copy()
    for one in (*timeline.found, *(timeline.annotated or ())):
        weight[one.label] += one.end_seconds - one.start_seconds + 1
    return sorted(np.argsort(-weight, kind="stable")[: min(_MOST_CLASSES, num_classes)].tolist())


def _plain(text: str) -> str:
    """Return a name so that Matplotlib takes no formula out of it, on one short line."""
    text = text if text.isprintable() else ascii(text)
    return (text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…").replace(
        "$", r"\$"
    )
