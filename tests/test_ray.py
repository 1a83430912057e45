"""Extraction on a real Ray of two cores, on loopback."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cluster_helpers import (
    Counted,
    bytes_of_a_run_on_this_machine,
    bytes_of_a_run_that_loses_a_worker,
    extract,
)
from cluster_jobs import die, fail, fail_at_zero
from conftest import tree_bytes

from preprocess.executor import make_executor
from preprocess.guard import guarding
from tsn_core.errors import ClusterError, InputError

pytestmark = pytest.mark.slow(reason="Ray starts four servers and a process for each core")


@pytest.fixture(scope="module")
def executor():
    here = Path(__file__).resolve().parent
    with pytest.MonkeyPatch.context() as patch:  # where workers find what they are to run
        patch.setenv("PYTHONPATH", os.pathsep.join((str(here.parent), str(here))))
        executor = make_executor("ray", num_workers=2)
        yield executor
        executor.close()


def test_shards_are_those_of_one_worker(executor, tmp_path):
    extract(tmp_path / "data", tmp_path / "cluster", executor)
    assert tree_bytes(tmp_path / "cluster") == bytes_of_a_run_on_this_machine(tmp_path)


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(executor, tmp_path, monkeypatch):
    found = bytes_of_a_run_that_loses_a_worker(tmp_path, monkeypatch, executor)
    assert found == bytes_of_a_run_on_this_machine(tmp_path)


def test_a_job_that_kills_its_workers_ends_the_run(executor):
    with pytest.raises(ClusterError) as caught:
        list(executor.run(die, [7]))
    assert str(caught.value) == (
        "7: 4 workers died while they worked on it; Ray's logs tell more. Finished shards are "
        "kept: give workers more memory, and run the same command again"
    )


def test_errors_come_back(executor):
    with pytest.raises(InputError) as caught:
        list(executor.run(fail, [7]))
    assert str(caught.value) == "number 7"


def test_jobs_are_handed_out_as_they_are_needed(executor):
    jobs = Counted(100_000)
    reports = executor.run(abs, jobs)
    for seen in range(1, 50):
        next(reports)
        assert jobs.taken <= seen + 4
    reports.close()


def test_an_error_ends_the_run_and_leaves_no_tasks_behind(executor, tmp_path):
    with pytest.raises(InputError) as caught:
        list(executor.run(fail_at_zero, [(tmp_path, number) for number in range(1000)]))
    assert str(caught.value) == "number 0 is bad"
    assert sorted(executor.run(abs, [-1, -2])) == [1, 2], "the cores are free again"
    assert len(list(tmp_path.iterdir())) <= 4  # two for each core were handed out


def test_all_jobs_are_done_once(executor):
    assert sorted(executor.run(abs, list(range(-20, 0)))) == list(range(1, 21))
    assert list(executor.run(abs, [])) == []


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


def test_jobs_on_gpus_need_machines_that_have_some(executor, tmp_path):
    with guarding(tmp_path, (), "cuda") as guard, pytest.raises(ClusterError) as caught:
        executor.check(guard)
    assert str(caught.value) == (
        "local Ray: --device cuda needs GPUs, of which this Ray cluster has none; start machines "
        "that have some, or leave --device out"
    )


SHARES = """
import sys
sys.path[:0] = {path!r}
import ray
from cluster_jobs import visible_gpus
from preprocess.executor_ray import RayExecutor
start = ray.init
ray.init = lambda **options: start(**options, num_gpus=1)  # as if there were one
executor = RayExecutor(None, 8)
print(sorted(executor.run(visible_gpus, list(range(3)), 0.25)), ray.available_resources()["GPU"])
"""


def test_a_job_gets_a_share_of_a_gpu():
    code = SHARES.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("['0', '0', '0'] ")


def test_the_ray_of_our_own_listens_on_loopback_alone(executor):
    import ray

    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]


def test_where_nobody_listens_is_one_line():
    with socket.socket() as listener:  # a port that is ours, and that nobody listens at
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with pytest.raises(ClusterError) as caught:
            make_executor("ray", address=f"127.0.0.1:{port}")
    assert str(caught.value) == (
        f"127.0.0.1:{port}: no Ray cluster can be reached there: Connection refused; start one "
        "with: ray start --head; or check --address"
    )


def test_an_address_that_is_none_is_one_line():
    with pytest.raises(InputError) as caught:
        make_executor("ray", address="nonsense")
    assert str(caught.value) == "--address nonsense: HOST:PORT of a Ray cluster, or auto, expected"


def test_something_else_that_listens_is_one_line(monkeypatch):
    monkeypatch.setattr("preprocess.reachable.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ClusterError) as caught:
            make_executor("ray", address=f"127.0.0.1:{port}")
    assert str(caught.value) == (
        f"127.0.0.1:{port}: no Ray cluster can be reached there: timed out; start one with: "
        "ray start --head; or check --address"
    )
