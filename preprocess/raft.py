"""RAFT's optical flow, by torchvision's network, of many pairs at once.

Source: Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow" (ECCV 2020);
``torchvision.models.optical_flow``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional

from preprocess.flow_weights import find_weights
from preprocess.torch_device import device_errors, open_device, to_host
from tsn_core.errors import InputError
from tsn_core.state_dict import load_state, plain_state
from tsn_core.torch_file import read_torch_file
from tsn_core.torchvision_models import flow_network

NETWORKS = ("large", "small")
MOST_ITERATIONS = 100
_STEP = 8  # the network's features are so many pixels apart
_LEAST = 128  # pixels along a side: four levels of correlation, the last of 2x2
_REMEDY = "check --flow-weights, and --flow-parameter network=large or small"
# What decides how many pairs are computed together, and so the rounding: constants, not what this
# machine has. Bytes of a pair for each place of the features, and for each two of them: estimates,
# on the generous side.
_BUDGET, _BYTES_PER_PLACE, _BYTES_PER_TWO_PLACES = 2 << 30, 64 << 10, 10
_MOST_PAIRS = 32


def check_settings(network: str, iterations: int) -> None:
    """Check what can be chosen of RAFT.

    Raises:
        InputError: A value is out of range.
    """
    if network not in NETWORKS:
        raise InputError(f"raft network must be one of {', '.join(NETWORKS)}, got {network!r}")
    if type(iterations) is not int or not 1 <= iterations <= MOST_ITERATIONS:
        raise InputError(f"raft iterations must be 1 to {MOST_ITERATIONS}, got {iterations!r}")


def read_network(path: str | os.PathLike[str], network: str) -> torch.nn.Module:
    """Return torchvision's RAFT with weights from a file; nothing in the file is executed.

    Raises:
        CheckpointError: The file is damaged, or its weights are of another network.
    """
    state = plain_state(read_torch_file(path, _REMEDY), path, _REMEDY)
    model = flow_network(network)
    load_state(model, state, source=str(path), remedy=_REMEDY)
    return model.eval().requires_grad_(False)


class BatchRAFT:
    """The flow of many pairs of colour frames by RAFT; see ``preprocess.batch_flow.BatchFlow``.

    Frames whose sides are no multiples of 8, or below 128, are continued on all sides by their
    outermost pixels, and the flow is cut back.

    Rounding depends on how many pairs the network sees at once. A GPU always sees the same number
    for one size of frames: the last ones are made up for by the first pair, again and again. A CPU
    sees one pair at a time, in one thread: the order in which threads add would matter, too.
    """

    in_colour = True

    def __init__(self, device: str, *, network: str, iterations: int, weights: str) -> None:
        """Prepare the network.

        Args:
            device: ``cpu`` or ``cuda:N``.
            network: ``large`` or ``small``.
            iterations: Updates of the flow, 1 to 100.
            weights: The sha256 of their file, as ``keep_weights`` returns it.

        Raises:
            InputError: A value is out of range, or this machine does not know the weights.
            CheckpointError: The weights do not fit.
            DeviceError: There is no such device, or it has no memory left.
        """
        check_settings(network, iterations)
        self._device = open_device(device)
        self._iterations = iterations
        model = read_network(find_weights(weights, network), network)
        with device_errors(self._device, "raft"):
            self._model = model.to(self._device)

    def most_pairs(self, height: int, width: int) -> int:
        """Return how many pairs of that size the network sees at once."""
        if self._device.type == "cpu":
            return 1
        places = (_padded(height) // _STEP) * (_padded(width) // _STEP)
        bytes_ = places * _BYTES_PER_PLACE + places * places * _BYTES_PER_TWO_PLACES
        return max(1, min(_MOST_PAIRS, _BUDGET // bytes_))

    def __call__(self, frames: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return the flow of each pair, (N, H, W, 2), float32; see ``BatchFlow``.

        Raises:
            InputError: The frames are empty, or the flow is not finite.
            DeviceError: The device fails, or has too little memory.
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
            raise InputError(
                f"frames must be uint8 of shape (M, H, W, 3), got {frames.dtype} of {frames.shape}"
            )
        height, width = frames.shape[1:3]
        if not height or not width:
            raise InputError(f"frames are too small for raft: {width}x{height}")
        size = self.most_pairs(height, width)
        flow = np.empty((len(pairs), height, width, 2), np.float32)
        what = f"raft on {size} {'pair' if size == 1 else 'pairs'} of {width}x{height}"
        with device_errors(self._device, what), _same_rounding(self._device):
            for start in range(0, len(pairs), size):
                some = pairs[start : start + size]
                whole = some[np.arange(size) % len(some)]
                flow[start : start + size] = self._compute(frames, whole)[: len(some)]
        if not np.isfinite(flow).all():
            raise InputError("the flow of raft is not finite; check --flow-weights")
        return flow

    def _compute(self, frames: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        height, width = frames.shape[1:3]
        top, left = (_padded(height) - height) // 2, (_padded(width) - width) // 2
        bottom, right = _padded(height) - height - top, _padded(width) - width - left
        with torch.inference_mode():
            images = torch.from_numpy(frames[pairs.T.ravel()]).to(self._device)  # (2N, H, W, 3)
            # As torchvision's transforms of these weights do, to the last bit.
            values = images.permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)
            values = functional.pad(values, (left, right, top, bottom), mode="replicate")
            first, last = values.contiguous().chunk(2)
            flow = self._model(first, last, num_flow_updates=self._iterations)[-1]  # (N, 2, H, W)
            flow = flow[:, :, top : top + height, left : left + width]
            return to_host(flow.permute(0, 2, 3, 1))


def _padded(pixels: int) -> int:
    return max(-(-pixels // _STEP) * _STEP, _LEAST)


@contextmanager
def _same_rounding(device: torch.device) -> Iterator[None]:
    """Have the same sums added in the same order, at full precision, whoever called before."""
    if device.type == "cpu":
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
        return
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield
