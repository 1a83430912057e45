"""Frames from a camera or the network, as they come."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tsn_core.errors import InputError, VideoError

_CAMERA = re.compile(r"camera:(\d{1,3})")
_URL = re.compile(r"(rtsp|rtsps|rtmp|http|https|udp|tcp|srt)://[^/]", re.IGNORECASE)
_USUAL_RATE = 25.0  # Hz, of a stream that states none
_PLAUSIBLE_RATES = (1.0, 240.0)
_OPEN_MS = 10_000
# What a demuxer that the user has sent into the network may open: streams, no files of this
# machine, and nothing that a play list could name beside them.
_PROTOCOLS = "protocol_whitelist;http,https,tls,tcp,udp,rtp,rtsp,rtsps,rtmp,srt,httpproxy,crypto"


def is_stream(text: str) -> bool:
    """Return whether a text names a camera or an address, rather than a file.

    Examples:
        >>> is_stream("camera:0"), is_stream("rtsp://host/x"), is_stream("C:/a.mp4")
        (True, True, False)
    """
    return bool(_CAMERA.fullmatch(text) or _URL.match(text))


def shown_address(text: str) -> str:
    """Return what to show of an address: without the user and the password.

    Examples:
        >>> shown_address("rtsp://me:secret@camera/1")
        'rtsp://…@camera/1'
    """
    return re.sub(r"//[^/]*@", "//…@", text)


class Stream:
    """A camera or an address that OpenCV has opened.

    Attributes:
        name: As the user typed it, without what looks like a password.
        fps: In Hz; the usual 25 where the stream states none or nonsense.
    """

    def __init__(self, text: str) -> None:
        """Open it.

        Raises:
            InputError: It is neither a camera nor an address.
            VideoError: It cannot be opened.
        """
        if not is_stream(text):
            raise InputError(
                f"{text!r}: a camera such as camera:0 or an address such as rtsp://… expected"
            )
        self.name = shown_address(text)
        camera = _CAMERA.fullmatch(text)
        self._capture = _open_camera(int(camera[1])) if camera else _open_address(text)
        if not self._capture.isOpened():
            hint = (
                "is it plugged in, free, and may this user open it?"
                if camera
                else "is the address right, and the sender running?"
            )
            raise VideoError(f"{self.name}: cannot be opened; {hint}")
        import cv2

        rate = self._capture.get(cv2.CAP_PROP_FPS)
        low, high = _PLAUSIBLE_RATES
        self.fps = rate if low <= rate <= high else _USUAL_RATE

    def frames(self) -> Iterator[object]:
        """Yield BGR frames, (H, W, 3) uint8, until the stream ends."""
        while True:
            there, frame = self._capture.read()
            if not there:
                return
            yield frame

    def close(self) -> None:
        """Let go of it."""
        self._capture.release()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep OpenCV from telling, for each of its ways to open a camera, that it was in vain."""
    from cv2.utils import logging

    before = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def _open_camera(number: int):  # type: ignore[no-untyped-def]  # OpenCV's stubs differ by version
    import cv2

    with _silence():
        return cv2.VideoCapture(number)


def _open_address(address: str):  # type: ignore[no-untyped-def]
    """Open an address; only here may a demuxer use the network, since the user typed it."""
    import cv2

    before = os.environ.get("OPENCV_FFMPEG_CAPTURE_OPTIONS")
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = _PROTOCOLS
    try:
        waits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        limits = [value for wait in waits for value in (wait, _OPEN_MS)]
        with _silence():
            return cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
    finally:
        if before is None:
            del os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"]
        else:
            os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = before
