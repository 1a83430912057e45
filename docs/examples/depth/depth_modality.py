"""Depth as a modality: what a monocular depth network sees in a frame, near things bright.

The network is an ONNX file such as MiDaS or Depth Anything, run by OpenCV's dnn module on the CPU:
RGB frames go in with ImageNet's mean and deviation, shape (1, 3, S, S); one plane comes out,
(1, S, S) or (1, 1, S, S), larger for what is nearer. Such networks know no scale, so that every
frame is stretched to 0…255 on its own, between its 2nd and its 98th percentile.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from tsn_core.errors import InputError
from tsn_core.modality import IMAGENET_MEAN, IMAGENET_STD, Modality


def settle(parameters: dict[str, Any]) -> dict[str, Any]:
    """Check the parameters before an extraction, and store the network's hash beside its name."""
    if not parameters["model"]:
        raise InputError("depth needs a network: --parameter depth.model=FILE.onnx")
    if not 32 <= parameters["input_size"] <= 2048:
        raise InputError(f"depth input_size must be 32 to 2048, got {parameters['input_size']}")
    path = Path(parameters["model"]).absolute()
    settled = {**parameters, "model": str(path), "sha256": _sha256(path)}
    make(settled)  # complains of what is no network
    return settled


def make(parameters: dict[str, Any]):
    """Return the function that makes the gray image (H, W) of a frame."""
    import cv2

    path, size = Path(parameters["model"]), parameters["input_size"]
    if _sha256(path) != parameters["sha256"]:
        raise InputError(f"{path}: not the network that these shards began with; put that one back")
    try:
        network = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error:
        raise InputError(f"{path}: OpenCV cannot read it as an ONNX network") from None

    def image(frame, _) -> np.ndarray:
        # frame.rgb is (H, W, 3) uint8; .bgr and .gray are there as well
        small = cv2.resize(frame.rgb, (size, size), interpolation=cv2.INTER_AREA)
        planes = (small - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
        network.setInput(planes.transpose(2, 0, 1)[None])
        nearness = network.forward().reshape(size, size)
        low, high = np.percentile(nearness, (2, 98))
        gray = np.clip((nearness - low) / max(high - low, 1e-6), 0, 1) * 255
        height, width = frame.size
        return cv2.resize(np.rint(gray).astype(np.uint8), (width, height))

    return image


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check --parameter depth.model") from None


DEPTH = Modality(
    name="depth",
    frames_per_unit=1,
    unit_channels=1,
    snippet_length=1,
    stacked=True,  # one gray image
    mean=(127.5,),
    std=(64.0,),
    displacements=(),  # stored images may be resized
    parameters={"model": "", "input_size": 256, "sha256": ""},
    settle=settle,
    make=make,
)
