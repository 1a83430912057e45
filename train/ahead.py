"""Bringing batches to a device in a thread, while earlier ones are computed with."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

import torch

from train.clock import Clock

Item = TypeVar("Item")
Brought = TypeVar("Brought")  # a tensor, or a tuple of them

_WAITING = 1  # batches that wait on the device; another one is on its way
_PATIENCE_SECONDS = 10.0  # for a loader that is asked for a batch nobody wants any more
_STEP_SECONDS = 0.05


class Place(Protocol):
    """Where batches are brought to, and what must be minded there."""

    def bring(self, item: Any, bring: Callable[[Any, torch.device], Any]) -> Any:
        """Return what is there; nothing reads the item's memory any more. Called by the thread."""

    def take(self, brought: Any) -> None:
        """Note that it is used from here on; called by who computes."""


class HostPlace:
    """A CPU: what is brought must not lie in memory that is filled again."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def bring(self, item: Any, bring: Callable[[Any, torch.device], Any]) -> Any:
        """Return a copy of what is there."""
        brought = bring(item, self._device)
        copies = tuple(tensor.clone() for tensor in _tensors(brought))
        return copies if isinstance(brought, tuple) else copies[0]

    def take(self, brought: Any) -> None:
        """Do nothing."""


class CudaPlace:
    """A GPU: batches come on a stream of their own, beside the one that computes.

    The thread waits until all of a batch is there. So the loader's memory may be filled again, and
    the stream that computes finds everything ready: it never waits, and the clock of the host tells
    the truth.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _stream_beside(device)

    def bring(self, item: Any, bring: Callable[[Any, torch.device], Any]) -> Any:
        """Return what is there."""
        # A thread begins on the first GPU, to which leaving the stream alone would go back: with a
        # context, and so hundreds of MB, on a GPU that is not this process's.
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            brought = bring(item, self._device)
            arrived = torch.cuda.Event(blocking=True)  # the processor has other things to do
            arrived.record()
        arrived.synchronize()
        return brought

    def take(self, brought: Any) -> None:
        """Keep the memory from being given away before the stream that computes is through."""
        for tensor in _tensors(brought):
            if tensor.is_cuda:
                tensor.record_stream(torch.cuda.current_stream(self._device))


@functools.cache
def _stream_beside(device: torch.device) -> torch.cuda.Stream:
    """Return the stream that brings batches, the same one always: each keeps memory of its own.

    It goes before the one that computes, whose kernels fill the GPU.
    """
    return torch.cuda.Stream(device, priority=-1)


def _tensors(brought: Any) -> tuple[torch.Tensor, ...]:
    return brought if isinstance(brought, tuple) else (brought,)


@dataclass(frozen=True)
class _Sent(Generic[Brought]):
    """What the thread sends: a batch, or why there is none.

    Attributes:
        brought: The batch.
        loaded: When the loader had handed it over, by ``time.perf_counter``.
        error: Why there is none; None at the end, too.
    """

    brought: Brought | None
    loaded: float
    error: BaseException | None = None


def bring_ahead(
    items: Iterable[Item],
    bring: Callable[[Item, torch.device], Brought],
    device: torch.device,
    clock: Clock,
) -> Iterator[Brought]:
    """Yield what is brought of the items, in their order; the next ones are brought meanwhile.

    The first item is fetched by the caller's thread, so that loading processes are forked by it,
    and not beside a thread that computes. When the iterator is closed, the thread ends: at once, or
    when the loader has given the batch that it was asked for last.

    Args:
        items: From a loader; the memory of one is good until the next is asked for.
        bring: Brings one to the device.
        device: Where to.
        clock: Told what was waited for.

    Raises:
        Exception: What the loader or ``bring`` raised, in the place of the batch.
    """
    place: Place = CudaPlace(device) if device.type == "cuda" else HostPlace(device)
    iterator, asked = iter(items), time.perf_counter()
    try:
        first = next(iterator)
    except StopIteration:
        return
    finally:
        clock.add(waiting=time.perf_counter() - asked)
    sent: queue.Queue[_Sent[Brought]] = queue.Queue(_WAITING)
    stopped = threading.Event()

    def run() -> None:
        try:
            for item in chain([first], iterator):
                if stopped.is_set():
                    return
                loaded = time.perf_counter()
                sent.put(_Sent(place.bring(item, bring), loaded))
                if stopped.is_set():
                    return
            sent.put(_Sent(None, time.perf_counter()))
        except BaseException as error:  # whoever computes raises it
            sent.put(_Sent(None, time.perf_counter(), error))

    thread = threading.Thread(target=run, name="bring_ahead", daemon=True)
    thread.start()
    try:
        while True:
            asked = time.perf_counter()
            got = sent.get()
            now = time.perf_counter()
            loaded = min(max(got.loaded, asked), now)
            clock.add(waiting=loaded - asked, copying=now - loaded)
            if got.error is not None:
                raise got.error
            if got.brought is None:
                return
            place.take(got.brought)
            yield got.brought
            del got  # its memory is free while the next one is waited for
    finally:
        stopped.set()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while thread.is_alive() and time.monotonic() < deadline:
            with suppress(queue.Empty):
                sent.get_nowait()  # make room: it may be waiting for that
            thread.join(_STEP_SECONDS)
