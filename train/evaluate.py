"""Testing a trained network on the videos of a subset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from train.augmentation import test_views
from train.progress import track
from train.scores import Scores
from train.videos import one_thread, stream, to_channels
from tsn_core.errors import CheckpointError, InputError
from tsn_core.sampling import center_offsets
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN

_IMAGES_AT_ONCE = 64  # snippets that go through the backbone together


def check_fits(model: TSN, class_names: Sequence[str], shards: ShardSet, source: object) -> None:
    """Check that a model was trained on such shards.

    Raises:
        CheckpointError: The modality, the snippets or the classes differ.
    """
    settings, modality = model.settings, shards.modality
    if settings.modality != modality.name:
        raise CheckpointError(
            f"{source}: trained on {settings.modality}, {shards.folder} holds {modality.name}; "
            "choose the run of that modality"
        )
    if settings.snippet_length != modality.snippet_length:
        raise CheckpointError(
            f"{source}: trained on snippets of {settings.snippet_length} units, {shards.folder} "
            f"holds {modality.snippet_length}; extract with that --snippet-length, or train again"
        )
    if tuple(class_names) != tuple(shards.class_names):
        raise CheckpointError(
            f"{source}: trained on {len(class_names)} classes ({_few(class_names)}), "
            f"{shards.folder} has {len(shards.class_names)} ({_few(shards.class_names)}); "
            "choose the shards that it was trained on, or train again"
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


class _Views(Dataset):
    """All test crops of the S middle snippets of each video, (crops, S, L * C, H, W) uint8."""

    def __init__(
        self, shards: ShardSet, videos: Sequence[int], num_snippets: int, crops: int, size: int
    ) -> None:
        self._shards = shards
        self._videos = list(videos)
        self._num_snippets = num_snippets
        self._crops = crops
        self._size = size

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, place: int) -> torch.Tensor:
        video = self._videos[place]
        chosen = center_offsets(int(self._shards.num_snippets[video]), self._num_snippets, 1)
        stack = self._shards.read(video, chosen)
        mirrored = self._shards.modality.kind.mirrored_channels
        views = test_views(stack, self._crops, self._size, mirrored)
        return torch.stack([to_channels(view) for view in views])


def evaluate(
    model: TSN,
    shards: ShardSet,
    videos: Sequence[int],
    *,
    num_snippets: int,
    crops: int,
    input_size: int,
    num_workers: int,
    device: torch.device,
    console: Console,
) -> Scores:
    """Score videos by many views each.

    The consensus is taken over the snippets of each crop, and the mean over the crops; for the
    average consensus that is the mean over all views.

    Args:
        model: A trained network.
        shards: Of the modality that it was trained on.
        videos: Which videos.
        num_snippets: Per video, S, at the centres of equal parts of the stored ones.
        crops: 1, 3 or 10.
        input_size: Side of the crops in px.
        num_workers: Processes that load; 0 loads in this one.
        device: Where the network runs.
        console: Where progress is shown.

    Returns:
        The scores, before softmax.

    Raises:
        InputError: There are no videos, or a number is out of range.
    """
    if not videos:
        raise InputError(f"{shards.folder}: no videos to test on")
    if num_snippets < 1:
        raise InputError(f"--num-snippets must be > 0, got {num_snippets}")
    if crops not in (1, 3, 10):
        raise InputError(f"crops must be 1, 3 or 10, got {crops}")
    views = _Views(shards, videos, num_snippets, crops, input_size)
    loader: DataLoader = DataLoader(
        views, batch_size=None, num_workers=num_workers, worker_init_fn=one_thread
    )
    label = f"testing {shards.modality.folder}"
    snippet_scores, video_scores = [], []
    model.to(device).eval()
    with torch.inference_mode():
        for stacks in track(stream(loader), len(views), label, console):
            images = stacks.flatten(0, 1)  # (crops * S, L * C, H, W)
            features = torch.cat(
                [model.features(part.to(device)) for part in images.split(_IMAGES_AT_ONCE)]
            )
            video, snippet = model.score(features.view(crops, num_snippets, -1))
            video_scores.append(video.float().mean(dim=0).cpu().numpy())  # (C,)
            snippet_scores.append(snippet.float().mean(dim=0).cpu().numpy())  # (S, C)
    return Scores(
        name=shards.modality.folder,
        names=np.array([shards.names[video] for video in videos]),
        labels=shards.labels[list(videos)],
        scores=np.stack(snippet_scores),
        video_scores=np.stack(video_scores),
        class_names=np.array(shards.class_names),
    )
