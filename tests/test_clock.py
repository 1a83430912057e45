"""Where the time goes, by a clock that the test winds."""

import pytest

import train.clock
from train.clock import Clock


@pytest.fixture
def now(monkeypatch):
    """A list whose only number is the time."""
    time = [100.0]
    monkeypatch.setattr(train.clock.time, "perf_counter", lambda: time[0])
    return time


def test_waiting_and_copying_within_computing_count_as_what_they_are(now):
    clock = Clock()

    def items():
        for item in "ab":
            now[0] += 3
            yield item
        now[0] += 1

    seen = []
    batches = clock.waiting(items())
    for _ in range(2):
        with clock.computing():
            seen.append(next(batches))
            with clock.copying():
                now[0] += 2
            now[0] += 5
    assert next(batches, None) is None
    now[0] += 10
    assert seen == ["a", "b"]
    assert clock.columns() == {
        "duration_seconds": 31,
        "data_seconds": 7,
        "copy_seconds": 4,
        "compute_seconds": 10,
        "other_seconds": 10,
    }


def test_a_clock_goes_on_where_another_stopped(now):
    clock = Clock(1.0, 2.0, 4.0, 0.5)
    now[0] += 6
    assert clock.seconds() == [1.0, 2.0, 10.0, 0.5]
    assert Clock(*clock.seconds()).columns()["other_seconds"] == 6.5
    assert Clock(1.0, 2.0, 4.0).seconds() == [1.0, 2.0, 4.0, 0.0]  # of an older checkpoint
