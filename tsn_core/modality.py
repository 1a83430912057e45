"""How the units of a modality are described in a shard; and everything else about modalities.

What a modality is stands in ``tsn_core.modality_kind``, which there are in
``tsn_core.modality_registry``; both are imported from here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tsn_core.errors import InputError, ShardError, UnknownModalityError
from tsn_core.modality_kind import IMAGENET_MEAN, IMAGENET_STD, Modality
from tsn_core.modality_registry import MODALITIES, get_modality, modality_names

__all__ = [
    "CODECS",
    "FLOW_ALGORITHMS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MODALITIES",
    "MOST_PIXELS",
    "MOST_UNITS",
    "Modality",
    "StoredModality",
    "get_modality",
    "modality_folder",
    "modality_names",
]

CODECS = ("jpeg", "raw")
MOST_PIXELS = 1 << 16  # along one side of a unit
MOST_UNITS = 1 << 16  # in one snippet
FLOW_ALGORITHMS = ("tvl1", "farneback", "dis", "raft")


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
            UnknownModalityError: It is of a modality that nobody has installed here.
            ShardError: The text is not such a description.
        """
        try:
            return cls(**json.loads(text))
        except UnknownModalityError:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            raise ShardError(f"not a modality description: {error}") from None


def modality_folder(name: str, algorithm: str | None = None) -> str:
    """Return the folder of a modality's shards.

    Examples:
        >>> modality_folder("rgb"), modality_folder("flow", "tvl1")
        ('rgb', 'flow-tvl1')
    """
    return name if algorithm is None else f"{name}-{algorithm}"
