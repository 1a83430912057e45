"""From a loader's batches to batches on the device that trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import numpy as np
import torch

from train.clock import Clock
from train.handover import PackedCrops, ReadySnippets

# Snippets (N, K, L * C, H, W) uint8, labels (N,), places (N,), whether they count (N,).
Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Loaded: TypeAlias = tuple[ReadySnippets | PackedCrops, np.ndarray, np.ndarray, np.ndarray]


def on_device(
    batches: Iterable[Loaded], device: torch.device, clock: Clock | None = None
) -> Iterator[Batch]:
    """Yield batches with everything but the places on a device, and crops resized there.

    On a CPU a batch is good until the next one is asked for: its memory is then filled again.

    Args:
        batches: From a loader.
        device: Where the network runs.
        clock: Told how long that takes. A GPU is waited for: every step ends with reading its loss,
            so that nothing else is under way then.
    """
    for snippets, labels, places, counts in batches:
        timed: AbstractContextManager[None] = nullcontext() if clock is None else clock.copying()
        with timed:
            put = snippets.on(device)
            moved = torch.from_numpy(labels).to(device), torch.from_numpy(counts).to(device)
            if clock is not None and device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()
        yield put, moved[0], torch.from_numpy(places), moved[1]
