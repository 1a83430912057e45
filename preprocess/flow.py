"""Dense optical flow between two frames, by name of the algorithm."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from preprocess.batch_flow import TORCH_BACKEND, BatchFlow, make_batch_flow
from preprocess.flow_defaults import FLOW_DEFAULTS, PUBLISHED
from preprocess.flow_weights import keep_weights
from preprocess.parameters import change_parameters
from preprocess.tvl1 import tvl1_backend, tvl1_flow
from preprocess.tvl1_parameters import TVL1Parameters, argument_names
from tsn_core.errors import InputError
from tsn_core.modality import FLOW_ALGORITHMS

# OpenCV's stubs want an array for the result, though None is what asks for a new one: hence Any.
FlowFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]

_DIS_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def flow_parameters(
    algorithm: str,
    changes: Sequence[str] = (),
    backend: str = "numba",
    weights: str = PUBLISHED,
) -> dict[str, float | int | str]:
    """Return the parameters of an algorithm, by name.

    Args:
        algorithm: ``tvl1``, ``farneback``, ``dis`` or ``raft``.
        changes: ``NAME=VALUE`` for parameters that differ from their defaults.
        backend: Of ``tvl1``: ``numba``, ``opencv``, or ``torch``, which computes many pairs at
            once. Where Numba cannot be loaded the result says ``opencv`` for ``numba``, and a
            warning says so.
        weights: Of ``raft``: a file, or ``default`` for torchvision's. They are kept on this
            machine, and the result says their sha256; see ``keep_weights``. Loads torch.

    Raises:
        InputError: There is no such algorithm, parameter or file, or a value is of the wrong type.
        CheckpointError: The weights do not fit.

    Examples:
        >>> flow_parameters("dis", ["preset=fast"])
        {'preset': 'fast'}
    """
    if algorithm not in FLOW_DEFAULTS:
        choices = ", ".join(FLOW_ALGORITHMS)
        raise InputError(f"unknown flow algorithm {algorithm!r}; choose from {choices}")
    settable = {
        name: value
        for name, value in FLOW_DEFAULTS[algorithm].items()
        if name not in ("backend", "weights")
    }
    parameters = change_parameters(settable, changes, algorithm)
    if algorithm == "tvl1" and backend == TORCH_BACKEND:
        TVL1Parameters(**argument_names(parameters))  # complains likewise; Numba need not be there
        return {**parameters, "backend": backend}
    if algorithm == "tvl1":
        parameters["backend"] = tvl1_backend(backend)
    if algorithm == "raft":
        return _settled_raft(parameters, weights)
    try:
        flow_function(algorithm, parameters)(_PROBE, _PROBE)  # complains of values out of range
    except cv2.error:
        given = ", ".join(f"{name}={value}" for name, value in parameters.items())
        raise InputError(f"{algorithm}: OpenCV refuses {given}") from None
    return parameters


def _settled_raft(parameters: dict[str, Any], weights: str) -> dict[str, Any]:
    from preprocess.raft import check_settings

    check_settings(**parameters)
    return {**parameters, "weights": keep_weights(weights, parameters["network"])}


_PROBE = np.zeros((32, 32), np.uint8)


def flow_function(algorithm: str, parameters: Mapping[str, Any]) -> FlowFunction:
    """Return the function that computes the flow from one frame to the next.

    Args:
        algorithm: ``tvl1``, ``farneback``, ``dis`` or ``raft``.
        parameters: All of the algorithm's parameters, as ``flow_parameters`` gives them.

    Returns:
        A function of two (H, W) uint8 gray frames, for algorithms among ``COLOUR_FLOWS`` of two
        (H, W, 3) RGB frames, giving (H, W, 2) float32: displacement in px
        from the first to the second, x then y. What ``torch`` computes of many pairs, this
        computes of one by ``numba``, with differences of rounding.

    Raises:
        InputError: A parameter is out of range; perhaps only when the function is called.
        CheckpointError: The weights of ``raft`` are not what they were.
        MissingDependencyError: OpenCV's TV-L1 is asked for and this OpenCV lacks it.
    """
    if algorithm == "tvl1":
        named = argument_names(parameters)
        if named.get("backend") == TORCH_BACKEND:
            named["backend"] = "numba"
        return functools.partial(tvl1_flow, **named)
    if algorithm == "farneback":
        return _farneback(**parameters)
    if algorithm == "raft":
        return _one_by_one(make_batch_flow(algorithm, parameters, "cpu"))
    assert algorithm == "dis", algorithm
    return _dis(**parameters)


def _one_by_one(compute: BatchFlow) -> FlowFunction:
    pair = np.array([[0, 1]])
    return lambda first, second: compute(np.stack([first, second]), pair)[0]


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
    if preset not in _DIS_PRESETS:
        raise InputError(f"dis preset must be one of {', '.join(_DIS_PRESETS)}, got {preset!r}")
    algorithm = cv2.DISOpticalFlow.create(_DIS_PRESETS[preset])
    return lambda first, second: algorithm.calc(first, second, None)  # type: ignore[call-overload]
