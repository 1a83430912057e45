"""A decoding process's end of the connection to the flow process of its device."""

from __future__ import annotations

import mmap
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from preprocess.flow_lost import FlowProcessLost
from preprocess.flow_service import Pending
from preprocess.flow_wire import (
    FINE,
    FLOW,
    LARGEST_ANSWER,
    MOST_OPEN,
    ROOM,
    Answer,
    Request,
    sealed_memory,
)
from tsn_core.errors import DeviceError

_BEAT_SECONDS = 0.5


class FlowConnection:
    """Asks the flow process; not for several threads."""

    def __init__(
        self, connection_fd: int, methods: Sequence[str], beat: Callable[[], None]
    ) -> None:
        """Take the connection.

        Args:
            connection_fd: Of the socket to the flow process.
            methods: Those that it was told of, in that order.
            beat: Called while this process waits.
        """
        self._connection = connection = socket.socket(fileno=connection_fd)
        self._methods = list(methods)
        self._beat = beat
        self._number = 0
        self._answers: dict[int, Answer] = {}
        self._open: dict[int, Memory] = {}  # batches, by number
        self._free: list[Memory] = []
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def service(self, method: str, device: str) -> RemoteFlow:
        """Return what computes flow by a method, on the device of the flow process."""
        return RemoteFlow(self, self._methods.index(method))

    @property
    def is_lost(self) -> bool:
        """Whether the flow process is gone, as far as can be told without asking it."""
        return bool(self._poll.poll(0)) and not self._answers_follow()

    def _answers_follow(self) -> bool:
        try:
            return bool(self._connection.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def ask(self, method: int, height: int, width: int) -> Answer:
        """Ask how many pairs of a size to send at a time.

        Raises:
            FlowProcessLost: Nobody answers.
        """
        request = Request(ROOM, self._next(), method, 0, 0, height, width, 1)
        self._send([request.pack()], [])
        return self.wait(request.number)

    def submit(
        self, method: int, frames: list[np.ndarray], pairs: np.ndarray, channels: int
    ) -> tuple[Request, Memory]:
        """Hand a batch over, and return what was said of it and where it lies.

        Raises:
            FlowProcessLost: There is nobody to take it.
        """
        height, width = frames[0].shape[:2]
        request = Request(
            FLOW, self._next(), method, len(frames), len(pairs), height, width, channels
        )
        while len(self._open) - len(self._answers) >= MOST_OPEN - 1:
            self._receive()
        layout = request.layout
        memory = self._take(layout.size)
        memory.array(pairs.shape, np.int32, 0)[...] = pairs
        np.stack(frames, out=memory.array(request.frames_shape, np.uint8, layout.frames))
        self._open[request.number] = memory
        self._send([request.pack()], [memory.fd])
        return request, memory

    def wait(self, number: int) -> Answer:
        """Return the answer to a request.

        Raises:
            FlowProcessLost: None will come.
        """
        while number not in self._answers:
            self._receive()
        return self._answers.pop(number)

    def close(self, number: int) -> None:
        """Keep the memory of a batch that has its answer for the next one."""
        self._free.append(self._open.pop(number))

    def settle(self) -> None:
        """Wait for what a video that failed in the middle has begun, and forget it.

        Raises:
            FlowProcessLost: The flow process is gone.
        """
        for number in list(self._open):
            self.wait(number)
            self.close(number)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _send(self, data: list[bytes], fds: list[int]) -> None:
        try:
            socket.send_fds(self._connection, data, fds)
        except OSError as error:
            raise FlowProcessLost from error

    def _receive(self) -> None:
        """Take the next answer, if it comes soon."""
        self._beat()
        if not self._poll.poll(1000 * _BEAT_SECONDS):
            return
        try:
            data = self._connection.recv(LARGEST_ANSWER)
        except OSError as error:
            raise FlowProcessLost from error
        if not data:
            raise FlowProcessLost
        answer = Answer.unpack(data)
        self._answers[answer.number] = answer

    def _take(self, size: int) -> Memory:
        """Return memory of at least that size: it is filled again and again."""
        fitting = next((one for one in self._free if one.size >= size), None)
        if fitting is not None:
            self._free.remove(fitting)
            return fitting
        for one in self._free:  # too small: frames have another size now
            one.close()
        self._free.clear()
        return Memory(size)


class Memory:
    """Sealed memory that is mapped here."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = sealed_memory(size)
        self._map = mmap.mmap(self.fd, size)

    def array(self, shape: tuple[int, ...], dtype: type, offset: int) -> np.ndarray:
        """Return a view of a part of it."""
        return np.ndarray(shape, dtype, self._map, offset)

    def close(self) -> None:
        """Let go of it, once no view is left."""
        os.close(self.fd)


class RemoteFlow:
    """A ``preprocess.flow_service.FlowService`` by the flow process."""

    def __init__(self, connection: FlowConnection, method: int) -> None:
        self._connection = connection
        self._method = method
        self._most: dict[tuple[int, int], int] = {}
        self.waited_seconds = 0.0
        self.in_colour = self._ask(1, 1).in_colour

    def most_pairs(self, height: int, width: int) -> int:
        """Return how many pairs of that size fit on the device."""
        if (height, width) not in self._most:
            self._most[height, width] = self._ask(height, width).most
        return self._most[height, width]

    def _ask(self, height: int, width: int) -> Answer:
        answer = self._connection.ask(self._method, height, width)
        _check(answer)
        return answer

    def submit(self, frames: list[np.ndarray], pairs: np.ndarray) -> Pending:
        """Hand a batch over."""
        channels = 3 if self.in_colour else 1
        request, memory = self._connection.submit(self._method, frames, pairs, channels)

        @contextmanager
        def lend() -> Iterator[np.ndarray]:
            began = time.perf_counter()
            answer = self._connection.wait(request.number)
            self.waited_seconds += time.perf_counter() - began
            try:
                _check(answer)
                yield memory.array(request.flow_shape, np.float32, request.layout.flow)
            finally:
                self._connection.close(request.number)

        return lend


def _check(answer: Answer) -> None:
    """Raise what the flow process has raised.

    Raises:
        DeviceError: It has.
    """
    if answer.status != FINE:
        raise DeviceError(answer.text)
