"""What one video may cost before it is given up."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from tsn_core.errors import InputError


@dataclass(frozen=True)
class Limits:
    """Limits for each video; one that goes beyond is recorded as failed, the others go on.

    Time and memory can be enforced only where a video has a process of its own.

    Attributes:
        max_seconds: Wall time for one try; None allows any.
        stall_seconds: Wall time without a single decoded frame or finished image.
        max_memory_mb: Resident memory of the process that extracts it, in MB (10^6 bytes).
        max_pixels: Height times width of its frames.
        max_frames: Decoded frames.
    """

    max_seconds: float | None = None
    stall_seconds: float = 300.0
    max_memory_mb: float = 4000.0
    max_pixels: int = 8192 * 8192
    max_frames: int = 10_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < math.inf:
                option = "--" + field.name.replace("_", "-")
                raise InputError(f"{option} must be > 0 and finite, got {value}")
