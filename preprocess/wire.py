"""What a child process tells the one that watches it: small messages, gathered into large ones.

Nothing that comes from a child, which reads files from anywhere, is unpickled: images are bytes
behind a fixed header, everything else is JSON.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

STARTED, IMAGE, ALIVE, WARNING, DONE, FAILED = b"S", b"I", b"A", b"W", b"D", b"F"
KINDS = (IMAGE, ALIVE, WARNING, DONE, FAILED)  # about a video, after STARTED
LARGEST_MESSAGE = 1 << 31  # bytes
LOST_FLOW_STATUS = 75  # of a child that ends because its flow process is gone
_HEADER = struct.Struct("<cBqqQ")  # kind, modality, unit, frame, bytes that follow
_GATHER_BYTES = 1 << 20
_GATHER_SECONDS = 1.0

Message = tuple[bytes, int, int, int, bytes]


class Outbox:
    """The sending end. Images wait until there are a MiB of them, or for a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting = bytearray()
        self._sent = time.monotonic()

    def image(self, place: int, unit: int, frame: int, data: bytes) -> None:
        """Send an encoded image of the modality at that place."""
        self._waiting += _HEADER.pack(IMAGE, place, unit, frame, len(data))
        self._waiting += data
        if len(self._waiting) >= _GATHER_BYTES:
            self._flush()

    def alive(self) -> None:
        """Say that work goes on; cheap enough for every frame."""
        if time.monotonic() - self._sent >= _GATHER_SECONDS:
            self.send(ALIVE)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send a message and all that waits, now."""
        self._waiting += _HEADER.pack(kind, 0, 0, 0, len(payload))
        self._waiting += payload
        self._flush()

    def _flush(self) -> None:
        self._connection.send_bytes(self._waiting)
        self._waiting.clear()
        self._sent = time.monotonic()


def messages(gathered: bytes) -> Iterator[Message]:
    """Yield (kind, modality, unit, frame, payload) of each message in a gathered one.

    Raises:
        ValueError: It does not hold whole messages.
    """
    place = 0
    while place < len(gathered):
        if place + _HEADER.size > len(gathered):
            raise ValueError("a message is cut short")
        kind, modality, unit, frame, size = _HEADER.unpack_from(gathered, place)
        place += _HEADER.size
        if size > len(gathered) - place:
            raise ValueError("a message is cut short")
        yield kind, modality, unit, frame, gathered[place : place + size]
        place += size
