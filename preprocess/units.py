"""How frames become the images that a shard stores, for every modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from preprocess.camera import warped_flow
from preprocess.flow import flow_function
from tsn_core.modality import StoredModality
from tsn_core.quantization import quantize_difference, quantize_flow


class Frame:
    """A decoded and resized frame, with the conversions that more than one unit needs."""

    def __init__(self, bgr: np.ndarray) -> None:
        self.bgr = bgr

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.bgr.shape[0], self.bgr.shape[1]

    @cached_property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return cv2.cvtColor(self.bgr, cv2.COLOR_BGR2RGB)

    @cached_property
    def gray(self) -> np.ndarray:
        """(H, W) uint8."""
        return cv2.cvtColor(self.bgr, cv2.COLOR_BGR2GRAY)


@dataclass(frozen=True)
class Unit:
    """A unit as it is stored.

    Attributes:
        image: uint8, in the modality's stored layout.
        warped: Whether the camera's motion was found and taken out.
        blue_first: Whether the image's colours are in OpenCV's order instead, as decoded.
    """

    image: np.ndarray
    warped: bool = False
    blue_first: bool = False


UnitMaker = Callable[[Frame, Frame], Unit]


def unit_maker(modality: StoredModality) -> UnitMaker:
    """Return the function that makes a unit from its first and last frame (for rgb, the same)."""
    if modality.name == "rgb":
        return lambda first, _: Unit(first.bgr, blue_first=True)
    if modality.name == "rgbdiff":
        return lambda first, last: Unit(quantize_difference(first.rgb, last.rgb))
    assert modality.algorithm is not None
    parameters = dict(modality.parameters)
    bound = parameters.pop("bound")
    compute = flow_function(modality.algorithm, parameters)
    if modality.name == "flow":
        return lambda first, last: Unit(quantize_flow(compute(first.gray, last.gray), bound))

    def make_warped(first: Frame, last: Frame) -> Unit:
        flow, accepted = warped_flow(first.gray, last.gray, compute)
        return Unit(quantize_flow(flow, bound), accepted)

    return make_warped
