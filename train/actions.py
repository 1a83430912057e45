"""Actions in a video, each with its time: annotated ones, and those found in scores over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from train.scores import softmax
from tsn_core.errors import InputError

_ROUNDING = 1e-6  # seconds


@dataclass(frozen=True, order=True)
class Action:
    """A part of a video that shows one class.

    Attributes:
        start_seconds: Where it begins.
        end_seconds: Where it ends.
        label: Class id.
        score: How sure it is, from 0 to 1; 1 for what a person annotated.
    """

    start_seconds: float
    end_seconds: float
    label: int
    score: float = 1.0


@dataclass(frozen=True)
class ActionRule:
    """What makes an action of class probabilities over time.

    A softmax over actions always answers with some action, in the background too, but there it is
    seldom sure. So an action is where one class is more likely than ``threshold``; from 0.5 on, no
    two actions overlap.

    Attributes:
        threshold: Least probability of the class.
        smooth_seconds: Probabilities are averaged over that time around each moment.
        merge_seconds: Parts of one class that are at most so far apart are one action.
        least_seconds: Shorter ones are dropped.
        background: Class id that means no action, if one does.
    """

    threshold: float = 0.5
    smooth_seconds: float = 1.0
    merge_seconds: float = 0.5
    least_seconds: float = 1.0
    background: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise InputError(f"--threshold must be between 0 and 1, got {self.threshold:g}")
        for option, seconds in (
            ("--smooth", self.smooth_seconds),
            ("--merge", self.merge_seconds),
            ("--least", self.least_seconds),
        ):
            if not (seconds >= 0 and math.isfinite(seconds)):
                raise InputError(f"{option} must be 0 seconds or more, got {seconds:g}")


def probabilities_over_time(
    scores: np.ndarray, times: np.ndarray, smooth_seconds: float
) -> np.ndarray:
    """Return the softmax of each snippet's scores, averaged over its neighbours in time.

    Args:
        scores: Of the snippets, before softmax, (S, C).
        times: Of the snippets in seconds, (S,), non-decreasing.
        smooth_seconds: Snippets at most half of it away are averaged.

    Returns:
        Shape (S, C) float64; rows sum to 1.
    """
    sums = np.zeros((len(scores) + 1, scores.shape[1]))
    np.cumsum(softmax(scores), axis=0, out=sums[1:])
    first = np.searchsorted(times, times - smooth_seconds / 2 - _ROUNDING)
    after = np.searchsorted(times, times + smooth_seconds / 2 + _ROUNDING)
    return (sums[after] - sums[first]) / (after - first)[:, None]


def find_actions(probabilities: np.ndarray, edges: np.ndarray, rule: ActionRule) -> list[Action]:
    """Return the actions in a video, in the order of time.

    Args:
        probabilities: Of the classes at each moment, (S, C).
        edges: Where the moments begin and end in seconds, (S + 1,).
        rule: What makes an action.

    Returns:
        Actions of one class do not overlap; the score is the mean probability over an action's
        time, merged gaps included.
    """
    found = []
    lengths = np.diff(edges)
    for label in range(probabilities.shape[1]):
        if label == rule.background:
            continue
        for first, after in _merged(probabilities[:, label] >= rule.threshold, edges, rule):
            start, end = float(edges[first]), float(edges[after])
            if end - start <= 0 or end - start < rule.least_seconds - _ROUNDING:
                continue
            weighted = probabilities[first:after, label] @ lengths[first:after]
            found.append(Action(start, end, label, float(weighted / (end - start))))
    return sorted(found)


def _merged(inside: np.ndarray, edges: np.ndarray, rule: ActionRule) -> list[list[int]]:
    """Return (first moment, the one after the last) of each run, close ones joined."""
    changes = np.flatnonzero(np.diff(np.pad(inside.astype(np.int8), 1)))
    runs: list[list[int]] = []
    for first, after in changes.reshape(-1, 2).tolist():
        if runs and edges[first] - edges[runs[-1][1]] <= rule.merge_seconds + _ROUNDING:
            runs[-1][1] = after
        else:
            runs.append([first, after])
    return runs
