"""What a test says of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_ALL_PRINTED = 15  # classes; of more, only the worst are
_WORST_PRINTED = 10
COLUMNS = ("class", "videos", "right", "accuracy", "precision", "taken_for", "times")


def class_rows(confusion: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row for each class, in their order.

    Args:
        confusion: Counts (C, C), rows are true classes.
        class_names: By class id.

    Returns:
        By the names of ``COLUMNS``: videos of the class; how many of them were right; their share,
        None without videos; the share of right ones among those predicted to be of this class, None
        if none was; the class that most of the wrong ones were taken for, and how many.
    """
    totals, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    wrong = confusion * (1 - np.eye(len(class_names), dtype=np.int64))
    rows = []
    for label, name in enumerate(class_names):
        right, videos = int(confusion[label, label]), int(totals[label])
        rival = int(wrong[label].argmax())
        times = int(wrong[label, rival])
        rows.append(
            {
                "class": name,
                "videos": videos,
                "right": right,
                "accuracy": right / videos if videos else None,
                "precision": right / int(predicted[label]) if predicted[label] else None,
                "taken_for": class_names[rival] if times else None,
                "times": times,
            }
        )
    return rows


def class_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a text table: all if they are few, else those of least accuracy."""
    shown = list(rows)
    if len(rows) > _ALL_PRINTED:
        tested = [row for row in rows if row["videos"]]
        shown = sorted(tested, key=lambda row: (row["accuracy"], -row["videos"]))[:_WORST_PRINTED]
    width = max(len("class"), *(len(row["class"]) for row in shown))
    lines = [f"{'class':<{width}}  videos  right  accuracy  precision  taken for"]
    for row in shown:
        rival = f"  {row['taken_for']} ({row['times']})" if row["times"] else ""
        lines.append(
            f"{row['class']:<{width}}  {row['videos']:6d}  {row['right']:5d}  "
            f"{_share(row['accuracy']):>8}  {_share(row['precision']):>9}{rival}"
        )
    if len(shown) < len(rows):
        lines.insert(0, f"the {len(shown)} worst of {len(rows)} classes:")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
