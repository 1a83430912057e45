"""What a modality is: one small object that every part of the system asks.

A modality turns frames into *units*. A unit is stored as one uint8 image; ``snippet_length``
consecutive units are one snippet, the network's input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tsn_core.errors import InputError

if TYPE_CHECKING:
    from tsn_core.modality import StoredModality

Parameters = Mapping[str, Any]
# Two decoded and resized frames, for one-frame units the same twice, to the image that is stored.
# Each has ``bgr`` and ``rgb`` (H, W, 3) and ``gray`` (H, W), uint8; see ``preprocess.units.Frame``.
MakeImage = Callable[[Any, Any], np.ndarray]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MOST_CHANNELS = 64

# ImageNet statistics in uint8 units, as torchvision's pretrained weights expect.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
MEAN_STD = sum(IMAGENET_STD) / 3


def codes_as_they_are(parameters: Parameters) -> tuple[float, float]:
    """Return the (scale, zero) of images that show gray levels: 1 and 0."""
    return 1.0, 0.0


@dataclass(frozen=True)
class Modality:
    """A kind of input, and what extraction, shards, training and pictures must know of it.

    Its functions must be importable by name, so that they reach other processes, and should import
    what is large inside themselves: training and pictures load the object, too.

    Attributes:
        name: As the command line, folders and shards spell it: a-z, 0-9 and _.
        frames_per_unit: Consecutive frames that one unit is made from: 1, or 2.
        unit_channels: Channels of one unit when decoded, C.
        snippet_length: Usual number of consecutive units in one snippet, L.
        mean: Subtracted from the uint8 values before the network, one per channel of a unit.
        std: Divisor after that, one per channel of a unit.
        stacked: Whether the channels of a unit lie below each other in one gray image, as they must
            unless there are three.
        mirrored_channels: Channels whose sign turns when the image is mirrored left to right: code
            v becomes 255 - v.
        displacements: What resizing stored images does to their codes: channels that hold
            displacements in px, each with the axis of the image that they are along, (channel,
            axis), 0 for its height and 1 for its width; () where codes are merely interpolated.
            None where nobody says: such images are never resized.
        recode_mirrored: What else mirroring changes: from mirrored units (…, H, W, C) uint8 to what
            they would be had the video been mirrored.
        has_algorithm: Whether there are several ways to compute it, of which folders tell one.
        like: The built-in modality whose presets and learning rates suit it.
        fusion_weight: Usual weight of its scores beside those of rgb, which have 1.
        parameters: Those of its images, by name, with their defaults, whose types tell how texts
            on the command line are read. One named ``bound`` is set by ``--bound``.
        settle: Takes the chosen parameters before an extraction, checks them, and returns those to
            store, such as a file's hash beside its name. Raises ``InputError``.
        make: From the stored parameters to the function that makes images, called once for each
            worker. None where this package makes them itself, or nobody does.
        scale_zero: From the parameters to (scale, zero), so that
            ``value = (code - zero) * scale``.
        picture: From one unit (H, W, C) uint8 and how it was stored to what a person should see of
            it, (H, W, 3) uint8 RGB. None shows three channels as RGB, one as gray, others side by
            side.

    Raises:
        InputError: A field is out of range, or does not go with the others.
    """

    name: str
    frames_per_unit: int
    unit_channels: int
    snippet_length: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stacked: bool = False
    mirrored_channels: tuple[int, ...] = ()
    displacements: tuple[tuple[int, int], ...] | None = None
    recode_mirrored: Callable[[np.ndarray], np.ndarray] | None = None
    has_algorithm: bool = False
    like: str = "rgb"
    fusion_weight: float = 1.0
    parameters: Parameters = field(default_factory=dict, hash=False)
    settle: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    make: Callable[[Parameters], MakeImage] | None = None
    scale_zero: Callable[[Parameters], tuple[float, float]] = codes_as_they_are
    picture: Callable[[np.ndarray, StoredModality], np.ndarray] | None = None

    def __post_init__(self) -> None:
        whose = f"modality {self.name!r}"
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            raise InputError(f"{whose}: a name of a-z, 0-9 and _ expected, a letter first")
        if self.frames_per_unit not in (1, 2):
            raise InputError(f"{whose}: frames_per_unit must be 1 or 2, got {self.frames_per_unit}")
        if not 1 <= self.unit_channels <= _MOST_CHANNELS:
            raise InputError(
                f"{whose}: unit_channels must be 1 to {_MOST_CHANNELS}, got {self.unit_channels}"
            )
        if self.snippet_length < 1:
            raise InputError(f"{whose}: snippet_length must be > 0, got {self.snippet_length}")
        if not self.stacked and self.unit_channels != 3:
            raise InputError(
                f"{whose}: an image has 3 channels, or is gray and stacked, got "
                f"unit_channels={self.unit_channels} and stacked={self.stacked}"
            )
        for what in ("mean", "std"):
            values = getattr(self, what)
            if len(values) != self.unit_channels:
                raise InputError(
                    f"{whose}: {what} must have {self.unit_channels} values, one for each channel, "
                    f"got {len(values)}"
                )
            if not all(map(math.isfinite, values)):
                raise InputError(f"{whose}: {what} must be finite, got {values}")
        if not all(value > 0 for value in self.std):
            raise InputError(f"{whose}: std must be > 0, got {self.std}")
        if not set(self.mirrored_channels) <= set(range(self.unit_channels)):
            raise InputError(
                f"{whose}: mirrored_channels must be 0 to {self.unit_channels - 1}, got "
                f"{self.mirrored_channels}"
            )
        for channel, axis in self.displacements or ():
            if channel not in range(self.unit_channels) or axis not in (0, 1):
                raise InputError(
                    f"{whose}: displacements must be (channel, axis) of 0 to "
                    f"{self.unit_channels - 1} and 0 or 1, got {(channel, axis)}"
                )

    def num_units(self, num_frames: int) -> int:
        """Return how many units a video of ``num_frames`` frames has.

        Examples:
            >>> from tsn_core.modality import get_modality
            >>> get_modality("rgb").num_units(10), get_modality("flow").num_units(10)
            (10, 9)
        """
        return max(num_frames - self.frames_per_unit + 1, 0)

    def image_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the stored image of a unit of (height, width) pixels."""
        if self.stacked:
            return (self.unit_channels * height, width)
        return (height, width, self.unit_channels)

    def unstack(self, image: np.ndarray) -> np.ndarray:
        """Return the (H, W, C) view of a unit from its stored image."""
        if not self.stacked:
            return image
        height = image.shape[0] // self.unit_channels
        return image.reshape(self.unit_channels, height, image.shape[1]).transpose(1, 2, 0)
