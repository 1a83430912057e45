"""Actions found in probabilities over time."""

import numpy as np
import pytest

from train.actions import Action, ActionRule, find_actions, probabilities_over_time
from tsn_core.errors import InputError


def found(per_class, rule, edges=None):
    """Actions as (label, start, end, score), of probabilities written as one row a class."""
    probabilities = np.array(per_class, float).T
    edges = np.arange(len(probabilities) + 1.0) if edges is None else np.array(edges, float)
    return [
        (one.label, one.start_seconds, one.end_seconds, pytest.approx(one.score))
        for one in find_actions(probabilities, edges, rule)
    ]


def plain(**changes):
    return ActionRule(**{"merge_seconds": 0.0, "least_seconds": 0.0, **changes})


def test_an_action_is_where_a_class_is_likely():
    rows = [[0.9, 0.7, 0.2, 0.2, 0.5, 0.1], [0.1, 0.3, 0.3, 0.6, 0.5, 0.9]]
    assert found(rows, plain()) == [(0, 0, 2, 0.8), (1, 3, 6, 2 / 3), (0, 4, 5, 0.5)]
    assert found(rows, plain(threshold=0.65)) == [(0, 0, 2, 0.8), (1, 5, 6, 0.9)]
    assert found(rows, plain(threshold=0.95)) == []


def test_the_whole_video_may_be_one_action():
    assert found([[0.9, 0.8], [0.1, 0.2]], plain()) == [(0, 0, 2, 0.85)]
    assert found([[0.9], [0.1]], plain(), edges=[0, 0.08]) == [(0, 0, 0.08, 0.9)]


def test_the_score_is_a_mean_over_time_not_over_moments():
    assert found([[0.6, 0.9]], plain(), edges=[0, 1, 4]) == [(0, 0, 4, (0.6 + 3 * 0.9) / 4)]


def test_close_parts_of_a_class_are_joined():
    rows = [[0.9, 0.1, 0.9, 0.1, 0.1, 0.9], [0.1] * 6]
    assert found(rows, plain(merge_seconds=1)) == [(0, 0, 3, 1.9 / 3), (0, 5, 6, 0.9)]
    assert found(rows, plain(merge_seconds=2)) == [(0, 0, 6, 0.5)]
    assert len(found(rows, plain(merge_seconds=0.9))) == 3


def test_short_actions_are_dropped_after_joining():
    rows = [[0.9, 0.1, 0.9, 0.1, 0.1, 0.9]]
    assert found(rows, plain(least_seconds=1.5)) == []
    assert found(rows, plain(least_seconds=1)) == [(0, n, n + 1, 0.9) for n in (0, 2, 5)]
    assert found(rows, plain(least_seconds=1.5, merge_seconds=1)) == [(0, 0, 3, 1.9 / 3)]


def test_moments_without_length_are_no_action():
    assert found([[0.1, 0.9]], plain(), edges=[0, 1, 1]) == []


def test_the_background_class_is_no_action():
    rows = [[0.9, 0.1], [0.1, 0.9]]
    assert found(rows, plain(background=0)) == [(1, 1, 2, 0.9)]


def test_probabilities_equal_a_naive_mean_of_softmaxes():
    generator = np.random.default_rng(0)
    scores = generator.normal(scale=30, size=(40, 3)).astype(np.float32)
    times = np.sort(generator.uniform(0, 10, 40))
    softmax = np.array(
        [[1 / sum(np.exp(np.float64(b) - a) for b in row) for a in row] for row in scores.tolist()]
    )
    expected = [softmax[np.abs(times - time) <= 0.75].mean(axis=0) for time in times]
    np.testing.assert_allclose(probabilities_over_time(scores, times, 1.5), expected, atol=1e-12)
    np.testing.assert_allclose(probabilities_over_time(scores, times, 0.0), softmax, atol=1e-12)


def test_neighbours_at_the_very_distance_count():
    scores = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 0.0]])
    smooth = probabilities_over_time(scores, np.array([0.1, 0.3, 0.5]), 0.4)
    np.testing.assert_allclose(smooth[:, 0], [0.75, 2 / 3, 0.75])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0.0}, "--threshold must be between 0 and 1, got 0"),
        ({"threshold": 1.0}, "--threshold must be between 0 and 1, got 1"),
        ({"threshold": float("nan")}, "--threshold must be between 0 and 1, got nan"),
        ({"smooth_seconds": -1.0}, "--smooth must be 0 seconds or more, got -1"),
        ({"merge_seconds": float("inf")}, "--merge must be 0 seconds or more, got inf"),
        ({"least_seconds": float("nan")}, "--least must be 0 seconds or more, got nan"),
    ],
)
def test_rules_out_of_range(changes, message):
    with pytest.raises(InputError) as caught:
        ActionRule(**changes)
    assert str(caught.value) == message


def test_actions_sort_by_time():
    assert sorted([Action(2, 3, 0), Action(1, 9, 1), Action(1, 2, 5)]) == [
        Action(1, 2, 5),
        Action(1, 9, 1),
        Action(2, 3, 0),
    ]
