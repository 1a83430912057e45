"""Pooled features of the backbone for every view of a video: what tests and heads begin with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from train.augmentation import test_views
from train.feed import snippets_on_device
from train.handover import ReadySnippets
from train.progress import track
from train.slots import PREFETCH, Slots, make_slots
from tsn_core.errors import InputError
from tsn_core.loading import prepare_worker, stream
from tsn_core.modality import StoredModality
from tsn_core.sampling import center_offsets, check_num_snippets
from tsn_core.tsn import TSN
from tsn_core.video_source import VideoSource

_IMAGES_AT_ONCE = 64  # snippets that go through the backbone together


Chosen = tuple[int, Sequence[int] | np.ndarray]  # a video and some of its snippets


class _Views(Dataset):
    """The units of the chosen snippets of a video, (H, W, C) uint8."""

    def __init__(self, shards: VideoSource, items: Sequence[Chosen]) -> None:
        self._shards = shards
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> list[np.ndarray]:
        video, chosen = self._items[place]
        return self._shards.unit_views(video, chosen)


@dataclass(frozen=True)
class _Cutter:
    """Makes all test crops of the units of a video, in a slot if it is free.

    Attributes:
        modality: Of the units.
        crops: 1, 3 or 10.
        size: Side of the crops in px.
        slots: Of the loading processes.
    """

    modality: StoredModality
    crops: int
    size: int
    slots: Slots

    def __call__(self, units: Sequence[np.ndarray]) -> ReadySnippets:
        """Return the views, (crops, S, L * C, size, size)."""
        kind, length = self.modality.kind, self.modality.snippet_length
        shape = (self.crops, len(units), kind.unit_channels, self.size, self.size)
        memory, filled = self.slots.take(math.prod(shape))
        test_views(units, self.crops, self.size, kind, out=memory.numpy().reshape(shape))
        views = (self.crops, len(units) // length, length * shape[2], self.size, self.size)
        return ReadySnippets(memory if filled is None else filled, views)


def _make_loader(
    shards: VideoSource, items: Sequence[Chosen], crops: int, size: int, num_workers: int
) -> DataLoader:
    """Return a loader of the views of each item, as ``ReadySnippets``.

    Raises:
        InputError: There is too little shared memory for so many processes.
    """
    num_workers = min(num_workers, len(items))
    most_snippets = max((len(chosen) for _, chosen in items), default=0)
    num_bytes = crops * most_snippets * shards.modality.snippet_channels * size * size
    slots = make_slots(num_workers, num_bytes, "fewer --crops or --num-snippets")
    return DataLoader(
        _Views(shards, items),
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_Cutter(shards.modality, crops, size, slots),
        prefetch_factor=PREFETCH if num_workers else None,
        worker_init_fn=prepare_worker,
    )


def view_features(
    model: TSN,
    shards: VideoSource,
    videos: Sequence[int],
    *,
    num_snippets: int,
    crops: int,
    input_size: int,
    num_workers: int,
    device: torch.device,
    label: str,
    console: Console,
) -> Iterator[torch.Tensor]:
    """Yield the pooled features of each video's views, (crops, S, F), on the device.

    As ``chosen_features``, with ``num_snippets`` (S) of each video at the centres of equal parts of
    the stored ones.

    Raises:
        InputError: A number is out of range. Nothing is read before the first video is asked for.
    """
    check_num_snippets(**{"--num-snippets": num_snippets})
    yield from chosen_features(
        model,
        shards,
        [
            (video, center_offsets(int(shards.num_snippets[video]), num_snippets, 1))
            for video in videos
        ],
        crops=crops,
        input_size=input_size,
        num_workers=num_workers,
        device=device,
        label=label,
        console=console,
    )


def chosen_features(
    model: TSN,
    shards: VideoSource,
    items: Sequence[Chosen],
    *,
    crops: int,
    input_size: int,
    num_workers: int,
    device: torch.device,
    label: str,
    console: Console,
) -> Iterator[torch.Tensor]:
    """Yield the pooled features of the views of snippets, (crops, S, F), on the device.

    Args:
        model: Whose backbone is used; it is put on the device and into testing.
        shards: Of the backbone's modality.
        items: Videos, and which S of their stored snippets, in this order.
        crops: 1, 3 or 10.
        input_size: Side of the crops in px.
        num_workers: Processes that load; 0 loads in this one.
        device: Where the network runs.
        label: What progress says is going on.
        console: Where progress is shown.

    Raises:
        InputError: A number is out of range, or there is too little shared memory for so many
            processes. Nothing is read before the first video is asked for.
    """
    if crops not in (1, 3, 10):
        raise InputError(f"crops must be 1, 3 or 10, got {crops}")
    loader = _make_loader(shards, items, crops, input_size, num_workers)
    model.to(device).eval()
    with closing(snippets_on_device(stream(loader), device)) as brought:
        for stacks in track(brought, len(items), label, console):  # (crops, S, L * C, H, W)
            num_snippets = stacks.shape[1]
            with torch.inference_mode():
                if model.settings.temporal_shift:  # snippets of a crop cannot be taken apart
                    parts = stacks.split(max(_IMAGES_AT_ONCE // num_snippets, 1))
                    features = torch.cat([model.snippet_features(part) for part in parts])
                else:
                    images = stacks.flatten(0, 1)  # (crops * S, L * C, H, W)
                    parts = images.split(_IMAGES_AT_ONCE)
                    features = torch.cat([model.features(part) for part in parts])
            yield features.view(crops, num_snippets, -1)
