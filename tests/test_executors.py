"""What runs jobs: in threads, on a Dask cluster, on a Ray cluster."""

import os
import queue
import re
import signal
import socket
import sys
import threading
import time
from dataclasses import replace

import pytest
from cluster_helpers import Counted

from preprocess.executor import ThreadExecutor, make_executor
from preprocess.guard import first_readable, guarding, versions
from preprocess.inventory import remove_leftovers
from tsn_core.errors import ClusterError, InputError, MissingDependencyError, OutputError
from tsn_core.location import location

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


@pytest.mark.parametrize(
    ("kind", "module", "library"), [("dask", "distributed", "Dask"), ("ray", "ray", "Ray")]
)
def test_a_missing_library_names_the_extra(monkeypatch, kind, module, library):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError) as caught:
        make_executor(kind, address="127.0.0.1:1")
    assert str(caught.value) == (
        f"--executor {kind} needs {library}, which is not installed; install it with: "
        f"pip install 'tsn-shards[{kind}]'"
    )


def test_the_program_tells_it_in_one_line(monkeypatch, folder_dataset, tmp_path, program):
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "out"
    arguments = ("extract", "--dataset", "folder", "--data", folder_dataset, "--out", out)
    result = program(*arguments, "--executor", "ray")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: --executor ray needs Ray, which is not installed; install it with: "
        "pip install 'tsn-shards[ray]'\n"
    )
    result = program(*arguments, "--address", "head:6379")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        "Error: --address head:6379: only for --executor dask or ray; a local run has no address"
    )
    assert not out.exists()


# --- who may take part ---


def call(job, seen):
    seen(None)
    return job


def test_whoever_sees_the_folders_and_has_the_versions_may_take_part(tmp_path):
    file = tmp_path / "a.avi"
    file.touch()
    with guarding(tmp_path, (file,)) as guard:
        assert guard.problem() is None
        assert guard.around(call)(7) == 7
    assert list(tmp_path.iterdir()) == [file], "nothing is left"


@pytest.mark.parametrize("what", ["versions", "token", "file"])
def test_whoever_does_not_is_refused_in_one_line(tmp_path, what):
    file, elsewhere = tmp_path / "a.avi", tmp_path / "elsewhere" / ".token.tmp"
    with guarding(tmp_path, (file,)) as guard:
        if what == "versions":
            guard = replace(guard, versions=(("h5py", "1.0"),))
        elif what == "token":
            guard = replace(guard, token=elsewhere)
        with pytest.raises(ClusterError) as caught:
            guard.around(call)(7)
    found = str(caught.value).partition(f"worker on {socket.gethostname()}: ")[2]
    if what == "versions":
        found = found.replace(dict(versions())["h5py"], "VERSION")
    assert (
        found
        == {
            "versions": "has h5py VERSION, this run has 1.0; install the same versions everywhere "
            "and start the cluster again",
            "token": f"does not see the files of this run in {elsewhere.parent}; choose an --out "
            "that all machines share under the same path",
            "file": f"cannot read {file}; choose a --data that all machines share under the same "
            "path",
        }[what]
    )


def test_a_folder_that_a_worker_must_not_write_to_is_one_line(tmp_path, monkeypatch):
    with guarding(tmp_path) as guard:
        monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
        assert guard.problem() == (
            f"worker on {socket.gethostname()}: must not write to {tmp_path}; give its user the "
            "permission"
        )


def test_jobs_of_a_run_that_is_over_are_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.guard._LOOK_SECONDS", 0.0)
    message = "shard 3 of d: given up, the run that it belonged to is over"
    with guarding(tmp_path) as guard:

        def end_it(job, seen):
            seen(None)
            guard.token.unlink()
            seen(None)

        with pytest.raises(ClusterError) as caught:
            guard.around(end_it)("shard 3 of d")
    assert str(caught.value) == message
    with pytest.raises(ClusterError) as caught:
        guard.around(call)("shard 3 of d")
    assert str(caught.value) == message


@pytest.mark.parametrize("where", ["folder", "store"])
def test_the_next_run_ends_the_jobs_of_one_that_was_killed(tmp_path, where):
    root = tmp_path if where == "folder" else location("memory://test-executors/d")
    with guarding(root) as guard:
        assert guard.around(call)(7) == 7
        remove_leftovers(root)
        with pytest.raises(ClusterError) as caught:
            guard.around(call)("shard 3 of d")
    assert str(caught.value) == "shard 3 of d: given up, the run that it belonged to is over"


def test_a_folder_without_room_for_the_token_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught, guarding(tmp_path / "file"):
        raise AssertionError("not reached")
    told = re.sub("token-[0-9a-f]{16}", "token", str(caught.value))
    assert told.startswith(f"{tmp_path}/file/.token.tmp: cannot be written: File exists; ")


def test_one_file_that_is_there_is_asked_for(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    assert first_readable(paths) == ()
    paths[1].touch()
    paths[2].touch()
    assert first_readable(paths) == (paths[1],)


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
    jobs = Counted(100_000)

    def work(number):
        started.append(number)
        if number == 0:
            other_runs.wait(60)
            while jobs.taken < 4:  # all threads have been started: an interrupt meets none half
                time.sleep(0.01)
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

    reports = ThreadExecutor(2, stop=stopped.set).run(work, jobs)
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


def test_a_job_that_has_just_begun_when_a_run_ends_is_stopped_too():
    """It had nothing yet that could be stopped when that was done for the first time."""
    stops: queue.SimpleQueue[None] = queue.SimpleQueue()
    begun, finished = threading.Event(), []

    def work(number):
        if number == 0:
            assert begun.wait(60)
            raise InputError("number 0 is bad")
        begun.set()
        for _ in range(3):
            stops.get(timeout=60)
        finished.append(number)

    with pytest.raises(InputError, match="number 0 is bad"):
        list(ThreadExecutor(2, stop=lambda: stops.put(None)).run(work, range(2)))
    assert finished == [1]
