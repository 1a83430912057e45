"""Weights of a fusion that validation videos choose; test videos have no say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from train.fuse import default_weight, fuse, spread
from train.metrics import top_k_accuracy
from train.scores import Scores
from tsn_core.errors import InputError
from tsn_core.listing import few

_MOST_INPUTS = 6
_STEPS = {2: 100, 3: 40, 4: 20, 5: 10, 6: 10}  # by inputs: 101, 861, 1771, 1001, 3003 candidates


def search_on_val(
    val: Sequence[Scores], test: Sequence[Scores]
) -> tuple[list[float], dict[str, Any]]:
    """Return the weights that aligned scores of val videos choose, and how they were chosen.

    Raises:
        InputError: The inputs are too many, other than those to fuse, or share videos with them.
    """
    for part, fused in zip(val, test):
        if part.name != fused.name or part.class_names.tolist() != fused.class_names.tolist():
            raise InputError(
                f"the val scores beside {fused.name} are of {part.name}, or of other classes; "
                "evaluate both subsets of the same run"
            )
    _check_apart(val[0], test[0])
    weights = search_weights(val)
    found, usual = fuse(val, weights), fuse(val, None)
    return weights, {
        "weights": "searched on val videos",
        "val_videos": len(found.names),
        "val_top1": top_k_accuracy(found.video_scores, found.labels, 1),
        "usual_val_top1": top_k_accuracy(usual.video_scores, usual.labels, 1),
    }


def _check_apart(val: Scores, test: Scores) -> None:
    """Check that no validation video is to be fused.

    Raises:
        InputError: Some are.
    """
    fused = set(test.names.tolist())
    both = [name for name in val.names.tolist() if name in fused]
    if both:
        raise InputError(
            f"{len(both)} of {len(val.names)} val videos are among those to fuse "
            f"({few(both)}): weights that they choose "
            "would flatter the test; evaluate both subsets of the same split"
        )


def search_weights(parts: Sequence[Scores]) -> list[float]:
    """Return the weights with which the fusion is right for most videos.

    Candidates are all shares of a grid that sum to 1, and the usual weights. A share is the weight
    times the spread of the input's scores, so that scores of any scale are searched alike. Of
    equally good ones it is those whose shares are closest to the usual ones.

    Args:
        parts: Aligned scores of validation videos.

    Returns:
        As many weights, the first that is not 0 being the usual one of its modality.

    Raises:
        InputError: There are too many inputs, or only one.
    """
    if not 2 <= len(parts) <= _MOST_INPUTS:
        raise InputError(f"--search takes 2 to {_MOST_INPUTS} inputs, got {len(parts)}")
    usual = np.array([default_weight(part.name) for part in parts])
    spreads = np.array([spread(part) for part in parts])
    usual_shares = usual * spreads / (usual * spreads).sum()
    best: tuple[float, float] | None = None
    chosen = usual
    for shares in (usual_shares, *_grid(len(parts), _STEPS[len(parts)])):
        weights = shares / spreads
        weights *= usual[shares > 0][0] / weights[shares > 0][0]
        fused = fuse(parts, weights.tolist())
        wrong = 1 - top_k_accuracy(fused.video_scores, fused.labels, 1)
        distance = float(np.abs(shares - usual_shares).sum())
        if best is None or (wrong, distance) < best:
            best, chosen = (wrong, distance), weights
    return [float(f"{weight:.6g}") for weight in chosen]


def _grid(number: int, steps: int) -> Iterator[np.ndarray]:
    """Yield all shares (number,) that are multiples of 1 / steps and sum to 1.

    Examples:
        >>> [shares.tolist() for shares in _grid(2, 2)]
        [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    places = steps + number - 1
    for bars in itertools.combinations(range(places), number - 1):
        edges = np.array([-1, *bars, places])
        yield (np.diff(edges) - 1) / steps
