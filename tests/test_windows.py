"""Temporal windows: naive loops over the paper's formula, and short videos."""

import numpy as np
import pytest

from train.windows import (
    SCALES,
    moment_edges,
    place_windows,
    pool_windows,
    snippet_times,
    timeline_scores,
    video_scores,
    window_scores,
)
from tsn_core.errors import InputError


def naive_windows(times, duration, length, stride):
    """(start, end, snippets inside) of every window that holds a snippet, one after the other."""
    found = []
    number = 0
    while number == 0 or number * stride * length < duration - 1e-6:
        start = number * stride * length
        inside = [s for s, time in enumerate(times) if start - 1e-6 <= time < start + length - 1e-6]
        if inside:
            found.append((start, min(start + length, duration), inside))
        number += 1
    return found


def naive_pooled(rows):
    """Mean of the max(15, n/4) largest of n numbers, class by class."""
    count = max(15, len(rows) // 4)
    return [
        np.mean(sorted((row[label] for row in rows), reverse=True)[:count])
        for label in range(len(rows[0]))
    ]


def naive_video_scores(scores, times, duration, scales, stride=0.8):
    per_scale = []
    for length in scales:
        rows = [
            [max(scores[s][label] for s in inside) for label in range(scores.shape[1])]
            for _, _, inside in naive_windows(times, duration, length, stride)
        ]
        per_scale.append(naive_pooled(rows))
    return np.mean(per_scale, axis=0)


def all_scores(scores, times, duration, scales, stride=0.8):
    placed = [place_windows(times, duration, length, stride) for length in scales]
    return placed, [window_scores(scores, windows) for windows in placed]


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_the_formula_written_out(seed):
    generator = np.random.default_rng(seed)
    rate, fps = generator.choice([0.7, 1.0, 2.0, 5.0]), 12.5
    duration = float(generator.uniform(0.3, 130))
    frames = np.rint(np.arange(0, duration, 1 / rate) * fps)
    times = snippet_times(frames, 1, fps).clip(max=duration)
    scores = generator.normal(size=(len(times), 4)).astype(np.float32)
    placed, pooled = all_scores(scores, times, duration, SCALES)
    for length, windows in zip(SCALES, placed):
        expected = naive_windows(times, duration, length, 0.8)
        np.testing.assert_allclose(windows.spans, [(start, end) for start, end, _ in expected])
        assert [list(range(*pair)) for pair in windows.snippets] == [w[2] for w in expected]
    np.testing.assert_allclose(
        video_scores(pooled), naive_video_scores(scores, times, duration, SCALES), rtol=1e-5
    )


def test_a_long_video_has_more_than_fifteen_best_windows():
    """100 s at one snippet a second: 125 windows of 1 s, of which the best 31 count."""
    times = np.arange(100) + 0.5
    scores = np.arange(100.0)[:, None] * [[1.0, -1.0]]
    windows = place_windows(times, 100.0, 1.0)
    assert len(windows.spans) == 125
    found = pool_windows(window_scores(scores, windows))
    starts = 0.8 * np.arange(125)
    per_window = np.sort([[np.flatnonzero((s <= times) & (times < s + 1))[-1]] for s in starts], 0)
    np.testing.assert_allclose(found[0], per_window[-31:].mean())


@pytest.mark.parametrize("count", [1, 2, 14, 15, 16, 59, 60, 63, 64, 200])
def test_which_windows_are_averaged(count):
    scores = np.random.default_rng(count).permutation(count).astype(float)[:, None]
    best = {1: 1, 2: 2, 14: 14, 15: 15, 16: 15, 59: 15, 60: 15, 63: 15, 64: 16, 200: 50}[count]
    assert pool_windows(scores) == pytest.approx(np.arange(count - best, count).mean())


def test_each_class_has_its_own_best_windows():
    scores = np.zeros((40, 2))
    scores[:15, 0] = scores[25:, 1] = 3.0
    assert pool_windows(scores).tolist() == [3.0, 3.0]


def test_a_video_shorter_than_a_window_is_one_window():
    windows = place_windows(np.array([0.1, 0.5]), 0.6, 1.0)
    assert windows.spans.tolist() == [[0.0, 0.6]]
    assert windows.snippets.tolist() == [[0, 2]]


def test_one_snippet_is_its_own_score_at_every_length():
    scores = np.array([[0.5, -2.0]])
    placed, pooled = all_scores(scores, np.array([0.04]), 0.04, SCALES)
    assert [len(windows.spans) for windows in placed] == [1] * 5
    assert video_scores(pooled).tolist() == [0.5, -2.0]
    assert timeline_scores(1, list(zip(placed, pooled))).tolist() == [[0.5, -2.0]]


def test_a_snippet_on_the_border_belongs_to_the_later_window():
    times = np.array([0.0, 0.5, 1.0, 1.5])  # with the usual roundings: 3 * 0.1 is not 0.3
    windows = place_windows(times, 2.0, 1.0, stride=1.0)
    assert windows.snippets.tolist() == [[0, 2], [2, 4]]
    tenths = place_windows(np.arange(10) * 0.1, 1.0, 0.3, stride=1.0)
    assert tenths.snippets.tolist() == [[0, 3], [3, 6], [6, 9], [9, 10]]


def test_windows_between_snippets_are_left_out():
    windows = place_windows(np.array([0.5, 3.5]), 4.0, 1.0, stride=1.0)
    assert windows.spans.tolist() == [[0.0, 1.0], [3.0, 4.0]]


def test_scores_over_time_equal_a_naive_mean():
    generator = np.random.default_rng(5)
    times, duration = (np.arange(60) + 0.5) / 3, 20.0
    scores = generator.normal(size=(60, 3))
    placed, pooled = all_scores(scores, times, duration, (1.0, 4.0, 16.0))
    expected = np.zeros((60, 3))
    for snippet in range(60):
        lengths = []
        for length in (1.0, 4.0, 16.0):
            windows = naive_windows(times, duration, length, 0.8)
            holding = [scores[inside].max(axis=0) for _, _, inside in windows if snippet in inside]
            assert holding
            lengths.append(np.mean(holding, axis=0))
        expected[snippet] = np.mean(lengths, axis=0)
    np.testing.assert_allclose(timeline_scores(60, list(zip(placed, pooled))), expected)


def test_moments_cover_the_video():
    times = snippet_times(np.array([0, 5, 20]), snippet_length=2, fps=10.0)
    assert times.tolist() == [0.1, 0.6, 2.1]
    assert moment_edges(times, 2.5).tolist() == [0.0, 0.35, 1.35, 2.5]
    assert moment_edges(np.array([0.04]), 0.08).tolist() == [0.0, 0.08]


@pytest.mark.parametrize(
    ("length", "stride", "message"),
    [
        (0.0, 0.8, "scales must be > 0 seconds, got 0"),
        (-1.0, 0.8, "scales must be > 0 seconds, got -1"),
        (float("inf"), 0.8, "scales must be > 0 seconds, got inf"),
        (float("nan"), 0.8, "scales must be > 0 seconds, got nan"),
        (1.0, 0.0, "stride must be above 0 and up to 1, got 0"),
        (1.0, 1.5, "stride must be above 0 and up to 1, got 1.5"),
        (1.0, float("nan"), "stride must be above 0 and up to 1, got nan"),
    ],
)
def test_windows_out_of_range(length, stride, message):
    with pytest.raises(InputError) as caught:
        place_windows(np.array([0.5]), 1.0, length, stride)
    assert str(caught.value) == message
