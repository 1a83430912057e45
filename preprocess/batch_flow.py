"""Optical flow of many pairs of frames at once, on one device of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from preprocess.tvl1_parameters import argument_names
from tsn_core.errors import InputError

TORCH_BACKEND = "torch"  # of TV-L1 that is computed here, as shards name it


class BatchFlow(Protocol):
    """Computes the flow of many pairs of frames of one size, on one device.

    What comes out for a pair does not depend on the pairs beside it, to the last bit, so that it
    does not matter how pairs are put together.

    Attributes:
        in_colour: Whether it takes RGB frames, (M, H, W, 3), rather than gray ones, (M, H, W).
    """

    in_colour: bool

    def most_pairs(self, height: int, width: int) -> int:
        """Return how many pairs of that size fit and keep the device busy; more gains nothing."""
        ...

    def __call__(self, frames: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return the flow of each pair.

        Args:
            frames: (M, H, W) or, in colour, (M, H, W, 3), uint8.
            pairs: Places in ``frames`` of the first and the last frame of each pair, (N, 2), int.

        Returns:
            Displacements in px from the first to the last frame, x then y, (N, H, W, 2), float32.

        Raises:
            InputError: Frames are too small.
            DeviceError: The device fails, or has too little memory even for one pair.
        """
        ...


def make_batch_flow(algorithm: str, parameters: Mapping[str, Any], device: str) -> BatchFlow:
    """Return what computes the flow of many pairs at once. Loads torch.

    Args:
        algorithm: ``tvl1`` or ``raft``.
        parameters: All of the algorithm's parameters, as ``flow_parameters`` gives them.
        device: ``cpu`` or ``cuda:N``.

    Raises:
        InputError: The algorithm is none that is computed in batches, or there is no such device.
    """
    if algorithm == "tvl1":
        from preprocess.tvl1_torch import BatchTVL1

        settings = {name: value for name, value in parameters.items() if name != "backend"}
        return BatchTVL1(device, **argument_names(settings))
    if algorithm == "raft":
        from preprocess.raft import BatchRAFT

        return BatchRAFT(device, **parameters)
    raise InputError(f"flow {algorithm} is not computed in batches; choose tvl1 or raft")
