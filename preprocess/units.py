"""How frames become the images that a shard stores, for every modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from preprocess.camera import warped_flow
from preprocess.flow import FlowFunction, flow_function
from preprocess.flow_defaults import COLOUR_FLOWS
from tsn_core.errors import InputError
from tsn_core.modality import Modality, StoredModality
from tsn_core.modality_kind import MakeImage
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
    """Return the function that makes a unit from its first and last frame (for rgb, the same).

    Raises:
        InputError: Nobody says how units of that modality are made, or its parameters are wrong.
    """
    make = _BUILT_IN.get(modality.name)
    if make is not None:
        return make(modality)
    if modality.kind.make is None:
        raise InputError(
            f"modality {modality.name!r}: the package that brings it does not say how its images "
            "are made (make is None); only its shards can be read"
        )
    return _checked(modality.kind, modality.kind.make(modality.parameters))


def _checked(kind: Modality, make_image: MakeImage) -> UnitMaker:
    """Return what makes units from somebody else's images, if they are what they must be."""

    def make(first: Frame, last: Frame) -> Unit:
        image = make_image(first, last)
        shape = kind.image_shape(*first.size)
        if not isinstance(image, np.ndarray):
            raise InputError(f"an array of shape {shape} expected, got {type(image).__name__}")
        if image.dtype != np.uint8 or image.shape != shape:
            raise InputError(
                f"uint8 of shape {shape} expected, got {image.dtype} of shape {image.shape}"
            )
        return Unit(image)

    return make


def _make_rgb(modality: StoredModality) -> UnitMaker:
    return lambda first, _: Unit(first.bgr, blue_first=True)


def _make_difference(modality: StoredModality) -> UnitMaker:
    return lambda first, last: Unit(quantize_difference(first.rgb, last.rgb))


def _make_flow(modality: StoredModality) -> UnitMaker:
    compute, bound = _computed(modality)
    if modality.algorithm in COLOUR_FLOWS:
        return lambda first, last: Unit(quantize_flow(compute(first.rgb, last.rgb), bound))
    return lambda first, last: Unit(quantize_flow(compute(first.gray, last.gray), bound))


def _make_warped_flow(modality: StoredModality) -> UnitMaker:
    compute, bound = _computed(modality)

    in_colour = modality.algorithm in COLOUR_FLOWS

    def make(first: Frame, last: Frame) -> Unit:
        colours = (first.rgb, last.rgb) if in_colour else None
        flow, accepted = warped_flow(first.gray, last.gray, compute, colours)
        return Unit(quantize_flow(flow, bound), accepted)

    return make


def _computed(modality: StoredModality) -> tuple[FlowFunction, float]:
    """Return what computes the flow, and its bound."""
    assert modality.algorithm is not None
    parameters = dict(modality.parameters)
    bound = parameters.pop("bound")
    return flow_function(modality.algorithm, parameters), bound


_BUILT_IN: dict[str, Callable[[StoredModality], UnitMaker]] = {
    "rgb": _make_rgb,
    "rgbdiff": _make_difference,
    "flow": _make_flow,
    "warpedflow": _make_warped_flow,
}
