"""What classes gain, and its picture."""

import warnings

import cv2
import numpy as np
import pytest

from train.gain import class_accuracies, gain_rows, gains
from train.plots import plot_gains

ACCURACIES = {
    "rgb": np.array([0.5, np.nan, 1.0, 0.0]),
    "flow": np.array([0.5, np.nan, 0.25, 1.0]),
    "fusion": np.array([1.0, np.nan, 0.5, 1.0]),
}


def test_accuracies_of_classes():
    confusion = np.array([[1, 3, 0], [0, 0, 0], [0, 0, 2]])
    np.testing.assert_array_equal(class_accuracies(confusion), [0.25, np.nan, 1.0])


def test_gains_over_the_first_and_over_the_best():
    result = gains(ACCURACIES, "flow")
    assert list(result) == ["flow over rgb", "fusion over flow"]
    np.testing.assert_array_equal(result["flow over rgb"], [0, np.nan, -0.75, 1])
    np.testing.assert_array_equal(result["fusion over flow"], [0.5, np.nan, 0.25, 0])


def test_rows_are_sorted_by_the_first_gain():
    rows = gain_rows(ACCURACIES, gains(ACCURACIES, "rgb"), [2, 0, 4, 1], ["a", "b", "c", "d"])
    assert [row["class"] for row in rows] == ["d", "a", "c", "b"]
    assert rows[0] == {
        "class": "d",
        "videos": 1,
        "rgb": 0.0,
        "flow": 1.0,
        "fusion": 1.0,
        "flow over rgb": 1.0,
        "fusion over rgb": 1.0,
    }
    assert list(rows[-1].values()) == ["b", 0, None, None, None, None, None]


@pytest.mark.parametrize("classes", [1, 3, 101, 130])
def test_the_picture_has_a_bar_for_each_class(tmp_path, classes):
    values = np.linspace(-0.5, 1.0, classes)
    values += np.where(values < 0, -0.1, 0.1)  # bars that can be seen
    if classes > 1:
        values[classes // 2] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [f"class {n}" for n in range(classes)]
        plot_gains(
            {"flow over rgb": values, "fusion over flow": 0 * values},
            names,
            tmp_path / "g.png",
            "t",
        )
    image = cv2.imread(str(tmp_path / "g.png")).astype(int)
    panel = image[:, : image.shape[1] // 2]
    blue = (panel == (180, 119, 31)).all(axis=2)  # BGR
    red = (panel == (40, 39, 214)).all(axis=2)

    def bars(mask):
        rows = mask.sum(axis=1) > 2
        return int((np.diff(rows.astype(int)) == 1).sum())

    shown = np.sort(values[np.isfinite(values)])
    if len(shown) > 110:
        shown = np.concatenate([shown[:55], shown[-55:]])
    assert bars(red) == (shown < 0).sum()
    assert bars(blue) == (shown > 0).sum()
    assert not (image[:, image.shape[1] // 2 :] == (40, 39, 214)).all(axis=2).any()
