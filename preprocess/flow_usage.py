"""How busy what computes flow in batches has been."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass

BATCH_SECONDS = 1800  # then the kernel ends a process whose device does not answer


@dataclass(frozen=True)
class FlowUsage:
    """Counts from the start of what computes flow on one device to one moment.

    Attributes:
        origin: Tells it from all others, on other machines too.
        machine: Name of the machine.
        device: ``cpu`` or ``cuda:N``.
        seconds: Since it was started.
        busy_seconds: Of these, in which the device computed, or data went there and back.
        batches: Computed.
        pairs: In all of these.
        room: Pairs that would have fitted into these.
    """

    origin: str
    machine: str
    device: str
    seconds: float
    busy_seconds: float
    batches: int
    pairs: int
    room: int


class FlowMeter:
    """Counts; threads may share it."""

    def __init__(self, device: str) -> None:
        self._lock = threading.Lock()
        self._machine = socket.gethostname()
        self._origin = f"{self._machine}-{os.getpid()}-{secrets.token_hex(4)}"
        self._device = device
        self._began = time.monotonic()
        self._busy_seconds = 0.0
        self._batches = self._pairs = self._room = 0

    def batch(self, seconds: float, pairs: int, room: int) -> None:
        """Count a batch of pairs that took so long, into which so many would have fitted."""
        with self._lock:
            self._busy_seconds += seconds
            self._batches += 1
            self._pairs += pairs
            self._room += max(room, pairs)

    @property
    def usage(self) -> FlowUsage:
        """What was counted until now."""
        with self._lock:
            return FlowUsage(
                self._origin,
                self._machine,
                self._device,
                time.monotonic() - self._began,
                self._busy_seconds,
                self._batches,
                self._pairs,
                self._room,
            )
