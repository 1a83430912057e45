"""Annotated times of actions in videos, read from a JSON file.

``{"videos": {NAME: {"duration_seconds": 61.2, "fps": 12.5, "actions": [{"label": "left",
"start_seconds": 2.0, "end_seconds": 5.5}, …]}, …}}``, with the names that the shards have.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.actions import Action
from tsn_core.errors import InputError
from tsn_core.listing import few

_ROUNDING = 1e-3  # seconds


def read_annotations(path: Path, class_names: Sequence[str]) -> dict[str, list[Action]]:
    """Return the actions of every annotated video, in the order of time.

    ``fps`` is not used and may be left out. What else a video or action says is ignored, so that
    predicted actions can be read as well.

    Args:
        path: The JSON file.
        class_names: By class id; no others may be named.

    Raises:
        InputError: There is no such file, or a value is not what it should be; the message names
            the file, the video and the action.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no annotations there; check --annotations") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as JSON: {reason}") from None
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise InputError(f'{path}: {{"videos": {{NAME: …}}}} expected, got something else')
    ids = {name: label for label, name in enumerate(class_names)}
    return {
        name: _video(f"{path}: {name if name.isprintable() else ascii(name)}", video, ids)
        for name, video in videos.items()
    }


def _video(where: str, video: Any, ids: dict[str, int]) -> list[Action]:
    if not isinstance(video, dict):
        raise InputError(f"{where}: an object with duration_seconds and actions expected")
    duration = _number(where, video, "duration_seconds")
    if duration <= 0:
        raise InputError(f"{where}: duration_seconds must be > 0, got {duration:g}")
    actions = video.get("actions")
    if not isinstance(actions, list):
        raise InputError(f"{where}: actions must be a list")
    return sorted(
        _action(f"{where}, action {number}", action, duration, ids)
        for number, action in enumerate(actions)
    )


def _action(where: str, action: Any, duration: float, ids: dict[str, int]) -> Action:
    if not isinstance(action, dict):
        raise InputError(f"{where}: an object with label, start_seconds and end_seconds expected")
    label = action.get("label")
    if not isinstance(label, str) or label not in ids:
        known = few(list(ids), 8)
        raise InputError(
            f"{where}: label must be a class of the network ({known}), got {_short(label)}"
        )
    start, end = (_number(where, action, key) for key in ("start_seconds", "end_seconds"))
    if not 0 <= start < end <= duration + _ROUNDING:
        raise InputError(
            f"{where}: 0 <= start_seconds < end_seconds <= {duration:g} expected, "
            f"got {start:g} and {end:g}"
        )
    return Action(start, end, ids[label])


def _number(where: str, values: dict[str, Any], key: str) -> float:
    value = values.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # a whole number of hundreds of digits
            number = math.inf
        if math.isfinite(number):
            return number
    raise InputError(f"{where}: {key} must be a number, got {_short(value)}")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"
