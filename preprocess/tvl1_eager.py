"""TV-L1 at one scale by torch's own operations: on any device, and easy to compare with the paper.

The formulas are those of ``tvl1_kernels``, for many pairs at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from preprocess.tvl1_parameters import TVL1Parameters

_MARGIN = 4  # zeros around the second image, as far as the taps of the warp reach

Fields = tuple[torch.Tensor, ...]


class EagerSolver:
    """A ``preprocess.tvl1_torch.ScaleSolver`` of plain operations."""

    def __init__(self, parameters: TVL1Parameters, *, compiled: bool = False) -> None:
        """Make it ready.

        Args:
            parameters: Of the flow.
            compiled: Whether ``torch.compile`` makes kernels of an iteration.
        """
        self._parameters = parameters
        self._iterate: Callable[..., Fields] = iterate
        if compiled:
            self._iterate = torch.compile(iterate, dynamic=True)

    def __call__(
        self, frames: torch.Tensor, pairs: torch.Tensor, flow: torch.Tensor
    ) -> torch.Tensor:
        """Refine flow at one scale; see ``ScaleSolver``."""
        parameters = self._parameters
        threshold = parameters.threshold(*frames.shape[1:])
        first = frames[pairs[:, 0]]
        second = with_gradients(frames)
        u1, u2 = (flow * parameters.units_per_pixel).unbind(1)
        state: Fields = (u1, u2, *torch.zeros(4, *first.shape, device=first.device))
        for _ in range(parameters.num_warps):
            slopes = linearise(first, second, pairs[:, 1], state[0], state[1], parameters)
            active = torch.ones(len(pairs), dtype=torch.bool, device=first.device)
            for _outer in range(parameters.outer_iterations):
                if not active.any():
                    break
                going = active[:, None, None]
                blurred = (median_filter(plane, parameters.median) for plane in state[:2])
                smooth = [torch.where(going, new, old) for new, old in zip(blurred, state)]
                state = (*smooth, *state[2:])
                for _inner in range(parameters.inner_iterations):
                    *new, error = self._iterate(*state, *slopes, parameters.limit, parameters.tau)
                    going = active[:, None, None]
                    state = tuple(torch.where(going, a, b) for a, b in zip(new, state))
                    active = active & (error > threshold)
                    if not active.any():
                        break
        return torch.stack(state[:2], dim=1) * parameters.unit


def iterate(
    u1: torch.Tensor,
    u2: torch.Tensor,
    p11: torch.Tensor,
    p12: torch.Tensor,
    p21: torch.Tensor,
    p22: torch.Tensor,
    slope_x: torch.Tensor,
    slope_y: torch.Tensor,
    residual: torch.Tensor,
    inverse: torch.Tensor,
    limit: float,
    tau: float,
) -> Fields:
    """Return the six fields after one iteration, and the sum of squared changes of each pair.

    Args:
        u1: x displacements in units of theta / tau px, (N, H, W), float32, as all fields.
        u2: y displacements.
        p11: Dual field of u1 in x.
        p12: Dual field of u1 in y.
        p21: Dual field of u2 in x.
        p22: Dual field of u2 in y.
        slope_x: What ``linearise`` returns, from here on.
        slope_y: The same.
        residual: The same.
        inverse: The same.
        limit: Largest step along the slope.
        tau: Time step.
    """
    rho = slope_x * u1 + (slope_y * u2 + residual)
    force = (rho * inverse).clamp(-limit, limit)
    change1 = force * slope_x + tau * _divergence(p11, p12)
    change2 = force * slope_y + tau * _divergence(p21, p22)
    # Row by row first: how a sum is split must not depend on how many pairs there are.
    error = (change1 * change1 + change2 * change2).sum(-1).sum(-1)
    u1, u2 = u1 + change1, u2 + change2
    return (u1, u2, *_dual(u1, p11, p12), *_dual(u2, p21, p22), error)


def _divergence(px: torch.Tensor, py: torch.Tensor) -> torch.Tensor:
    """Return the backward differences, with zeros before the first row and column."""
    left = functional.pad(px[..., :-1], (1, 0))
    above = functional.pad(py[..., :-1, :], (0, 0, 1, 0))
    return (px - left) + (py - above)


def _dual(u: torch.Tensor, px: torch.Tensor, py: torch.Tensor) -> Fields:
    """Return the dual fields after forward differences, zero behind the last row and column."""
    dx = functional.pad(u[..., 1:] - u[..., :-1], (0, 1))
    dy = functional.pad(u[..., 1:, :] - u[..., :-1, :], (0, 0, 0, 1))
    shrink = 1 / (1 + (dx * dx + dy * dy).sqrt())
    return (px + dx) * shrink, (py + dy) * shrink


def with_gradients(frames: torch.Tensor) -> torch.Tensor:
    """Return frames, their x and their y gradients, (M, 3, H, W).

    Gradients are half the difference of the two neighbours; the border repeats its last pixel.

    Args:
        frames: (M, H, W), float32.
    """
    across = functional.pad(frames[:, None], (1, 1, 0, 0), mode="replicate")[:, 0]
    down = functional.pad(frames[:, None], (0, 0, 1, 1), mode="replicate")[:, 0]
    gradient_x = 0.5 * (across[..., 2:] - across[..., :-2])
    gradient_y = 0.5 * (down[..., 2:, :] - down[..., :-2, :])
    return torch.stack([frames, gradient_x, gradient_y], dim=1)


def linearise(
    first: torch.Tensor,
    second: torch.Tensor,
    which: torch.Tensor,
    u1: torch.Tensor,
    u2: torch.Tensor,
    parameters: TVL1Parameters,
) -> Fields:
    """Warp the second images and return the four coefficients of the data term.

    Args:
        first: The first image of each pair, (N, H, W), float32.
        second: All frames with their gradients, (M, 3, H, W), float32.
        which: The second frame of each pair, (N,), int64.
        u1: x displacements in units of theta / tau px, (N, H, W), float32.
        u2: y displacements.
        parameters: Of the flow.

    Returns:
        x slope, y slope, constant part of the residual, and the negative inverse of the squared
        slope; each (N, H, W).
    """
    height, width = first.shape[1:]
    device, unit = first.device, parameters.unit
    at_x = torch.arange(width, device=device) + u1 * unit
    at_y = torch.arange(height, device=device)[:, None] + u2 * unit
    column, row = at_x.floor(), at_y.floor()
    across, down = keys_weights(at_x - column), keys_weights(at_y - row)
    # From these positions on, all taps are in the margin.
    column = column.clamp(1 - _MARGIN, width + 1).long() + _MARGIN - 1
    row = row.clamp(1 - _MARGIN, height + 1).long() + _MARGIN - 1
    padded = functional.pad(second, (_MARGIN,) * 4).flatten(2)  # (M, 3, pixels)
    line = width + 2 * _MARGIN
    planes = [padded[:, channel].flatten() for channel in range(3)]
    corner = which[:, None, None] * padded.shape[2] + row * line + column
    warped = [torch.zeros_like(first) for _ in planes]
    for j, weight_y in enumerate(down):
        sums = [torch.zeros_like(first) for _ in planes]
        for i, weight_x in enumerate(across):
            place = corner + (j * line + i)
            for plane, total in zip(planes, sums):
                total += weight_x * plane[place]
        for total, value in zip(sums, warped):
            value += weight_y * total
    value, slope_x, slope_y = warped
    slope_x, slope_y = slope_x * unit, slope_y * unit
    square = slope_x * slope_x + slope_y * slope_y
    residual = value - first - (slope_x * u1 + slope_y * u2)
    return slope_x, slope_y, residual, -1 / square.clamp(min=parameters.smallest)


def keys_weights(t: torch.Tensor) -> Fields:
    """Return the weights of the taps at -1, 0, 1, 2 for positions 0 <= t < 1.

    Source: Keys (1981) with a = -0.75, the value of OpenCV's ``INTER_CUBIC``.
    """
    rest = 1 - t
    sharp = -0.75 * t * rest
    before, last = sharp * rest, sharp * t
    here = (1.25 * t - 2.25) * (t * t) + 1
    return before, here, 1 - before - here - last, last


def median_filter(planes: torch.Tensor, size: int) -> torch.Tensor:
    """Return the median over windows of ``size`` x ``size``; borders repeat the last pixel.

    Args:
        planes: (N, H, W), float32.
        size: Odd; 1 filters nothing.
    """
    if size == 1:
        return planes
    edge = size // 2
    padded = functional.pad(planes[:, None], (edge,) * 4, mode="replicate")[:, 0]
    windows = padded.unfold(1, size, 1).unfold(2, size, 1)  # (N, H, W, size, size)
    return windows.flatten(3).median(-1).values
