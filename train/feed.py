"""From what a loader hands over to tensors on the device that computes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import torch

from train.ahead import bring_ahead
from train.clock import Clock

# Snippets (N, K, L * C, H, W) uint8, labels (N,), places (N,), whether they count (N,).
Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Item = TypeVar("Item")
Brought = TypeVar("Brought")


class Handed(Protocol):
    """What loading processes hand over: ready snippets, crops, or JPEGs."""

    def on(self, device: torch.device) -> torch.Tensor:
        """Return the snippets on a device; on a CPU, until the next batch is asked for."""


Loaded: TypeAlias = tuple[Handed, np.ndarray, np.ndarray, np.ndarray]


def on_device(
    batches: Iterable[Loaded],
    device: torch.device,
    clock: Clock | None = None,
    ahead: bool | None = None,
) -> Generator[Batch, None, None]:
    """Yield batches with everything but the places on a device, and crops resized there.

    Args:
        batches: From a loader.
        device: Where the network runs.
        clock: Told how long was waited for the loader, and how long for copying and what else is
            done on the device before a batch is ready.
        ahead: Whether batches are brought by a thread while earlier ones are computed with; None
            does so for a GPU. Without it, a batch on a CPU is good until the next is asked for:
            its memory is then filled again.
    """
    yield from _brought(batches, _batch_on, device, Clock() if clock is None else clock, ahead)


def snippets_on_device(
    handed: Iterable[Handed], device: torch.device, ahead: bool | None = None
) -> Generator[torch.Tensor, None, None]:
    """Yield snippets that come without labels; see ``on_device``."""
    yield from _brought(handed, _snippets_on, device, Clock(), ahead)


def _snippets_on(handed: Handed, device: torch.device) -> torch.Tensor:
    return handed.on(device)


def _batch_on(loaded: Loaded, device: torch.device) -> Batch:
    snippets, labels, places, counts = loaded
    put = snippets.on(device)
    moved = torch.from_numpy(labels).to(device), torch.from_numpy(counts).to(device)
    return put, moved[0], torch.from_numpy(places), moved[1]


def _brought(
    items: Iterable[Item],
    bring: Callable[[Item, torch.device], Brought],
    device: torch.device,
    clock: Clock,
    ahead: bool | None,
) -> Generator[Brought, None, None]:
    if ahead or (ahead is None and device.type == "cuda"):
        yield from bring_ahead(items, bring, device, clock)
        return
    for item in clock.waiting(items):
        with clock.copying():
            brought = bring(item, device)
        yield brought
