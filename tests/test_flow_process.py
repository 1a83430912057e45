"""The process that computes flow for decoding processes, and what it makes of hostile ones."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import psutil
import pytest
from fake_flow_process import FakeFlow

from preprocess import flow_pool, flow_wire
from preprocess.flow_client import FlowConnection
from preprocess.flow_lost import FlowProcessLost
from preprocess.flow_pool import FlowProcess, end_flow_processes, has_flow_processes
from preprocess.flow_queue import Batch, FlowQueue, _joined
from preprocess.flow_usage import FlowMeter
from preprocess.flow_wire import Answer, BadRequest, Request, sealed_memory
from tsn_core.errors import DeviceError, InputError, TSNError

pytestmark = pytest.mark.skipif(not has_flow_processes(), reason="memfd_create")
METHODS = ("a", "b")
SIZE = (20, 30)


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    """Run the fake, and leave no process behind."""
    monkeypatch.setattr(flow_pool, "FLOW_MODULE", "fake_flow_process")
    others = set(psutil.Process().children())
    yield lambda **how: monkeypatch.setenv("FAKE_FLOW", json.dumps(how))
    end_flow_processes()
    assert set(psutil.Process().children()) <= others, "no process is left behind"


@pytest.fixture
def process():
    process = FlowProcess("cpu:0")
    yield process
    process.dispose()


def connect(process):
    return FlowConnection(process.connect(METHODS).detach(), METHODS, lambda: None)


def frames_of(number, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, *size), np.uint8)


def chain(number):
    """Return the pairs of neighbours."""
    return np.stack([np.arange(number - 1), np.arange(1, number)], axis=1).astype(np.int32)


def expected(frames, pairs):
    first, last = (frames[pairs[:, n]].astype(np.float32) for n in (0, 1))
    return np.stack([(last - first) / 16, (first + 2 * last) / 40 - 9], axis=-1)


def pid_of(process):
    return process._process.pid


def check_service(connection, seed=1):
    """A good client gets what it asks for."""
    service = connection.service("b", "cpu:0")
    frames = frames_of(5, seed=seed)
    with service.submit(list(frames), chain(5))() as flow:
        np.testing.assert_array_equal(flow, expected(frames, chain(5)))


# --- messages ---


def test_a_request_is_read_as_it_was_written():
    request = Request(flow_wire.FLOW, 7, 1, 4, 3, 20, 30, 1)
    assert Request.unpack(request.pack()) == request
    assert request.frames_shape == (4, 20, 30) and request.flow_shape == (3, 20, 30, 2)
    colour = Request(flow_wire.FLOW, 7, 1, 4, 3, 20, 30, 3)
    assert colour.frames_shape == (4, 20, 30, 3)
    layout = colour.layout
    assert layout.frames >= 3 * 8 and layout.flow >= layout.frames + 4 * 20 * 30 * 3
    assert layout.flow % 64 == 0 and layout.size == layout.flow + 3 * 20 * 30 * 2 * 4


@pytest.mark.parametrize(
    "answer", [Answer(3), Answer(2**40, 1, text="zu groß"), Answer(1, in_colour=True, most=512)]
)
def test_an_answer_is_read_as_it_was_written(answer):
    assert Answer.unpack(answer.pack()) == answer


GOOD = {
    "kind": flow_wire.FLOW,
    "number": 1,
    "method": 0,
    "num_frames": 5,
    "num_pairs": 4,
    "height": SIZE[0],
    "width": SIZE[1],
    "channels": 1,
}
BAD = [
    {"kind": 2},
    {"num_pairs": 0},
    {"num_pairs": 2**31},
    {"num_frames": 0},
    {"num_frames": 9},
    {"height": 0},
    {"width": 2**20},
    {"channels": 2},
    {"height": 65536, "width": 65536},
]


@pytest.mark.parametrize("change", BAD)
def test_numbers_out_of_range(change):
    with pytest.raises(BadRequest):
        Request.unpack(Request(**{**GOOD, **change}).pack())


# --- the queue ---


def queue_of(flow, method="a"):
    queue = FlowQueue(FlowMeter("cpu:0"))
    queue.add_method(method, lambda: flow)
    return queue


def fake_flow(monkeypatch, **how):
    monkeypatch.setenv("FAKE_FLOW", json.dumps(how))
    return FakeFlow()


def run_once(queue):
    taken = queue._take()
    queue.compute(taken, _joined(taken))
    return len(taken)


def batch_of(number, told, size=SIZE, seed=0, **more):
    frames = frames_of(number, size, seed)
    batch = Batch("a", frames, chain(number), told.append, **more)
    return batch, expected(frames, chain(number))


def test_waiting_batches_of_one_size_are_joined_as_far_as_they_fit(monkeypatch):
    flow = fake_flow(monkeypatch, most=7)
    queue = queue_of(flow)
    told = [[] for _ in range(5)]
    wanted = []
    sizes = [SIZE, SIZE, (10, 12), SIZE, SIZE]
    for number, (size, results) in enumerate(zip(sizes, told)):
        batch, flow_of_it = batch_of(4 if number < 4 else 2, results, size, seed=number)
        queue.put(batch)
        wanted.append(flow_of_it)
    assert [run_once(queue) for _ in range(3)] == [3, 1, 1]  # 3 + 3 + 1 pairs; the other size; 3
    assert flow.batches == [7, 3, 3]
    for results, right in zip(told, wanted):
        (parts,) = results
        np.testing.assert_array_equal(np.concatenate(parts), right)
    usage = queue._meter.usage
    assert (usage.batches, usage.pairs, usage.room) == (3, 13, 21)
    assert queue._num_bytes == 0


def test_what_fills_the_device_is_joined_while_it_computes(monkeypatch):
    """What does not fill it waits until the device is free, since others may come."""
    flow = fake_flow(monkeypatch, most=7)
    queue = queue_of(flow)
    queue._is_idle = False
    taken = []
    threading.Thread(target=lambda: taken.append(queue._take()), daemon=True).start()
    for number in range(2):
        queue.put(batch_of(4, [], seed=number)[0])
        assert not queue._may_join()
    queue.put(batch_of(2, [], seed=2)[0])
    while not taken:
        time.sleep(0.001)
    assert [len(batch.pairs) for batch in taken[0]] == [3, 3, 1]
    queue.put(batch_of(4, [])[0])
    assert not queue._may_join()
    queue._is_idle = True
    assert queue._may_join()
    queue._next = (taken[0], _joined(taken[0]))
    assert not queue._may_join(), "one batch ahead is enough"


def test_what_does_not_fit_is_halved_and_remembered(monkeypatch):
    flow = fake_flow(monkeypatch, most=16, too_large=5)
    queue = queue_of(flow)
    told = []
    batch, right = batch_of(13, told)
    queue.put(batch)
    run_once(queue)
    (parts,) = told
    np.testing.assert_array_equal(np.concatenate(parts), right)
    assert flow.batches == [12, 6, 3, 3, 3, 3]
    assert queue.most_pairs("a", *SIZE) == 3


def test_a_pair_that_does_not_fit_fails_its_batch_alone(monkeypatch):
    flow = fake_flow(monkeypatch, huge=64)
    queue = queue_of(flow)
    told, others = [], []
    queue.put(batch_of(3, told, size=(64, 8))[0])
    batch, right = batch_of(3, others)
    queue.put(batch)
    assert [run_once(queue), run_once(queue)] == [1, 1]
    assert told == ["no memory for 1 of 8x64"]
    np.testing.assert_array_equal(np.concatenate(others[0]), right)


def test_a_device_is_tried_when_the_memory_of_what_failed_is_free(monkeypatch):
    fake, held = fake_flow(monkeypatch, huge=64), []

    class Flow:
        in_colour = False
        most_pairs = fake.most_pairs

        def __call__(self, frames, pairs):
            assert not [one for one in held if one() is not None], "memory of an earlier try"
            mine = frames.copy()
            held.append(weakref.ref(mine))
            return fake(mine, pairs)

    queue = queue_of(Flow())
    told = []
    queue.put(batch_of(2, told, size=(64, 8))[0])
    run_once(queue)
    assert told == ["no memory for 1 of 8x64"]
    assert len(held) == 2


def test_a_device_that_fails_ends_all(monkeypatch):
    flow = fake_flow(monkeypatch, too_large=1)
    queue = queue_of(flow)
    queue.put(batch_of(3, [])[0])
    with pytest.raises(DeviceError, match="no memory for 1 of 128x128"):
        run_once(queue)


def test_frames_that_no_algorithm_takes(monkeypatch):
    def refuse(frames, pairs):
        raise InputError("too small")

    monkeypatch.setattr(FakeFlow, "__call__", lambda self, *given: refuse(*given))
    queue = queue_of(fake_flow(monkeypatch))
    told = []
    queue.put(batch_of(3, told)[0])
    run_once(queue)
    assert told == ["too small"]


def test_nothing_is_computed_for_who_is_gone(monkeypatch):
    flow = fake_flow(monkeypatch)
    queue = queue_of(flow)
    told, others = [], []
    queue.put(batch_of(3, told, is_wanted=lambda: False)[0])
    queue.put(batch_of(4, others)[0])
    run_once(queue)
    assert told == ["nobody waits for it"]
    assert flow.batches == [3] and len(others) == 1
    assert queue._num_bytes == 0


def test_a_queue_that_is_full_says_so(monkeypatch):
    monkeypatch.setattr("preprocess.flow_queue.MOST_WAITING_BYTES", 10)
    queue = queue_of(fake_flow(monkeypatch))
    assert queue.has_room(0.0)
    queue.put(batch_of(3, [])[0])
    assert not queue.has_room(0.01)
    run_once(queue)
    assert queue.has_room(0.0)


# --- the process ---


def test_several_clients_are_served_side_by_side(fake, process):
    fake(seconds=0.05, most=8)
    connections = [connect(process) for _ in range(4)]
    threads = []
    for seed, connection in enumerate(connections):
        threads.append(threading.Thread(target=check_service, args=(connection, seed)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    usage = process.usage()
    assert usage.pairs == 16 and usage.batches <= 4
    assert 0 < usage.busy_seconds <= usage.seconds


def test_several_batches_are_on_their_way_at_once(process):
    connection = connect(process)
    service = connection.service("a", "cpu:0")
    assert service.most_pairs(*SIZE) == 7 and not service.in_colour
    material = [frames_of(4, seed=seed) for seed in range(20)]
    pending = [service.submit(list(frames), chain(4)) for frames in material[:12]]
    for frames, wait in zip(material, pending):
        with wait() as flow:
            np.testing.assert_array_equal(flow, expected(frames, chain(4)))
    assert service.waited_seconds > 0
    # what a video that failed has left behind is waited for, and forgotten
    for frames in material[12:]:
        service.submit(list(frames), chain(4))
    connection.settle()
    assert connection._open == {} and connection._answers == {}
    check_service(connection)


def test_memory_is_used_again(process):
    connection = connect(process)
    service = connection.service("a", "cpu:0")
    before = psutil.Process().num_fds()
    for seed in range(30):
        size = (20, 30) if seed % 10 else (40, 50)
        frames = frames_of(4, size, seed)
        with service.submit(list(frames), chain(4))() as flow:
            np.testing.assert_array_equal(flow, expected(frames, chain(4)))
    assert psutil.Process().num_fds() <= before + 2


def good_memory(request, pairs=None):
    """Return the descriptor of the memory of a request."""
    fd = sealed_memory(request.layout.size)
    os.pwrite(fd, (chain(5) if pairs is None else np.array(pairs, np.int32)).tobytes(), 0)
    return fd


def unsealed(request):
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, request.layout.size)
    return fd


def half_sealed(request):
    fd = unsealed(request)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def attack(number, tmp_path):
    """Return what a hostile client sends: a message and the descriptors with it."""
    request = Request(**GOOD)
    file = tmp_path / "file"
    file.write_bytes(bytes(request.layout.size))
    reads, writes = os.pipe()
    os.close(writes)
    other = {"num_frames": 2**32 - 1, "num_pairs": 2**32 - 1}
    return [
        (b"nonsense", []),
        (b"", [good_memory(request)]),
        (request.pack()[:-1], [good_memory(request)]),
        (request.pack() + b"x" * 5000, [good_memory(request)]),
        (b"XXXX" + request.pack()[4:], [good_memory(request)]),
        (request.pack(), []),
        (request.pack(), [good_memory(request), good_memory(request)]),
        (request.pack(), [good_memory(request) for _ in range(20)]),
        (request.pack(), [reads]),
        (request.pack(), [os.open(file, os.O_RDWR)]),
        (request.pack(), [unsealed(request)]),
        (request.pack(), [half_sealed(request)]),
        (request.pack(), [sealed_memory(request.layout.size - 1)]),
        (request.pack(), [os.open("/dev/zero", os.O_RDWR)]),
        (request.pack(), [good_memory(request, [[0, 5]] * 4)]),
        (request.pack(), [good_memory(request, [[-1, 0]] * 4)]),
        (Request(**{**GOOD, "method": 2}).pack(), [good_memory(request)]),
        (Request(**{**GOOD, "channels": 3}).pack(), [sealed_memory(10**6)]),
        (Request(**{**GOOD, **other}).pack(), [good_memory(request)]),
        (Request(**{**GOOD, "kind": flow_wire.ROOM}).pack(), [good_memory(request)]),
    ][number]


@pytest.fixture(scope="module")
def besieged():
    """One process for all attacks, and a good client that was there before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow_pool, "FLOW_MODULE", "fake_flow_process")
        process = FlowProcess("cpu:0")
        connection = connect(process)
    yield process, connection, pid_of(process)
    process.dispose()


@pytest.mark.parametrize("number", range(20))
def test_a_hostile_client_harms_nobody_but_itself(besieged, number, tmp_path):
    process, connection, pid = besieged
    data, fds = attack(number, tmp_path)
    with process.connect(METHODS) as hostile:
        hostile.settimeout(30)
        socket.send_fds(hostile, [data or b"\0"], fds)
        for fd in fds:
            os.close(fd)
        assert hostile.recv(100) == b"", "the connection is closed"
    check_service(connection)
    assert pid_of(process) == pid
    open_files = psutil.Process(pid).num_fds()
    assert open_files < 40, "nothing that was sent is kept open"


def test_memory_that_cannot_be_written_is_an_answer(besieged):
    """A client that takes back the right to write gets its error, and the process lives on."""
    process, connection, pid = besieged
    request = Request(**GOOD)
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, request.layout.size)
    os.pwrite(fd, chain(5).tobytes(), 0)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    with process.connect(METHODS) as hostile:
        socket.send_fds(hostile, [request.pack()], [fd])
        os.close(fd)
        answer = Answer.unpack(hostile.recv(1000))
    assert answer == Answer(1, flow_wire.REFUSED, text="memory that cannot be written")
    check_service(connection)
    assert pid_of(process) == pid


def test_more_batches_than_agreed(besieged):
    process, connection, pid = besieged
    request = Request(**GOOD)
    with process.connect(METHODS) as hostile:
        hostile.settimeout(30)
        fd = good_memory(request)
        with pytest.raises(OSError):  # sooner or later it is closed, as it reads no answer either
            for _ in range(100_000):
                socket.send_fds(hostile, [request.pack()], [fd])
        os.close(fd)
    check_service(connection)
    assert pid_of(process) == pid


def test_a_client_that_is_killed_in_the_middle(fake, process):
    fake(seconds=0.2, most=1)
    first = connect(process)
    pid = pid_of(process)
    service = first.service("a", "cpu:0")
    for seed in range(6):
        service.submit(list(frames_of(2, seed=seed)), chain(2))
    first._connection.close()
    began = time.monotonic()
    check_service(connect(process))
    usage = process.usage()
    assert usage.pairs < 4 + 6, "what nobody waits for is not computed"
    assert time.monotonic() - began < 30 and pid_of(process) == pid


def test_a_process_that_was_killed_is_replaced(process):
    connection = connect(process)
    pid = pid_of(process)
    assert not connection.is_lost
    os.kill(pid, signal.SIGKILL)
    while not connection.is_lost:
        time.sleep(0.01)
    with pytest.raises(FlowProcessLost):
        check_service(connection)
    assert process.end_text() == (
        "the flow process on cpu:0 was killed by SIGKILL, as the kernel does when memory runs out"
    )
    check_service(connect(process))
    assert pid_of(process) != pid


def test_who_is_refused_is_told_why(process):
    with process.connect(METHODS) as hostile:
        hostile.send(b"nonsense")
        assert hostile.recv(100) == b""
    assert process.end_text() == (
        "the flow process on cpu:0 refused what the decoding process sent"
    )


def test_a_device_that_cannot_be_used(fake, process):
    fake(problem="device cpu:0: no driver")
    with pytest.raises(DeviceError) as caught:
        process.connect(METHODS)
    assert str(caught.value) == "device cpu:0: no driver"
    assert process.usage() is None


def test_no_flow_process_can_be_started(monkeypatch, process):
    monkeypatch.setattr(flow_pool, "FLOW_MODULE", "no_such_module")
    with pytest.raises(DeviceError) as caught:
        process.connect(METHODS)
    assert str(caught.value) == (
        "no flow process on cpu:0 can be started: the flow process on cpu:0 ended with status 1: "
        f"{sys.executable}: No module named no_such_module"
    )


def test_a_method_that_nobody_knows(monkeypatch, process):
    monkeypatch.setattr(flow_pool, "FLOW_MODULE", "preprocess.flow_process")
    with pytest.raises(DeviceError) as caught:
        process.connect(['{"algorithm": "dis", "parameters": {}}'])
    assert str(caught.value) == ("flow dis is not computed in batches; choose tvl1 or raft")
    assert process.usage().pairs == 0, "it lives on"


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(flow_pool, "FLOW_MODULE", "preprocess.flow_process")
    process = FlowProcess("cuda:99")
    with pytest.raises(DeviceError, match=r"^device cuda:99: "):
        process.connect([])
    process.dispose()


def test_a_batch_that_never_ends_ends_the_process(fake, process):
    fake(seconds=1000, batch_seconds=1)
    with pytest.raises(FlowProcessLost):
        check_service(connect(process))
    assert process.end_text() == (
        "the flow process on cpu:0 was ended, as a batch took more than 1800 s"
    )


def test_a_closed_process_starts_no_more(process):
    connect(process)
    process.close()
    with pytest.raises(TSNError, match=r"^the extraction was stopped$"):
        process.connect(METHODS)


def test_it_ends_when_nobody_asks_any_more(fake, process):
    fake(idle=0.2)
    connection = connect(process)
    pid = psutil.Process(pid_of(process))
    time.sleep(0.5)
    check_service(connection)  # there is a client: it waits
    connection._connection.close()
    assert pid.wait(30) == 0
    check_service(connect(process))


PARENT = """
import sys, time
sys.path[:0] = {path!r}
from preprocess import flow_pool
flow_pool.FLOW_MODULE = "fake_flow_process"
process = flow_pool.FlowProcess("cpu:0")
connection = process.connect(["a"])
print(process._process.pid, flush=True)
time.sleep(1000)
"""


def test_it_ends_with_its_parent():
    code = PARENT.format(path=sys.path)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    child.wait(timeout=30)
    assert not child.is_running()
