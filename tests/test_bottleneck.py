"""Where the time of steps went, and what is said about it."""

import pytest

from train import bottleneck
from train.bottleneck import WaitingWatch, step_shares, step_text, usable_cores, waiting_hint


def row(data, copy, compute):
    return {"data_seconds": data, "copy_seconds": copy, "compute_seconds": compute}


def test_shares_leave_the_first_epoch_out_where_there_are_others():
    assert step_shares([row(9, 0, 1)]) == (0.9, 0.0, 0.1)
    assert step_shares([row(9, 0, 1), row(1, 1, 2), row(1, 1, 2)]) == (0.25, 0.25, 0.5)


@pytest.mark.parametrize("rows", [[], [{}], [row(0, 0, 0)], [row("", None, float("nan"))]])
def test_no_shares_where_nothing_is_known(rows):
    assert step_shares(rows) is None
    assert step_text(rows) is None
    assert (
        waiting_hint(rows, num_workers=2, codec="jpeg", resize_on="workers", decode_on="workers")
        is None
    )


def test_older_runs_did_not_measure_copying():
    assert step_shares([{"data_seconds": 1.0, "compute_seconds": 3.0}]) == (0.25, 0.0, 0.75)


def test_the_hint_names_what_can_still_be_changed(monkeypatch):
    monkeypatch.setattr(bottleneck, "usable_cores", lambda: 8)
    rows = [row(3, 0, 7)]
    said = waiting_hint(rows, num_workers=2, codec="jpeg", resize_on="workers", decode_on="workers")
    assert said == (
        "30% of the steps' time was spent waiting for data; what helps: --workers 4, of 8 cores; "
        "--resize-on device; --decode-on device, on a GPU; "
        "raw shards, by tsn-preprocess repack --codec raw; "
        "smaller frames, by tsn-preprocess repack --size"
    )
    said = waiting_hint(rows, num_workers=0, codec="raw", resize_on="device", decode_on="device")
    assert "--workers 1, of 8 cores" in said and "raw" not in said and "-on " not in said
    said = waiting_hint(rows, num_workers=8, codec="raw", resize_on="device", decode_on="device")
    assert said.endswith("what helps: smaller frames, by tsn-preprocess repack --size")
    assert "more --workers" in waiting_hint(
        rows, num_workers=None, codec=None, resize_on="workers", decode_on="workers"
    )
    assert (
        waiting_hint(
            [row(1, 0, 9)], num_workers=2, codec="jpeg", resize_on="workers", decode_on="workers"
        )
        is None
    )


@pytest.mark.parametrize(("epochs", "expected"), [(1, [1]), (5, [2])])
def test_it_is_said_once(epochs, expected):
    said, at = [], []
    watch = WaitingWatch(
        said.append, epochs, num_workers=1, codec="jpeg", resize_on="workers", decode_on="workers"
    )
    for epoch in range(1, epochs + 1):
        watch(row(5, 0, 5))
        at += [epoch] * (len(said) - len(at))
    assert at == expected


def test_cores_that_may_be_used():
    assert usable_cores() >= 1
