"""Extraction on a real Dask scheduler with two worker processes, on loopback."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from cluster_helpers import (
    Counted,
    bytes_of_a_run_on_this_machine,
    bytes_of_a_run_that_loses_a_worker,
    closing_late,
    extract,
)
from cluster_jobs import die, fail, fail_at_zero, wait_for_the_end
from conftest import tree_bytes

from preprocess.executor import make_executor
from preprocess.executor_dask import DaskExecutor
from preprocess.guard import guarding
from tsn_core.errors import ClusterError, InputError

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
}


def start(stack, folder, *arguments, until):
    """Start a part of Dask and return the address that it tells, for as long as the stack lives."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    stack.enter_context(closing_late(process))
    for line in process.stderr:
        found = re.search(rf"{until}:? +(tcp://\S+)", line)
        if found:
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()  # so that the pipe never fills
            return process, found.group(1)
    raise AssertionError(f"dask {arguments} ended with {process.wait()}")


def start_scheduler(stack, folder):
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
    return start(stack, folder, "scheduler", *options, until="Scheduler at")


def start_worker(stack, folder, address):
    options = ("--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard")
    return start(stack, folder, "worker", address, *options, until="Registered to")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler with two workers, each a process with a nanny."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("dask")
        _, address = start_scheduler(stack, folder)
        for _ in range(2):
            start_worker(stack, folder, address)
        yield address


@pytest.fixture
def executor(cluster):
    executor = DaskExecutor(cluster)
    executor._client.wait_for_workers(2, timeout=60)
    yield executor
    executor.close()


def test_shards_are_those_of_one_worker(executor, tmp_path):
    extract(tmp_path / "data", tmp_path / "cluster", executor)
    assert tree_bytes(tmp_path / "cluster") == bytes_of_a_run_on_this_machine(tmp_path)


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(executor, tmp_path, monkeypatch):
    found = bytes_of_a_run_that_loses_a_worker(tmp_path, monkeypatch, executor)
    assert found == bytes_of_a_run_on_this_machine(tmp_path)


def test_the_program_extracts_on_a_cluster(cluster, folder_dataset, tmp_path, program):
    arguments = ("extract", "--dataset", "folder", "--data", folder_dataset, "--snippets", 2)
    scheduler_file = tmp_path / "scheduler.json"
    scheduler_file.write_text(json.dumps({"address": cluster}))
    one = program(*arguments, "--out", tmp_path / "one", "--jobs", 1)
    for name, address in (("tcp", cluster), ("file", scheduler_file)):
        out = tmp_path / name
        result = program(*arguments, "--out", out, "--executor", "dask", "--address", address)
        assert result.exit_code == 0, result.output
        shards, alone = result.stdout.splitlines()[0], one.stdout.splitlines()[0]
        assert shards.replace(str(out), "") == alone.replace(str(tmp_path / "one"), "")
        assert tree_bytes(out) == tree_bytes(tmp_path / "one")


def test_flow_is_computed_in_batches_on_a_cluster(cluster, folder_dataset, tmp_path, program):
    arguments = ("extract", "--dataset", "folder", "--data", folder_dataset, "--snippets", 1)
    arguments += ("--modality", "flow", "--flow-backend", "torch", "--size", "32x24")
    one = program(*arguments, "--out", tmp_path / "one", "--jobs", 1)
    assert one.exit_code == 0, one.output
    out = tmp_path / "cluster"
    result = program(*arguments, "--out", out, "--executor", "dask", "--address", cluster)
    assert result.exit_code == 0, result.output
    assert "flow-tvl1: computed on --device cpu of every worker\n" in result.stderr
    assert tree_bytes(out) == tree_bytes(tmp_path / "one")
    reports = [
        json.loads((folder / folder_dataset.name / "report.json").read_text())["flow"]
        for folder in (tmp_path / "one", out)
    ]
    assert reports[0]["pairs"] == reports[1]["pairs"] == 30 and reports[1]["devices"] == 1


def test_a_job_that_kills_its_workers_ends_the_run(executor):
    with pytest.raises(ClusterError) as caught:
        list(executor.run(die, [7]))
    assert re.sub(r"\d+, |:\d+;|:\d+ ", ":PORT;", str(caught.value)) == (
        "7: 4 workers died while they worked on it, the last one was tcp://127.0.0.1:PORT; its log "
        "tells more. Finished shards are kept: give workers more memory, and run the same command "
        "again"
    )


def test_errors_come_back(executor):
    with pytest.raises(InputError) as caught:
        list(executor.run(fail, [7]))
    assert str(caught.value) == "number 7"


@pytest.mark.parametrize("most", [None, 1])
def test_jobs_are_handed_out_as_they_are_needed(cluster, most):
    executor = DaskExecutor(cluster, most)
    executor._client.wait_for_workers(2, timeout=60)
    jobs = Counted(100_000)
    reports = executor.run(abs, jobs)
    for seen in range(1, 50):
        next(reports)
        assert jobs.taken <= seen + (4 if most is None else most)
    reports.close()
    executor.close()


def test_an_error_ends_the_run_and_leaves_no_tasks_behind(executor, tmp_path):
    with pytest.raises(InputError) as caught:
        list(executor.run(fail_at_zero, [(tmp_path, number) for number in range(1000)]))
    assert str(caught.value) == "number 0 is bad"
    left = {state.status for state in executor._client.futures.values()}
    assert left <= {"error"}, "nothing waits or runs"
    assert len(list(tmp_path.iterdir())) <= 4  # two for each core were handed out
    (tmp_path / "enough").touch()  # threads cannot be interrupted


def test_all_jobs_are_done_once(executor):
    assert sorted(executor.run(abs, list(range(-20, 0)))) == list(range(1, 21))
    assert list(executor.run(abs, [])) == []


@pytest.mark.slow(reason="Dask takes ten seconds to give a scheduler up")
def test_a_scheduler_that_goes_away_is_one_line(tmp_path):
    with ExitStack() as stack:
        scheduler, address = start_scheduler(stack, tmp_path)
        start_worker(stack, tmp_path, address)
        executor = DaskExecutor(address)
        os.mkfifo(tmp_path / "pipe")

        def kill():
            assert (tmp_path / "pipe").read_text() == "begun"
            scheduler.kill()

        threading.Thread(target=kill, daemon=True).start()
        with pytest.raises(ClusterError) as caught:
            list(executor.run(wait_for_the_end, [tmp_path / "pipe"]))
        assert str(caught.value) == (
            f"{address}: the Dask scheduler is gone; finished shards are kept: start it and its "
            "workers, and run the same command again"
        )
        executor.close()


# --- who may take part ---


def test_workers_of_other_versions_are_refused(executor, tmp_path):
    with guarding(tmp_path) as guard:
        executor.check(guard)
        other = tuple((name, "0.1" if name == "numpy" else it) for name, it in guard.versions)
        with pytest.raises(ClusterError) as caught:
            executor.check(replace(guard, versions=other))
    assert str(caught.value) == (
        f"worker on {socket.gethostname()}: has numpy {dict(guard.versions)['numpy']}, this run "
        "has 0.1; install the same versions everywhere and start the cluster again"
    )


@pytest.mark.parametrize("where", ["scheduler", "worker"])
def test_a_cluster_without_this_package_is_refused(tmp_path, where):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    (old / "preprocess.py").touch()  # hides the package
    with ExitStack() as stack, guarding(tmp_path) as guard:
        _, address = start_scheduler(stack, old if where == "scheduler" else new)
        start_worker(stack, old if where == "worker" else new, address)
        executor = DaskExecutor(address)
        with pytest.raises(ClusterError) as caught:
            executor.check(guard)
        executor.close()
    missing = {
        "scheduler": "No module named 'preprocess.executor_dask'; 'preprocess' is not a package",
        "worker": "ModuleNotFoundError(\"No module named 'preprocess.guard'; 'preprocess' is not a "
        'package")',
    }
    assert re.sub(r"127.0.0.1:\d+", "HOST", str(caught.value)) == (
        f"{where} tcp://HOST: tsn-shards is not installed there, or not in this version "
        f"({missing[where]}); install the same versions everywhere and start the cluster again"
    )


def test_a_cluster_without_workers_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.executor_dask._WORKER_SECONDS", 0.2)
    with ExitStack() as stack, guarding(tmp_path) as guard:
        _, address = start_scheduler(stack, tmp_path)
        executor = DaskExecutor(address)
        with pytest.raises(ClusterError) as caught:
            executor.check(guard)
        executor.close()
    assert str(caught.value) == (
        f"{address}: the scheduler has no workers after 0.2 seconds; start some with: dask worker "
        f"{address}"
    )


# --- who cannot be reached ---


def test_where_nobody_listens_is_one_line():
    with socket.socket() as listener:  # a port that is ours, and that nobody listens at
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with pytest.raises(ClusterError) as caught:
            make_executor("dask", address=f"tcp://127.0.0.1:{port}")
    assert str(caught.value) == (
        f"127.0.0.1:{port}: no Dask scheduler can be reached there: Connection refused; start one "
        "with: dask scheduler; or check --address"
    )


def test_something_else_that_listens_is_one_line(monkeypatch):
    monkeypatch.setattr("preprocess.reachable.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ClusterError) as caught:
            make_executor("dask", address=f"tcp://127.0.0.1:{port}")
    assert str(caught.value) == (
        f"127.0.0.1:{port}: no Dask scheduler can be reached there: timed out; start one with: "
        "dask scheduler; or check --address"
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            None,
            "--executor dask needs the --address of a scheduler, such as tcp://head:8786, or the "
            "path of its scheduler file",
        ),
        (
            "nonsense",
            "--address nonsense: tcp://HOST:PORT or the path of a scheduler file expected",
        ),
        ("gone.json", "--address gone.json: there is no such scheduler file"),
        (
            "bad.json",
            "--address bad.json: a scheduler file of Dask expected, with its address in it",
        ),
    ],
)
def test_an_address_that_is_none_is_one_line(tmp_path, monkeypatch, address, message):
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text("[]")
    with pytest.raises(InputError) as caught:
        make_executor("dask", address=address)
    assert str(caught.value) == message
