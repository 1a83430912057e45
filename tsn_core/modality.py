"""What a modality is, and how one is described in a shard.

A modality turns frames into *units*. A unit is stored as one uint8 image; ``snippet_length``
consecutive units are one snippet, the network's input.

| modality | a unit is | frames | stored image | channels of a unit |
|---|---|---|---|---|
| rgb | the frame | 1 | (H, W, 3) | 3 |
| flow | displacement from frame t to t+1 | 2 | (2H, W): x on top of y | 2 |
| warpedflow | the same, the camera's motion taken out | 2 | (2H, W) | 2 |
| rgbdiff | frame t+1 minus frame t | 2 | (H, W, 3) | 3 |
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tsn_core.errors import InputError, ShardError

CODECS = ("jpeg", "raw")
MOST_PIXELS = 1 << 16  # along one side of a unit
MOST_UNITS = 1 << 16  # in one snippet
FLOW_ALGORITHMS = ("tvl1", "farneback", "dis")

# ImageNet statistics in uint8 units, as torchvision's pretrained weights expect.
_IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
_MEAN_STD = sum(_IMAGENET_STD) / 3


@dataclass(frozen=True)
class Modality:
    """A kind of input and what every part of the system must know of it.

    Attributes:
        name: As the command line, folders and shards spell it.
        frames_per_unit: Consecutive frames that one unit is made from.
        unit_channels: Channels of one unit when decoded, C.
        snippet_length: Usual number of consecutive units in one snippet, L.
        mean: Subtracted from the uint8 values before the network, one per channel of a unit.
        std: Divisor after that, one per channel of a unit.
        stacked: Whether the channels of a unit lie below each other in one gray image.
        mirrored_channels: Channels whose sign turns when the image is mirrored left to right.
        has_algorithm: Whether there are several ways to compute it, of which folders tell one.
    """

    name: str
    frames_per_unit: int
    unit_channels: int
    snippet_length: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stacked: bool = False
    mirrored_channels: tuple[int, ...] = ()
    has_algorithm: bool = False

    def num_units(self, num_frames: int) -> int:
        """Return how many units a video of ``num_frames`` frames has.

        Examples:
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


_TABLE = {
    modality.name: modality
    for modality in (
        # Normalisation as in the TSN authors' PyTorch code: ImageNet's for RGB, zero motion to
        # zero and the mean ImageNet deviation for flow, twice that for differences.
        Modality("rgb", 1, 3, 1, _IMAGENET_MEAN, _IMAGENET_STD),
        Modality("flow", 2, 2, 5, (127.5,) * 2, (_MEAN_STD,) * 2, True, (0,), True),
        Modality("warpedflow", 2, 2, 5, (127.5,) * 2, (_MEAN_STD,) * 2, True, (0,), True),
        Modality("rgbdiff", 2, 3, 5, (128.0,) * 3, (2 * _MEAN_STD,) * 3),
    )
}
MODALITIES = tuple(_TABLE)


def get_modality(name: str) -> Modality:
    """Return the modality of that name.

    Raises:
        InputError: There is none.
    """
    try:
        return _TABLE[name]
    except (KeyError, TypeError):
        message = f"unknown modality {name!r}; choose from {', '.join(MODALITIES)}"
        raise InputError(message) from None


@dataclass(frozen=True)
class StoredModality:
    """How the units of one modality were made and stored: a shard's ``modality`` attribute.

    Attributes:
        name: Of the modality.
        snippet_length: Consecutive units in one snippet, L.
        channels: Of one decoded unit, C.
        codec: ``jpeg`` or ``raw``.
        quality: Of the JPEG, 1 to 100; None for raw.
        scale: Value of one step of the uint8 code: px for flow, gray levels otherwise.
        zero: The code of value 0, so that ``value = (code - zero) * scale``.
        height: Of the units in pixels; None where it differs between videos.
        width: Of the units in pixels; None where it differs between videos.
        short_side: Of the units in pixels where the aspect ratio was kept, else None.
        algorithm: Of the optical flow; None for other modalities.
        parameters: Of the algorithm, by name.
    """

    name: str
    snippet_length: int
    channels: int
    codec: str
    quality: int | None
    scale: float
    zero: float
    height: int | None
    width: int | None
    short_side: int | None = None
    algorithm: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = get_modality(self.name)
        self._check_types()
        if self.snippet_length < 1:
            raise InputError(f"snippet_length must be > 0, got {self.snippet_length}")
        if self.snippet_length > MOST_UNITS:
            raise InputError(f"snippet_length must be <= {MOST_UNITS}, got {self.snippet_length}")
        if self.channels != kind.unit_channels:
            raise InputError(f"{self.name} has {kind.unit_channels} channels, got {self.channels}")
        if self.codec not in CODECS:
            raise InputError(f"unknown codec {self.codec!r}; choose from {', '.join(CODECS)}")
        if self.codec == "jpeg" and not (self.quality and 1 <= self.quality <= 100):
            raise InputError(f"quality must be 1 to 100, got {self.quality}")
        for name in ("height", "width", "short_side"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST_PIXELS:
                raise InputError(f"{name} must be 1 to {MOST_PIXELS}, got {value}")
        if (self.height is None) != (self.width is None) or (self.height is None) == (
            self.short_side is None
        ):
            raise InputError(
                "either height and width or short_side must be given, got "
                f"height={self.height}, width={self.width}, short_side={self.short_side}"
            )

    def _check_types(self) -> None:
        """Check what a file could say instead of what it should.

        Raises:
            InputError: A field has another type, or is not finite.
        """
        optional = ("quality", "height", "width", "short_side")
        for name in ("snippet_length", "channels", *optional):
            value = getattr(self, name)
            if type(value) is not int and not (name in optional and value is None):
                raise InputError(f"{name} must be a whole number, got {value!r}")
        for name in ("scale", "zero"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not abs(value) < math.inf:
                raise InputError(f"{name} must be a number, got {value!r}")
        if self.algorithm is not None and self.algorithm not in FLOW_ALGORITHMS:
            raise InputError(
                f"unknown flow algorithm {self.algorithm!r}; choose from "
                f"{', '.join(FLOW_ALGORITHMS)}"
            )
        if not isinstance(self.parameters, Mapping):
            raise InputError(f"parameters must be a mapping, got {self.parameters!r}")

    @property
    def kind(self) -> Modality:
        """The entry of the modality table."""
        return get_modality(self.name)

    @property
    def folder(self) -> str:
        """Name of the folder that holds such shards, ``flow-tvl1`` for example."""
        return modality_folder(self.name, self.algorithm)

    @property
    def snippet_channels(self) -> int:
        """Channels of the network's input: L units of C channels."""
        return self.snippet_length * self.channels

    def to_json(self) -> str:
        """Return the canonical JSON text of the attribute."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StoredModality:
        """Return the description in a shard's attribute.

        Raises:
            ShardError: The text is not such a description.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise ShardError(f"not a modality description: {error}") from None


def modality_folder(name: str, algorithm: str | None = None) -> str:
    """Return the folder of a modality's shards.

    Examples:
        >>> modality_folder("rgb"), modality_folder("flow", "tvl1")
        ('rgb', 'flow-tvl1')
    """
    return name if algorithm is None else f"{name}-{algorithm}"
