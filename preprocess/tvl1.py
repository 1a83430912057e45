"""TV-L1 optical flow, the algorithm of OpenCV's ``DualTVL1OpticalFlow``, many times faster.

``tvl1_flow`` runs our own Numba code on one core. Without Numba it falls back to OpenCV's class,
which gives the same flow but for rounding. Importing this module loads neither.
"""

import functools
import warnings
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from preprocess.tvl1_parameters import TVL1Parameters, check_size
from tsn_core.errors import InputError, MissingDependencyError

OPENCV_PRICE = "about 30 times slower"
_DEFAULTS = TVL1Parameters()


def tvl1_flow(
    first: np.ndarray,
    second: np.ndarray,
    *,
    tau: float = 0.25,
    lambda_: float = 0.15,
    theta: float = 0.3,
    num_scales: int = 5,
    scale_step: float = 0.8,
    num_warps: int = 5,
    epsilon: float = 0.01,
    inner_iterations: int = 30,
    outer_iterations: int = 10,
    median: int = 5,
    backend: str = "numba",
) -> np.ndarray:
    """Return the optical flow from one image to the next.

    The result is the same, bit for bit, on every run and in every process; processors that have
    fused multiply-add in hardware (all x86-64 since 2013, all 64-bit ARM) agree with each other.

    Args:
        first: Gray image, shape (H, W), uint8.
        second: Gray image of the same size.
        tau: Time step of the dual update.
        lambda_: Weight of the data term; smaller is smoother.
        theta: Tightness of the coupling between data and smoothness.
        num_scales: Scales of the pyramid. Fewer are used where a scale would be below 16 pixels.
        scale_step: Size of a scale relative to the next finer one.
        num_warps: How often the second image is warped at each scale.
        epsilon: Root mean square change in pixels below which the iterations of a warp stop.
        inner_iterations: Iterations between two median filters.
        outer_iterations: Median filters for each warp, unless ``epsilon`` stops it before.
        median: Size of the median filter of the flow: 3, 5, or 1 for none, which is what OpenCV's
            CUDA code does.
        backend: ``numba``, or ``opencv`` for OpenCV's own class.

    Returns:
        x, then y displacement in pixels, shape (H, W, 2), float32: what is at ``(x, y)`` in the
        first image is at ``(x + u, y + v)`` in the second.

    Raises:
        InputError: An image is not gray, not uint8, below 3 pixels or of another size than the
            other one, or a parameter is outside its range.

    Source: Zach, Pock and Bischof (2007); behaviour of OpenCV's ``DualTVL1OpticalFlow`` with
        ``gamma`` 0.

    Examples:
        >>> image = np.zeros((20, 30), np.uint8)
        >>> tvl1_flow(image, image).shape
        (20, 30, 2)
    """
    _check_images(first, second)
    parameters = TVL1Parameters(
        tau, lambda_, theta, num_scales, scale_step, num_warps, epsilon,
        inner_iterations, outer_iterations, median,
    )  # fmt: skip
    if tvl1_backend(backend) == "opencv":
        return opencv_tvl1(parameters).calc(first, second, None)

    kernels = _kernels()
    work = _aligned(kernels.work_size(*first.shape))
    quads = _aligned(kernels.quads_size(*first.shape))
    pyramid = _pyramid(first, second, parameters)
    flow = np.zeros((2, *pyramid[-1][0].shape), np.float32)
    for first_scaled, second_scaled in reversed(pyramid):
        height, width = first_scaled.shape
        if flow.shape[1:] != (height, width):
            flow = np.stack([cv2.resize(plane, (width, height)) for plane in flow])
            flow *= np.float32(1 / scale_step)
        kernels.solve_scale(
            first_scaled,
            second_scaled,
            flow,
            work[: kernels.work_size(height, width)],
            quads[: kernels.quads_size(height, width)],
            parameters.unit,
            parameters.units_per_pixel,
            parameters.limit,
            float(tau),
            int(num_warps),
            parameters.threshold(height, width),
            int(inner_iterations),
            int(outer_iterations),
            int(median),
        )
    return np.ascontiguousarray(flow.transpose(1, 2, 0))


def opencv_tvl1(parameters: TVL1Parameters = _DEFAULTS) -> Any:
    """Return OpenCV's TV-L1 with these parameters; they mean what they mean in ``tvl1_flow``.

    Raises:
        MissingDependencyError: This OpenCV was built without its contributed modules.
    """
    if not hasattr(cv2, "optflow"):
        raise MissingDependencyError(
            "opencv-contrib-python is needed for OpenCV's TV-L1, found OpenCV without "
            "cv2.optflow; uninstall opencv-python, then reinstall opencv-contrib-python"
        )
    optflow: Any = cv2.optflow
    return optflow.DualTVL1OpticalFlow_create(
        tau=parameters.tau,
        lambda_=parameters.lambda_,
        theta=parameters.theta,
        nscales=int(parameters.num_scales),
        warps=int(parameters.num_warps),
        epsilon=parameters.epsilon,
        innnerIterations=int(parameters.inner_iterations),
        outerIterations=int(parameters.outer_iterations),
        scaleStep=parameters.scale_step,
        gamma=0.0,
        medianFiltering=int(parameters.median),
    )


def tvl1_backend(backend: str = "numba") -> str:
    """Return the backend that ``tvl1_flow`` uses when asked for this one, and make it ready.

    The first call loads the compiled code from the disk, or compiles it, which takes some seconds
    once per machine. Call it before starting worker processes, which then only load.

    Args:
        backend: ``numba`` or ``opencv``.

    Returns:
        ``opencv`` instead of ``numba`` where Numba is missing; a ``UserWarning`` says so once.

    Raises:
        InputError: There is no such backend.
    """
    if backend not in ("numba", "opencv"):
        raise InputError(f"unknown TV-L1 backend {backend!r}; choose from numba, opencv")
    if backend == "numba" and not _has_numba():
        return "opencv"
    if backend == "numba":
        _kernels()
    return backend


@functools.cache
def _has_numba() -> bool:
    try:
        import numba  # noqa: F401
    except ImportError as error:  # missing, or not made for this NumPy
        warnings.warn(
            f"Numba cannot be loaded ({error}): OpenCV computes TV-L1 flow, {OPENCV_PRICE}; "
            "pip install --upgrade numba",
            stacklevel=4,
        )
        return False
    return True


@functools.cache
def _kernels() -> ModuleType:
    """Return the module of compiled functions, with its code loaded or compiled."""
    from preprocess import tvl1_kernels

    return tvl1_kernels


def _aligned(size: int) -> np.ndarray:
    """Return room for that many float32, not set, aligned to a cache line of 64 bytes."""
    room = np.empty(size + 16, np.float32)
    start = -(room.ctypes.data // 4) % 16
    return room[start : start + size]


def _pyramid(
    first: np.ndarray, second: np.ndarray, parameters: TVL1Parameters
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return both images as float32 at each scale, finest first."""
    scales = [(np.ascontiguousarray(first, np.float32), np.ascontiguousarray(second, np.float32))]
    step = parameters.scale_step
    for _ in parameters.sizes(*first.shape)[1:]:
        scales.append((_shrink(scales[-1][0], step), _shrink(scales[-1][1], step)))
    return scales


def _shrink(image: np.ndarray, scale_step: float) -> np.ndarray:
    return cv2.resize(image, None, fx=scale_step, fy=scale_step)


def _check_images(first: np.ndarray, second: np.ndarray) -> None:
    for name, image in (("first", first), ("second", second)):
        if image.ndim != 2:
            raise InputError(
                f"{name} image must be gray, shape (height, width), got shape {image.shape}; "
                "convert it with cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)"
            )
        if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
            raise InputError(
                f"{name} image has values that are not finite; repair them, then convert it to "
                "uint8, 0 to 255"
            )
        if image.dtype != np.uint8:
            raise InputError(
                f"{name} image must be uint8, 0 to 255, got {image.dtype}; convert it with "
                "image.astype(numpy.uint8)"
            )
        check_size(f"{name} image", *image.shape)
    if first.shape != second.shape:
        raise InputError(
            "both images must have the same size (height x width), got "
            f"{first.shape[0]} x {first.shape[1]} and {second.shape[0]} x {second.shape[1]}; "
            "resize one of them"
        )
