"""What is said of each class and of each mistake, against counting by hand."""

import numpy as np
import pytest

from train.class_table import COLUMNS, class_rows, class_text
from train.csv_file import write_csv
from train.mistakes import mistakes, mistakes_text
from train.scores import Scores

CONFUSION = np.array([[3, 1, 2, 0], [0, 4, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
CLASSES = ("walk", "run, fast", "jump", "sit")


def test_rows_of_classes():
    walk, run, jump, sit = class_rows(CONFUSION, CLASSES)
    assert walk == {
        "class": "walk",
        "videos": 6,
        "right": 3,
        "accuracy": 0.5,
        "precision": 0.75,
        "taken_for": "jump",
        "times": 2,
    }
    assert run == {
        "class": "run, fast",
        "videos": 4,
        "right": 4,
        "accuracy": 1.0,
        "precision": 0.8,
        "taken_for": None,
        "times": 0,
    }
    assert jump == {
        "class": "jump",
        "videos": 0,
        "right": 0,
        "accuracy": None,  # not NaN
        "precision": 0.0,
        "taken_for": None,
        "times": 0,
    }
    assert (sit["accuracy"], sit["precision"], sit["taken_for"]) == (0.0, None, "walk")


def test_the_file_of_classes(tmp_path):
    write_csv(tmp_path / "classes.csv", COLUMNS, class_rows(CONFUSION, CLASSES))
    assert (tmp_path / "classes.csv").read_bytes().decode() == (
        "class,videos,right,accuracy,precision,taken_for,times\n"
        "walk,6,3,0.5,0.75,jump,2\n"
        '"run, fast",4,4,1.0,0.8,,0\n'
        "jump,0,0,,0.0,,0\n"
        "sit,1,0,0.0,,walk,1\n"
    )


def test_text_of_few_classes_has_all():
    assert class_text(class_rows(CONFUSION, CLASSES)) == (
        "class      videos  right  accuracy  precision  taken for\n"
        "walk            6      3     50.0%      75.0%  jump (2)\n"
        "run, fast       4      4    100.0%      80.0%\n"
        "jump            0      0         -       0.0%\n"
        "sit             1      0      0.0%          -  walk (1)"
    )


def test_text_of_many_classes_has_the_worst():
    confusion = np.diag(np.arange(16))  # the first class is empty
    confusion[5, 0] = confusion[9, 0] = confusion[9, 1] = 5
    lines = class_text(class_rows(confusion, [f"c{n}" for n in range(16)])).split("\n")
    assert lines[:4] == [
        "the 10 worst of 16 classes:",
        "class  videos  right  accuracy  precision  taken for",
        "c9         19      9     47.4%     100.0%  c0 (5)",
        "c5         10      5     50.0%     100.0%  c0 (5)",
    ]
    # equally good ones: those with more videos first
    assert [line.split()[0] for line in lines[4:]] == [
        "c15", "c14", "c13", "c12", "c11", "c10", "c8", "c7"
    ]  # fmt: skip


def scores_of(video_scores, labels, names):
    array = np.array(video_scores, np.float32)
    return Scores(
        name="rgb",
        names=np.array(list(names)),
        labels=np.array(labels),
        scores=array[:, None],
        video_scores=array,
        class_names=np.array(CLASSES[: array.shape[1]]),
    )


def test_mistakes_are_sorted_by_the_probability_of_the_truth():
    video_scores = [[0, 2, 1], [3, 0, 0], [9, 0, 0], [0, 0, 500], [0, 0, 1000], [1, 1, 0]]
    labels = [0, 0, 1, 0, 1, 0]
    rows = mistakes(scores_of(video_scores, labels, "abcdef"))
    assert [row["video"] for row in rows] == ["e", "d", "c", "a", "f"]
    assert [row["true"] for row in rows] == ["run, fast", "walk", "run, fast", "walk", "walk"]
    assert [row["predicted"] for row in rows] == ["jump", "jump", "walk", "run, fast", "run, fast"]
    for row in rows:
        video = "abcdef".index(row["video"])
        powers = np.exp(np.array(video_scores[video], np.float64) - max(video_scores[video]))
        expected = powers / powers.sum()
        assert row["probability_true"] == pytest.approx(expected[labels[video]])
        assert row["probability_predicted"] == pytest.approx(expected.max())


def test_text_of_mistakes():
    scores = [[0, n] for n in range(1, 8)]
    rows = mistakes(scores_of(scores, [0] * 7, "abcdefg"))
    assert mistakes_text([]) == ""
    assert mistakes_text(rows[-1:]) == (
        "mistakes, with probabilities:\n  a: walk (0.269) taken for run, fast (0.731)"
    )
    lines = mistakes_text(rows).split("\n")
    assert lines[0] == "the 5 worst of 7 mistakes, with probabilities:"
    assert [line.split(":")[0] for line in lines[1:]] == ["  g", "  f", "  e", "  d", "  c"]
