"""Multi-scale temporal window integration: scores of a video that was not cut to one action.

Windows of several lengths slide over the snippets of a video. A window has, for each class, the
largest score of the snippets inside it; of the windows of one length the best few are averaged, so
that what lies between the actions counts little; the lengths are averaged at last.

Source: Wang et al., TSN (TPAMI 2018), on untrimmed video, and the authors' code for the ActivityNet
challenge of 2016 (``sliding_window_aggregation_func``). That code counts in snippets of one second
and rounds the stride up to whole ones; here windows are placed in seconds, for any rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tsn_core.errors import InputError

SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds
STRIDE = 0.8  # of the window
_LEAST_WINDOWS, _LEAST_SHARE = 15, 4
_ROUNDING = 1e-6  # seconds; times are quotients of frame numbers


@dataclass(frozen=True)
class Windows:
    """The windows of one length on one video, those without a snippet left out; W of them.

    Attributes:
        spans: Start and end in seconds, (W, 2) float64; none ends after the video.
        snippets: The first snippet inside, and the first one after it, (W, 2) int64.
    """

    spans: np.ndarray
    snippets: np.ndarray


def place_windows(
    times: np.ndarray, duration_seconds: float, length_seconds: float, stride: float = STRIDE
) -> Windows:
    """Place windows from the start of a video to its end.

    Window number k holds the snippets at ``k * stride * length <= time < k * stride * length +
    length``; the last ones may reach beyond the end.

    Args:
        times: Of the snippets in seconds, (S,), S > 0, non-decreasing, within the video.
        duration_seconds: Of the video.
        length_seconds: Of a window.
        stride: From one window to the next, as a share of the length.

    Raises:
        InputError: The length or the stride is out of range.

    Examples:
        >>> place_windows(np.arange(4) + 0.5, 4.0, 2.0).spans.tolist()
        [[0.0, 2.0], [1.6, 3.6], [3.2, 4.0]]
    """
    if not (length_seconds > 0 and math.isfinite(length_seconds)):
        raise InputError(f"scales must be > 0 seconds, got {length_seconds:g}")
    if not 0 < stride <= 1:
        raise InputError(f"stride must be above 0 and up to 1, got {stride:g}")
    step = stride * length_seconds
    count = max(math.ceil((duration_seconds - _ROUNDING) / step), 1)
    starts = np.arange(count) * step
    ends = starts + length_seconds
    first = np.searchsorted(times, starts - _ROUNDING)
    after = np.searchsorted(times, ends - _ROUNDING)
    held = after > first
    spans = np.stack([starts, np.minimum(ends, duration_seconds)], axis=1)
    return Windows(spans[held], np.stack([first, after], axis=1)[held].astype(np.int64))


def window_scores(scores: np.ndarray, windows: Windows) -> np.ndarray:
    """Return the largest score of each class among the snippets of each window.

    Args:
        scores: Of the snippets, (S, C).
        windows: W windows on them.

    Returns:
        Shape (W, C).
    """
    lowest = np.full((1, scores.shape[1]), -np.inf, scores.dtype)
    ended = np.concatenate([scores, lowest])  # reduceat takes no end behind the last row
    return np.maximum.reduceat(ended, windows.snippets.ravel(), axis=0)[::2]


def pool_windows(scores: np.ndarray) -> np.ndarray:
    """Return, for each class, the mean of its largest scores among the windows of one length.

    Of W windows the ``max(15, W // 4)`` best are taken, or all where there are fewer.

    Args:
        scores: (W, C), W > 0.

    Returns:
        Shape (C,).
    """
    count = max(_LEAST_WINDOWS, len(scores) // _LEAST_SHARE)
    return np.sort(scores, axis=0)[-count:].mean(axis=0)


def video_scores(scales: Sequence[np.ndarray]) -> np.ndarray:
    """Return the scores of a video (C,), from the scores (W, C) of its windows of each length."""
    return np.mean([pool_windows(scores) for scores in scales], axis=0)


def timeline_scores(num_snippets: int, scales: Sequence[tuple[Windows, np.ndarray]]) -> np.ndarray:
    """Return class scores over time: at each snippet, the mean of the windows that hold it.

    First the mean over the windows of one length, then over the lengths, so that each length counts
    alike.

    Args:
        num_snippets: S.
        scales: Windows of each length, whose stride leaves no snippet out, and their scores (W, C).

    Returns:
        Shape (S, C) float64.
    """
    means = []
    for windows, scores in scales:
        total = np.zeros((num_snippets, scores.shape[1]))
        held = np.zeros((num_snippets, 1))
        for (first, after), score in zip(windows.snippets.tolist(), scores):
            total[first:after] += score
            held[first:after] += 1
        means.append(total / held)
    return np.mean(means, axis=0)


def snippet_times(frames: np.ndarray, snippet_length: int, fps: float) -> np.ndarray:
    """Return the middle of each snippet in seconds.

    Args:
        frames: That the snippets begin at, (S,).
        snippet_length: Units of a snippet, L.
        fps: Frame rate of the video in Hz.

    Examples:
        >>> snippet_times(np.array([0, 25]), snippet_length=5, fps=25.0)
        array([0.1, 1.1])
    """
    return (frames + snippet_length / 2) / fps


def moment_edges(times: np.ndarray, duration_seconds: float) -> np.ndarray:
    """Return where the part of a video that each snippet stands for begins and ends.

    Parts meet halfway between snippets; together they cover the video.

    Args:
        times: Of the snippets in seconds, (S,).
        duration_seconds: Of the video.

    Returns:
        Shape (S + 1,), from 0 to the duration.

    Examples:
        >>> moment_edges(np.array([0.5, 1.5, 3.5]), 4.0)
        array([0. , 1. , 2.5, 4. ])
    """
    middles = (times[1:] + times[:-1]) / 2
    return np.concatenate([[0.0], middles, [duration_seconds]])
