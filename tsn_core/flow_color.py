"""The colours in which the field shows optical flow.

Source: Baker et al., A Database and Evaluation Methodology for Optical Flow (IJCV 2011), whose
Middlebury colour wheel has 55 hues, spaced so that neighbours differ equally to the eye. As in its
authors' code the last hue lies on the direction of the first, to the right: colours are those of
other tools.
"""

from __future__ import annotations

import functools

import numpy as np

# Hues from each corner of the colour cube to the next: from red over yellow, green, cyan, blue and
# magenta back to red.
_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]])
_BEYOND = 0.75  # brightness of what is faster than the fastest that the wheel shows


@functools.cache
def _wheel() -> np.ndarray:
    """Return the hues, (55, 3) float, 0 to 1."""
    parts = [
        _CORNERS[number] + (_CORNERS[number + 1] - _CORNERS[number]) * step / steps
        for number, steps in enumerate(_STEPS)
        for step in range(steps)
    ]
    return np.array(parts, np.float32)


def flow_colors(flow: np.ndarray, max_magnitude: float) -> np.ndarray:
    """Return a flow field as colours: the hue is the direction, what stands still is white.

    Args:
        flow: Displacements in px, shape (H, W, 2), x to the right, then y downwards.
        max_magnitude: Speed in px, > 0, that has the full colour; what is faster is darker.

    Returns:
        RGB, shape (H, W, 3), uint8.

    Examples:
        >>> flow_colors(np.array([[[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [9.0, 0.0]]]), 4).tolist()
        [[[255, 255, 255], [255, 0, 0], [255, 229, 0], [191, 0, 0]]]
    """
    wheel = _wheel()
    speed = np.hypot(flow[..., 0], flow[..., 1])[..., None] / max_magnitude
    turn = np.arctan2(-flow[..., 1], -flow[..., 0]) / (2 * np.pi) + 0.5  # 0 to 1
    place = turn * (len(wheel) - 1)
    before = np.floor(place).astype(np.int64)
    share = (place - before)[..., None]
    hue = (1 - share) * wheel[before] + share * wheel[(before + 1) % len(wheel)]
    color = np.where(speed <= 1, 1 - speed * (1 - hue), hue * _BEYOND)
    return (color * 255).astype(np.uint8)


def color_wheel(size: int) -> np.ndarray:
    """Return the legend of ``flow_colors``: what moves from the centre to a place has its colour.

    Args:
        size: Side in px; the rim of the disc is at ``max_magnitude``.

    Returns:
        RGB, shape (size, size, 3), uint8; white around the disc.
    """
    ramp = np.linspace(-1, 1, size)
    flow = np.stack(np.meshgrid(ramp, ramp), axis=-1)
    colors = flow_colors(flow, 1.0)
    colors[np.hypot(flow[..., 0], flow[..., 1]) > 1] = 255
    return colors
