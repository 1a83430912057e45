"""Flow as a colour picture: the modality ``flowhsv``, registered as any package would.

The hue of a pixel is the direction of its motion, the value its speed, the saturation full.
Networks trained on photographs take it as it is, three channels and all.

Source: the student project that this package grew out of trained on such pictures, made as in the
dense-flow example of OpenCV's tutorials. There each frame's largest speed is fully bright; here
``bound`` px are, so that frames can be compared.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from preprocess.flow_defaults import FLOW_DEFAULTS
from tsn_core.errors import InputError
from tsn_core.modality import IMAGENET_MEAN, IMAGENET_STD, Modality
from tsn_core.modality_kind import MakeImage, Parameters

_HUES = 180  # of OpenCV's uint8 hue: two degrees each


def settle(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters, if Farneback's algorithm takes them.

    Raises:
        InputError: It does not, or the bound is none.
    """
    if not 0 < parameters["bound"] < math.inf:
        raise InputError(f"flowhsv bound must be > 0 and finite, got {parameters['bound']}")
    from preprocess.flow import flow_parameters

    changes = [f"{name}={value}" for name, value in parameters.items() if name != "bound"]
    flow_parameters("farneback", changes)
    return parameters


def make(parameters: Parameters) -> MakeImage:
    """Return the function that makes the picture (H, W, 3) RGB of the flow between two frames."""
    from preprocess.flow import flow_function

    rest = dict(parameters)
    bound = rest.pop("bound")
    compute = flow_function("farneback", rest)
    return lambda first, last: flow_picture(compute(first.gray, last.gray), bound)


def flow_picture(flow: np.ndarray, bound: float) -> np.ndarray:
    """Return a flow field as colours.

    Args:
        flow: Displacements in px, shape (H, W, 2), x then y.
        bound: Speed in px that is fully bright; what is faster is no brighter.

    Returns:
        RGB, shape (H, W, 3), uint8: red moves to the right, the hue grows clockwise as seen, and
        what stands still is black.

    Examples:
        >>> flow = np.array([[[20, 0], [0, 0], [-10, 0]]], np.float32)
        >>> flow_picture(flow, bound=20).tolist()
        [[[255, 0, 0], [0, 0, 0], [0, 128, 128]]]
    """
    import cv2

    speed, degrees = cv2.cartToPolar(flow[..., 0], flow[..., 1], angleInDegrees=True)
    hsv = np.full((*flow.shape[:2], 3), 255, np.uint8)
    hsv[..., 0] = np.rint(degrees / 2).astype(np.int32) % _HUES
    hsv[..., 2] = np.rint(np.minimum(speed / bound, 1) * 255)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def mirrored_colours(units: np.ndarray) -> np.ndarray:
    """Return the colours of mirrored pictures (…, H, W, 3) uint8: each direction d is 180° - d."""
    import cv2

    hsv = cv2.cvtColor(units.reshape(-1, units.shape[-2], 3), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (_HUES // 2 - hsv[..., 0].astype(np.int32)) % _HUES
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).reshape(units.shape)


FLOWHSV = Modality(
    name="flowhsv",
    frames_per_unit=2,
    unit_channels=3,
    snippet_length=1,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    recode_mirrored=mirrored_colours,
    like="flow",
    fusion_weight=1.5,
    parameters={"bound": 20.0, **FLOW_DEFAULTS["farneback"]},
    settle=settle,
    make=make,
)
