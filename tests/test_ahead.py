"""Batches that a thread brings while earlier ones are computed with."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch
from conftest import stored
from test_handover import CPU, batches, dataset_of
from train_helpers import fit_arguments, random_videos, run_program, write_dataset, write_shards

import train.ahead
import train.feed
from train.ahead import CudaPlace, bring_ahead
from train.batches import BatchPlan
from train.clock import Clock
from train.feed import on_device
from train.run_folder import load_checkpoint
from train.videos import make_loader
from tsn_core.errors import ShardError
from tsn_core.loading import stream


def threads():
    return [one for one in threading.enumerate() if one.name == "bring_ahead"]


@pytest.fixture(scope="module", params=["rgb", "flow"])
def shards(request, tmp_path_factory):
    modality = stored(request.param, snippet_length=1 if request.param == "rgb" else 2)
    folder = tmp_path_factory.mktemp("shards") / modality.folder
    return write_shards(folder, modality, random_videos(modality, (4, 9, 5, 7, 6)), per_shard=2)


@pytest.mark.parametrize("resize", [True, False])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_they_are_the_same_to_the_last_bit(shards, resize, num_workers):
    expected = batches(shards, resize)
    found = batches(shards, resize, num_workers=num_workers, ahead=True)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert all(torch.equal(a, b) for a, b in zip(one, other))
    assert not threads()


@pytest.mark.parametrize("resize", [True, False])
def test_a_slot_is_not_filled_again_while_its_batch_is_computed_with(shards, resize):
    """All batches of an epoch are kept, and looked at when every slot has been filled again."""
    dataset = dataset_of(shards, resize=resize)
    plan = BatchPlan(len(dataset), 1, shuffle=True, seed=0)
    expected = list(on_device(stream(make_loader(dataset, plan, num_workers=0)[0]), CPU))
    loader, _ = make_loader(dataset, plan, num_workers=1, worker_start="fork")
    found = list(on_device(stream(loader), CPU, ahead=True))
    assert len(found) == len(expected) == 5
    for one, other in zip(found, expected):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def numbers(count, asked=None):
    for number in range(count):
        if asked is not None:
            asked.append(number)
        yield number


def as_tensor(number, device):
    return torch.tensor([number], device=device)


def until(is_so):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_two_are_brought_ahead_and_no_more():
    asked = []
    with closing(bring_ahead(numbers(9, asked), as_tensor, CPU, Clock())) as brought:
        assert next(brought).item() == 0
        until(lambda: len(asked) == 3)  # one waits, one is at hand
        until(lambda: threads()[0].is_alive())
        time.sleep(0.02)
        assert asked == [0, 1, 2]
        assert next(brought).item() == 1
        until(lambda: len(asked) == 4)
    assert not threads()


def test_the_first_item_is_fetched_by_the_callers_thread_and_the_others_are_not():
    fetchers = []

    def items():
        for number in range(3):
            fetchers.append(threading.current_thread().name)
            yield number

    assert len(list(bring_ahead(items(), as_tensor, CPU, Clock()))) == 3
    assert fetchers == [threading.current_thread().name, "bring_ahead", "bring_ahead"]


def test_nothing_to_bring():
    assert list(bring_ahead([], as_tensor, CPU, Clock())) == []
    assert not threads()


@pytest.mark.parametrize("at", [0, 1, 3])
def test_errors_of_the_loader_come_where_their_batch_would(at):
    def items():
        yield from range(at)
        raise ShardError("a.h5: gone")

    found = []
    with pytest.raises(ShardError, match=r"^a\.h5: gone$"):
        found.extend(one.item() for one in bring_ahead(items(), as_tensor, CPU, Clock()))
    assert found == list(range(at))
    assert not threads()


def test_errors_of_bringing_come_where_their_batch_would():
    def bring(number, device):
        if number == 2:
            raise ShardError("b.h5: damaged")
        return as_tensor(number, device)

    found = []
    with pytest.raises(ShardError, match=r"^b\.h5: damaged$"):
        found.extend(one.item() for one in bring_ahead(numbers(5), bring, CPU, Clock()))
    assert found == [0, 1]
    assert not threads()


def test_whoever_stops_early_leaves_no_thread_behind():
    with (
        pytest.raises(KeyboardInterrupt),
        closing(bring_ahead(numbers(100), as_tensor, CPU, Clock())) as brought,
    ):
        next(brought)
        raise KeyboardInterrupt
    assert not threads()


def test_a_loader_that_hangs_is_left_to_itself(monkeypatch):
    monkeypatch.setattr(train.ahead, "_PATIENCE_SECONDS", 0.2)
    free = threading.Event()

    def items():
        yield 0
        free.wait(20)

    brought = bring_ahead(items(), as_tensor, CPU, Clock())
    next(brought)
    began = time.monotonic()
    brought.close()
    assert time.monotonic() - began < 10
    left = threads()
    free.set()
    for thread in left:
        thread.join(20)
    assert len(left) == 1 and not threads()


def test_the_clock_tells_waiting_for_the_loader_from_bringing():
    """Each lasts several times what the other does; nobody computes, so all of it is waited for."""

    def slow(seconds):
        for number in range(4):
            time.sleep(seconds)
            yield number

    def bring(seconds):
        def put(number, device):
            time.sleep(seconds)
            return as_tensor(number, device)

        return put

    for loading, bringing in ((0.05, 0.005), (0.005, 0.05)):
        clock = Clock()
        list(bring_ahead(slow(loading), bring(bringing), CPU, clock))
        data, _, duration, copy = clock.seconds()
        assert (data > copy) == (loading > bringing)
        assert data + copy <= duration


def test_what_is_brought_while_somebody_computes_is_not_waited_for():
    brought = threading.Semaphore(0)

    def bring(number, device):
        brought.release()
        return as_tensor(number, device)

    clock = Clock()
    with closing(bring_ahead(numbers(3), bring, CPU, clock)) as batches_:
        next(batches_)
        before = sum(clock.seconds()[::3])
        for _ in range(3):
            assert brought.acquire(timeout=20)
        time.sleep(0.3)  # computing: all the others are there, or at hand
        began = time.perf_counter()
        assert [one.item() for one in batches_] == [1, 2]
        assert sum(clock.seconds()[::3]) - before <= time.perf_counter() - began


def test_training_is_the_same_with_and_without(tmp_path, monkeypatch):
    shards = write_dataset(tmp_path / "tiny", train=8)
    rows, plain, used = [], train.feed._brought, []

    def always_ahead(*arguments):
        used.append(1)
        return plain(*arguments[:-1], ahead=True)

    for name in ("usual", "ahead"):
        if name == "ahead":
            monkeypatch.setattr(train.feed, "_brought", always_ahead)
        run = tmp_path / name
        result = run_program(*fit_arguments(shards, run, "--epochs", 2, "--workers", 2))
        assert result.exit_code == 0, result.stderr
        lines = (run / "metrics.csv").read_text().splitlines()
        rows.append([line.split(",")[:6] for line in lines])  # without the times
        weights = load_checkpoint(run / "last.pt")[0].state_dict()
        rows[-1].append([weights[key].numpy().tobytes() for key in sorted(weights)])
    assert rows[0] == rows[1]
    assert len(used) == 4  # two epochs, trained and validated
    assert not threads()


@pytest.mark.slow(reason="trains until it is interrupted")
@pytest.mark.parametrize("everybody", [True, False])
def test_an_interrupted_training_ends_with_all_its_processes(tmp_path, everybody):
    """A terminal interrupts all processes of a program, kill only one."""
    shards = write_dataset(tmp_path / "tiny", train=20)
    code = (
        "import sys, train.feed\n"
        "plain = train.feed._brought\n"
        "train.feed._brought = lambda *words: plain(*words[:-1], ahead=True)\n"
        "from train.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    words = fit_arguments(shards, tmp_path / "run", "--epochs", 100_000, "--workers", 2)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=Path(__file__).parent.parent,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        assert any(line.startswith("epoch 2/") for line in process.stderr)
        (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
        said = process.stderr.read()  # to its end, which comes when nobody can write any more
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert said.endswith("interrupted; the same command goes on where this one stopped\n")
    assert "Traceback" not in said


# --- a GPU, as far as its part can be reached without one ---


class Recorder:
    """Notes what is asked of torch.cuda, in its order."""

    def __init__(self, monkeypatch):
        self.calls = []
        self.on = self.current = None

        class Event:
            def __init__(event, blocking):
                assert blocking

            def record(event):
                self.calls.append(f"record on {self.on}")

            def synchronize(event):
                self.calls.append("wait")

        @contextmanager
        def on(stream):
            assert self.current is not None, "leaving the stream goes to another GPU"
            self.on = stream
            yield
            self.on = None

        @contextmanager
        def current(device):
            self.current = device
            yield
            self.current = None

        def make(device, priority):
            self.calls.append("make")
            return "beside"

        monkeypatch.setattr(torch.cuda, "Stream", make)
        monkeypatch.setattr(torch.cuda, "stream", on)
        monkeypatch.setattr(torch.cuda, "device", current)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "computing")


def test_a_gpu_is_brought_batches_on_one_stream_and_the_thread_waits_for_it(monkeypatch):
    train.ahead._stream_beside.cache_clear()
    recorder = Recorder(monkeypatch)

    class Tensor:
        def __init__(self, is_cuda):
            self.is_cuda = is_cuda

        def record_stream(self, stream):
            recorder.calls.append(f"keep for {stream}")

    def bring(number, device):
        assert device.type == "cuda" and device == recorder.current
        recorder.calls.append(f"bring {number} on {recorder.on}")
        return Tensor(True), Tensor(False)

    gpu = torch.device("cuda")
    try:
        for number in range(2):
            place = CudaPlace(gpu)
            place.take(place.bring(number, bring))
    finally:
        train.ahead._stream_beside.cache_clear()
    once = ["record on beside", "wait", "keep for computing"]
    assert recorder.calls == [
        "make",
        "bring 0 on beside",
        *once,
        "bring 1 on beside",
        *once,
    ]


def test_a_gpu_is_fed_ahead_without_being_asked(monkeypatch):
    devices = []

    def note(items, bring, device, clock):
        devices.append(device.type)
        yield from ()

    monkeypatch.setattr(train.feed, "bring_ahead", note)
    assert list(on_device([], torch.device("cuda"))) == []
    assert list(on_device([], CPU)) == []
    assert devices == ["cuda"]
