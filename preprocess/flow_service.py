"""Who computes flow in batches for the units of a video, asked for one batch after the other."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np

from preprocess.batch_flow import BatchFlow
from preprocess.flow_method import make_flow
from preprocess.flow_usage import FlowMeter, FlowUsage

# What is computed of one batch; its memory is reused when the block ends.
Pending = Callable[[], AbstractContextManager[np.ndarray]]


class FlowService(Protocol):
    """Takes batches of pairs and gives back their flow later, in any order.

    Attributes:
        in_colour: Whether it takes RGB frames rather than gray ones.
        waited_seconds: How long its caller has waited for flow in all.
    """

    in_colour: bool
    waited_seconds: float

    def most_pairs(self, height: int, width: int) -> int:
        """Return how many pairs of that size a batch should have at most."""
        ...

    def submit(self, frames: list[np.ndarray], pairs: np.ndarray) -> Pending:
        """Begin a batch.

        Args:
            frames: M of (H, W) or, in colour, (H, W, 3), uint8.
            pairs: Places in ``frames``, (N, 2), int.

        Returns:
            What waits for the flow and lends it, (N, H, W, 2), float32. It raises ``InputError``
            or ``DeviceError`` as a ``BatchFlow`` does.
        """
        ...


class DirectFlow:
    """Computes in this very process, at once; several threads take turns.

    What comes of a batch does not depend on how it is put together, so neither does it matter
    who takes turns with whom.
    """

    def __init__(self, method: str, device: str) -> None:
        self._compute, self._lock, self._meter = _direct(method, device)
        self.in_colour = self._compute.in_colour
        self.waited_seconds = 0.0

    def most_pairs(self, height: int, width: int) -> int:
        """Return how many pairs of that size fit."""
        with self._lock:
            return self._compute.most_pairs(height, width)

    def submit(self, frames: list[np.ndarray], pairs: np.ndarray) -> Pending:
        """Compute the flow of a batch."""
        asked = time.perf_counter()
        room = self.most_pairs(*frames[0].shape[:2])
        with self._lock:
            began = time.perf_counter()
            flow = self._compute(np.stack(frames), pairs)
            self._meter.batch(time.perf_counter() - began, len(pairs), room)
        self.waited_seconds += time.perf_counter() - asked

        @contextmanager
        def lend() -> Iterator[np.ndarray]:
            yield flow

        return lend


@functools.cache
def _meter(device: str) -> FlowMeter:
    return FlowMeter(device)


@functools.cache
def _direct(method: str, device: str) -> tuple[BatchFlow, threading.Lock, FlowMeter]:
    return make_flow(method, device), threading.Lock(), _meter(device)


def direct_usage(device: str) -> FlowUsage:
    """Return how busy a device has been with what this process has computed itself."""
    return _meter(device).usage
