"""The process that computes flow on one device: ``python -m preprocess.flow_process FD DEVICE``.

It loads torch, so that decoding processes need not. Batches come from all of them; see
``preprocess.flow_wire``. They read files from anywhere, so what they send is checked before it is
used. Methods are announced by the process that started this one. It ends when that one is gone, and
after a while without a decoding process.
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial

import numpy as np

from preprocess.flow_method import make_flow, torch_name
from preprocess.flow_queue import Batch, FlowQueue
from preprocess.flow_usage import FlowMeter
from preprocess.flow_wire import (
    MOST_OPEN,
    REFUSED,
    REQUEST_BYTES,
    ROOM,
    Answer,
    BadRequest,
    Request,
    check_memory,
    read_batch,
    write_flow,
)
from tsn_core.errors import TSNError

LARGEST_ORDER = 1 << 16  # bytes of what the starting process says
_IDLE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_ROOM_SECONDS = 0.05
_HANDING_BACK = 3  # threads: flow is eight times as large as the frames
_CUT = socket.MSG_TRUNC | socket.MSG_CTRUNC

_Result = Sequence[np.ndarray] | str
_Finished = queue.SimpleQueue[tuple["_Client", Request, int, _Result]]


def main(control_fd: int, device: str) -> None:
    """Serve until nobody can ask any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is who started it that is interrupted
    control = socket.socket(fileno=control_fd)
    problem = _problem(device)
    control.send(json.dumps({"error": problem}).encode())
    if problem is None:
        _Server(control, device).run()


def _problem(device: str) -> str | None:
    """Return why nothing can be computed on a device, or None."""
    try:
        import torch

        torch.zeros(1, device=torch_name(device))
    except (ImportError, RuntimeError, AssertionError) as error:  # the last: built without CUDA
        line = str(error).strip().split("\n")[0]
        return f"device {device}: {line or type(error).__name__}"
    return None


class _Client:
    """A connection to a decoding process.

    Attributes:
        is_open: Whether it is there, as far as is known.
        num_open: Requests that have no answer yet.
    """

    def __init__(self, connection: socket.socket, methods: Sequence[str]) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.methods = tuple(methods)
        self.is_open = True
        self.num_open = 0
        self._lock = threading.Lock()

    def opened(self, number: int) -> None:
        """Count requests that wait for an answer from now on, or, below 0, no longer."""
        with self._lock:
            self.num_open += number

    def receive(self) -> tuple[Request, int | None] | None:
        """Return the next request with the memory that came along, or None at the end.

        Raises:
            BadRequest: It makes no sense.
        """
        data, fds, flags, _ = socket.recv_fds(self.connection, REQUEST_BYTES + 1, 2)
        try:
            if not data and not fds:
                return None
            request = Request.unpack(data)
            if flags & _CUT or len(fds) != (request.kind != ROOM):
                raise BadRequest("a message that is cut short, or with something else")
            if request.method >= len(self.methods):
                raise BadRequest("a method that nobody has announced")
            if self.num_open >= MOST_OPEN:
                raise BadRequest("too many batches at a time")
            fd = fds.pop() if fds else None
        finally:
            for one in fds:
                os.close(one)
        return request, fd

    def answer(self, answer: Answer) -> None:
        """Send an answer, if there is still somebody to read it."""
        with self._lock:
            if not self.is_open:
                return
            try:
                self.connection.send(answer.pack())
            except OSError:  # gone, or it reads nothing
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            self.is_open = False
            self.connection.close()


class _Server:
    """One thread receives, one joins, one computes, and some hand the flow back."""

    def __init__(self, control: socket.socket, device: str) -> None:
        self._control = control
        self._device = device
        self._meter = FlowMeter(device)
        self._queue = FlowQueue(self._meter)
        self._finished: _Finished = queue.SimpleQueue()
        self._clients: set[_Client] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def run(self) -> None:
        """Receive until the starting process is gone, or nobody decodes any more."""
        for loop in (self._queue.run, self._queue.join, *[self._hand_back] * _HANDING_BACK):
            threading.Thread(target=loop, daemon=True).start()
        used = time.monotonic()
        while True:
            for key, _ in self._selector.select(_LOOK_SECONDS):
                if key.fileobj is self._control:
                    if not self._obey():
                        os._exit(0)
                elif self._queue.has_room(_ROOM_SECONDS):
                    self._serve(key.data)
            if self._clients:
                used = time.monotonic()
            elif time.monotonic() - used > _IDLE_SECONDS:
                os._exit(0)

    def _obey(self) -> bool:
        """Do what the starting process says; return whether it is still there."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, LARGEST_ORDER, 1)
        except OSError:
            return False
        if not data:
            return False
        order = json.loads(data)
        answer: dict[str, object] = {}
        if "connect" in order:
            connection = socket.socket(fileno=fds[0])
            answer["error"] = self._connect(connection, order["connect"])
        else:
            answer = asdict(self._meter.usage)
        try:
            self._control.send(json.dumps(answer).encode())
        except OSError:
            return False
        return True

    def _connect(self, connection: socket.socket, methods: Sequence[str]) -> str | None:
        """Take a decoding process; return why its methods cannot be, or None."""
        try:
            for method in methods:
                self._queue.add_method(method, partial(make_flow, method, self._device))
        except (TSNError, RuntimeError) as error:
            connection.close()
            return str(error).strip().split("\n")[0]
        client = _Client(connection, methods)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)
        return None

    def _serve(self, client: _Client) -> None:
        """Take the next request of a decoding process; one that makes no sense is its last."""
        try:
            received = client.receive()
        except BlockingIOError:
            return
        except (BadRequest, OSError):
            received = None
        if received is None:
            self._selector.unregister(client.connection)
            self._clients.discard(client)
            client.close()
            return
        request, fd = received
        method = client.methods[request.method]
        if fd is None:
            client.answer(self._room(request, method))
            return
        try:
            check_memory(fd, request.layout.size)
            if (request.channels == 3) != self._queue.in_colour(method):
                raise BadRequest("frames of other colours")
            frames, pairs = read_batch(fd, request)
        except BadRequest:
            os.close(fd)
            with suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)  # which ends it in a moment
            return
        client.opened(1)

        def done(result: _Result) -> None:
            self._finished.put((client, request, fd, result))

        self._queue.put(Batch(method, frames, pairs, done, lambda: client.is_open))

    def _room(self, request: Request, method: str) -> Answer:
        most = self._queue.most_pairs(method, request.height, request.width)
        return Answer(request.number, in_colour=self._queue.in_colour(method), most=most)

    def _hand_back(self) -> None:
        """Write flow where it belongs and say so, for ever."""
        while True:
            client, request, fd, result = self._finished.get()
            answer = Answer(request.number)
            if isinstance(result, str):
                answer = Answer(request.number, REFUSED, text=result)
            else:
                try:
                    write_flow(fd, request, result)
                except BadRequest as error:
                    answer = Answer(request.number, REFUSED, text=str(error))
            os.close(fd)
            client.opened(-1)
            client.answer(answer)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
