"""Videos of a subset as a torch dataset, and the loader that streams them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from train.augmentation import Augmentation, View
from train.batches import BatchPlan, Key, PlanSampler
from train.handover import (
    CutItem,
    CutVideo,
    EncodedItem,
    EncodedVideo,
    Forwarder,
    Packer,
    Resizer,
    check_mirroring,
)
from train.slots import PREFETCH, Slots, make_slots
from tsn_core.errors import InputError
from tsn_core.loading import prepare_worker
from tsn_core.manifest import MANIFEST_NAME, Manifest, read_manifest
from tsn_core.planes import by_snippet
from tsn_core.sampling import segment_snippets
from tsn_core.shard_folders import find_folder
from tsn_core.shard_set import ShardSet

_SPARE = 2  # slots of JPEGs hold so many times the usual batch


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
    return ShardSet(find_folder(shards, modality, flow)), manifest


class SnippetDataset(Dataset):
    """K snippets of each video, chosen and cropped at random or in the middle.

    Items are asked for by epoch and place: all randomness follows from these two and the seed, so
    that it does not depend on how many workers load, on how they were started, nor on how many
    ranks share the videos.

    Args:
        shards: Where the videos lie.
        videos: Their numbers.
        num_segments: Snippets of each, K.
        input_size: Side of the crops in px.
        augmentation: Says what to show of each.
        training: Whether snippets are chosen at random, else from the middle of the segments.
        seed: Of everything random.
        resize: Whether batches hold snippets of the crops' size, else ``PackedCrops``.
        decode: Whether images are decoded; else batches hold ``EncodedCrops``, and nothing is
            resized either.

    Raises:
        InputError: Videos of the modality cannot be mirrored on a device, or their images are not
            encoded.
    """

    def __init__(
        self,
        shards: ShardSet,
        videos: Sequence[int],
        *,
        num_segments: int,
        input_size: int,
        augmentation: Augmentation,
        training: bool,
        seed: int,
        resize: bool = True,
        decode: bool = True,
    ) -> None:
        modality = shards.modality
        if not decode and modality.codec != "jpeg":
            raise InputError(
                f"--decode-on device: {shards.folder} holds {modality.codec} images, which need no "
                "decoding; use --resize-on device alone"
            )
        if not (resize and decode):
            check_mirroring(modality.kind)
        self._shards = shards
        self._videos = list(videos)
        self._num_segments = num_segments
        self._input_size = input_size
        self._augmentation = augmentation
        self._training = training
        self._seed = seed
        self._resize = resize
        self._decode = decode

    def __len__(self) -> int:
        return len(self._videos)

    def name(self, place: int) -> str:
        """Return the name of a video."""
        return self._shards.names[self._videos[place]]

    def collate(self, slots: Slots) -> Forwarder | Packer | Resizer:
        """Return what makes a batch of what ``__getitems__`` returns, in slots if they are free."""
        modality = self._shards.modality
        make = (Resizer if self._resize else Packer) if self._decode else Forwarder
        return make(modality.kind, modality.snippet_length, self._input_size, slots)

    @property
    def most_bytes(self) -> int:
        """Bytes of a video's snippets in a batch; of crops to be resized, at most a whole frame.

        Of JPEGs, twice the usual: a batch of many videos hardly takes more, and one that does
        travels without a slot.
        """
        modality = self._shards.modality
        if not self._decode:
            num_units = self._num_segments * modality.snippet_length
            return _SPARE * self._shards.mean_image_bytes * num_units
        pixels = self._input_size**2
        if not self._resize:
            pixels = (modality.height or 0) * (modality.width or 0)  # 0: they differ, no slots
            pixels = min(pixels, min(modality.height or 0, modality.width or 0) ** 2)
        return self._num_segments * modality.snippet_channels * pixels

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int, int, bool]:
        """Return (snippets (K, L * C, size, size) uint8, label, place, whether it counts)."""
        video, label, place, counts = self._cut(key)
        planes = video.view.of(video.units, self._input_size, self._shards.modality.kind)
        return torch.from_numpy(by_snippet(planes, self._num_segments)), label, place, counts

    def __getitems__(self, keys: Sequence[Key]) -> list[CutItem] | list[EncodedItem]:
        """Return videos as they are cut, before they are resized: what loaders ask for."""
        if self._decode:
            return [self._cut(key) for key in keys]
        return [self._encoded(key) for key in keys]

    def _cut(self, key: Key) -> CutItem:
        video, chosen, view, rest = self._chosen(key)
        return CutVideo(self._shards.unit_views(video, chosen), view), *rest

    def _encoded(self, key: Key) -> EncodedItem:
        video, chosen, view, rest = self._chosen(key)
        return EncodedVideo(self._shards.encoded_units(video, chosen), view), *rest

    def _chosen(self, key: Key) -> tuple[int, np.ndarray, View, tuple[int, int, bool]]:
        """Return a video's number, its snippets, what to show; label, place, whether it counts."""
        epoch, place, counts = key
        video = self._videos[place]
        generator = np.random.default_rng((self._seed, epoch, place))
        chosen = segment_snippets(
            int(self._shards.num_snippets[video]),
            self._num_segments,
            self._shards.modality.snippet_length,
            dense=bool(self._shards.sampling.get("dense")),
            generator=generator if self._training else None,
        )
        label = int(self._shards.labels[video])
        view = self._augmentation(*self._shards.unit_size(video), generator, label)
        return video, chosen, view, (label, place, counts)


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

    Raises:
        InputError: There is too little shared memory for so many processes.
    """
    sampler = PlanSampler(plan)
    slots = make_slots(num_workers, dataset.most_bytes * plan.largest_part)
    loader: DataLoader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        multiprocessing_context=worker_start if num_workers else None,
        collate_fn=dataset.collate(slots),
        prefetch_factor=PREFETCH if num_workers else None,
        worker_init_fn=prepare_worker,
        # Its own, so that starting workers draws nothing from the generator of dropout.
        generator=torch.Generator(),
    )
    return loader, sampler
