"""From a loader's batches to batches on the device that trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch

from train.clock import Clock
from train.packed_crops import PackedCrops

# Snippets (N, K, L * C, H, W) uint8, labels (N,), places (N,), whether they count (N,).
Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Loaded: TypeAlias = tuple[torch.Tensor | PackedCrops, torch.Tensor, torch.Tensor, torch.Tensor]


def on_device(
    batches: Iterable[Loaded], device: torch.device, clock: Clock | None = None
) -> Iterator[Batch]:
    """Yield batches with everything but the places on a device, and crops resized there.

    Args:
        batches: From a loader.
        device: Where the network runs.
        clock: Told how long that takes. A GPU is waited for: every step ends with reading its loss,
            so that nothing else is under way then.
    """
    for snippets, labels, places, counts in batches:
        timed: AbstractContextManager[None] = nullcontext() if clock is None else clock.copying()
        with timed:
            if isinstance(snippets, PackedCrops):
                put = snippets.on(device)
            else:
                put = snippets.to(device, non_blocking=True)
            moved = labels.to(device, non_blocking=True), counts.to(device, non_blocking=True)
            if clock is not None and device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()
        yield put, moved[0], places, moved[1]
