"""What loading processes hand over: snippets, or what is left to be done where the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from train.augmentation import View
from train.crops import Crops, EncodedCrops, PackedCrops
from train.slots import Memory, Slots, opened
from tsn_core.encoded_units import EncodedUnits
from tsn_core.errors import InputError
from tsn_core.modality import Modality
from tsn_core.planes import cut_box


@dataclass(frozen=True)
class CutVideo:
    """The units of one video's snippets, before anything is copied.

    Attributes:
        units: K * L of (H, W, C) uint8.
        view: What to show of them.
    """

    units: Sequence[np.ndarray]
    view: View

    @property
    def crops(self) -> list[np.ndarray]:
        """The box of each unit, (h, w, C)."""
        return [cut_box(unit, self.view.box) for unit in self.units]


@dataclass(frozen=True)
class EncodedVideo:
    """The units of one video's snippets, as they are stored.

    Attributes:
        units: K * L JPEGs.
        view: What to show of them.
    """

    units: EncodedUnits
    view: View


@dataclass(frozen=True)
class ReadySnippets:
    """The snippets of a batch, of the size that the network takes.

    Attributes:
        data: All pixels, (B,) uint8.
        shape: (N, K, L * C, size, size).
    """

    data: Memory
    shape: tuple[int, ...]

    def on(self, device: torch.device) -> torch.Tensor:
        """Return the snippets on a device; on a CPU, until the next batch is asked for."""
        return opened(self.data, device).view(self.shape).to(device, non_blocking=True)


CutItem = tuple[CutVideo, int, int, bool]  # label, place, whether it counts
EncodedItem = tuple[EncodedVideo, int, int, bool]


class _Collate:
    """What makes batches must know of the videos, and where it puts them."""

    def __init__(self, kind: Modality, snippet_length: int, size: int, slots: Slots) -> None:
        self._kind = kind
        self._snippet_length = snippet_length
        self._size = size
        self._slots = slots

    def _crops(self, views: Sequence[View], num_units: int) -> Crops:
        return Crops(
            boxes=tuple(view.box for view in views),
            mirrored=tuple(bool(view.mirrored) for view in views),
            num_snippets=num_units // self._snippet_length,
            snippet_length=self._snippet_length,
            size=self._size,
            modality=self._kind.name,
        )


class Resizer(_Collate):
    """Makes a batch of ``ReadySnippets`` from what was cut."""

    def __call__(self, items: Sequence[CutItem]) -> list[Any]:
        """Return the snippets, labels, places and whether they count."""
        length, channels, size = self._snippet_length, self._kind.unit_channels, self._size
        count = len(items[0][0].units)
        memory, filled = self._slots.take(len(items) * count * channels * size * size)
        planes = memory.numpy().reshape(len(items), count, channels, size, size)
        for (video, *_), place in zip(items, planes):
            video.view.of(video.units, size, self._kind, out=place)
        shape = (len(items), count // length, length * channels, size, size)
        snippets = ReadySnippets(memory if filled is None else filled, shape)
        return [snippets, *_columns(items)]


class Packer(_Collate):
    """Makes a batch of ``PackedCrops`` from what was cut."""

    def __call__(self, items: Sequence[CutItem]) -> list[Any]:
        """Return the crops, labels, places and whether they count."""
        videos = [item[0] for item in items]
        crops = [video.crops for video in videos]
        memory, filled = self._slots.take(sum(crop.size for one in crops for crop in one))
        pixels, place = memory.numpy(), 0
        for crop in (crop for one in crops for crop in one):
            part = crop.transpose(2, 0, 1) if self._kind.stacked else crop
            pixels[place : place + crop.size].reshape(part.shape)[...] = part
            place += crop.size
        cut = self._crops([video.view for video in videos], len(videos[0].units))
        return [PackedCrops(memory if filled is None else filled, cut), *_columns(items)]


class Forwarder(_Collate):
    """Makes a batch of ``EncodedCrops`` from what was read."""

    def __call__(self, items: Sequence[EncodedItem]) -> list[Any]:
        """Return the JPEGs, labels, places and whether they count."""
        videos = [item[0] for item in items]
        images = [image for video in videos for image in video.units.images]
        memory, filled = self._slots.take(sum(image.size for image in images))
        np.concatenate(images, out=memory.numpy())
        encoded = EncodedCrops(
            data=memory if filled is None else filled,
            lengths=tuple(image.size for image in images),
            numbers=tuple(number for video in videos for number in video.units.numbers),
            sources=tuple(video.units.source for video in videos),
            shapes=tuple(video.units.shape for video in videos),
            crops=self._crops([video.view for video in videos], len(videos[0].units.images)),
        )
        return [encoded, *_columns(items)]


def check_mirroring(kind: Modality) -> None:
    """Check that videos of a modality can be mirrored on a device.

    Raises:
        InputError: They cannot.
    """
    if kind.recode_mirrored is not None:
        raise InputError(
            f"--resize-on device: {kind.name} is mirrored by code of its own, which runs in "
            "the loading processes alone; use --resize-on workers"
        )


def _columns(items: Sequence[tuple[Any, int, int, bool]]) -> list[np.ndarray]:
    """Return labels, places and whether they count; as arrays, which need no shared memory."""
    return [np.array(column) for column in zip(*(item[1:] for item in items))]
