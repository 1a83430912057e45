"""Pooled features of the backbone for every view of a video: what tests and heads begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from train.augmentation import test_views
from train.progress import track
from tsn_core.errors import InputError
from tsn_core.loading import prepare_worker, stream
from tsn_core.planes import by_snippet
from tsn_core.sampling import center_offsets, check_num_snippets
from tsn_core.tsn import TSN
from tsn_core.video_source import VideoSource

_IMAGES_AT_ONCE = 64  # snippets that go through the backbone together


Chosen = tuple[int, Sequence[int] | np.ndarray]  # a video and some of its snippets


class _Views(Dataset):
    """All test crops of the chosen snippets of a video, (crops, S, L * C, H, W) uint8."""

    def __init__(self, shards: VideoSource, items: Sequence[Chosen], crops: int, size: int) -> None:
        self._shards = shards
        self._items = items
        self._crops = crops
        self._size = size

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> torch.Tensor:
        video, chosen = self._items[place]
        units = self._shards.unit_views(video, chosen)
        views = test_views(units, self._crops, self._size, self._shards.modality.kind)
        return torch.from_numpy(np.stack([by_snippet(view, len(chosen)) for view in views]))


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
        InputError: A number is out of range. Nothing is read before the first video is asked for.
    """
    if crops not in (1, 3, 10):
        raise InputError(f"crops must be 1, 3 or 10, got {crops}")
    views = _Views(shards, items, crops, input_size)
    loader: DataLoader = DataLoader(
        views, batch_size=None, num_workers=num_workers, worker_init_fn=prepare_worker
    )
    model.to(device).eval()
    for stacks in track(stream(loader), len(views), label, console):
        num_snippets = stacks.shape[1]
        with torch.inference_mode():
            if model.settings.temporal_shift:  # snippets of a crop cannot be taken apart
                parts = stacks.split(max(_IMAGES_AT_ONCE // num_snippets, 1))
                yield torch.cat([model.snippet_features(part.to(device)) for part in parts])
                continue
            images = stacks.flatten(0, 1)  # (crops * S, L * C, H, W)
            features = torch.cat(
                [model.features(part.to(device)) for part in images.split(_IMAGES_AT_ONCE)]
            )
        yield features.view(crops, num_snippets, -1)
