"""One video file: all of its frames, or a few chosen by its true length, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from av.video.frame import VideoFrame

from preprocess.decoder import Decoder, shown_size
from preprocess.packets import PacketTable, listed_packets, read_packets
from preprocess.seeking import Inexact, Seeker, pays
from tsn_core.errors import VideoError

PLAUSIBLE_FRAMES = 10_000_000  # four days at 30 Hz; what claims more is not worth a plan
_LONG = 1000  # frames; with fewer, packets that no container lists are not worth reading ahead

Kept = TypeVar("Kept")


class Video:
    """A video file and what is known of it.

    What the container claims about its length is never trusted: ``num_frames`` is the number of
    frames that the last pass decoded, or was seen to be right where it sought. Rotation stated in
    the metadata is applied to every frame. Damaged packets are skipped.

    Attributes:
        path: Of the file.
        fps: Frames per second that the container states; 0 where it states none.
        claimed_frames: Length in frames that the container states; may be absurd.
        size: (height, width) of the first frame; (0, 0) before it was decoded.
        num_frames: Frames of the video, after a complete pass.
        decoded_frames: Frames decoded so far, by all passes together.
        damaged_packets: Packets that the last complete pass could not decode.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_frames: int | None = None,
        max_pixels: int | None = None,
        beat: Callable[[], None] | None = None,
    ) -> None:
        """Open a video.

        Args:
            path: Of the file.
            max_frames: Longer videos are refused, if it is given.
            max_pixels: Larger frames are refused, if it is given.
            beat: Called for every frame that is decoded, as a sign of life.

        Raises:
            VideoError: There is no such file, it is empty, it cannot be read, or its frames are
                larger than ``max_pixels``.
        """
        self.path = Path(path)
        self.size = (0, 0)
        self.num_frames = 0
        self.decoded_frames = 0
        self.damaged_packets = 0
        self._max_frames = max_frames
        self._max_pixels = max_pixels
        self._beat = beat
        if not self.path.is_file():
            raise VideoError("no such file")
        if not os.access(self.path, os.R_OK):
            raise VideoError("no permission to read the file")
        self._bytes = self.path.stat().st_size
        if self._bytes == 0:
            raise VideoError("the file is empty; download or copy it again")
        self._fresh: Decoder | None = None
        decoder = self._open()
        self.fps = decoder.fps
        self.claimed_frames = decoder.claimed_frames
        self._fresh = decoder

    def _open(self) -> Decoder:
        """Return a decoder at the beginning of the file."""
        decoder, self._fresh = self._fresh, None
        if decoder is None:
            decoder = Decoder(self.path)
            self._check_pixels(*decoder.size)
        return decoder

    def _check_pixels(self, height: int, width: int) -> None:
        if self._max_pixels is not None and height * width > self._max_pixels:
            raise VideoError(
                f"frames of {width}x{height} are larger than --max-pixels {self._max_pixels} "
                "allows; raise it, or scale the video down"
            )

    def _check_length(self, num_frames: int) -> None:
        if self._max_frames is not None and num_frames > self._max_frames:
            raise VideoError(
                f"more than the {self._max_frames} frames that --max-frames allows; raise it, or "
                "cut the video"
            )

    def _see(self, number: int, frame: VideoFrame) -> None:
        """Take note of a decoded frame."""
        self.decoded_frames += 1
        self._check_pixels(frame.height, frame.width)
        self._check_length(number + 1)
        if number == 0:
            self.size = shown_size(frame)
        if self._beat is not None:
            self._beat()

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        """Decode the whole video and yield some of its frames.

        Args:
            wanted: Whether the frame of that 0-based number is yielded; others are decoded but
                not converted, which is cheaper.

        Yields:
            (number, frame): the frame as (H, W, 3) uint8 in OpenCV's BGR order.

        Raises:
            VideoError: No frame can be decoded, a wanted one cannot be converted, or the video
                exceeds a limit.
        """
        number = 0
        with self._open() as decoder:
            for frame in decoder.frames():
                self._see(number, frame)
                if wanted(number):
                    yield number, decoder.bgr(frame, number)
                number += 1
            if number == 0:
                raise VideoError(
                    f"it opens, but no frame can be decoded (codec {decoder.codec}); "
                    "convert it, for example with: ffmpeg -i IN -c:v libx264 OUT.mp4"
                )
            self.num_frames = number
            self.damaged_packets = decoder.damaged_packets

    def pick(
        self, needed: Callable[[int], Set[int]], keep: Callable[[np.ndarray], Kept]
    ) -> Iterator[tuple[int, Kept]]:
        """Return the frames that a video of this one's true length needs, in order.

        Where the packets can be listed, decoding begins at the key pictures before those frames,
        if that is clearly cheaper than to decode everything. It gives the very frames that
        decoding everything gives: the numbers are checked against the packets, the end of the file
        is always decoded, and whatever is not as expected makes the whole video be decoded
        instead. Only damage in a part that no frame is needed from goes unseen; decoding
        everything would count a frame less for each that is lost there.

        Args:
            needed: Takes a number of frames and returns which of them are wanted, 0-based.
            keep: Takes each wanted frame, as ``frames`` yields it, and returns what to hold of it.
                Called in order; again from the first where a pass was in vain.

        Returns:
            Iterator over (number, what ``keep`` returned), which lets go of what it has handed
            out; all has been decoded already, and ``num_frames`` is known.

        Raises:
            VideoError: As ``frames`` does; or two passes gave different numbers of frames, as of a
                file that was changed meanwhile.
        """
        lengths = {self.claimed_frames, self.claimed_frames - 1}
        table = self._list_packets()
        kept = None
        if table is not None:
            if table.num_frames == self.claimed_frames:
                lengths.remove(self.claimed_frames - 1)
            lengths.add(table.num_frames)
            kept = self._sought(table, sorted(needed(table.num_frames)), keep)
        if kept is None:
            kept = self._passed(needed, keep, lengths)
        return ((number, kept.pop(number)) for number in sorted(kept))

    def _list_packets(self) -> PacketTable | None:
        """Return the list of the packets where it costs little against decoding them."""
        decoder = self._open()
        table, listed = listed_packets(decoder, self._bytes)
        if listed or 0 < self.claimed_frames < _LONG:
            self._fresh = decoder
            return table
        with decoder:
            return read_packets(decoder, self._beat)

    def _sought(
        self, table: PacketTable, wanted: list[int], keep: Callable[[np.ndarray], Kept]
    ) -> dict[int, Kept] | None:
        """Return the wanted frames by seeking to them, or None where that does not do."""
        decoder = self._open()
        if not pays(table, wanted, decoder.reorder_depth):
            self._fresh = decoder
            return None
        self._check_length(table.num_frames)
        with decoder:
            seeker = Seeker(decoder, table, lambda n, frame: keep(decoder.bgr(frame, n)), self._see)
            try:
                kept = seeker.pick(wanted)
            except Inexact:
                return None
        self.num_frames = table.num_frames
        self.damaged_packets = 0
        return kept

    def _passed(
        self,
        needed: Callable[[int], Set[int]],
        keep: Callable[[np.ndarray], Kept],
        lengths: Set[int],
    ) -> dict[int, Kept]:
        """Return the needed frames by decoding everything.

        The first pass keeps those for likely lengths: that of the header, which mostly tells the
        truth or, as in HMDB51, one frame more, and that which the packets have. A second pass is
        needed only where the length is another.
        """
        likely = [length for length in lengths if 0 < length <= PLAUSIBLE_FRAMES]
        wanted: Set[int] = set().union(*map(needed, likely))
        kept = {number: keep(frame) for number, frame in self.frames(wanted.__contains__)}
        length = self.num_frames
        wanted = needed(length)
        if length not in likely:
            kept.clear()
            kept = {number: keep(frame) for number, frame in self.frames(wanted.__contains__)}
            if self.num_frames != length:
                raise VideoError(
                    f"{length} frames decoded at first, {self.num_frames} the second time; "
                    "the file is damaged, or was changed meanwhile"
                )
        return {number: kept[number] for number in wanted}


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
