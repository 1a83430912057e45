"""Images from elsewhere to what a shard stores, their bytes unchanged wherever that is possible."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from preprocess.exchange.jpeg_blocks import NotSplittableError, join_jpegs
from preprocess.resizing import resized_image
from preprocess.video import target_size
from tsn_core.codec import encode_image, jpeg_shape
from tsn_core.errors import InputError
from tsn_core.modality import StoredModality

_MOST_PIXELS = 8192 * 8192
_PNG = b"\x89PNG\r\n\x1a\n"
_TAIL_BYTES = 64  # some programs write a few bytes behind the end


def image_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) that a JPEG or PNG states.

    Raises:
        InputError: It is neither, or cut short, or larger than anybody needs.
    """
    size = _png_size(data) if data.startswith(_PNG) else _jpeg_size(data)
    if size is None or not all(size):
        raise InputError("not a sound JPEG or PNG")
    if size[0] * size[1] > _MOST_PIXELS:
        raise InputError(f"{size[1]}x{size[0]} pixels are too many")
    return size


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 33 or b"IEND" not in data[-_TAIL_BYTES:]:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    if b"\xff\xd9" not in data[-_TAIL_BYTES:]:
        return None
    for marker, body in _segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 5:
            height, width = struct.unpack_from(">HH", body, 1)
            return height, width
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, body) of the segments of a JPEG; a thumbnail lies within one, as it is."""
    place = 2 if data.startswith(b"\xff\xd8") else len(data)
    while place + 4 <= len(data) and data[place] == 0xFF:
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        yield data[place + 1], data[place + 4 : place + 2 + length]
        place += 2 + length


def stored_image(
    modality: StoredModality, parts: Sequence[bytes], size: tuple[int, int]
) -> tuple[bytes, bool]:
    """Return the bytes to store of one unit.

    Args:
        modality: How units are stored.
        parts: The unit's image, or one for each channel.
        size: (height, width) that every image of the video has.

    Returns:
        (bytes, whether they hold other pixels than the images, coded anew as JPEG or resized).

    Raises:
        InputError: An image is damaged.
    """
    fixed = None if modality.height is None else (modality.height, modality.width)
    target = target_size(size, fixed, modality.short_side)  # type: ignore[arg-type]
    pixels = [_decoded(part, modality.kind.stacked) for part in parts]
    if modality.codec == "jpeg" and target == size:
        if not modality.kind.stacked:
            if jpeg_shape(np.frombuffer(parts[0], np.uint8)) == (*size, 3):
                return parts[0], False
        else:
            try:
                return join_jpegs(parts), False
            except NotSplittableError:
                pass
    image = np.concatenate(pixels) if modality.kind.stacked else pixels[0]
    image = resized_image(modality, image, target)
    data = encode_image(image, modality.codec, modality.quality, blue_first=image.ndim == 3)
    return data, modality.codec == "jpeg" or target != size


def _decoded(data: bytes, gray: bool) -> np.ndarray:
    """Return gray (H, W) or BGR (H, W, 3) pixels."""
    import cv2

    flag = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != image_size(data):
        raise InputError("not a sound JPEG or PNG")
    return image


def jpeg_quality(data: bytes) -> int | None:
    """Return the quality of a JPEG, if its tables are those of the usual encoder, else None.

    Examples:
        >>> jpeg_quality(encode_image(np.zeros((8, 8), np.uint8), "jpeg", 87))
        87
    """
    table = _first_table(data)
    return next((quality for quality in range(100, 0, -1) if _table(quality) == table), None)


@functools.cache
def _table(quality: int) -> bytes:
    return _first_table(encode_image(np.zeros((8, 8), np.uint8), "jpeg", quality))


def _first_table(data: bytes) -> bytes:
    """Return the first quantisation table of a JPEG; empty if there is none."""
    return next((body[1:65] for marker, body in _segments(data) if marker == 0xDB), b"")
