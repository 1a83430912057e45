"""A copy of a video with the class written on its frames."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image, ImageDraw

from preprocess import lettering
from preprocess.decoder import Decoder
from tsn_core.atomic import atomic_path
from tsn_core.errors import InputError, VideoError

Caption = tuple[str, float]  # a class, and how probable it is, 0 to 1
_USUAL_RATE = 25.0  # Hz, of a video that states none
_CLOCK = 90_000  # ticks a second: every usual frame rate is exact enough in it
_BAND, _LETTERS = 0.11, 0.5  # heights: of the shorter side, of the band
_ENDINGS = (".mp4", ".mov", ".mkv")


def write_overlay(source: Path, target: Path, caption_at: Callable[[float], Caption | None]) -> str:
    """Write a copy of a video, without its sound, with a caption on every frame.

    Frames keep their times, also where the frame rate varies, and are turned upright. Where the
    file says nothing about times, the stated frame rate counts.

    Args:
        source: The video.
        target: File to write, ``.mp4``, ``.mov`` or ``.mkv``; appears whole or not at all.
        caption_at: Takes seconds from the first frame on, and returns what to write then.

    Returns:
        The name of the encoder.

    Raises:
        InputError: See ``check_target``.
        VideoError: No frame can be decoded, or nothing here can encode.
        OutputError: The file cannot be written.
    """
    check_target(source, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    name, options = _encoder()
    with atomic_path(target) as temporary, Decoder(source) as decoder:
        form = "matroska" if target.suffix.lower() == ".mkv" else target.suffix.lower()[1:]
        with av.open(str(temporary), "w", format=form) as output:
            _copy(decoder, output, name, options, caption_at)
    return name


def check_target(source: Path, target: Path) -> None:
    """Check that an overlay may be written there.

    Raises:
        InputError: The ending of the file is none that can be written, or it is the video.
    """
    if target.suffix.lower() not in _ENDINGS:
        raise InputError(f"{target}: the overlay must end in {', '.join(_ENDINGS)}")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target}: is the video itself; choose another --overlay")


def _encoder() -> tuple[str, dict[str, str]]:
    """Return the best encoder of this build of FFmpeg, and its options."""
    for name, options in (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"q": "3"})):
        try:
            av.codec.Codec(name, "w")
        except ValueError:
            continue
        return name, options
    raise VideoError("this FFmpeg can write neither H.264 nor MPEG-4; install PyAV's wheel")


def _copy(
    decoder: Decoder,
    output: av.container.OutputContainer,
    name: str,
    options: dict[str, str],
    caption_at: Callable[[float], Caption | None],
) -> None:
    rate = decoder.fps or _USUAL_RATE
    stream: VideoStream | None = None
    first: float | None = None
    last = -1
    for number, frame in enumerate(decoder.frames()):
        image = decoder.bgr(frame, number)[..., ::-1]
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2  # as yuv420p must be
        if stream is None:
            exact = Fraction(rate).limit_denominator(1001)
            stream = cast(VideoStream, output.add_stream(name, rate=exact))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = dict(options)
            stream.codec_context.time_base = Fraction(1, _CLOCK)
        elif (stream.height, stream.width) != (height, width):
            image = np.asarray(Image.fromarray(image).resize((stream.width, stream.height)))
            height, width = stream.height, stream.width
        seconds = float(frame.time) if frame.time is not None else number / rate
        first = seconds if first is None else first
        caption = caption_at(seconds - first)
        picture = Image.fromarray(np.ascontiguousarray(image[:height, :width]))
        if caption is not None:
            picture = captioned(picture, caption)
        shown = av.VideoFrame.from_image(picture)
        last = max(round((seconds - first) * _CLOCK), last + 1)  # times must rise
        shown.pts, shown.time_base = last, Fraction(1, _CLOCK)
        output.mux(stream.encode(shown))
    if stream is None:
        raise VideoError("no frame of it can be decoded")
    output.mux(stream.encode(None))


def captioned(picture: Image.Image, caption: Caption) -> Image.Image:
    """Return a picture with a dark band at its foot: the class, its probability, and a bar of it.

    Args:
        picture: RGB.
        caption: What to write.
    """
    label, probability = caption
    width, height = picture.size
    band = max(round(_BAND * min(width, height)), 16)
    top = height - band
    shade = Image.new("RGBA", picture.size)
    draw = ImageDraw.Draw(shade)
    draw.rectangle((0, top, width, height), fill=(0, 0, 0, 170))
    draw.rectangle((0, height - max(band // 12, 2), round(width * probability), height),
                   fill=(86, 180, 233, 255))  # fmt: skip
    font = lettering.font(max(round(_LETTERS * band), 9), bold=True)
    share = f"{100 * probability:.0f} %"
    right = width - draw.textlength(share, font=font) - band // 3
    middle = top + band // 2
    draw.text((right, middle), share, fill="white", font=font, anchor="lm")
    text = lettering.plain(label)
    while len(text) > 1 and draw.textlength(text, font=font) > right - 2 * band // 3:
        text = text[:-2] + "…"
    draw.text((band // 3, middle), text, fill="white", font=font, anchor="lm")
    return Image.alpha_composite(picture.convert("RGBA"), shade).convert("RGB")
