"""Bootstrap intervals against resamples that are drawn, or listed, one video at a time."""

import itertools

import numpy as np
import pytest

from train import bootstrap
from train.bootstrap import differences, intervals


def accuracies(labels, right):
    """Top-1 and mean class accuracy, counted naively."""
    classes = {}
    for label, hit in zip(labels, right):
        classes.setdefault(label, []).append(hit)
    return [np.mean(right), np.mean([np.mean(hits) for hits in classes.values()])]


def confusion_of(labels, right, num_classes):
    """Wrong videos are taken for the next class."""
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for label, hit in zip(labels, right):
        confusion[label, label if hit else (label + 1) % num_classes] += 1
    return confusion


def all_resamples(labels, *rights):
    """Accuracies of all V^V resamples, which are equally likely, (V^V, tests, 2)."""
    return np.array(
        [
            [
                accuracies([labels[v] for v in chosen], [right[v] for v in chosen])
                for right in rights
            ]
            for chosen in itertools.product(range(len(labels)), repeat=len(labels))
        ]
    )


LABELS = [0, 0, 0, 2, 2]  # class 1 is empty
RIGHT = [1, 1, 0, 1, 0]
WORSE = [1, 0, 0, 1, 0]
CUTS = (0.1, 0.3, 0.45, 0.55, 0.7, 0.9)


def test_resamples_are_distributed_like_all_that_there_are(monkeypatch):
    """Compares whole distributions, not two quantiles of few values."""
    monkeypatch.setattr(
        bootstrap, "_interval", lambda values: [float(np.mean(values <= x)) for x in CUTS]
    )
    seen = intervals(confusion_of(LABELS, RIGHT, 3))
    listed = all_resamples(LABELS, RIGHT)[:, 0]  # (3125, 2)
    for place, name in enumerate(("top1_interval", "mean_class_accuracy_interval")):
        exact = [np.mean(listed[:, place] <= x) for x in CUTS]
        assert 0 < exact[0] < exact[-1] < 1
        np.testing.assert_allclose(seen[name], exact, atol=0.02)  # 4 deviations of 10,000 draws


def test_differences_are_of_the_same_resamples(monkeypatch):
    monkeypatch.setattr(
        bootstrap, "_interval", lambda values: [float(np.mean(values <= x)) for x in CUTS]
    )
    got = differences(np.array(LABELS), np.array(RIGHT, bool), np.array(WORSE, bool), 3)
    first, second = accuracies(LABELS, RIGHT), accuracies(LABELS, WORSE)
    assert got["top1"] == pytest.approx(first[0] - second[0])
    assert got["mean_class_accuracy"] == pytest.approx(first[1] - second[1])
    listed = all_resamples(LABELS, RIGHT, WORSE)
    listed = listed[:, 0] - listed[:, 1]
    for place, name in enumerate(("top1_interval", "mean_class_accuracy_interval")):
        exact = [np.mean(listed[:, place] <= x) for x in CUTS]
        np.testing.assert_allclose(got[name], exact, atol=0.02)
    swapped = differences(np.array(LABELS), np.array(WORSE, bool), np.array(RIGHT, bool), 3)
    assert swapped["top1"] == -got["top1"]


def test_intervals_against_drawn_videos():
    generator = np.random.default_rng(4)
    labels = generator.integers(0, 7, 200)
    right = generator.random(200) < 0.1 + 0.12 * labels
    other = np.where(generator.random(200) < 0.2, ~right, right)
    got = intervals(confusion_of(labels, right, 7))
    paired = differences(labels, right, other, 7)
    drawn = []
    for _ in range(3000):
        chosen = generator.integers(0, 200, 200)
        first = accuracies(labels[chosen].tolist(), right[chosen])
        second = accuracies(labels[chosen].tolist(), other[chosen])
        drawn.append([first, np.subtract(first, second)])
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    for test, result in enumerate((got, paired)):
        for place, name in enumerate(("top1_interval", "mean_class_accuracy_interval")):
            expected = [low[test, place], high[test, place]]
            np.testing.assert_allclose(result[name], expected, atol=0.01)
            assert result[name][1] - result[name][0] > 0.05


def test_a_test_against_itself_is_no_different():
    right = np.array(RIGHT, bool)
    assert differences(np.array(LABELS), right, right, 3) == {
        "top1": 0.0,
        "mean_class_accuracy": 0.0,
        "top1_interval": [0.0, 0.0],
        "mean_class_accuracy_interval": [0.0, 0.0],
    }


def test_intervals_are_the_same_every_time_and_in_parts_of_any_size(monkeypatch):
    confusion = confusion_of(LABELS, RIGHT, 3)
    first = intervals(confusion)
    assert intervals(confusion) == first
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 17)
    monkeypatch.setattr(bootstrap, "NUM_RESAMPLES", 1000)
    small = intervals(confusion)
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 10**6)
    assert intervals(confusion) == small


def test_memory_does_not_grow_with_the_videos():
    shares = [part.shape for part in bootstrap._resamples(np.full((400, 2), 50))]
    assert sum(shape[0] for shape in shares) == 10_000
    assert max(np.prod(shape) for shape in shares) <= 1_000_000
