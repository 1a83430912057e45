"""The last few seconds of a stream, as a video that can be extracted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Set
from typing import TypeVar

import numpy as np

Kept = TypeVar("Kept")


class FrameBuffer:
    """Holds the newest frames of a stream; see ``preprocess.extraction.FrameSource``.

    Attributes:
        name: What messages call the stream.
        fps: In Hz.
        size: (height, width) of its frames in px.
        num_frames: How many it holds.
    """

    def __init__(self, name: str, fps: float, seconds: float) -> None:
        """Make an empty buffer.

        Args:
            name: What messages call the stream.
            fps: Of the stream, in Hz.
            seconds: How much it holds, at least two frames.
        """
        self.name = name
        self.fps = fps
        self.size = (0, 0)
        self.num_frames = 0
        self._frames: deque[np.ndarray] = deque(maxlen=max(round(fps * seconds), 2))

    @property
    def is_full(self) -> bool:
        """Whether the oldest frames go when new ones come."""
        return self.num_frames == self._frames.maxlen

    def add(self, frame: np.ndarray) -> None:
        """Add a frame, (H, W, 3) uint8 BGR; one of another size begins anew."""
        if frame.shape[:2] != self.size:
            self._frames.clear()
            self.size = frame.shape[0], frame.shape[1]
        self._frames.append(frame)
        self.num_frames = len(self._frames)

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, frame) of the wanted ones; the oldest is number 0."""
        for number, frame in enumerate(self._frames):
            if wanted(number):
                yield number, frame

    def pick(
        self, needed: Callable[[int], Set[int]], keep: Callable[[np.ndarray], Kept]
    ) -> Iterator[tuple[int, Kept]]:
        """Yield (number, what ``keep`` returns) of the frames that a video of this length needs."""
        numbers = needed(self.num_frames)
        for number, frame in self.frames(numbers.__contains__):
            yield number, keep(frame)
