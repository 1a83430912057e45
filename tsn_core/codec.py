"""Images to bytes and back. OpenCV is imported only when an image is really coded."""

from __future__ import annotations

import math
import struct

import numpy as np

from tsn_core.errors import InputError, ShardError

# A block of 8x8 pixels takes two bits of a baseline JPEG at least: an image of fewer bytes is cut
# short, or claims a size only to be given memory for it.
MOST_PIXELS_PER_BYTE = 256
_BASELINE = (0xC0, 0xC1)  # markers of a frame that is coded in one pass
_NO_BASELINE = (0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xDB), 0xFF)
_HEADER_BYTES = 1 << 16


def encode_image(
    image: np.ndarray, codec: str, quality: int | None, *, blue_first: bool = False
) -> bytes:
    """Return the stored bytes of one image.

    Args:
        image: Gray (H, W) or RGB (H, W, 3), uint8.
        codec: ``jpeg``, which any viewer shows in the right colours, or ``raw``: the array's
            bytes, row by row, red first.
        quality: Of the JPEG, 1 to 100.
        blue_first: Whether the image is BGR instead, which saves JPEG a conversion.

    Raises:
        InputError: The codec is unknown or the image too large for it.
    """
    if codec == "raw":
        return (image[..., ::-1] if blue_first else image).tobytes()
    if codec != "jpeg":
        raise InputError(f"unknown codec {codec!r}; choose from jpeg, raw")
    import cv2

    bgr = image if image.ndim == 2 or blue_first else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    try:
        done, buffer = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality or 95)])
    except cv2.error:
        done = False
    if not done:
        height, width = image.shape[:2]
        raise InputError(f"JPEG cannot hold a {width}x{height} image; choose --codec raw")
    return buffer.tobytes()


def decode_image(data: np.ndarray, codec: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the image in stored bytes.

    Args:
        data: The bytes, (n,) uint8.
        codec: ``jpeg`` or ``raw``.
        shape: Of the image: (H, W) for gray, (H, W, 3) for RGB.

    Returns:
        The image, uint8; a view of ``data`` where the codec is ``raw``.

    Raises:
        ShardError: The bytes are not an image of that shape.
    """
    if codec == "raw":
        if data.size != math.prod(shape):
            raise ShardError(f"raw image of shape {shape} expected, got {data.size} bytes")
        return data.reshape(shape)
    check_jpeg(data, shape)
    import cv2

    red_first = getattr(cv2, "IMREAD_COLOR_RGB", None)  # none before OpenCV 4.11
    color = cv2.IMREAD_COLOR if red_first is None else red_first
    flag = cv2.IMREAD_GRAYSCALE if len(shape) == 2 else color
    try:
        image = cv2.imdecode(data, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None or image.shape != shape:
        raise ShardError(f"JPEG of shape {shape} expected, got no JPEG")
    if image.ndim == 2 or red_first is not None:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def check_jpeg(data: np.ndarray, shape: tuple[int, ...]) -> None:
    """Check that bytes begin like a baseline JPEG of that shape, before anybody decodes them.

    Raises:
        ShardError: They do not.
    """
    found = jpeg_shape(data)
    if found != shape:
        what = "no JPEG" if found is None else f"shape {found}"
        raise ShardError(f"JPEG of shape {shape} expected, got {what}")


def jpeg_shape(data: np.ndarray) -> tuple[int, ...] | None:
    """Return the shape that the header of a baseline JPEG states, or None if it is none.

    OpenCV decodes many kinds of files, and allocates what their headers ask for; it is given those
    alone that this function knows.

    Args:
        data: The bytes, (n,) uint8.

    Returns:
        (H, W) for gray, (H, W, channels) otherwise.

    Source: ITU-T T.81, annex B.
    """
    head = data[:_HEADER_BYTES].tobytes()
    if not head.startswith(b"\xff\xd8\xff"):
        return None
    place = 2
    while place + 10 <= len(head) and head[place] == 0xFF:
        marker = head[place + 1]
        if marker in _BASELINE:
            height, width, channels = struct.unpack_from(">HHB", head, place + 5)
            return (height, width) if channels == 1 else (height, width, channels)
        if marker in _NO_BASELINE:
            return None
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return None
