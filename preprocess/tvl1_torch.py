"""TV-L1 flow of many pairs of frames at once, on one device of torch.

The same algorithm, parameters and pyramid as ``preprocess.tvl1``, whose result it gives but for
rounding. What happens at one scale is a solver's business: Triton's kernels on a GPU
(``tvl1_triton``), torch's own operations anywhere (``tvl1_eager``).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch

from preprocess.torch_device import device_errors, open_device, to_host
from preprocess.tvl1_parameters import TVL1Parameters, check_size
from tsn_core.errors import InputError

SOLVERS = ("triton", "eager", "compiled")
_MOST_PAIRS = 512  # on a GPU; more do not make it faster
_MOST_ON_CPU = 8  # their fields fit into the caches together
_FIELDS = 36  # planes of float32 that a pair needs at the finest scale, all in all


class ScaleSolver(Protocol):
    """Refines flow at one scale of the pyramid; each pair by itself, to the last bit."""

    def __call__(
        self, frames: torch.Tensor, pairs: torch.Tensor, flow: torch.Tensor
    ) -> torch.Tensor:
        """Return the refined flow.

        Args:
            frames: All frames at this scale, (M, H, W), float32, 0 to 255.
            pairs: Which are the first and the second of each pair, (N, 2), int64.
            flow: x and y displacements in px to begin with, (N, 2, H, W), float32.

        Returns:
            x and y displacements in px, (N, 2, H, W), float32.
        """
        ...


class BatchTVL1:
    """TV-L1 as a ``preprocess.batch_flow.BatchFlow``."""

    in_colour = False

    def __init__(
        self, device: str, *, solver: str | ScaleSolver | None = None, **parameters: Any
    ) -> None:
        """Make it ready.

        Args:
            device: ``cpu`` or ``cuda:N``.
            solver: One of ``SOLVERS``, or one of your own; None: the fastest that the device has.
            **parameters: Those of ``TVL1Parameters``.

        Raises:
            InputError: A parameter is out of range, or there is no such solver or device.
        """
        self._parameters = TVL1Parameters(**parameters)
        self._device = open_device(device)
        if solver is None:
            solver = "triton" if _has_triton(self._device) else "eager"
        self._solve = _solver(solver, self._parameters) if isinstance(solver, str) else solver

    def most_pairs(self, height: int, width: int) -> int:
        """Return how many pairs of that size fit and keep the device busy."""
        if self._device.type != "cuda":
            return _MOST_ON_CPU
        free, _ = torch.cuda.mem_get_info(self._device)
        # What frames of other sizes have left with torch is to be had, too.
        free += torch.cuda.memory_reserved(self._device)
        free -= torch.cuda.memory_allocated(self._device)
        bytes_of_a_pair = 4 * _FIELDS * height * (width + 32)
        return min(max(free // 2 // bytes_of_a_pair, 1), _MOST_PAIRS)

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return the flow of each pair; see ``BatchFlow``."""
        _check(frames, pairs)
        what = f"tvl1 on {len(pairs)} pairs of {frames.shape[2]}x{frames.shape[1]}"
        with device_errors(self._device, what), self._current():
            flow = self._flow(
                torch.from_numpy(frames).to(self._device),
                torch.from_numpy(pairs.astype(np.int64)).to(self._device),
            )
            return to_host(flow.permute(0, 2, 3, 1).contiguous())

    def _current(self) -> AbstractContextManager[object]:
        """Return what makes the device the one that Triton launches on."""
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _flow(self, frames: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        """Return (N, 2, H, W) float32 on the device."""
        parameters = self._parameters
        step = parameters.scale_step
        pyramid = [frames.float()]
        for size in parameters.sizes(*frames.shape[1:])[1:]:
            pyramid.append(resize(pyramid[-1], size, 1 / step, 1 / step))
        height, width = pyramid[-1].shape[1:]
        flow = torch.zeros((len(pairs), 2, height, width), device=self._device)
        for scaled in reversed(pyramid):
            size = (scaled.shape[1], scaled.shape[2])
            if size != (height, width):
                flow = resize(flow, size, height / size[0], width / size[1])
                flow *= float(np.float32(1 / step))
                height, width = size
            flow = self._solve(scaled, pairs, flow)
        return flow


def _check(frames: np.ndarray, pairs: np.ndarray) -> None:
    """Check the arguments, which would be memory errors on a GPU.

    Raises:
        InputError: They are of other shapes or types, or name frames that are not there.
    """
    if frames.ndim != 3 or frames.dtype != np.uint8:
        raise InputError(
            f"gray frames, (M, H, W) uint8, expected, got {frames.dtype} of shape {frames.shape}"
        )
    check_size("frames", *frames.shape[1:])
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise InputError(
            f"pairs, (N, 2) of whole numbers, expected, got {pairs.dtype} of shape {pairs.shape}"
        )
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < len(frames):
        raise InputError(
            f"pairs of frames 0 to {len(frames) - 1} expected, got {pairs.min()} to {pairs.max()}"
        )


def _has_triton(device: torch.device) -> bool:
    """Return whether Triton can compile for a device; a GPU without it gets a warning."""
    if device.type != "cuda":
        return False
    try:
        import triton  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"Triton cannot be loaded ({error}): TV-L1 on {device} takes torch's own operations, "
            "several times slower; pip install triton",
            stacklevel=3,
        )
        return False
    return True


def _solver(name: str, parameters: TVL1Parameters) -> ScaleSolver:
    if name == "triton":
        from preprocess.tvl1_triton import TritonSolver

        return TritonSolver(parameters)
    if name in ("eager", "compiled"):
        from preprocess.tvl1_eager import EagerSolver

        return EagerSolver(parameters, compiled=name == "compiled")
    raise InputError(f"unknown TV-L1 solver {name!r}; choose from {', '.join(SOLVERS)}")


def resize(images: torch.Tensor, size: Sequence[int], step_y: float, step_x: float) -> torch.Tensor:
    """Return images at another size, as OpenCV's bilinear ``resize`` makes them.

    Args:
        images: (..., H, W), float32.
        size: (height, width) in px.
        step_y: Rows of the images for each row of the result.
        step_x: Columns for each column.
    """
    height, width = images.shape[-2:]
    left, right, weight = _taps(width, size[1], step_x, images.device)
    images = _mixed(images[..., left], images[..., right], weight)
    above, below, weight = _taps(height, size[0], step_y, images.device)
    return _mixed(images[..., above, :], images[..., below, :], weight[:, None])


def _mixed(first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return first * (1 - weight) + second * weight


def _taps(
    length: int, new_length: int, step: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the two neighbours of each new position, and the weight of the second."""
    positions = ((np.arange(new_length) + 0.5) * step - 0.5).astype(np.float32)
    first = np.floor(positions).astype(np.int64)
    weight = positions - first.astype(np.float32)
    weight[(first < 0) | (first >= length - 1)] = 0
    first = first.clip(0, length - 1)
    second = (first + 1).clip(max=length - 1)
    taps = (torch.from_numpy(array).to(device) for array in (first, second, weight))
    return tuple(taps)  # type: ignore[return-value]
