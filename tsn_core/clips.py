"""Clips: consecutive units of a video, which networks of video take instead of single snippets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsn_core.errors import InputError
from tsn_core.shard_set import ShardSet


@dataclass(frozen=True)
class ClipShape:
    """How many units a clip has, and how far they are apart.

    Attributes:
        length: Units of a clip, T.
        stride: From one to the next, in frames.

    Examples:
        >>> ClipShape(8, stride=2).span
        15
    """

    length: int
    stride: int = 1

    def __post_init__(self) -> None:
        for name in ("length", "stride"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"clip {name} must be > 0, got {value}")

    @property
    def span(self) -> int:
        """Consecutive units from the first to the last one of a clip."""
        return (self.length - 1) * self.stride + 1

    def offsets(self) -> np.ndarray:
        """Return the places of a clip's units, from its first one on, (T,) int64."""
        return np.arange(self.length, dtype=np.int64) * self.stride


def check_clips(shards: ShardSet, shape: ClipShape) -> None:
    """Check that shards hold clips of that shape.

    Raises:
        InputError: Only parts of the videos are stored, and none is as long as a clip.
    """
    length = shards.modality.snippet_length
    if shards.sampling.get("dense") or length >= shape.span:
        return
    plan = ", ".join(f"{name}={value}" for name, value in shards.sampling.items())
    raise InputError(
        f"{shards.folder}: clips over {shape.span} consecutive units need every unit, or snippets "
        f"as long; these shards ({plan}) hold snippets of {length}; extract them with --dense, or "
        f"with --snippet-length {shape.span}"
    )


def clip_units(
    shards: ShardSet, video: int, shape: ClipShape, generator: np.random.Generator | None = None
) -> np.ndarray:
    """Return which stored units of a video make up a clip; see ``ShardSet.read_units``.

    Of dense shards any clip of the video can be chosen, each as likely as the others; of sparse
    ones, any within a stored snippet. A video that is shorter than the clip repeats its last unit.

    Args:
        shards: Where the video lies; ``check_clips`` has found nothing against them.
        video: Its number.
        shape: Of the clip.
        generator: Source of all randomness; None takes the middle.

    Returns:
        (T,) int64, non-decreasing.
    """
    length, stored = shards.modality.snippet_length, int(shards.num_snippets[video])
    if shards.sampling.get("dense"):
        first, run = 0, stored + length - 1  # unit u of the video is stored as unit u
    else:
        snippet = stored // 2 if generator is None else int(generator.integers(stored))
        first, run = int(shards.snippet_units(video)[snippet]), length
    spare = max(run - shape.span, 0)
    start = spare // 2 if generator is None else int(generator.integers(spare + 1))
    return first + np.minimum(start + shape.offsets(), run - 1)


def find_clip(shards: ShardSet, video: int, start: int, shape: ClipShape) -> np.ndarray:
    """Return which stored units of a video make up the clip that begins at a frame, (T,) int64.

    Args:
        shards: Where the video lies.
        video: Its number.
        start: Frame of the clip's first unit, 0-based.
        shape: Of the clip.

    Raises:
        InputError: The video ends before the clip does, or the shards do not hold all of it.
    """
    frames = shards.snippet_frames(video)
    length = shards.modality.snippet_length
    last = int(frames[-1]) + length if len(frames) else 0
    if start < 0 or start + shape.span > last:
        raise InputError(
            f"{shards.names[video]}: units 0 to {last - 1} are there, asked for {start} to "
            f"{start + shape.span - 1}"
        )
    if shards.sampling.get("dense"):
        return start + shape.offsets()
    holds = np.flatnonzero((frames <= start) & (start + shape.span <= frames + length))
    if not len(holds):
        check_clips(shards, shape)
        raise InputError(
            f"{shards.names[video]}: no stored snippet holds units {start} to "
            f"{start + shape.span - 1}; snippet_frames tells where they begin, --dense stores all"
        )
    snippet = int(holds[0])
    first = int(shards.snippet_units(video)[snippet])
    return first + start - int(frames[snippet]) + shape.offsets()
