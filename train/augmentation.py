"""Crops and flips of the units of snippets, the same for all units of a video.

A unit is (H, W, C) uint8, as ``unit_views`` of shards gives it; what is cut out of N of them is
(N, C, height, width) uint8, each channel by itself, as networks take it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from tsn_core.errors import InputError
from tsn_core.modality import Modality
from tsn_core.planes import Box, mirror, to_planes

SCALES = (1.0, 0.875, 0.75, 0.66)  # {256, 224, 192, 168} of a 256-pixel side
POSITIONS = (5, 13)  # how many places a crop can have
_MAX_DISTORTION = 1  # width and height are at most so many scales apart
_TEST_SCALE = 0.875  # 224 of 256


@dataclass(frozen=True)
class View:
    """What is shown of a video.

    Attributes:
        box: What is cut out of every unit.
        mirrored: Whether it is mirrored left to right.
    """

    box: Box
    mirrored: bool = False

    def of(
        self,
        units: Sequence[np.ndarray],
        size: int,
        kind: Modality,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the view of units, (N, C, size, size) uint8, in ``out`` if it is given."""
        planes = to_planes(units, self.box, size, out)
        if self.mirrored:
            mirror(planes, kind, out=planes)
        return planes


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
    """A random crop, mirrored half of the time: the same for a whole video."""

    def __init__(
        self,
        flip: bool,
        scales: Sequence[float] = SCALES,
        positions: int = 5,
        unflipped_labels: Collection[int] = (),
    ) -> None:
        """Set what is random.

        Args:
            flip: Whether half of the videos are mirrored.
            scales: Sides of the crops, as shares of the shorter side of a frame.
            positions: How many places a crop can have, 5 or 13.
            unflipped_labels: Classes that are never mirrored, such as a wave to the left.

        Raises:
            InputError: There is no such number of positions.
        """
        if positions not in POSITIONS:
            raise InputError(f"crop_positions must be 5 or 13, got {positions}")
        self._flip = flip
        self._scales = tuple(scales)
        self._positions = positions
        self._unflipped_labels = frozenset(unflipped_labels)

    def __call__(self, height: int, width: int, generator: np.random.Generator, label: int) -> View:
        """Return what to show of a video of that size and class."""
        box = random_box(height, width, generator, self._scales, self._positions)
        flip = generator.random() < 0.5 and self._flip and label not in self._unflipped_labels
        return View(box, flip)


def centre_view(height: int, width: int, generator: np.random.Generator, label: int) -> View:
    """Return the centre crop of validation: 224 of 256 px, or the same share of another size."""
    return View(_test_boxes(height, width, 1)[0])


# Called with the (height, width) of a video, the source of all randomness, and its label.
Augmentation = Callable[[int, int, np.random.Generator, int], View]


def test_views(
    units: Sequence[np.ndarray],
    num_crops: int,
    size: int,
    kind: Modality,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return the crops of units that a test averages over.

    Args:
        units: N arrays of (H, W, C) uint8.
        num_crops: 1: the centre; 3: squares of the full shorter side at both ends and the middle;
            10: four corners and the centre, and all five mirrored.
        size: Side of the result in px.
        kind: See ``mirror``.
        out: Where to; None makes a new array.

    Returns:
        (num_crops, N, C, size, size) uint8.

    Raises:
        InputError: There is no such number of crops.
    """
    height, width, channels = units[0].shape
    boxes = _test_boxes(height, width, num_crops)
    shape = (num_crops, len(units), channels, size, size)
    views = np.empty(shape, np.uint8) if out is None else out
    for box, view in zip(boxes, views):
        to_planes(units, box, size, view)
    for view, mirrored in zip(views, views[len(boxes) :]):
        mirror(view, kind, out=mirrored)
    return views


test_views.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks


def _test_boxes(height: int, width: int, num_crops: int) -> list[Box]:
    short = min(height, width)
    if num_crops == 3:
        down, right = height - short, width - short
        places = [(0, 0), (down // 2, right // 2), (down, right)]
        return [(*place, short, short) for place in places]
    if num_crops not in (1, 10):
        raise InputError(f"crops must be 1, 3 or 10, got {num_crops}")
    side = round(_TEST_SCALE * short)
    places = corners_and_centre(height, width, side, side)
    return [(*place, side, side) for place in (places[-1:] if num_crops == 1 else places)]
