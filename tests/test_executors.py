"""What runs jobs: in threads, on a Dask cluster, on a Ray cluster."""

import os
import signal
import threading

import pytest

from preprocess.executor import ThreadExecutor, make_executor
from tsn_core.errors import InputError

# --- choosing one ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "slurm"}, "unknown executor 'slurm'; choose from local, dask, ray"),
        ({"kind": "local", "num_workers": 0}, "--jobs must be > 0, got 0"),
        (
            {"kind": "local", "address": "tcp://head:8786"},
            "--address tcp://head:8786: only for --executor dask or ray; a local run has no "
            "address",
        ),
    ],
)
def test_what_cannot_be_made_is_one_line(arguments, message):
    with pytest.raises(InputError) as caught:
        make_executor(**arguments)
    assert str(caught.value) == message


# --- threads ---


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_run_every_job_once(workers):
    executor = make_executor("local", num_workers=workers)
    assert sorted(executor.run(abs, list(range(-20, 0)))) == list(range(1, 21))
    assert list(executor.run(abs, [])) == []


def test_threads_yield_in_the_order_of_completion():
    second_is_done = threading.Event()

    def work(number):
        if number == 0:
            assert second_is_done.wait(60)
        return number

    reports = ThreadExecutor(2).run(work, [0, 1])
    assert next(reports) == 1
    second_is_done.set()
    assert list(reports) == [0]


class Counted:
    """Jobs that count how many of them were handed out."""

    def __init__(self, number):
        self.number = number
        self.taken = 0

    def __len__(self):
        return self.number

    def __iter__(self):
        for number in range(self.number):
            self.taken += 1
            yield number


def test_threads_hand_out_jobs_as_they_are_needed():
    jobs = Counted(100_000)
    reports = ThreadExecutor(2).run(abs, jobs)
    for seen in range(1, 50):
        next(reports)
        assert jobs.taken <= seen + 2 * 2 + 2
    reports.close()


@pytest.mark.parametrize("ending", ["error", "interrupt", "close"])
def test_an_early_end_stops_what_runs_and_starts_nothing_more(ending):
    stopped, other_runs = threading.Event(), threading.Event()
    started, finished = [], []

    def work(number):
        started.append(number)
        if number == 0:
            other_runs.wait(60)
            if ending == "error":
                raise InputError("number 0 is bad")
            if ending == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
                assert stopped.wait(60)
        elif number == 1:
            other_runs.set()
            assert stopped.wait(60)
            finished.append(number)
        return number

    reports = ThreadExecutor(2, stop=stopped.set).run(work, range(100_000))
    if ending == "error":
        with pytest.raises(InputError) as caught:
            list(reports)
        assert str(caught.value) == "number 0 is bad"
    elif ending == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            list(reports)
    else:
        assert next(reports) != 1, "whichever was done first"
        reports.close()
    assert finished == [1], "it was waited for"
    assert len(started) <= 8, started
