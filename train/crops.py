"""Crops that are decoded, resized and mirrored a batch at a time, where the network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from train.jpegs import decode_jpegs
from train.slots import Memory, opened
from tsn_core.codec import decode_image
from tsn_core.encoded_units import damaged
from tsn_core.errors import DeviceError, ShardError
from tsn_core.modality import get_modality
from tsn_core.planes import Box


@dataclass(frozen=True)
class Crops:
    """What the videos of a batch show, and what is to become of it.

    Results differ by at most one gray level from those of OpenCV, which rounds more often.

    Attributes:
        boxes: What is shown of each video's units.
        mirrored: Whether each video is mirrored.
        num_snippets: Of each video, K.
        snippet_length: Units of a snippet, L.
        size: Side in px that all are to have.
        modality: Name of the modality.
    """

    boxes: tuple[Box, ...]
    mirrored: tuple[bool, ...]
    num_snippets: int
    snippet_length: int
    size: int
    modality: str

    @property
    def num_units(self) -> int:
        """Of each video, K * L."""
        return self.num_snippets * self.snippet_length

    def snippets(self, videos: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """Return the snippets of a batch, (N, K, L * C, size, size) uint8.

        Args:
            videos: Of each the K * L boxes that were cut out, (C, height, width) uint8.
        """
        kind, size, count = get_modality(self.modality), self.size, self.num_units
        channels, device = kind.unit_channels, videos[0][0].device
        out = torch.empty(
            (len(videos), count, channels, size, size), dtype=torch.uint8, device=device
        )
        shapes = [box[2:] for box in self.boxes]
        for shape in sorted(set(shapes)):
            chosen = [n for n, one in enumerate(shapes) if one == shape]
            images = torch.stack([unit for n in chosen for unit in videos[n]])
            resized = _resized(images, size).view(len(chosen), count, channels, size, size)
            out[_numbers(chosen, device)] = resized
        turned = [n for n, is_so in enumerate(self.mirrored) if is_so]
        if turned:
            places = _numbers(turned, device)
            images = out[places].flip(-1)
            for channel in kind.mirrored_channels:
                images[:, :, channel] = 255 - images[:, :, channel]
            out[places] = images
        return out.view(len(videos), self.num_snippets, -1, size, size)


def _numbers(numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(numbers).to(device, non_blocking=True)


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Return images (M, C, h, w) uint8 as (M, C, size, size)."""
    if images.shape[-2:] == (size, size):
        return images.contiguous()
    values = functional.interpolate(images.float(), (size, size), mode="bilinear")
    return values.round_().to(torch.uint8).contiguous()


@dataclass(frozen=True)
class PackedCrops:
    """The crops of a batch, one after the other in one piece of memory.

    Attributes:
        data: All pixels, (B,) uint8: those of a crop as the shards store them, channel below
            channel for stacked modalities and interleaved for others.
        crops: What they are.
    """

    data: Memory
    crops: Crops

    def on(self, device: torch.device) -> torch.Tensor:
        """Return the snippets on a device, (N, K, L * C, size, size) uint8."""
        kind, count = get_modality(self.crops.modality), self.crops.num_units
        channels = kind.unit_channels
        lengths = [height * width * channels * count for *_, height, width in self.crops.boxes]
        data = opened(self.data, device).to(device, non_blocking=True)
        videos = []
        for pixels, (*_, height, width) in zip(data.split(lengths), self.crops.boxes):
            if kind.stacked:
                units = pixels.view(count, channels, height, width)
            else:
                units = pixels.view(count, height, width, channels).permute(0, 3, 1, 2)
            videos.append(units.unbind())
        return self.crops.snippets(videos)


@dataclass(frozen=True)
class EncodedCrops:
    """The whole units of a batch as the shards store them: JPEGs, one after the other.

    Loading processes only copy; even decoding is done on the device. On a CPU the pixels are those
    of ``PackedCrops``; a GPU's decoder rounds otherwise.

    Attributes:
        data: All bytes, (B,) uint8.
        lengths: Of each JPEG in bytes, K * L of them for each video.
        numbers: Of each in its shard, for messages.
        sources: Shard and name of each video, for messages.
        shapes: Of each video's decoded images: (H, W) for gray, (H, W, 3) for RGB.
        crops: What to cut out of them.
    """

    data: Memory
    lengths: tuple[int, ...]
    numbers: tuple[int, ...]
    sources: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    crops: Crops

    def on(self, device: torch.device) -> torch.Tensor:
        """Return the snippets on a device, (N, K, L * C, size, size) uint8.

        Raises:
            ShardError: An image is damaged.
            DeviceError: The device's decoder refuses images that are not.
        """
        count = self.crops.num_units
        shapes = [shape for shape in self.shapes for _ in range(count)]
        encoded = opened(self.data).split(self.lengths)
        try:
            images = decode_jpegs(encoded, shapes, device)
        except (ShardError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise self._explained(encoded, shapes, error) from None
        channels = get_modality(self.crops.modality).unit_channels
        videos = []
        for number, (top, left, height, width) in enumerate(self.crops.boxes):
            units = [
                # gray planes that lie one below the other become channels
                image.view(channels, -1, image.shape[-1])[
                    :, top : top + height, left : left + width
                ]
                for image in images[number * count : (number + 1) * count]
            ]
            videos.append(units)
        return self.crops.snippets(videos)

    def _explained(
        self,
        encoded: Sequence[torch.Tensor],
        shapes: Sequence[tuple[int, ...]],
        error: Exception,
    ) -> Exception:
        """Return the error about the image that could not be decoded, as the shards' reader does.

        A device tells of a batch only that it failed.
        """
        for place, (data, shape) in enumerate(zip(encoded, shapes)):
            defect = _defect(data, shape)
            if defect is not None:
                source = self.sources[place // self.crops.num_units]
                return damaged(source, self.numbers[place], defect)
        reason = str(error).strip().split("\n")[0]
        return DeviceError(
            f"--decode-on device: the device does not decode a batch of {self.sources[0]} and "
            f"others, though its images are sound: {reason}; use --decode-on workers"
        )


def _defect(data: torch.Tensor, shape: tuple[int, ...]) -> ShardError | None:
    """Return why the processor cannot decode a JPEG either, or None if it can."""
    try:
        decode_image(data.numpy(), "jpeg", shape)
    except ShardError as error:
        return error
    return None
