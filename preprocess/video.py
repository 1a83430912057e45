"""Decoding one video file with OpenCV, one pass at a time, in constant memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from tsn_core.errors import VideoError


class Video:
    """A video file and what is known of it.

    What the container claims about its length is never trusted: ``num_frames`` is the number of
    frames that the last complete pass of ``frames`` decoded. Rotation stated in the metadata is
    applied to every frame. Decoding uses one thread, so that a damaged stream gives the same
    frames every time.

    Attributes:
        path: Of the file.
        fps: Frames per second that the container states; 0 where it states none.
        claimed_frames: Length in frames that the container states; may be absurd.
        size: (height, width) of the first frame; (0, 0) before one was decoded.
        num_frames: Frames decoded by the last complete pass.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a video.

        Raises:
            VideoError: There is no such file, it is empty, or it cannot be read.
        """
        self.path = Path(path)
        self.size = (0, 0)
        self.num_frames = 0
        if not self.path.is_file():
            raise VideoError("no such file")
        if not os.access(self.path, os.R_OK):
            raise VideoError("no permission to read the file")
        if self.path.stat().st_size == 0:
            raise VideoError("the file is empty; download or copy it again")
        capture = self._open()
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else 0.0
        claimed = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.claimed_frames = int(claimed) if math.isfinite(claimed) else 0
        self._fresh: cv2.VideoCapture | None = capture

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(
            str(self.path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]
        )
        if not capture.isOpened():
            raise VideoError("not a video that FFmpeg can open, or it has no video stream")
        return capture

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        """Decode the whole video and yield some of its frames.

        Args:
            wanted: Whether the frame of that 0-based number is yielded; others are decoded but
                not converted, which is cheaper.

        Yields:
            (number, frame): the frame as (H, W, 3) uint8 in OpenCV's BGR order.

        Raises:
            VideoError: No frame can be decoded, or a wanted one cannot be converted.
        """
        capture = self._fresh or self._open()
        self._fresh = None
        number = 0
        try:
            while capture.grab():
                if wanted(number):
                    done, frame = capture.retrieve()
                    if not done:
                        raise VideoError(f"frame {number} could not be converted")
                    if self.size == (0, 0):
                        self.size = frame.shape[:2]
                    yield number, frame
                number += 1
            if number == 0:
                raise VideoError(
                    f"it opens, but no frame can be decoded (codec {_codec_name(capture)}); "
                    "convert it, for example with: ffmpeg -i IN -c:v libx264 OUT.mp4"
                )
            self.num_frames = number
        finally:
            capture.release()


def _codec_name(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    name = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24))
    return name if name.isprintable() and name.strip() else "unknown"


def target_size(
    size: tuple[int, int], fixed: tuple[int, int] | None, short_side: int | None
) -> tuple[int, int]:
    """Return the (height, width) to which frames of ``size`` are resized.

    Args:
        size: (height, width) of the source.
        fixed: This size for every video, or None.
        short_side: Length of the shorter side where the aspect ratio is kept; used without
            ``fixed``.

    Examples:
        >>> target_size((480, 640), None, 256)
        (256, 341)
    """
    if fixed is not None:
        return fixed
    assert short_side is not None
    height, width = size
    if height <= width:
        return short_side, max(round(width * short_side / height), 1)
    return max(round(height * short_side / width), 1), short_side


def resize(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the frame at (height, width): averaged when shrunk, bilinear when enlarged."""
    height, width = frame.shape[:2]
    if (height, width) == size:
        return frame
    shrinks = size[0] * size[1] < height * width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(frame, (size[1], size[0]), interpolation=method)
