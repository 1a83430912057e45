"""Shared memory that loading processes fill again and again, instead of new memory for each batch.

The system clears new memory page by page, which costs several times what filling it does. Each
process has a few slots of the size of a batch and fills them in turn. A loader hands a process its
next task when a batch of it is taken, and never has more than ``PREFETCH`` of them waiting: so a
slot is filled again only when a later batch has been taken, and one slot more than that is enough.
"""

from __future__ import annotations

import itertools
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary, finalize

import torch
from torch.utils.data import get_worker_info

from tsn_core.errors import InputError

PREFETCH = 2  # batches that a loader has each process prepare
_NUM_SLOTS = PREFETCH + 1
_numbers = itertools.count()


@dataclass(frozen=True)
class Filled:
    """A part of a slot that holds a batch, until the next batch is asked for; small enough to send.

    Attributes:
        slots: Number of the ``Slots``.
        row: Which slot.
        num_bytes: How much of it.
    """

    slots: int
    row: int
    num_bytes: int

    def tensor(self, pinned: bool = False) -> torch.Tensor:
        """Return the bytes, (num_bytes,) uint8, in the process that made the slots.

        Args:
            pinned: Whether a GPU is to copy them; see ``Slots.pin``.
        """
        slots = _made[self.slots]
        if pinned:
            slots.pin()
        return slots.memory[self.row, : self.num_bytes]


Memory = torch.Tensor | Filled  # (B,) uint8, here or in a slot


def opened(memory: Memory, device: torch.device | None = None) -> torch.Tensor:
    """Return the bytes of a batch, (B,) uint8, on the CPU.

    Args:
        memory: That was handed over.
        device: That is to copy them. A GPU copies from memory that stays in its place, without
            holding up who asks it to; other memory is copied into such memory first.
    """
    pinned = device is not None and device.type == "cuda"
    data = memory.tensor(pinned) if isinstance(memory, Filled) else memory
    return data.pin_memory() if pinned and not data.is_pinned() else data


@dataclass(eq=False)
class Slots:
    """The slots of all processes of one loader.

    Attributes:
        memory: (processes * slots, bytes) uint8, shared.
        number: Of these slots.
    """

    memory: torch.Tensor
    number: int = field(default_factory=lambda: next(_numbers))
    _turn: int = 0
    _was_pinned: bool = False

    def __post_init__(self) -> None:
        _made[self.number] = self

    def take(self, num_bytes: int) -> tuple[torch.Tensor, Filled | None]:
        """Return memory of that size to fill, and what to send; None: the memory itself.

        In a loading process it is that of the next slot, if it fits.
        """
        worker = get_worker_info()
        if worker is None or num_bytes > self.memory.shape[1]:
            return torch.empty(num_bytes, dtype=torch.uint8), None
        row = worker.id * _NUM_SLOTS + self._turn
        self._turn = (self._turn + 1) % _NUM_SLOTS
        return self.memory[row, :num_bytes], Filled(self.number, row, num_bytes)

    def pin(self) -> None:
        """Keep the memory in its place, once, if the system allows it; GPUs copy from it directly.

        Only after the loading processes have been started: what a GPU knows of is not theirs.
        """
        if self._was_pinned:
            return
        self._was_pinned = True
        address, size = self.memory.data_ptr(), self.memory.numel()
        if _register(address, size):
            finalize(self, _unregister, address)


def _register(address: int, num_bytes: int) -> bool:
    """Have CUDA keep memory in its place; return whether it does."""
    runtime = torch.cuda.cudart()
    if int(runtime.cudaHostRegister(address, num_bytes, 0)) == 0:
        return True
    with suppress(RuntimeError):  # or else the next launch would report this error as its own
        torch.zeros(1, device="cuda")
    return False


def _unregister(address: int) -> None:
    with suppress(RuntimeError):  # in a forked process, where it is not known to any GPU
        torch.cuda.cudart().cudaHostUnregister(address)


_made: WeakValueDictionary[int, Slots] = WeakValueDictionary()


def make_slots(
    num_workers: int,
    num_bytes: int,
    remedy: str = "a smaller --batch-size or more --accumulate",
) -> Slots:
    """Return slots for so many loading processes.

    Args:
        num_workers: Processes; none needs no slots.
        num_bytes: Of the largest batch.
        remedy: What makes batches smaller.

    Raises:
        InputError: There is not so much shared memory.
    """
    shape = (num_workers * _NUM_SLOTS, num_bytes)
    try:
        return Slots(torch.empty(shape, dtype=torch.uint8).share_memory_())
    except RuntimeError:
        megabytes = round(shape[0] * num_bytes / 1e6)
        raise InputError(
            f"{num_workers} loading processes need {megabytes} MB of shared memory{_free()}; "
            f"choose fewer --workers, {remedy}, or allow more (docker run --shm-size)"
        ) from None


def _free() -> str:
    try:
        return f", {round(shutil.disk_usage('/dev/shm').free / 1e6)} MB of /dev/shm are free"
    except OSError:
        return ""
