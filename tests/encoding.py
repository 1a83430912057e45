"""Small video files of many formats, made with FFmpeg's encoders, and damage done to them."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def encode(
    path: Path,
    codec: str,
    frames: Sequence[np.ndarray] | np.ndarray,
    *,
    key_distance: int = 12,
    b_frames: int | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
) -> Path:
    """Write BGR frames as a video; its container is chosen by the ending of the name.

    Args:
        path: Of the file.
        codec: FFmpeg's name of the encoder.
        frames: (N, H, W, 3) uint8.
        key_distance: Most frames from one key picture to the next.
        b_frames: Most B pictures in a row; None leaves it to the encoder.
        options: Of the encoder.
        muxing: Options of the container.
        pixels: Format of the pixels.
        times_ms: When each frame is shown; None for 25 Hz.
    """
    rate = Fraction(1, 25) if times_ms is None else Fraction(1, 1000)
    with av.open(path, "w", options=muxing or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.thread_count = 1
        context.gop_size = key_distance
        context.time_base = rate
        if b_frames is not None:
            context.max_b_frames = b_frames
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame.pts = number if times_ms is None else times_ms[number]
            frame.time_base = rate
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def x264(parameters: str) -> dict[str, str]:
    """Return options of libx264 in its own words."""
    return {"preset": "medium", "crf": "30", "x264-params": parameters}


def packets_of(path: Path) -> list[tuple[int, int]]:
    """Return (place in the file, size) of every packet of the video."""
    with av.open(path) as file:
        return [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]


def blank_packets(path: Path, numbers: Sequence[int] | None = None) -> None:
    """Overwrite the content of some packets with zeros, or of all."""
    data = bytearray(path.read_bytes())
    places = packets_of(path)
    for number in range(len(places)) if numbers is None else numbers:
        begin, size = places[number]
        data[begin + 4 : begin + size] = bytes(size - 4)
    path.write_bytes(data)


def turn(path: Path, degrees: int) -> None:
    """Make the header of a MOV or MP4 file ask for its video to be turned clockwise."""
    data = bytearray(path.read_bytes())
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(
        ">9i", *(v << 16 for v in (cosine, sine, 0, -sine, cosine, 0, 0, 0)), 1 << 30
    )
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = matrix
    path.write_bytes(data)
