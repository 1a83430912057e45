"""Fusion of modalities: the weighted sum of their class scores, before softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from train.alignment import common_rows
from train.scores import Scores
from tsn_core.errors import InputError
from tsn_core.modality import get_modality, modality_names

_UNEVEN = 4.0  # times; such spreads of scores make the usual weights meaningless


def default_weight(name: str) -> float:
    """Return the usual weight of a modality's scores.

    Examples:
        >>> default_weight("rgb"), default_weight("flow-tvl1"), default_weight("rgbdiff")
        (1.0, 1.5, 1.0)
    """
    modality = name.partition("-")[0]
    return get_modality(modality).fusion_weight if modality in modality_names() else 1.0


def align(parts: Sequence[Scores]) -> list[Scores]:
    """Return the scores of the videos that all parts have, in the order of the first part.

    Videos are matched by name, never by position.

    Raises:
        InputError: The classes or a video's labels differ, or no video is common.
    """
    return [
        Scores(
            name=part.name,
            names=part.names[rows],
            labels=part.labels[rows],
            scores=part.scores[rows],
            video_scores=part.video_scores[rows],
            class_names=part.class_names,
        )
        for part, rows in zip(parts, common_rows(parts, "fuse runs on"))
    ]


def different_names(parts: Sequence[Scores], paths: Sequence[object]) -> list[str]:
    """Return a name for each part that no other has: its own, or with its path where that is taken.

    ``fusion`` is taken: by what the parts come to.
    """
    names: list[str] = []
    for part, path in zip(parts, paths):
        taken = part.name in (*names, "fusion")
        names.append(f"{part.name} ({path})" if taken else part.name)
    return names


def fuse(parts: Sequence[Scores], weights: Sequence[float] | None) -> Scores:
    """Return the weighted sum of aligned scores.

    Args:
        parts: What ``align`` returns.
        weights: One for each part; None takes the usual ones.

    Returns:
        Its ``scores`` hold the video scores as a single snippet, since modalities may have been
        tested with different numbers of them.

    Raises:
        InputError: There are not as many weights as parts, one is not finite, or all are 0.
    """
    chosen = [default_weight(part.name) for part in parts] if weights is None else list(weights)
    if len(chosen) != len(parts):
        raise InputError(f"{len(parts)} weights expected, one for each input, got {len(chosen)}")
    for weight in chosen:
        if not math.isfinite(weight):
            raise InputError(f"weights must be finite numbers, got {weight}")
    if not any(chosen):
        raise InputError("weights are all 0, which leaves no scores; give one that is not")
    total = sum(weight * part.video_scores for weight, part in zip(chosen, parts))
    total = np.asarray(total, dtype=np.float32)
    first = parts[0]
    return Scores("fusion", first.names, first.labels, total[:, None], total, first.class_names)


def spread(part: Scores) -> float:
    """Return how far the scores of a video lie apart, in the mean of the videos; never 0."""
    return float(part.video_scores.std(axis=1, dtype=np.float64).mean()) or 1.0


def spread_remark(parts: Sequence[Scores]) -> str:
    """Return what to say if the scores of one part outweigh those of another, whatever they know.

    The sum is of scores before softmax, whose size depends on how long each network was trained.
    """
    least, most = min(parts, key=spread), max(parts, key=spread)
    ratio = spread(most) / spread(least)
    if ratio < _UNEVEN:
        return ""
    return (
        f"the scores of {most.name} are spread {ratio:.0f} times as far as those of {least.name}, "
        "and weigh so much more; choose --weights accordingly, or --search"
    )
