"""Videos of a subset as a torch dataset, and the loader that streams them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from train.augmentation import Augmentation
from train.batches import BatchPlan, Key, PlanSampler
from tsn_core.errors import InputError, TSNError
from tsn_core.manifest import MANIFEST_NAME, Manifest, read_manifest
from tsn_core.modality import get_modality, modality_folder
from tsn_core.sampling import center_offsets, random_offsets, random_stored
from tsn_core.shard_set import ShardSet


def open_modality(shards: Path, modality: str, flow: str | None) -> tuple[ShardSet, Manifest]:
    """Open one modality of a dataset's shards, and its manifest.

    Args:
        shards: Folder of the dataset's shards, the one with ``manifest.jsonl``.
        modality: Name of the modality.
        flow: Flow algorithm; None takes the only one that is there.

    Raises:
        InputError: The folder or the modality is not there.
        ShardError: The shards are damaged.
    """
    manifest = read_manifest(shards / MANIFEST_NAME)
    there = sorted(file.parent.name for file in shards.glob("*/index.json"))
    several = get_modality(modality).has_algorithm
    if several and flow is None:
        flows = [name for name in there if name.startswith(f"{modality}-")]
        if len(flows) > 1:
            raise InputError(f"{shards}: has {', '.join(flows)}; choose one with --flow")
        folder = flows[0] if flows else modality
    else:
        folder = modality_folder(modality, flow if several else None)
    if folder not in there:
        raise InputError(
            f"{shards}: no {folder} shards, only {', '.join(there) or 'nothing'}; extract them "
            "with tsn-preprocess extract, or choose another --modality"
        )
    return ShardSet(shards / folder), manifest


def to_channels(stack: np.ndarray) -> torch.Tensor:
    """Return a stack (K, L, H, W, C) as the network's input (K, L * C, H, W), both uint8.

    Contiguous: another layout in memory, which workers do not keep, gives other roundings.
    """
    k, length, height, width, channels = stack.shape
    moved = np.ascontiguousarray(stack.transpose(0, 1, 4, 2, 3))  # (K, L, C, H, W)
    return torch.from_numpy(moved.reshape(k, length * channels, height, width))


class SnippetDataset(Dataset):
    """K snippets of each video, chosen and cropped at random or in the middle.

    Items are asked for by epoch and place: all randomness follows from these two and the seed, so
    that it does not depend on how many workers load, on how they were started, nor on how many
    ranks share the videos.
    """

    def __init__(
        self,
        shards: ShardSet,
        videos: Sequence[int],
        *,
        num_segments: int,
        augmentation: Augmentation,
        training: bool,
        seed: int,
    ) -> None:
        self._shards = shards
        self._videos = list(videos)
        self._num_segments = num_segments
        self._augmentation = augmentation
        self._training = training
        self._seed = seed

    def __len__(self) -> int:
        return len(self._videos)

    def name(self, place: int) -> str:
        """Return the name of a video."""
        return self._shards.names[self._videos[place]]

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int, int, bool]:
        """Return (snippets (K, L * C, H, W) uint8, label, place, whether it counts)."""
        epoch, place, counts = key
        video = self._videos[place]
        generator = np.random.default_rng((self._seed, epoch, place))
        stored, length = int(self._shards.num_snippets[video]), self._shards.modality.snippet_length
        if not self._training:
            chosen = center_offsets(stored, self._num_segments, 1)
        elif self._shards.sampling.get("dense"):
            timeline = stored + length - 1  # units: TSN's formula on the video itself
            chosen = random_offsets(timeline, self._num_segments, length, generator)
        else:
            chosen = random_stored(stored, self._num_segments, generator)
        label = int(self._shards.labels[video])
        stack = self._augmentation(self._shards.read(video, chosen), generator, label)
        return to_channels(stack), label, place, counts


def make_loader(
    dataset: SnippetDataset,
    plan: BatchPlan,
    *,
    num_workers: int,
    worker_start: str | None = None,
) -> tuple[DataLoader, PlanSampler]:
    """Return a loader over a dataset and the sampler that must be told the epoch.

    Args:
        dataset: What to load.
        plan: Which videos every batch holds.
        num_workers: Worker processes; 0 loads in this one.
        worker_start: ``fork``, ``spawn``, ``forkserver``, or None for the platform's usual way.
    """
    sampler = PlanSampler(plan)
    loader: DataLoader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        multiprocessing_context=worker_start if num_workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=one_thread,
        # Its own, so that starting workers draws nothing from the generator of dropout.
        generator=torch.Generator(),
    )
    return loader, sampler


def stream(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield a loader's batches; an error in a worker keeps its message of one line.

    OpenCV is kept to one thread from here on, in this process too: its threads do not survive a
    fork, and a forked worker would wait for them for ever.

    Raises:
        TSNError: As the dataset raised it.
    """
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    try:
        yield from loader
    except TSNError as error:
        text = str(error.args[0]).strip()  # str() would make it one line
        if "\nOriginal Traceback" not in text:
            raise
        # "... Traceback ...", and at its end "module.Class: message"
        message = text.rpartition("\n")[2].partition(": ")[2]
        raise type(error)(message) from None


def one_thread(_: int) -> None:
    """Keep a loading process to one thread, given as ``worker_init_fn``."""
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
