"""Stored images in another size."""

from __future__ import annotations

import numpy as np

from preprocess.video import resize
from tsn_core.errors import InputError
from tsn_core.modality import StoredModality


def resized_image(
    modality: StoredModality, image: np.ndarray, target: tuple[int, int]
) -> np.ndarray:
    """Return the stored image of a unit in another size, as extraction resizes frames.

    Displacements grow and shrink with the image: those along its width by the ratio of the widths,
    those along its height by that of the heights. The codes are resized and multiplied about their
    zero as 32-bit floats, rounded once, halves to even, and clipped to 0…255: they stand for px of
    the new size, at the same bound.

    Args:
        modality: How units are stored.
        image: One of them, uint8, (C * H, W) where it is stacked, else (H, W, C), colours in any
            order.
        target: (height, width) of the unit in px.

    Raises:
        InputError: Nobody says how images of that modality are resized.
    """
    kind = modality.kind
    size = (image.shape[0] // (kind.unit_channels if kind.stacked else 1), image.shape[1])
    if size == target:
        return image
    if kind.displacements is None:
        raise InputError(
            f"modality {kind.name!r}: nobody says how its images are resized (displacements is "
            "None); keep their size"
        )
    if not kind.stacked and not kind.displacements:
        return resize(image, target)
    axes = dict(kind.displacements)
    unit = kind.unstack(image)
    planes = []
    for channel in range(kind.unit_channels):
        plane, axis = np.ascontiguousarray(unit[..., channel]), axes.get(channel)
        if axis is None:
            planes.append(resize(plane, target))
            continue
        values = resize(plane.astype(np.float32), target) - modality.zero
        codes = modality.zero + values * (target[axis] / size[axis])
        planes.append(np.clip(np.rint(codes), 0, 255).astype(np.uint8))
    return np.concatenate(planes) if kind.stacked else np.stack(planes, axis=-1)
