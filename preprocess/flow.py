"""Dense optical flow between two gray frames, by name of the algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from tsn_core.errors import InputError, MissingDependencyError
from tsn_core.modality import FLOW_ALGORITHMS

# OpenCV's stubs want an array for the result, though None is what asks for a new one: hence Any.
FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]

# OpenCV's own defaults (TV-L1, DIS medium) and those of its Farneback sample, spelled out because
# they are part of what a shard says about itself.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "tvl1": {
        "tau": 0.25,
        "lambda": 0.15,
        "theta": 0.3,
        "scales": 5,
        "scale_step": 0.8,
        "warps": 5,
        "epsilon": 0.01,
        "inner_iterations": 30,
        "outer_iterations": 10,
        "median": 5,
    },
    "farneback": {
        "pyramid_scale": 0.5,
        "levels": 3,
        "window": 15,
        "iterations": 3,
        "poly_n": 5,
        "poly_sigma": 1.2,
    },
    "dis": {"preset": "medium"},
}
_DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def flow_parameters(algorithm: str) -> dict[str, Any]:
    """Return the parameters of an algorithm, by name.

    Raises:
        InputError: There is no such algorithm.
    """
    if algorithm not in _DEFAULTS:
        choices = ", ".join(FLOW_ALGORITHMS)
        raise InputError(f"unknown flow algorithm {algorithm!r}; choose from {choices}")
    return dict(_DEFAULTS[algorithm])


def flow_function(algorithm: str, parameters: Mapping[str, Any]) -> FlowFunction:
    """Return the function that computes the flow from one gray frame to the next.

    Args:
        algorithm: ``tvl1``, ``farneback`` or ``dis``.
        parameters: All of the algorithm's parameters, as ``flow_parameters`` gives them.

    Returns:
        A function of two (H, W) uint8 gray frames, giving (H, W, 2) float32: displacement in px
        from the first to the second, x then y.

    Raises:
        InputError: There is no such algorithm.
        MissingDependencyError: The installed OpenCV lacks the contrib modules.
    """
    if algorithm == "tvl1":
        return _tvl1(**{key.replace("lambda", "lambda_"): parameters[key] for key in parameters})
    if algorithm == "farneback":
        return _farneback(**parameters)
    if algorithm == "dis":
        return _dis(**parameters)
    flow_parameters(algorithm)  # names the choices
    raise AssertionError(algorithm)


def _tvl1(
    tau: float,
    lambda_: float,
    theta: float,
    scales: int,
    scale_step: float,
    warps: int,
    epsilon: float,
    inner_iterations: int,
    outer_iterations: int,
    median: int,
) -> FlowFunction:
    if not hasattr(cv2, "optflow"):
        raise MissingDependencyError(
            "TV-L1 needs cv2.optflow, which this OpenCV lacks: another OpenCV package hides "
            "opencv-contrib-python; run: pip uninstall -y opencv-python opencv-python-headless "
            "opencv-contrib-python && pip install opencv-contrib-python"
        )
    algorithm: Any = cv2.optflow.DualTVL1OpticalFlow.create(
        tau=tau,
        lambda_=lambda_,
        theta=theta,
        nscales=scales,
        warps=warps,
        epsilon=epsilon,
        innnerIterations=inner_iterations,  # spelled so in OpenCV
        outerIterations=outer_iterations,
        scaleStep=scale_step,
        medianFiltering=median,
    )
    return lambda first, second: algorithm.calc(first, second, None)


def _farneback(
    pyramid_scale: float,
    levels: int,
    window: int,
    iterations: int,
    poly_n: int,
    poly_sigma: float,
) -> FlowFunction:
    settings = (pyramid_scale, levels, window, iterations, poly_n, poly_sigma, 0)
    compute: Any = cv2.calcOpticalFlowFarneback
    return lambda first, second: compute(first, second, None, *settings)


def _dis(preset: str) -> FlowFunction:
    algorithm: Any = cv2.DISOpticalFlow.create(_DIS_PRESETS[preset])
    return lambda first, second: algorithm.calc(first, second, None)
