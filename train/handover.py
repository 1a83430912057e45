"""What loading processes hand over: snippets, or crops to be resized where the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from train.augmentation import View
from train.slots import Filled, Slots
from tsn_core.errors import InputError
from tsn_core.modality import Modality, get_modality
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


Memory = torch.Tensor | Filled  # (B,) uint8, here or in a slot


def _opened(memory: Memory) -> torch.Tensor:
    return memory.tensor() if isinstance(memory, Filled) else memory


@dataclass(frozen=True)
class ReadySnippets:
    """The snippets of a batch, of the size that the network takes.

    Attributes:
        data: All pixels, (B,) uint8.
        shape: (N, K, L * C, size, size).
    """

    data: Memory
    shape: tuple[int, ...]

    def pin_memory(self) -> ReadySnippets:
        """Return the same in pinned memory; the loader asks for it."""
        return replace(self, data=_opened(self.data).pin_memory())

    def on(self, device: torch.device) -> torch.Tensor:
        """Return the snippets on a device; on a CPU, until the next batch is asked for."""
        return _opened(self.data).view(self.shape).to(device, non_blocking=True)


@dataclass(frozen=True)
class PackedCrops:
    """The crops of a batch, one after the other in one piece of memory.

    Loading processes only cut; resizing and mirroring is done for many images at once, on the
    device. Results differ by at most one gray level from those of OpenCV, which rounds more often.

    Attributes:
        data: All pixels, (B,) uint8: those of a crop as the shards store them, channel below
            channel for stacked modalities and interleaved for others.
        boxes: (height, width) of each video's crops in px.
        mirrored: Whether each video is mirrored.
        num_snippets: Of each video, K.
        snippet_length: Units of a snippet, L.
        size: Side in px that all are to have.
        modality: Name of the modality.
    """

    data: Memory
    boxes: tuple[tuple[int, int], ...]
    mirrored: tuple[bool, ...]
    num_snippets: int
    snippet_length: int
    size: int
    modality: str

    def pin_memory(self) -> PackedCrops:
        """Return the same in pinned memory; the loader asks for it."""
        return replace(self, data=_opened(self.data).pin_memory())

    def on(self, device: torch.device) -> torch.Tensor:
        """Return the snippets on a device, (N, K, L * C, size, size) uint8."""
        kind, size = get_modality(self.modality), self.size
        channels, count = kind.unit_channels, self.num_snippets * self.snippet_length
        data = _opened(self.data).to(device, non_blocking=True)
        lengths = [height * width * channels * count for height, width in self.boxes]
        videos = data.split(lengths)
        out = torch.empty(
            (len(videos), count, channels, size, size), dtype=torch.uint8, device=device
        )
        for height, width in sorted(set(self.boxes)):
            chosen = [n for n, box in enumerate(self.boxes) if box == (height, width)]
            pixels = torch.stack([videos[n] for n in chosen])
            if kind.stacked:
                images = pixels.view(-1, channels, height, width)
            else:
                images = pixels.view(-1, height, width, channels).permute(0, 3, 1, 2)
            resized = _resized(images, size).view(len(chosen), count, channels, size, size)
            out[torch.tensor(chosen, device=device)] = resized
        if any(self.mirrored):
            turned = torch.tensor([n for n, is_so in enumerate(self.mirrored) if is_so])
            turned = turned.to(device)
            images = out[turned].flip(-1)
            for channel in kind.mirrored_channels:
                images[:, :, channel] = 255 - images[:, :, channel]
            out[turned] = images
        return out.view(len(videos), self.num_snippets, -1, size, size)


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Return images (M, C, h, w) uint8 as (M, C, size, size)."""
    if images.shape[-2:] == (size, size):
        return images.contiguous()
    values = functional.interpolate(images.float(), (size, size), mode="bilinear")
    return values.round_().to(torch.uint8).contiguous()


CutItem = tuple[CutVideo, int, int, bool]  # label, place, whether it counts


class _Collate:
    """What makes batches must know of the videos, and where it puts them."""

    def __init__(self, kind: Modality, snippet_length: int, size: int, slots: Slots) -> None:
        self._kind = kind
        self._snippet_length = snippet_length
        self._size = size
        self._slots = slots


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

    def __init__(self, kind: Modality, snippet_length: int, size: int, slots: Slots) -> None:
        """Say what the crops are.

        Raises:
            InputError: Videos of that modality cannot be mirrored on a device.
        """
        if kind.recode_mirrored is not None:
            raise InputError(
                f"--resize-on device: {kind.name} is mirrored by code of its own, which runs in "
                "the loading processes alone; use --resize-on workers"
            )
        super().__init__(kind, snippet_length, size, slots)

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
        packed = PackedCrops(
            data=memory if filled is None else filled,
            boxes=tuple(video.view.box[2:] for video in videos),
            mirrored=tuple(bool(video.view.mirrored) for video in videos),
            num_snippets=len(videos[0].units) // self._snippet_length,
            snippet_length=self._snippet_length,
            size=self._size,
            modality=self._kind.name,
        )
        return [packed, *_columns(items)]


def _columns(items: Sequence[CutItem]) -> list[np.ndarray]:
    """Return labels, places and whether they count; as arrays, which need no shared memory."""
    return [np.array(column) for column in zip(*(item[1:] for item in items))]
