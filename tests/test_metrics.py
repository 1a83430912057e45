"""Accuracies against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from train.bootstrap import intervals
from train.metrics import (
    confusion_matrix,
    mean_class_accuracy,
    predictions,
    summarize,
    table,
    top_k_accuracy,
)

SCORES = np.array([[3.0, 1, 2], [1, 2, 3], [2, 1, 0], [5, 4, 3]])
LABELS = np.array([0, 1, 1, 2])


def test_by_hand():
    assert [top_k_accuracy(SCORES, LABELS, k) for k in (1, 2, 3)] == [0.25, 0.75, 1.0]
    confusion = confusion_matrix(SCORES, LABELS)
    assert confusion.tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 0]]
    assert mean_class_accuracy(confusion) == pytest.approx(1 / 3)
    assert summarize(SCORES, LABELS) == {
        "num_videos": 4,
        "num_classes": 3,
        "top1": 0.25,
        "top5": 1.0,
        "mean_class_accuracy": pytest.approx(1 / 3),
        **intervals(confusion),
    }


@st.composite
def scored(draw):
    videos, classes = draw(st.integers(1, 12)), draw(st.integers(2, 7))
    scores = draw(arrays(np.float32, (videos, classes), elements=st.integers(-3, 3)))
    return scores, draw(arrays(np.int64, videos, elements=st.integers(0, classes - 1)))


@given(scored(), st.integers(1, 8))
def test_top_k_against_the_worst_order_of_equal_scores(pair, k):
    scores, labels = pair
    right = 0
    for row, label in zip(scores.tolist(), labels.tolist()):
        others = [score for number, score in enumerate(row) if number != label]
        right += sum(score >= row[label] for score in others) < k
    assert top_k_accuracy(scores, labels, k) == pytest.approx(right / len(labels))


@given(scored())
def test_confusion_counts_every_video_once(pair):
    scores, labels = pair
    confusion = confusion_matrix(scores, labels)
    classes = scores.shape[1]
    naive = np.zeros((classes, classes), int)
    for row, label in zip(scores.tolist(), labels.tolist()):
        # of equal scores, the first class that is wrong
        best = max(range(classes), key=lambda c: (row[c], c != label, -c))
        naive[label, best] += 1
    assert confusion.tolist() == naive.tolist()
    assert np.trace(naive) / len(labels) == pytest.approx(top_k_accuracy(scores, labels, 1))
    shares = [naive[c, c] / naive[c].sum() for c in range(classes) if naive[c].sum()]
    assert mean_class_accuracy(confusion) == pytest.approx(sum(shares) / len(shares))


def test_a_score_that_is_no_number_is_wrong():
    scores = np.full((3, 6), np.nan)
    assert top_k_accuracy(scores, np.array([0, 1, 2]), 1) == 0.0
    assert top_k_accuracy(scores, np.array([0, 1, 2]), 5) == 0.0
    assert top_k_accuracy(np.array([[1.0, np.nan]]), np.array([1]), 1) == 0.0
    assert predictions(scores, np.array([0, 1, 2])).tolist() == [1, 0, 0]


def test_one_class_alone():
    summary = summarize(np.array([[0.5], [-1.0]], np.float32), np.array([0, 0]))
    assert summary == {
        "num_videos": 2,
        "num_classes": 1,
        "top1": 1.0,
        "top5": 1.0,
        "mean_class_accuracy": 1.0,
        "top1_interval": [1.0, 1.0],
        "mean_class_accuracy_interval": [1.0, 1.0],
    }


def test_a_class_without_videos_counts_for_nothing():
    scores = np.array([[2.0, 1, 0], [0, 1, 2]])
    summary = summarize(scores, np.array([0, 0]))  # classes 1 and 2 are empty
    assert summary["mean_class_accuracy"] == 0.5
    assert summary["mean_class_accuracy_interval"] == summary["top1_interval"] == [0.0, 1.0]


def row(top1, **more):
    return {"num_videos": 27, "top1": top1, "top5": 1.0, "mean_class_accuracy": 0.5, **more}


def test_table_of_one():
    assert table({"rgb": row(2 / 3)}) == (
        "modality  videos   top-1   top-5  mean class\nrgb           27   66.7%  100.0%       50.0%"
    )


def test_table_with_weights():
    rows = {"flow-farneback": row(1.0, weight=1.5), "rgb": row(0.0, weight=1.0), "fusion": row(0.5)}
    assert table(rows) == (
        "modality        weight  videos   top-1   top-5  mean class\n"
        "flow-farneback     1.5      27  100.0%  100.0%       50.0%\n"
        "rgb                  1      27    0.0%  100.0%       50.0%\n"
        "fusion                      27   50.0%  100.0%       50.0%"
    )


def test_table_with_intervals():
    sure = {"top1_interval": [0.25, 0.75], "mean_class_accuracy_interval": [0.0, 1.0]}
    rows = {"rgb": row(0.5, weight=1.0, **sure), "fusion": row(0.375, **sure)}
    assert table(rows) == (
        "modality  weight  videos   top-1  95% interval     top-5  mean class  95% interval\n"
        "rgb            1      27   50.0%  25.0 to 75.0    100.0%       50.0%  0.0 to 100.0\n"
        "fusion                27   37.5%  25.0 to 75.0    100.0%       50.0%  0.0 to 100.0"
    )
    assert "interval" not in table({**rows, "flow": row(0.5)})
