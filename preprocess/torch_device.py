"""The device of torch that flow is computed on: its name, its errors, the way back from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tsn_core.errors import DeviceError, InputError


def open_device(name: str) -> torch.device:
    """Return the device of that name.

    Args:
        name: ``cpu`` or ``cuda:N``.

    Raises:
        InputError: There is no such device.
    """
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name}: this machine has {torch.cuda.device_count()} that torch can use"
        )
    return device


@contextmanager
def device_errors(device: torch.device, what: str) -> Iterator[None]:
    """Turn what a device answers into one line for the user.

    Args:
        device: That computes.
        what: Is computed on it, for messages.

    Raises:
        DeviceError: There is too little memory, or the device fails.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"{device}: too little memory for {what}; end other programs on it, extract at a "
            "smaller --size, or use --device cpu"
        ) from None
    except OSError as error:
        if device.type != "cuda":
            raise
        raise DeviceError(
            f"{device}: {what} failed: {error}; Triton keeps what it compiles in files: set "
            "TRITON_CACHE_DIR to a folder that may be written"
        ) from error
    except RuntimeError as error:
        if device.type != "cuda":
            raise
        reason = str(error).strip().partition("\n")[0]
        raise DeviceError(f"{device}: {what} failed: {reason}; see nvidia-smi") from error


def to_host(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's values in this machine's memory.

    From a GPU they come into pinned memory, several times as fast as into other memory, whose pages
    would have to be made first; PyTorch keeps it for the next call once the array is gone.
    """
    if tensor.device.type != "cuda":
        return tensor.numpy()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensor.device).synchronize()
    return host.numpy()
