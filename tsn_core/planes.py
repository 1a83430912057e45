"""From units as they are stored to images of single channels, as networks take them.

A unit is (H, W, C) uint8, as ``unit_views`` of shards gives it. N of them become (N, C, H, W)
uint8, or a part of them does: each channel by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsn_core.modality_kind import Modality

Box = tuple[int, int, int, int]  # top, left, height, width in px


def cut_box(unit: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of a unit (H, W, C) that a box shows, as a view of it."""
    top, left, height, width = box
    return unit[top : top + height, left : left + width]


def to_planes(
    units: Sequence[np.ndarray],
    box: Box | None = None,
    size: int | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return units channel by channel; of each, only a box that is resized.

    One call of OpenCV for each image: units taken together as one image of many channels need
    copies that cost several times the resizing. Channels that lie one below another, as those of
    flow are stored, are resized one by one.

    Args:
        units: N arrays of (H, W, C) uint8, all of one size.
        box: What to cut out; None takes all.
        size: Side of the result in px; None keeps the size.
        out: Where to; None makes a new array.

    Returns:
        (N, C, size, size) uint8, or that of the box.
    """
    import cv2

    height, width, channels = units[0].shape
    box = (0, 0, height, width) if box is None else box
    shape = box[2:] if size is None else (size, size)
    resized = shape != box[2:]
    out = np.empty((len(units), channels, *shape), np.uint8) if out is None else out
    for unit, planes in zip(units, out):
        cut = cut_box(unit, box)
        if channels > 1 and cut.strides[-1] == 1:
            if resized:
                cut = cv2.resize(cut, shape[::-1])
            cv2.split(cut, list(planes))
            continue
        for channel, plane in enumerate(planes):
            if resized:
                cv2.resize(cut[..., channel], shape[::-1], dst=plane)
            else:
                plane[...] = cut[..., channel]
    return out


def mirror(planes: np.ndarray, kind: Modality, out: np.ndarray | None = None) -> np.ndarray:
    """Return units mirrored left to right, as if they were of a mirrored video.

    Args:
        planes: (N, C, H, W) uint8.
        kind: Tells what changes besides the places of the pixels, such as the sign of the x
            displacement of flow.
        out: Where to; may be ``planes``. None makes a new array.
    """
    import cv2

    out = np.empty(planes.shape, np.uint8) if out is None else out
    width = planes.shape[-1]
    cv2.flip(planes.reshape(-1, width), 1, dst=out.reshape(-1, width))
    for channel in kind.mirrored_channels:
        np.bitwise_not(out[:, channel], out=out[:, channel])  # ~v is 255 - v
    if kind.recode_mirrored is not None:
        recoded = kind.recode_mirrored(np.ascontiguousarray(out.transpose(0, 2, 3, 1)))
        out[...] = recoded.transpose(0, 3, 1, 2)
    return out


def by_snippet(planes: np.ndarray, num_snippets: int) -> np.ndarray:
    """Return the planes of K snippets of L units each, (K * L, C, H, W), as (K, L * C, H, W).

    Examples:
        >>> by_snippet(np.zeros((15, 2, 24, 32), np.uint8), 3).shape
        (3, 10, 24, 32)
    """
    return planes.reshape(num_snippets, -1, *planes.shape[2:])
