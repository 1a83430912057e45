"""How displacements and differences become uint8, and back."""

from __future__ import annotations

import numpy as np

from tsn_core.errors import InputError


def quantize_flow(flow: np.ndarray, bound: float) -> np.ndarray:
    """Return the uint8 image of an optical flow field.

    A displacement of v px becomes ``round(255 * (clamp(v) + bound) / (2 * bound))``, halves
    rounded to even, so that 0 becomes 128.

    Args:
        flow: Displacements in px, shape (H, W, 2), x then y.
        bound: Largest displacement kept, in px; what exceeds it is clamped.

    Returns:
        One gray image, shape (2H, W), uint8: x displacement on top of y displacement.

    Raises:
        InputError: ``bound`` is not positive and finite, or the flow is not finite.

    Source: Simonyan and Zisserman, Two-stream convolutional networks (NIPS 2014), section 5; the
    rounding is that of the TSN authors' ``dense_flow`` (``cvRound``).

    Examples:
        >>> quantize_flow(np.array([[[0.0, -20.0]], [[20.0, 99.0]]]), bound=20).tolist()
        [[128], [255], [0], [255]]
    """
    if not 0 < bound < np.inf:
        raise InputError(f"bound must be > 0 and finite, got {bound}")
    if not np.isfinite(flow).all():
        raise InputError("the optical flow must be finite, got NaN or infinity")
    stacked = np.concatenate([flow[..., 0], flow[..., 1]], axis=0).astype(np.float32, copy=False)
    np.clip(stacked, -bound, bound, out=stacked)
    stacked *= np.float32(127.5 / bound)  # in this order stillness is 127.5 at every bound
    stacked += np.float32(127.5)
    return np.rint(stacked).astype(np.uint8)


def flow_scale_zero(bound: float) -> tuple[float, float]:
    """Return (scale in px, zero) that undo the coding of flow clamped at ``bound``.

    Zero is 127.5, so that every displacement within the bound comes back with at most half a
    step of error and ``255 - code`` is the exact opposite; stillness, 128, comes back as half a
    step (0.08 px at the default bound of 20).

    Examples:
        >>> scale, zero = flow_scale_zero(bound=20)
        >>> [round((code - zero) * scale, 2) for code in (0, 128, 255)]
        [-20.0, 0.08, 20.0]
    """
    return 2 * bound / 255, 127.5


def quantize_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return ``second - first`` clamped to [-128, 127], plus 128, as uint8.

    Args:
        first: A frame, uint8, any shape.
        second: The next frame, same shape.

    Examples:
        >>> quantize_difference(np.uint8([10, 0, 255]), np.uint8([13, 255, 0])).tolist()
        [131, 255, 0]
    """
    difference = second.astype(np.int16)
    difference -= first
    difference += 128
    return np.clip(difference, 0, 255, out=difference).astype(np.uint8)


def dequantize(code: np.ndarray, scale: float, zero: float) -> np.ndarray:
    """Return ``(code - zero) * scale`` as float32: px for flow, gray levels otherwise."""
    return (code.astype(np.float32) - np.float32(zero)) * np.float32(scale)
