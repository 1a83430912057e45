"""Batches of many videos on their way to one device, joined so that they fill it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from preprocess.batch_flow import BatchFlow
from preprocess.flow_usage import BATCH_SECONDS, FlowMeter
from tsn_core.errors import DeviceError, InputError

MOST_WAITING_BYTES = 2 << 30  # of frames and of the flow that is to come
LOST_DEVICE_STATUS = 3  # of a process that ends because its device fails

_HEALTHY_SIZE = (128, 128)  # px of frames that every algorithm takes
_Key = tuple[str, int, int]
_Joined = tuple[np.ndarray, np.ndarray]  # frames and pairs


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pairs of one video.

    Attributes:
        method: How to compute their flow.
        frames: (M, H, W) or (M, H, W, 3), uint8.
        pairs: (N, 2), int32, all within ``frames``.
        done: Takes the flow in parts, (n, H, W, 2) float32 each, or why there is none.
        is_wanted: Whether anybody still waits for it.
    """

    method: str
    frames: np.ndarray
    pairs: np.ndarray
    done: Callable[[Sequence[np.ndarray] | str], None]
    is_wanted: Callable[[], bool] = lambda: True

    @property
    def key(self) -> _Key:
        """What batches that can be joined have in common."""
        return self.method, self.frames.shape[1], self.frames.shape[2]

    @property
    def num_bytes(self) -> int:
        """Of frames and flow."""
        height, width = self.frames.shape[1:3]
        return self.frames.nbytes + 8 * len(self.pairs) * height * width


class FlowQueue:
    """Takes batches from one thread, joins them in another, and computes them in a third."""

    def __init__(self, meter: FlowMeter) -> None:
        self._meter = meter
        self._flows: dict[str, BatchFlow] = {}
        self._most: dict[_Key, int] = {}
        self._waiting: list[Batch] = []
        self._num_bytes = 0
        self._next: tuple[Sequence[Batch], _Joined] | None = None
        self._is_idle = True
        self._changed = threading.Condition()

    def add_method(self, method: str, make: Callable[[], BatchFlow]) -> None:
        """Take a method, unless it is there already."""
        if method not in self._flows:
            self._flows[method] = make()

    def in_colour(self, method: str) -> bool:
        """Return whether a method takes colour frames."""
        return self._flows[method].in_colour

    def most_pairs(self, method: str, height: int, width: int) -> int:
        """Return how many pairs of a size are computed at a time.

        That is asked once: later, the memory that torch keeps would be missing.
        """
        key = (method, height, width)
        if key not in self._most:
            self._most[key] = max(self._flows[method].most_pairs(height, width), 1)
        return self._most[key]

    def put(self, batch: Batch) -> None:
        """Add a batch."""
        with self._changed:
            self._waiting.append(batch)
            self._num_bytes += batch.num_bytes
            self._changed.notify_all()

    def has_room(self, seconds: float) -> bool:
        """Wait for less to be waiting, if need be; return whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._num_bytes < MOST_WAITING_BYTES, seconds)

    def run(self) -> NoReturn:
        """Compute, for ever. Ends the process where the device fails, or an error is a bug."""
        try:
            while True:
                with self._changed:
                    self._is_idle = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._next is not None)
                    work, self._next, self._is_idle = self._next, None, False
                    self._changed.notify_all()
                assert work is not None
                self.compute(*work)
        except DeviceError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(LOST_DEVICE_STATUS)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def join(self) -> NoReturn:
        """Join batches, for ever, the next ones while the device computes; ends the process, too.

        They are joined when they fill the device, or when it has nothing else to do: no earlier,
        since others may come.
        """
        try:
            while True:
                batches = self._take()
                joined = _joined(batches)
                with self._changed:
                    self._next = (batches, joined)
                    self._changed.notify_all()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def _take(self) -> list[Batch]:
        """Return the batch that has waited longest, with others that can be joined to it."""
        with self._changed:
            while True:
                self._changed.wait_for(self._may_join)
                self._forget()
                if self._may_join():
                    break
            key = self._waiting[0].key
            left = self.most_pairs(*key)
            chosen: list[Batch] = []
            for batch in self._waiting:
                if batch.key == key and (not chosen or len(batch.pairs) <= left):
                    chosen.append(batch)
                    left -= len(batch.pairs)
            self._waiting = [batch for batch in self._waiting if batch not in chosen]
            return chosen

    def _may_join(self) -> bool:
        if not self._waiting or self._next is not None:
            return False
        key = self._waiting[0].key
        fitting = sum(len(batch.pairs) for batch in self._waiting if batch.key == key)
        return self._is_idle or fitting >= self.most_pairs(*key)

    def _forget(self) -> None:
        """Drop what nobody waits for any more."""
        forgotten = [batch for batch in self._waiting if not batch.is_wanted()]
        for batch in forgotten:
            batch.done("nobody waits for it")
        self._waiting = [batch for batch in self._waiting if batch not in forgotten]
        self._drop(forgotten)

    def _drop(self, batches: Sequence[Batch]) -> None:
        self._num_bytes -= sum(batch.num_bytes for batch in batches)
        self._changed.notify_all()

    def compute(self, batches: Sequence[Batch], joined: _Joined) -> None:
        """Compute batches of one key together, and tell each of them.

        Args:
            batches: In order.
            joined: Their frames and pairs, as of one.

        Raises:
            DeviceError: The device fails.
        """
        key = batches[0].key
        try:
            parts = self._parts(key, *joined)
        except InputError as error:
            for batch in batches:
                batch.done(str(error))
        else:
            start = 0
            for batch in batches:
                batch.done(_cut(parts, start, start + len(batch.pairs)))
                start += len(batch.pairs)
        with self._changed:
            self._drop(batches)

    def _parts(
        self, key: _Key, frames: np.ndarray, pairs: np.ndarray
    ) -> list[tuple[int, np.ndarray | str]]:
        """Return (n, flow of the next n pairs or why there is none), halving what does not fit."""
        most = self.most_pairs(*key)
        if len(pairs) > most:
            return [
                part
                for start in range(0, len(pairs), most)
                for part in self._parts(key, *_used(frames, pairs[start : start + most]))
            ]
        flow = self._flows[key[0]]
        try:
            return [(len(pairs), self._timed(flow, frames, pairs, most))]
        except DeviceError as error:
            reason = str(error)
        # Only now is the memory free that the error's traceback held.
        if len(pairs) == 1:
            self._check_device(flow)
            return [(1, reason)]
        self._most[key] = len(pairs) // 2
        return self._parts(key, frames, pairs)

    def _timed(
        self, flow: BatchFlow, frames: np.ndarray, pairs: np.ndarray, room: int
    ) -> np.ndarray:
        began = time.perf_counter()
        if hasattr(signal, "alarm"):
            signal.alarm(BATCH_SECONDS)
        try:
            found = flow(frames, pairs)
        finally:
            if hasattr(signal, "alarm"):
                signal.alarm(0)
            self._meter.batch(time.perf_counter() - began, len(pairs), room)
        assert found.shape == (len(pairs), *frames.shape[1:3], 2), found.shape
        return np.ascontiguousarray(found, np.float32)

    @staticmethod
    def _check_device(flow: BatchFlow) -> None:
        """Tell a pair that does not fit from a device that computes nothing any more.

        Raises:
            DeviceError: It is the latter.
        """
        shape = (2, *_HEALTHY_SIZE, 3) if flow.in_colour else (2, *_HEALTHY_SIZE)
        flow(np.zeros(shape, np.uint8), np.array([[0, 1]], np.int32))


def _joined(batches: Sequence[Batch]) -> _Joined:
    """Return the frames and pairs of batches, as of one."""
    if len(batches) == 1:
        return batches[0].frames, batches[0].pairs
    starts = np.cumsum([0, *(len(batch.frames) for batch in batches)])
    moved = [batch.pairs + np.int32(start) for batch, start in zip(batches, starts)]
    return np.concatenate([batch.frames for batch in batches]), np.concatenate(moved)


def _used(frames: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some pairs, and of the frames only those that they name."""
    used, places = np.unique(pairs, return_inverse=True)
    return frames[used], places.reshape(pairs.shape).astype(np.int32)


def _cut(
    parts: Sequence[tuple[int, np.ndarray | str]], start: int, stop: int
) -> list[np.ndarray] | str:
    """Return the flow of the pairs from ``start`` to ``stop``, or why one of them has none."""
    found: list[np.ndarray] = []
    at = 0
    for number, part in parts:
        first, last = max(start - at, 0), min(stop - at, number)
        if first < last:
            if isinstance(part, str):
                return part
            found.append(part[first:last])
        at += number
    return found
