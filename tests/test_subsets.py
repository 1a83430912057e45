"""Held-out training videos, and which subset is watched."""

import pytest

from train.subsets import subset_names, watched_subset
from tsn_core.manifest import Manifest, Record


def manifest(counts, val=0, test=2):
    """So many training videos of each class, and val and test videos of the first."""
    names = tuple(f"class{n}" for n in range(len(counts)))
    records = [
        Record(f"{names[label]}/{number}.avi", label, {1: "train", 2: "train"})
        for label, count in enumerate(counts)
        for number in range(count)
    ]
    records += [Record(f"val{n}.avi", 0, {1: "val"}) for n in range(val)]
    records += [Record(f"test{n}.avi", 0, {1: "test", 2: "test"}) for n in range(test)]
    return Manifest("tiny", names, tuple(records))


def test_nothing_is_held_out_unless_asked():
    tiny = manifest([3, 3])
    assert len(subset_names(tiny, 1, "train")) == 6
    assert subset_names(tiny, 1, "val") == ()
    assert watched_subset(tiny, 1, 0.0) == "test"


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_every_class_gives_its_share_and_keeps_one(fraction):
    counts = [1, 2, 5, 10]
    tiny = manifest(counts)
    train, val = (subset_names(tiny, 1, name, fraction) for name in ("train", "val"))
    everything = [record.name for record in tiny.records if record.splits[1] == "train"]
    assert sorted([*train, *val]) == sorted(everything)
    assert [n for n in everything if n in set(train)] == list(train), "in the manifest's order"
    for label, count in enumerate(counts):
        held = sum(name.startswith(f"class{label}/") for name in val)
        assert held == min(max(round(fraction * count), 1), count - 1)
    assert subset_names(tiny, 1, "test", fraction) == ("test0.avi", "test1.avi")
    assert watched_subset(tiny, 1, fraction) == "val"


def test_the_choice_follows_from_names_and_split_alone():
    tiny = manifest([20, 20])
    turned = Manifest("tiny", tiny.class_names, tuple(reversed(tiny.records)))
    chosen = subset_names(tiny, 1, "val", 0.2)
    assert set(subset_names(turned, 1, "val", 0.2)) == set(chosen)
    assert set(subset_names(tiny, 2, "val", 0.2)) != set(chosen)


def test_a_split_with_val_videos_keeps_them():
    tiny = manifest([3, 3], val=2)
    assert subset_names(tiny, 1, "val", 0.5) == ("val0.avi", "val1.avi")
    assert len(subset_names(tiny, 1, "train", 0.5)) == 6
