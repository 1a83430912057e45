"""Which snippets of a video are stored, and which of those train and test the network.

A video of N units (frames for rgb, pairs of frames for flow and rgbdiff) holds ``N - L + 1``
snippets of L units; a snippet is named by its first unit.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tsn_core.errors import InputError

_MOST_SNIPPETS = 100_000  # of one video, but for all of them: an hour at 25 Hz has 90,000


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name} must be > 0, got {value}")


def check_num_snippets(**values: int) -> None:
    """Check how many snippets of a video are wanted, by name, before they fill the memory.

    Raises:
        InputError: Fewer than one, or more than any video has.
    """
    _check_positive(**values)
    for name, value in values.items():
        if value > _MOST_SNIPPETS:
            raise InputError(f"{name} must be <= {_MOST_SNIPPETS}, got {value}")


def center_offsets(num_frames: int, num_segments: int, snippet_length: int) -> np.ndarray:
    """Return the first frame of one snippet in the middle of each segment.

    Args:
        num_frames: Length of the timeline in units, N.
        num_segments: Number of segments, K.
        snippet_length: Consecutive units in one snippet, L.

    Returns:
        0-based indices ``((2k + 1) * (N - L + 1)) // (2K)``, shape (K,), int64, non-decreasing.

    Raises:
        InputError: An argument is not positive, or the video is shorter than one snippet.

    Source: Wang et al., TSN (ECCV 2016), section 3.1; test-time centres.

    Examples:
        >>> center_offsets(num_frames=90, num_segments=3, snippet_length=1)
        array([15, 45, 75])
    """
    _check_positive(num_frames=num_frames, num_segments=num_segments, snippet_length=snippet_length)
    if num_frames < snippet_length:
        raise InputError(f"num_frames must be >= snippet_length={snippet_length}, got {num_frames}")
    starts = num_frames - snippet_length + 1
    return (2 * np.arange(num_segments, dtype=np.int64) + 1) * starts // (2 * num_segments)


def random_offsets(
    num_frames: int, num_segments: int, snippet_length: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the first frame of one random snippet in each segment.

    With ``n = (N - L + 1) // K``: ``k * n + randint(n)`` when n > 0; otherwise K sorted random
    starts when N > K; otherwise zeros.

    Args:
        num_frames: Length of the timeline in units, N.
        num_segments: Number of segments, K.
        snippet_length: Consecutive units in one snippet, L.
        generator: Source of all randomness.

    Returns:
        0-based indices, shape (K,), int64, non-decreasing.

    Raises:
        InputError: An argument is not positive, or the video is shorter than one snippet.

    Source: the TSN authors' PyTorch code, ``TSNDataSet._sample_indices``.
    """
    _check_positive(num_frames=num_frames, num_segments=num_segments, snippet_length=snippet_length)
    if num_frames < snippet_length:
        raise InputError(f"num_frames must be >= snippet_length={snippet_length}, got {num_frames}")
    starts = num_frames - snippet_length + 1
    width = starts // num_segments
    if width > 0:
        base = np.arange(num_segments, dtype=np.int64) * width
        return base + generator.integers(width, size=num_segments)
    if num_frames > num_segments:
        return np.sort(generator.integers(starts, size=num_segments))
    return np.zeros(num_segments, dtype=np.int64)


def random_stored(
    num_snippets: int, num_segments: int, generator: np.random.Generator
) -> np.ndarray:
    """Return one random stored snippet in each segment, where not every one is stored.

    Snippet i of S stands for the i-th of S equal parts of the video. It belongs to the segment in
    which the middle of its part lies, so that every snippet has its turn; ``random_offsets``
    leaves the last ``S mod K`` out, which are few of a whole timeline but many of 25 snippets.
    With no more snippets than segments, each segment takes the one whose part its middle lies in.

    Args:
        num_snippets: Stored snippets, S.
        num_segments: Number of segments, K.
        generator: Source of all randomness.

    Returns:
        0-based numbers of snippets, shape (K,), int64; increasing if S >= K, else non-decreasing.

    Raises:
        InputError: An argument is not positive.
    """
    _check_positive(num_snippets=num_snippets, num_segments=num_segments)
    if num_snippets <= num_segments:
        return center_offsets(num_snippets, num_segments, snippet_length=1)
    segments = np.arange(num_segments + 1, dtype=np.int64)
    bounds = (2 * segments * num_snippets + num_segments - 1) // (2 * num_segments)
    return generator.integers(bounds[:-1], bounds[1:])


def segment_snippets(
    num_snippets: int,
    num_segments: int,
    snippet_length: int,
    *,
    dense: bool,
    generator: np.random.Generator | None = None,
) -> np.ndarray:
    """Return which stored snippets of a video show its segments to a network, one of each.

    Args:
        num_snippets: Stored snippets, S.
        num_segments: Number of segments, K.
        snippet_length: Consecutive units in one snippet, L.
        dense: Whether every snippet is stored; then random ones follow TSN's formula on the video
            itself, ``random_offsets``, otherwise ``random_stored``.
        generator: Source of all randomness; None takes the centres of the segments.

    Returns:
        0-based numbers of snippets, shape (K,), int64, non-decreasing.

    Raises:
        InputError: An argument is not positive.

    Examples:
        >>> segment_snippets(25, 3, 5, dense=False)
        array([ 4, 12, 20])
    """
    if generator is None:
        return center_offsets(num_snippets, num_segments, 1)
    if dense:
        num_units = num_snippets + snippet_length - 1
        return random_offsets(num_units, num_segments, snippet_length, generator)
    return random_stored(num_snippets, num_segments, generator)


@dataclass(frozen=True)
class SnippetPlan:
    """Which snippets of a video are stored: exactly one of the three is set.

    Attributes:
        snippets: That many per video, at the centres of equal parts, whatever its length.
        dense: Every one.
        fps: One at every 1 / fps seconds.
    """

    snippets: int | None = None
    dense: bool = False
    fps: float | None = None

    def __post_init__(self) -> None:
        chosen = (self.snippets is not None) + self.dense + (self.fps is not None)
        if chosen != 1:
            raise InputError("choose exactly one of --snippets, --dense and --fps")
        if self.snippets is not None:
            check_num_snippets(**{"--snippets": self.snippets})
        if self.fps is not None and not (self.fps > 0 and math.isfinite(self.fps)):
            raise InputError(f"--fps must be > 0, got {self.fps}")

    def starts(self, num_units: int, snippet_length: int, video_fps: float) -> np.ndarray:
        """Return the first unit of every stored snippet.

        A video shorter than one snippet counts as exactly one snippet long: whoever makes the
        units repeats the last frame.

        Args:
            num_units: Length of the video in units, N; 0 is allowed.
            snippet_length: Consecutive units in one snippet, L.
            video_fps: Frame rate of the video, in Hz; used by ``fps`` plans only.

        Returns:
            0-based indices, shape (S,), int64, non-decreasing; repeated where the video has
            fewer snippets than the plan asks for.
        """
        num_units = max(num_units, snippet_length)
        if self.snippets is not None:
            return center_offsets(num_units, self.snippets, snippet_length)
        last = num_units - snippet_length
        if self.fps is None:
            return np.arange(last + 1, dtype=np.int64)
        step = max(video_fps / self.fps, 1.0)
        starts = np.rint(np.arange(int(last / step) + 2) * step).astype(np.int64)
        return starts[starts <= last]

    def wants(self, unit: int, snippet_length: int, video_fps: float) -> bool:
        """Return whether a snippet of a dense or fixed-rate plan holds that unit.

        Unlike ``starts`` this does not need the length of the video, so that frames can be chosen
        while they are decoded. Units of a last, incomplete snippet are wanted too.
        """
        assert self.snippets is None
        if self.fps is None or unit < 0:
            return unit >= 0
        step = max(video_fps / self.fps, 1.0)
        number = int(unit / step) + 1  # of a snippet that may start at this unit, or after it
        starts = (round(n * step) for n in range(number, max(number - 3, -1), -1))
        return any(start <= unit < start + snippet_length for start in starts)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON holds them."""
        return {key: value for key, value in asdict(self).items() if value}

    def to_json(self) -> str:
        """Return the canonical JSON text, a shard's ``sampling`` attribute."""
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SnippetPlan:
        """Return the plan of a canonical JSON text.

        Raises:
            InputError: It is none.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise InputError(f"not a plan of snippets: {text!r}: {error}") from None


def units_of(starts: np.ndarray, snippet_length: int) -> np.ndarray:
    """Return the sorted units that some snippet needs, each once, shape (M,), int64.

    Snippets that overlap share units, and consecutive units stay neighbours: the snippet that
    starts at unit u is the run of L entries from the place of u on.

    Examples:
        >>> units_of(np.array([0, 2, 9]), snippet_length=3)
        array([ 0,  1,  2,  3,  4,  9, 10, 11])
    """
    return np.unique(starts[:, None] + np.arange(snippet_length, dtype=np.int64))
