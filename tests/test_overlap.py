"""Temporal overlap against a naive reference, and scores of videos of several classes."""

import numpy as np
import pytest

from train import several_classes
from train.actions import Action
from train.overlap import (
    average_precision,
    frame_accuracy,
    mean_average_precision,
    precision_and_recall,
    summarize,
    table,
    temporal_iou,
)


def random_actions(generator, most, num_classes=3):
    actions = []
    for _ in range(generator.integers(most + 1)):
        start = generator.integers(20)
        length = generator.integers(1, 8)
        # scores differ, so that the order is plain
        actions.append(
            Action(
                start,
                start + length,
                int(generator.integers(num_classes)),
                float(generator.random()),
            )
        )
    return actions


def naive_iou(one, other):
    seconds = range(40)
    first = {s for s in seconds if one.start_seconds <= s < one.end_seconds}
    second = {s for s in seconds if other.start_seconds <= s < other.end_seconds}
    return len(first & second) / len(first | second)


def naive_precision_curve(predicted, true, label, least_iou):
    """(recall, precision) after each prediction, surest first, as ActivityNet matches them."""
    total = sum(one.label == label for actions in true for one in actions)
    ranked = [(one, v) for v, actions in enumerate(predicted) for one in actions]
    ranked = sorted((p for p in ranked if p[0].label == label), key=lambda p: p[0].score)[::-1]
    used, right, curve = set(), 0, []
    for number, (one, v) in enumerate(ranked, start=1):
        candidates = [
            (naive_iou(one, t), -n)
            for n, t in enumerate(true[v])
            if t.label == label and (v, n) not in used
        ]
        if candidates and max(candidates)[0] >= least_iou:
            used.add((v, -max(candidates)[1]))
            right += 1
        curve.append((right / total if total else None, right / number))
    return total, right, len(ranked), curve


def naive_average_precision(curve):
    """The VOC area: for each recall reached, the best precision at it or beyond."""
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[place:])
        before = recall
    return area


@pytest.mark.parametrize("seed", range(20))
def test_measures_equal_a_naive_computation(seed):
    generator = np.random.default_rng(seed)
    videos = int(generator.integers(1, 5))
    predicted = [random_actions(generator, 9) for _ in range(videos)]
    true = [random_actions(generator, 6) for _ in range(videos)]
    for least_iou in (0.3, 0.5, 0.7):
        results = [naive_precision_curve(predicted, true, label, least_iou) for label in range(3)]
        areas = [naive_average_precision(curve) for total, _, _, curve in results if total]
        expected = np.mean(areas) if areas else None
        found = mean_average_precision(predicted, true, 3, least_iou)
        assert found == (None if expected is None else pytest.approx(expected))
        right, guesses, total = (sum(r[i] for r in results) for i in (1, 2, 0))
        precision, recall = precision_and_recall(predicted, true, 3, least_iou)
        assert precision == (right / guesses if guesses else None)
        assert recall == (right / total if total else None)


def test_random_measures_are_of_every_kind():
    """The test above compares something: some are perfect, some are not, some are nothing."""
    perfect = [[Action(0, 4, 0), Action(5, 9, 1, 0.5)]]
    assert mean_average_precision(perfect, perfect, 3, 0.7) == 1.0
    assert mean_average_precision([[]], perfect, 3, 0.3) == 0.0
    assert mean_average_precision(perfect, [[]], 3, 0.3) is None
    assert precision_and_recall([[]], perfect, 3, 0.3) == (None, 0.0)
    assert precision_and_recall(perfect, [[]], 3, 0.3) == (0.0, None)


def test_overlap_of_two():
    one, other = [Action(0, 4, 0)], [Action(2, 6, 1), Action(4, 8, 0), Action(0, 4, 2)]
    assert temporal_iou(one, other).tolist() == [[pytest.approx(1 / 3), 0.0, 1.0]]
    assert temporal_iou(one, []).shape == (1, 0)


def test_a_true_action_is_found_once():
    twice = [[Action(0, 4, 0, 0.9), Action(0, 4, 0, 0.8)]]
    assert precision_and_recall(twice, [[Action(0, 4, 0)]], 1, 0.5) == (0.5, 1.0)


def test_no_action_is_found_in_another_video_or_class():
    true = [[Action(0, 4, 0)], []]
    assert precision_and_recall([[], [Action(0, 4, 0)]], true, 2, 0.5) == (0.0, 0.0)
    assert precision_and_recall([[Action(0, 4, 1)], []], true, 2, 0.5) == (0.0, 0.0)


def test_overlap_of_exactly_the_least_is_enough():
    half = [[Action(0, 2, 0)]]
    assert precision_and_recall(half, [[Action(0, 4, 0)]], 1, 0.5) == (1.0, 1.0)
    assert precision_and_recall(half, [[Action(0, 4, 0)]], 1, 0.51) == (0.0, 0.0)


def test_average_precision_of_no_prediction_is_nothing():
    assert average_precision(np.array([], bool), 3) == 0.0


def test_frames_right_equal_a_naive_count():
    generator = np.random.default_rng(1)
    for _ in range(20):
        predicted, true = ([random_actions(generator, 5) for _ in range(2)] for _ in range(2))
        right = 0
        for found, wanted, fps in zip(predicted, true, (2.0, 3.0)):
            for frame in range(50):
                time = (frame + 0.5) / fps
                held = [one for one in found if one.start_seconds <= time < one.end_seconds]
                label = max(held, key=lambda one: one.score).label if held else None
                shown = {w.label for w in wanted if w.start_seconds <= time < w.end_seconds}
                right += label in shown if shown else label is None
        assert frame_accuracy(predicted, true, [50, 50], [2.0, 3.0]) == right / 100


def test_the_table():
    found = [[Action(0, 4, 0, 0.9), Action(6, 8, 1, 0.8)]]
    row = summarize(found, [[Action(0, 3, 0)]], 2, [10], [1.0])
    assert row == {
        "num_true": 1,
        "num_predicted": 2,
        "precision": 0.5,
        "recall": 1.0,
        "map_0.3": 1.0,
        "map_0.5": 1.0,
        "map_0.7": 1.0,
        "frame_accuracy": 0.7,
    }
    assert table("flow", row) == (
        "modality  actions  found  precision  recall  mAP@0.3  mAP@0.5  mAP@0.7  frames right\n"
        "flow            1      2      50.0%  100.0%   100.0%   100.0%   100.0%         70.0%"
    )
    nothing = summarize([[]], [[]], 2, [10], [1.0])
    assert table("flow-farneback", nothing) == (
        "modality        actions  found  precision  recall  mAP@0.3  mAP@0.5  mAP@0.7  "
        "frames right\n"
        "flow-farneback        0      0          -       -        -        -        -        100.0%"
    )


# --- videos of several classes ---


def test_videos_of_several_classes():
    scores = np.array([[3.0, 2.0, 0.0], [0.0, 9.0, 1.0], [4.0, 4.0, 0.0], [0.0, 1.0, 2.0]])
    row = several_classes.summarize(scores, [{0, 1}, {2}, {0}, {2, 1}])
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    areas = []
    for label, shown in enumerate(([0, 2], [0, 3], [1, 3])):
        order = sorted(range(4), key=lambda v: -softmax[v, label])
        right, curve = 0, []
        for number, video in enumerate(order, start=1):
            right += video in shown
            curve.append((right / len(shown), right / number))
        areas.append(naive_average_precision(curve))
    assert 0 < np.mean(areas) < 1
    assert row == {
        "num_videos": 4,
        "top1": 0.5,  # the second is wrong, and so is the third: equal scores are no knowledge
        "mean_average_precision": pytest.approx(np.mean(areas)),
    }
    assert several_classes.table("rgb", {**row, "mean_average_precision": 0.75}) == (
        "modality  videos   top-1     mAP\nrgb            4   50.0%   75.0%"
    )
