"""One open video file: its packets, the frames that FFmpeg makes of them, and their pixels."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from tsn_core.errors import VideoError

_FASTEST = 1000.0  # Hz; what states more states nonsense
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
# Where a stream does not say how far its pictures are reordered, FFmpeg guesses from what it has
# seen and drops the pictures that prove it wrong; told to be strict it assumes the worst instead.
_STRICT = {"strict": "strict"}
# Formats whose files name other files, addresses or programs, which would then be read instead.
_LISTS = {
    *("hls", "applehttp", "concat", "concatf", "dash", "webm_dash_manifest", "imf"),
    *("sdp", "rtp", "rtsp", "lavfi", "avisynth", "vapoursynth"),
}
_FORMATS = ",".join(sorted(av.formats_available - _LISTS))


class Decoder:
    """The first video stream of a file, decoded on one thread.

    One thread, so that a damaged stream gives the same frames every time. This file only: play
    lists, which name other files or addresses, are no videos.

    Attributes:
        fps: Frames per second that the container states; 0 where it states none.
        claimed_frames: Length in frames that the container states; 0 where it states none.
        size: (height, width) that the stream states, before any rotation.
        codec: FFmpeg's name of the format of the stream, as ``h264``.
        damaged_packets: How many packets the decoder has refused so far.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            VideoError: FFmpeg cannot open it, or there is no video stream in it.
        """
        try:
            self._container: InputContainer = av.open(
                os.fspath(path.absolute()),
                "r",
                metadata_errors="replace",
                container_options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise _not_a_video() from error
        streams = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic
        ]
        if not streams:
            self._container.close()
            raise _not_a_video()
        self.stream: VideoStream = streams[0]
        self.format = self._container.format.name
        self.damaged_packets = 0
        self._reformatter = VideoReformatter()
        rate = float(self.stream.guessed_rate or 0)
        self.fps = rate if math.isfinite(rate) and 0 < rate <= _FASTEST else 0.0
        self.claimed_frames = self._claim()
        self.size = (0, 0)
        self.codec = "unknown"
        context = self.stream.codec_context
        if context is not None:
            context.thread_count = 1
            self.size = (context.height, context.width)
            self.codec = context.codec.canonical_name
            if self.codec == "h264":
                context.options = _STRICT

    def _claim(self) -> int:
        if self.stream.frames > 0:
            return self.stream.frames
        seconds = 0.0
        if self.stream.duration is not None and self.stream.time_base is not None:
            seconds = float(self.stream.duration * self.stream.time_base)
        elif self._container.duration is not None:
            seconds = self._container.duration / av.time_base
        return max(int(seconds * self.fps + 0.5), 0)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def reorder_depth(self) -> int:
        """By how many pictures the order of decoding differs from that of showing, at most."""
        context = self.stream.codec_context
        return int(getattr(context, "reorder_depth", 16 * context.has_b_frames))

    def packets(self) -> Iterator[Packet[Any]]:
        """Yield the packets from where the file stands, then an empty one that ends the stream.

        Damage of the container ends the stream, too.
        """
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                yield Packet()
                return
            yield packet

    def seek(self, timestamp: int) -> None:
        """Go to the last key packet at or before a time stamp, as the container understands it.

        Raises:
            av.error.FFmpegError: The container cannot.
        """
        self._container.seek(timestamp, stream=self.stream)

    def decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        """Return the frames that a packet completes; one that is refused gives none."""
        if self.stream.codec_context is None:
            return []
        try:
            return self.stream.codec_context.decode(packet)
        except EOFError:
            return []
        except av.error.FFmpegError:
            self.damaged_packets += 1
            return []

    def frames(self) -> Iterator[VideoFrame]:
        """Yield every frame from where the file stands, in the order of showing."""
        for packet in self.packets():
            yield from self.decode(packet)

    def bgr(self, frame: VideoFrame, number: int) -> np.ndarray:
        """Return the pixels as (H, W, 3) uint8 in OpenCV's order, turned as the metadata say.

        Raises:
            VideoError: They cannot be converted; ``number`` names the frame.
        """
        try:
            converted = self._reformatter.reformat(frame, format="bgr24", threads=1)
            image = converted.to_ndarray()
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"frame {number} could not be converted") from error
        turn = _TURNS.get(round(frame.rotation) % 360)
        return image if turn is None else cv2.rotate(image, turn)


def shown_size(frame: VideoFrame) -> tuple[int, int]:
    """Return the (height, width) of a frame when turned as the metadata say."""
    turned = round(frame.rotation) % 180 == 90
    return (frame.width, frame.height) if turned else (frame.height, frame.width)


def _not_a_video() -> VideoError:
    return VideoError("not a video that FFmpeg can open, or it has no video stream")
