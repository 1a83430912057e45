"""What a decoding process and the flow process of its device tell each other.

Frames and flow lie in memory that the decoding process has made for one batch after the other, and
hands over as a file descriptor with every request. The flow process never maps it: it reads and
writes it as a file, so that whatever is wrong with it is an error to be told, not a signal that
ends the process. It must be sealed against a change of its size all the same, which a file on a
disk or a pipe cannot be: reading those could take for ever.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ROOM, FLOW = 0, 1  # kinds of requests: how many pairs to send at a time; their flow
FINE, REFUSED = 0, 1  # statuses
MOST_OPEN = 8  # requests of one decoding process that have no answer yet
LARGEST_ANSWER = 4096  # bytes
_MAGIC = b"TSNF"
_REQUEST = struct.Struct("<4sIQIIIIII")
_ANSWER = struct.Struct("<QBBxxI")
REQUEST_BYTES = _REQUEST.size
_MOST_PAIRS = 1 << 14
_MOST_PIXELS = 1 << 16  # along one side
_MOST_BYTES = 1 << 32  # of the memory of one request
_ALIGNMENT = 64
_SEALS = ("F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_SEAL")


class BadRequest(Exception):
    """What a decoding process has sent makes no sense."""


@dataclass(frozen=True)
class Request:
    """A question, or a batch.

    Attributes:
        kind: ``ROOM`` or ``FLOW``.
        number: Stands in the answer.
        method: Place among the methods that the flow process was told of.
        num_frames: M; 0 in a question.
        num_pairs: N; 0 in a question.
        height: Of the frames, in px.
        width: Of the frames, in px.
        channels: 1 or 3.
    """

    kind: int
    number: int
    method: int
    num_frames: int
    num_pairs: int
    height: int
    width: int
    channels: int

    def pack(self) -> bytes:
        """Return the message."""
        return _REQUEST.pack(
            _MAGIC,
            self.kind,
            self.number,
            self.method,
            self.num_frames,
            self.num_pairs,
            self.height,
            self.width,
            self.channels,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Request:
        """Return what a message says.

        Raises:
            BadRequest: It is none, or its numbers are out of range.
        """
        if len(data) != _REQUEST.size:
            raise BadRequest("a message of another size")
        magic, *fields = _REQUEST.unpack(data)
        request = cls(*fields)
        sides = 1 <= request.height <= _MOST_PIXELS and 1 <= request.width <= _MOST_PIXELS
        if magic != _MAGIC or request.kind not in (ROOM, FLOW) or not sides:
            raise BadRequest("a message of another kind")
        if request.kind == ROOM:
            return request
        counts = 1 <= request.num_pairs <= _MOST_PAIRS
        counts = counts and 1 <= request.num_frames <= 2 * request.num_pairs
        if not counts or request.channels not in (1, 3) or request.layout.size > _MOST_BYTES:
            raise BadRequest("numbers out of range")
        return request

    @property
    def frames_shape(self) -> tuple[int, ...]:
        """Of the frames."""
        shape = (self.num_frames, self.height, self.width)
        return shape if self.channels == 1 else (*shape, self.channels)

    @property
    def flow_shape(self) -> tuple[int, int, int, int]:
        """Of the flow."""
        return self.num_pairs, self.height, self.width, 2

    @property
    def layout(self) -> Layout:
        """Where everything lies."""
        frames = _aligned(8 * self.num_pairs)
        pixels = self.height * self.width
        flow = _aligned(frames + self.num_frames * pixels * self.channels)
        return Layout(frames, flow, flow + 8 * self.num_pairs * pixels)


@dataclass(frozen=True)
class Layout:
    """Bytes from the start of the memory of a batch, whose pairs, (N, 2) int32, come first.

    Attributes:
        frames: Where the frames begin.
        flow: Where the flow begins, (N, H, W, 2) float32.
        size: Where it ends.
    """

    frames: int
    flow: int
    size: int


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True)
class Answer:
    """What becomes of a request.

    Attributes:
        number: Of the request.
        status: ``FINE``, or ``REFUSED`` with the reason in ``text``.
        in_colour: To a question: whether colour frames are wanted.
        most: To a question: how many pairs to send at a time.
        text: One line.
    """

    number: int
    status: int = FINE
    in_colour: bool = False
    most: int = 0
    text: str = ""

    def pack(self) -> bytes:
        """Return the message."""
        head = _ANSWER.pack(self.number, self.status, self.in_colour, self.most)
        return (head + self.text.encode(errors="replace"))[:LARGEST_ANSWER]

    @classmethod
    def unpack(cls, data: bytes) -> Answer:
        """Return what a message of the flow process says."""
        number, status, in_colour, most = _ANSWER.unpack_from(data)
        text = data[_ANSWER.size :].decode(errors="replace")
        return cls(number, status, bool(in_colour), most, text)


def sealed_memory(size: int) -> int:
    """Return the descriptor of new memory whose size nobody can change (Linux).

    Raises:
        OSError: There is none left.
    """
    import fcntl  # not on Windows

    fd = os.memfd_create("flow", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, size)  # an error now rather than a signal when it is touched
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _seals())
    except BaseException:
        os.close(fd)
        raise
    return fd


def _seals() -> int:
    import fcntl

    seals = 0
    for name in _SEALS:
        seals |= getattr(fcntl, name)
    return seals


def check_memory(fd: int, size: int) -> None:
    """Check memory that a decoding process has handed over.

    Raises:
        BadRequest: It is no memory, smaller than stated, or its size can be changed.
    """
    import fcntl

    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        there = os.fstat(fd).st_size
    except OSError:
        raise BadRequest("what was handed over is no memory") from None
    if seals & _seals() != _seals():
        raise BadRequest("memory that is not sealed")
    if there < size:
        raise BadRequest("memory that is too small")


def read_batch(fd: int, request: Request) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of the frames and pairs of a batch.

    Raises:
        BadRequest: They are not there, or pairs name frames that are not.
    """
    layout = request.layout
    pairs = np.empty((request.num_pairs, 2), np.int32)
    frames = np.empty(request.frames_shape, np.uint8)
    _read(fd, pairs, 0)
    _read(fd, frames, layout.frames)
    if pairs.min() < 0 or pairs.max() >= request.num_frames:
        raise BadRequest("pairs of frames that are not there")
    return frames, pairs


def _read(fd: int, array: np.ndarray, offset: int) -> None:
    view = array.data.cast("B")
    while view:
        try:
            number = os.preadv(fd, [view], offset)
        except OSError:
            number = 0
        if not number:
            raise BadRequest("memory that cannot be read")
        view, offset = view[number:], offset + number


def write_flow(fd: int, request: Request, parts: Sequence[np.ndarray]) -> None:
    """Write the flow of a batch into its memory.

    Args:
        fd: Of the memory.
        request: What was asked for.
        parts: The flow of all pairs, in order, (n, H, W, 2) float32 each, C-contiguous.

    Raises:
        BadRequest: It cannot be written there.
    """
    offset = request.layout.flow
    for part in parts:
        view = part.data.cast("B")
        while view:
            try:
                number = os.pwrite(fd, view, offset)
            except OSError as error:
                raise BadRequest("memory that cannot be written") from error
            view, offset = view[number:], offset + number
