"""Decoding the JPEGs of a batch where the network runs: nvJPEG on a GPU, libjpeg on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tsn_core.codec import decode_image
from tsn_core.errors import MissingDependencyError, ShardError
from tsn_core.torchvision_models import load_torchvision


def check_decoder(device: torch.device) -> None:
    """Check that JPEGs can be decoded on a device, before any is read.

    Raises:
        MissingDependencyError: They cannot.
    """
    if device.type != "cpu":
        _batch_decoder(device)


def decode_jpegs(
    images: Sequence[torch.Tensor], shapes: Sequence[tuple[int, ...]], device: torch.device
) -> list[torch.Tensor]:
    """Return JPEGs as pixels on a device, each (C, H, W) uint8, C being 1 or 3.

    On a CPU it is OpenCV that decodes, as in loading processes: torchvision's decoder of a CPU is
    libjpeg, too, and gives the same pixels, but is not there beside every torch.

    Args:
        images: The bytes of each, (n,) uint8, on the CPU. They have been read when this returns.
        shapes: What each must come to: (H, W) for gray, (H, W, 3) for RGB.
        device: Where to.

    Raises:
        ShardError: An image is not a JPEG of that shape.
        RuntimeError: The device does not decode one of them; it does not say which.
    """
    if device.type == "cpu":
        return [_on_cpu(data, shape) for data, shape in zip(images, shapes)]
    decoded: list[torch.Tensor] = [torch.empty(0)] * len(images)
    decode = _batch_decoder(device)
    for mode, num_axes in (("GRAY", 2), ("RGB", 3)):
        chosen = [n for n, shape in enumerate(shapes) if len(shape) == num_axes]
        if not chosen:
            continue
        found = decode([images[n] for n in chosen], mode=mode, device=device)
        for number, image in zip(chosen, found):
            check_pixels(image, shapes[number])
            decoded[number] = image
    return decoded


def check_pixels(image: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Check that a decoded image (C, H, W) is what was asked for.

    Raises:
        ShardError: It is not.
    """
    channels, height, width = image.shape
    found = (height, width) if channels == 1 else (height, width, channels)
    if found != shape:
        raise ShardError(f"JPEG of shape {shape} expected, got shape {found}")


def _on_cpu(data: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    image = decode_image(data.numpy(), "jpeg", shape)
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))


def _batch_decoder(device: torch.device) -> Callable[..., list[torch.Tensor]]:
    """Return torchvision's function, which may be called from any thread.

    Raises:
        MissingDependencyError: torchvision's extension does not fit this torch, or was made without
            nvJPEG.
    """
    torchvision = load_torchvision()
    if not hasattr(torch.ops.image, "decode_jpegs_cuda"):
        raise MissingDependencyError(
            f"--decode-on device: torchvision {torchvision.__version__} decodes no JPEGs beside "
            f"torch {torch.__version__}; install the torchvision that was made for it, or use "
            "--decode-on workers"
        )

    def decode(images: list[torch.Tensor], **options: Any) -> list[torch.Tensor]:
        # torchvision decodes on a stream of its own that waits for nobody, into memory that may
        # still be in use on this one (github.com/pytorch/vision/pull/9606).
        torch.cuda.current_stream(device).synchronize()
        return torchvision.io.decode_jpeg(images, **options)

    return decode
