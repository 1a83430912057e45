"""Crops and flips of whole snippet stacks, the same for all snippets of a video.

A stack is uint8 of shape (K, L, H, W, C), as shards give it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from tsn_core.errors import InputError
from tsn_core.modality import Modality

SCALES = (1.0, 0.875, 0.75, 0.66)  # {256, 224, 192, 168} of a 256-pixel side
POSITIONS = (5, 13)  # how many places a crop can have
_MAX_DISTORTION = 1  # width and height are at most so many scales apart
_TEST_SCALE = 0.875  # 224 of 256

Box = tuple[int, int, int, int]  # top, left, height, width in px


def resize_stack(stack: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cut a box out of every image of a stack and resize it.

    One call for each image: a stack taken as one image of many channels needs copies that cost
    several times the resizing.

    Args:
        stack: (K, L, H, W, C) uint8.
        box: What to cut out.
        size: Side of the result in px.

    Returns:
        (K, L, size, size, C) uint8.
    """
    import cv2

    top, left, height, width = box
    cut = stack[:, :, top : top + height, left : left + width]
    if (height, width) == (size, size):
        return cut
    out = np.empty((*stack.shape[:2], size, size, stack.shape[-1]), np.uint8)
    for index in np.ndindex(stack.shape[:2]):
        cv2.resize(cut[index], (size, size), dst=out[index])
    return out


def mirror(stack: np.ndarray, kind: Modality) -> np.ndarray:
    """Return the stack mirrored left to right, as if it were of a mirrored video.

    Args:
        stack: (K, L, H, W, C) uint8.
        kind: Tells what changes besides the places of the pixels, such as the sign of the x
            displacement of flow.
    """
    import cv2

    width, channels = stack.shape[-2:]
    flipped = np.empty(stack.shape, np.uint8)
    for index in np.ndindex(stack.shape[:2]):
        cv2.flip(stack[index], 1, dst=flipped[index])
    if kind.mirrored_channels:
        row = np.zeros((width, channels), np.uint8)
        row[:, list(kind.mirrored_channels)] = 255
        rows = flipped.reshape(-1, width * channels)
        np.bitwise_xor(rows, row.ravel(), out=rows)  # v ^ 255 is 255 - v
    return flipped if kind.recode_mirrored is None else kind.recode_mirrored(flipped)


def random_box(
    height: int,
    width: int,
    generator: np.random.Generator,
    scales: Sequence[float] = SCALES,
    positions: int = 5,
) -> Box:
    """Return a random crop of random scale and aspect ratio.

    Height and width are drawn from the scales, as shares of the shorter side, rounded down and at
    most one step apart; the place is one of ``crop_places``.

    Source: Wang et al., TSN (ECCV 2016), section 3.2, data augmentation.
    """
    sides = [max(int(scale * min(height, width)), 1) for scale in scales]
    pairs = [
        (a, b)
        for i, a in enumerate(sides)
        for j, b in enumerate(sides)
        if abs(i - j) <= _MAX_DISTORTION
    ]
    crop_height, crop_width = pairs[generator.integers(len(pairs))]
    places = crop_places(height, width, crop_height, crop_width, positions)
    top, left = places[generator.integers(len(places))]
    return top, left, crop_height, crop_width


def corners_and_centre(
    height: int, width: int, crop_height: int, crop_width: int
) -> list[tuple[int, int]]:
    """Return (top, left) of the four corner crops and the centre crop."""
    down, right = height - crop_height, width - crop_width
    return [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]


def crop_places(
    height: int, width: int, crop_height: int, crop_width: int, positions: int
) -> list[tuple[int, int]]:
    """Return (top, left) of the places that a training crop can have.

    Args:
        height: Of the image in px.
        width: Of the image in px.
        crop_height: Of the crop in px.
        crop_width: Of the crop in px.
        positions: 5: the corners and the centre; 13: the middles of the four sides as well, and
            the four places halfway between the centre and a corner.

    Source: the TSN authors' PyTorch code, ``GroupMultiScaleCrop.fill_fix_offset``; the thirteen
    are its ``more_fix_crop``. It rounds a quarter of the free space down and takes multiples of
    that, so that its crops stop up to 3 px short of the far border; these do not. At 340x256 and
    TSN's scales both are the same.
    """
    places = corners_and_centre(height, width, crop_height, crop_width)
    if positions == 5:
        return places
    down, right = height - crop_height, width - crop_width
    middles = [(0, 2), (2, 0), (2, 4), (4, 2)]  # in quarters of the free space
    quarters = [(1, 1), (1, 3), (3, 1), (3, 3)]
    return places + [(y * down // 4, x * right // 4) for y, x in middles + quarters]


class TrainingAugmentation:
    """Random crop, resized, and mirrored half of the time: the same for a whole video."""

    def __init__(
        self,
        size: int,
        flip: bool,
        kind: Modality,
        scales: Sequence[float] = SCALES,
        positions: int = 5,
        unflipped_labels: Collection[int] = (),
    ) -> None:
        """Set what is random.

        Args:
            size: Side of the result in px.
            flip: Whether half of the videos are mirrored.
            kind: See ``mirror``.
            scales: Sides of the crops, as shares of the shorter side of a frame.
            positions: How many places a crop can have, 5 or 13.
            unflipped_labels: Classes that are never mirrored, such as a wave to the left.

        Raises:
            InputError: There is no such number of positions.
        """
        if positions not in POSITIONS:
            raise InputError(f"crop_positions must be 5 or 13, got {positions}")
        self._size = size
        self._flip = flip
        self._kind = kind
        self._scales = tuple(scales)
        self._positions = positions
        self._unflipped_labels = frozenset(unflipped_labels)

    def __call__(self, stack: np.ndarray, generator: np.random.Generator, label: int) -> np.ndarray:
        """Return (K, L, size, size, C) uint8 from the snippets of a video of that class."""
        height, width = stack.shape[2:4]
        box = random_box(height, width, generator, self._scales, self._positions)
        flip = generator.random() < 0.5 and self._flip and label not in self._unflipped_labels
        stack = resize_stack(stack, box, self._size)
        return mirror(stack, self._kind) if flip else stack


class CentreCrop:
    """The centre crop of validation: 224 of 256 px, or the same share of another size."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, stack: np.ndarray, generator: np.random.Generator, label: int) -> np.ndarray:
        """Return (K, L, size, size, C) uint8; nothing is random."""
        return _unmirrored_views(stack, 1, self._size)[0]


# Called with the stack, the source of all randomness, and the label of the video.
Augmentation = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]


def test_views(stack: np.ndarray, num_crops: int, size: int, kind: Modality) -> list[np.ndarray]:
    """Return the crops of a stack that a test averages over.

    Args:
        stack: (K, L, H, W, C) uint8.
        num_crops: 1: the centre; 3: squares of the full shorter side at both ends and the middle;
            10: four corners and the centre, and all five mirrored.
        size: Side of the result in px.
        kind: See ``mirror``.

    Returns:
        ``num_crops`` stacks of (K, L, size, size, C) uint8.

    Raises:
        InputError: There is no such number of crops.
    """
    views = _unmirrored_views(stack, num_crops, size)
    return views if num_crops != 10 else views + [mirror(view, kind) for view in views]


test_views.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks


def _unmirrored_views(stack: np.ndarray, num_crops: int, size: int) -> list[np.ndarray]:
    height, width = stack.shape[2:4]
    short = min(height, width)
    if num_crops == 3:
        down, right = height - short, width - short
        places = [(0, 0), (down // 2, right // 2), (down, right)]
        return [resize_stack(stack, (*place, short, short), size) for place in places]
    if num_crops not in (1, 10):
        raise InputError(f"crops must be 1, 3 or 10, got {num_crops}")
    side = round(_TEST_SCALE * short)
    places = corners_and_centre(height, width, side, side)
    if num_crops == 1:
        places = places[-1:]
    return [resize_stack(stack, (*place, side, side), size) for place in places]
