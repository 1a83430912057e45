"""In which numbers, layout and algorithms a network is computed on a device."""

from __future__ import annotations

from dataclasses import replace

import torch

from train.settings import LoopSettings
from tsn_core.errors import InputError

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def settled(loop: LoopSettings, device: torch.device) -> LoopSettings:
    """Return the settings with what was left to the device decided.

    ``auto`` is bf16 on a GPU that computes in it, and fp32 elsewhere. A layout that nobody chose is
    channels last where a GPU computes in 16 bits, whose units for that want it.

    Raises:
        InputError: The device does not compute in the precision.
    """
    precision, channels_last = loop.precision, loop.channels_last
    if precision == "auto":
        precision = "bf16" if _has_bf16(device) else "fp32"
    if channels_last is None:
        channels_last = device.type == "cuda" and precision != "fp32"
    precision_type(precision, device)
    return replace(loop, precision=precision, channels_last=channels_last)


def _has_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def precision_type(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the network's arithmetic.

    Raises:
        InputError: The device does not compute in it.
    """
    if precision == "fp16" and device.type != "cuda":
        raise InputError("--precision fp16 needs a GPU; choose bf16 or fp32")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InputError("--precision bf16: this GPU does not compute in it; choose fp16 or fp32")
    return _TYPES[precision]


def choose_algorithms(device: torch.device) -> None:
    """Have a GPU's convolutions give the same numbers in every run.

    cuDNN is kept from algorithms that add up in any order, and from choosing among them by a race,
    which another one may win the next time. What 32-bit numbers are rounded to on the way is left
    as PyTorch has it: TF32 in convolutions, not in other products.
    """
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
