"""Extraction into an object store: the bytes of a local one, whole or not at all, one at a time."""

import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import tree_bytes
from train_helpers import message_of

from preprocess import remote_lock
from preprocess.folder_lock import locked
from preprocess.sources import Journal, Stamp
from tsn_core.errors import OutputError, StoreError
from tsn_core.location import RemotePath

OPTIONS = (
    *("--modality", "rgb", "--modality", "flow", "--flow", "farneback", "--size", "32x24"),
    *("--snippets", 3, "--videos-per-shard", 2, "--jobs", 2),
)
VOLATILE = {"report.json", "log.jsonl"}  # hold times


def arguments(data, out, *more):
    return ("extract", "--dataset", "folder", "--data", data, "--out", out, *OPTIONS, *more)


def comparable(files):
    return {name: data for name, data in files.items() if name.rpartition("/")[2] not in VOLATILE}


@pytest.fixture
def local(program, folder_dataset, tmp_path):
    """The files of a local extraction."""
    result = program(*arguments(folder_dataset, tmp_path / "local"))
    assert result.exit_code == 0, result.output
    return comparable(tree_bytes(tmp_path / "local"))


def no_leftovers(store):
    hidden = [key for key in store.names() if key.rpartition("/")[2].startswith(".")]
    return hidden == ["out/gestures/.sources.jsonl"] and store.unfinished() == []


def test_an_extraction_into_a_store_is_the_local_one(store, program, folder_dataset, local):
    with store.counted() as made:
        result = program(*arguments(folder_dataset, store.path("out")))
    assert result.exit_code == 0, result.output
    assert comparable(store.tree("out")) == local
    assert no_leftovers(store)
    shards = [request.method for request in made if request.name.endswith(".h5")]
    # each is looked for and written, and its tables are read for the catalogue
    assert sorted(shards) == ["GET"] * 6 + ["HEAD"] * 12 + ["PUT"] * 6
    report = json.loads(store.get("out/gestures/report.json"))
    assert (report["status"], report["videos"]["extracted"]) == ("finished", 6)
    log = store.get("out/gestures/log.jsonl").splitlines()
    events = [json.loads(line)["event"] for line in log]
    assert (events[0], events[-1]) == ("run-start", "run-end")
    assert events.count("shard") == 3
    result = program("verify", store.path("out"))
    assert result.exit_code == 0, result.output


class Elsewhere:
    """Runs jobs as the workers of a cluster do: pickled, and only where all that is needed is."""

    in_this_process = False

    def check(self, guard):
        assert pickle.loads(pickle.dumps(guard)).problem() is None
        self.guard = guard

    def run(self, function, jobs, num_gpus=0.0):
        for job in jobs:
            assert not self.guard.is_over
            yield pickle.loads(pickle.dumps(function))(pickle.loads(pickle.dumps(job)))

    def close(self):
        pass


def test_a_cluster_writes_into_a_store_what_one_machine_writes(
    store, program, folder_dataset, local, monkeypatch
):
    executor = Elsewhere()
    monkeypatch.setattr("preprocess.executor.make_executor", lambda *_, **__: executor)
    result = program(*arguments(folder_dataset, store.path("out")))
    assert result.exit_code == 0, result.output
    assert comparable(store.tree("out")) == local
    assert no_leftovers(store)
    assert executor.guard.is_over
    assert "does not see the files of this run" in executor.guard.problem()


def test_a_second_run_makes_nothing(store, program, folder_dataset):
    assert program(*arguments(folder_dataset, store.path("out"))).exit_code == 0
    with store.counted() as made:
        result = program(*arguments(folder_dataset, store.path("out")))
    assert result.exit_code == 0
    assert "everything was there already; nothing to do" in result.output
    shards = [request.method for request in made if request.name.endswith(".h5")]
    assert shards.count("HEAD") == 2 * 6 + 2  # and once more to know how many videos a shard holds
    assert shards.count("GET") == 6 + 2
    assert [r.name for r in made if r.method == "PUT" and r.name.endswith((".h5", ".json"))] == [
        "out/gestures/report.json"
    ]


def test_a_shard_that_cannot_be_uploaded(store, program, folder_dataset, local):
    store.fault = lambda method, name, _: method == "PUT" and name.endswith("rgb/shard-00001.h5")
    out = store.path("out")
    result = program(*arguments(folder_dataset, out))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"error: {out}/gestures/rgb/shard-00001.h5: Access Denied; check the address and what you "
        "may do there, then run the same command again"
    )
    assert "out/gestures/rgb/shard-00001.h5" not in store.names()
    assert "out/gestures/rgb/index.json" not in store.names()
    assert no_leftovers(store)
    store.fault = lambda *_: False
    assert program(*arguments(folder_dataset, out)).exit_code == 0
    assert comparable(store.tree("out")) == local


def test_a_changed_source_makes_its_shard_anew(store, program, folder_dataset):
    out = store.path("out")
    assert program(*arguments(folder_dataset, out)).exit_code == 0
    os.utime(folder_dataset / "nod" / "nod_0.avi", (1, 1))
    with store.counted() as made:
        result = program(*arguments(folder_dataset, out))
    assert result.exit_code == 0
    assert "1 source video changed since the last extraction" in result.stderr
    shards = [r.name for r in made if r.method == "PUT" and r.name.endswith(".h5")]
    assert {name.rpartition("/")[2] for name in shards} == {"shard-00000.h5"}
    result = program(*arguments(folder_dataset, out))
    assert "everything was there already; nothing to do" in result.output


def test_a_bucket_that_is_not_there(store, program, folder_dataset):
    result = program(*arguments(folder_dataset, "s3://no-such-bucket/shards"))
    assert result.exit_code == 1
    assert result.stderr == (
        "error: s3://no-such-bucket/shards/gestures: cannot be written: The specified bucket does "
        "not exist; choose another --out\n"
    )


def test_damaged_shards_and_failed_videos_are_made_anew(store, program, folder_dataset, local):
    out = store.path("out")
    (folder_dataset / "nod" / "nod_0.avi").rename(folder_dataset / "hidden")
    (folder_dataset / "nod" / "nod_0.avi").write_bytes(b"no video")
    assert program(*arguments(folder_dataset, out)).exit_code == 1
    assert (
        '"command": "tsn-preprocess try s3://' in store.get("out/gestures/failures.jsonl").decode()
    )
    (folder_dataset / "hidden").rename(folder_dataset / "nod" / "nod_0.avi")
    result = program("retry", out / "gestures", "--jobs", 2)
    assert result.exit_code == 0, result.output
    assert comparable(store.tree("out")) == local
    name = "out/gestures/rgb/shard-00001.h5"
    data = bytearray(store.get(name))
    data[-5000] ^= 1
    store.put(name, bytes(data))
    assert program("verify", out).exit_code == 1
    result = program("verify", out / "gestures", "--repair", "--jobs", 2)
    assert result.exit_code == 0, result.output
    assert comparable(store.tree("out")) == local


@pytest.mark.slow(reason="starts the program and kills it")
def test_a_killed_run_leaves_whole_shards_and_no_lock_for_long(
    store, program, folder_dataset, local
):
    """Its process is seen to be gone, so that nobody has to wait."""
    reached, killed = threading.Event(), threading.Event()

    def hold(method, name, _):
        if method == "PUT" and name.endswith("flow-farneback/shard-00001.h5"):
            reached.set()
            killed.wait()
            return True
        return False

    store.fault = hold
    words = [str(word) for word in arguments(folder_dataset, store.path("out"))]
    process = subprocess.Popen([sys.executable, "-m", "preprocess", *words])
    assert reached.wait(60)
    result = program(*arguments(folder_dataset, store.path("out")))
    assert result.exit_code == 1
    assert f"another extraction is writing there (process {process.pid} on " in result.stderr
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed.set()
    store.fault = lambda *_: False
    assert "out/gestures/.lock" in store.names()
    assert "out/gestures/flow-farneback/shard-00001.h5" not in store.names()
    upload = {"Bucket": store.bucket, "Key": "out/gestures/rgb/shard-00002.h5"}
    store.client.create_multipart_upload(**upload)
    result = program(*arguments(folder_dataset, store.path("out")))
    assert result.exit_code == 0, result.output
    assert comparable(store.tree("out")) == local
    assert no_leftovers(store)


# --- the lock ---


def lock_of(store, key="out/.lock", **changes):
    """Write the lock of another machine's process."""
    content = {
        "host": "other",
        "place": "other 1 2",
        "process": 7,
        "token": "x",
        "renewed": time.time(),
        **changes,
    }
    store.put(key, json.dumps(content).encode())


def hold(store, wait=False, tell=print):
    return locked(store.path("out"), wait=wait, tell=tell)


def test_a_lock_that_another_machine_holds(store):
    lock_of(store)
    with pytest.raises(OutputError) as caught, hold(store):
        pytest.fail("two hold it")
    root = store.path("out")
    assert str(caught.value) == (
        f"{root}: another extraction is writing there (process 7 on other, seen 0 seconds ago); "
        f"wait for it, use --wait, or remove {root}/.lock if that process is gone"
    )
    assert json.loads(store.get("out/.lock"))["token"] == "x"


@pytest.mark.parametrize(
    "changes",
    [{"renewed": 1.0}, {"place": None, "process": 2**22 + 1}, {"process": "?"}],
    ids=["long ago", "gone", "damaged"],
)
def test_a_dead_lock_is_taken_over(store, changes):
    if "place" in changes:
        changes = {**changes, "place": remote_lock._place()}
    lock_of(store, **changes)
    with hold(store) as check:
        check()
        mine = json.loads(store.get("out/.lock"))
        assert (mine["process"], mine["host"]) == (os.getpid(), platform.node())
        with pytest.raises(OutputError), hold(store):
            pytest.fail("two hold it")
    assert store.names() == []


def test_waiting_for_a_lock(store, monkeypatch):
    monkeypatch.setattr(remote_lock, "POLL_SECONDS", 0.01)
    told = []

    def tell(line):
        told.append(line)
        store.client.delete_object(Bucket=store.bucket, Key="out/.lock")

    lock_of(store)
    with hold(store, wait=True, tell=tell) as check:
        check()
    assert told == [
        f"{store.path('out')}: another extraction is writing there (process 7 on other, seen 0 "
        "seconds ago); waiting for it"
    ]


def test_a_lock_is_renewed_until_somebody_has_taken_it_over(store, monkeypatch):
    monkeypatch.setattr(remote_lock, "RENEW_SECONDS", 0.01)
    renewed = threading.Event()

    def see(method, *_):
        if method == "PUT" and len(store.requests) > 12:  # it has been renewed before
            renewed.set()
        return False

    store.fault = see
    with hold(store) as check:
        first = json.loads(store.get("out/.lock"))
        assert renewed.wait(60)
        check()
        last = json.loads(store.get("out/.lock"))
        assert last["renewed"] > first["renewed"]
        assert last["token"] == first["token"]
        monkeypatch.setattr(remote_lock.RemoteLock, "renew", lambda self: None)
    assert store.names() == []


def test_a_run_that_has_lost_its_lock_stops(store, program, folder_dataset, monkeypatch):
    monkeypatch.setattr(remote_lock, "RENEW_SECONDS", 0.01)
    lost = threading.Event()
    renew = remote_lock.RemoteLock.renew

    def see(lock):
        renew(lock)
        if lock._lost:
            lost.set()

    def take_over(method, name, _):
        if method == "PUT" and name.endswith("rgb/shard-00000.h5"):
            lock_of(store, key="out/gestures/.lock")
            assert lost.wait(60)
        return False

    monkeypatch.setattr(remote_lock.RemoteLock, "renew", see)
    store.fault = take_over
    result = program(*arguments(folder_dataset, store.path("out")))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"error: {store.path('out')}/gestures: the lock could not be renewed for 600 seconds, and "
        "another extraction may have taken it over; run the same command again"
    )
    assert "out/gestures/rgb/index.json" not in store.names()
    assert json.loads(store.get("out/gestures/.lock"))["token"] == "x"


def test_a_lock_that_was_taken_over_is_noticed_and_left_alone(store):
    lock = remote_lock._try(store.path("out/.lock"))
    lock.check()
    lock.renew()
    lock.check()
    lock_of(store)
    lock.renew()
    assert message_of(lock.check, error=OutputError) == (
        f"{store.path('out')}: the lock could not be renewed for 600 seconds, and another "
        "extraction may have taken it over; run the same command again"
    )
    lock.release()
    assert store.names() == ["out/.lock"]


def test_a_lock_whose_first_answer_was_lost_is_held(store, monkeypatch):
    write = RemotePath.write_bytes

    def twice(path, data, **options):  # as a client does that has got no answer
        write(path, data, **options)
        if options.get("exclusive"):
            write(path, data, **options)

    monkeypatch.setattr(RemotePath, "write_bytes", twice)
    with hold(store) as check:
        check()
    assert store.names() == []


def test_a_store_that_fails_for_a_while_costs_no_lock(store):
    lock = remote_lock._try(store.path("out/.lock"))
    store.fault = lambda *_: True
    lock.renew()
    lock.check()
    store.fault = lambda method, *_: method == "HEAD"  # the lock is written, the answer lost
    lock.renew()
    store.fault = lambda *_: False
    lock.renew()
    lock.renew()
    lock.check()
    lock.release()
    assert store.names() == []


def test_of_two_that_take_over_one_succeeds(store):
    lock_of(store, renewed=1.0)
    path = store.path("out/.lock")
    with path.opened() as stream:
        seen = stream.status
    assert remote_lock._try(path) is not None
    with pytest.raises(FileExistsError):
        path.write_bytes(b"mine", replacing=seen)
    store.client.delete_object(Bucket=store.bucket, Key="out/.lock")
    with pytest.raises(FileNotFoundError):
        path.write_bytes(b"mine", replacing=seen)


# --- the journal ---


def test_a_journal_that_cannot_be_read_is_not_an_empty_one(store, tmp_path):
    root = store.path("out")
    journal = Journal(root)
    journal.start(tmp_path)
    journal.append(["rgb"], 0, {"a.avi": Stamp(1, 2)})
    journal.close()
    now = {"a.avi": Stamp(1, 3)}
    assert Journal(root).changed("rgb", 0, ["a.avi"], now, False) == {"a.avi"}
    store.fault = lambda method, *_: method == "GET"
    assert message_of(Journal, root, error=StoreError).startswith(f"{root}/.sources.jsonl: ")
