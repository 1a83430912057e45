"""What a person should see of a stored unit."""

from __future__ import annotations

import numpy as np

from tsn_core.flow_color import flow_colors
from tsn_core.modality import StoredModality
from tsn_core.quantization import dequantize

FULL_COLOR_SHARE = 0.5  # of the bound: most motion is slow, and its hues should be seen


def full_color_px(modality: StoredModality) -> float | None:
    """Return the speed in px that has the full colour in pictures of flow; None of other units.

    The same for all videos of a modality, so that pictures can be compared: half of the largest
    displacement that its codes hold.
    """
    if not modality.kind.has_algorithm:
        return None
    return FULL_COLOR_SHARE * modality.scale * 127.5


def unit_picture(
    unit: np.ndarray, modality: StoredModality, *, max_magnitude: float | None = None
) -> np.ndarray:
    """Return what a person should see of one unit.

    Flow has the field's colours (``flow_colors``), rgb and rgbdiff are as they are stored. Of a
    registered modality it is what its ``picture`` gives; where it has none, three channels are
    taken for RGB, one for gray, others lie side by side.

    Args:
        unit: Shape (H, W, C), uint8, as ``Shard.read_snippets`` gives it.
        modality: How it was stored.
        max_magnitude: Of flow: speed in px that has the full colour. None: ``full_color_px``.

    Returns:
        RGB, shape (H, W, 3), uint8; (H, C * W, 3) where channels lie side by side.
    """
    usual = full_color_px(modality)
    if usual is not None:
        flow = dequantize(unit, modality.scale, modality.zero)
        # stillness has the code 128, and zero is 127.5: half a step is no motion
        flow[(unit == 128).all(axis=-1)] = 0
        return flow_colors(flow, usual if max_magnitude is None else max_magnitude)
    if modality.kind.picture is not None:
        return modality.kind.picture(unit, modality)
    if unit.shape[-1] == 3:
        return unit
    planes = np.concatenate([unit[..., channel] for channel in range(unit.shape[-1])], axis=1)
    return np.repeat(planes[..., None], 3, axis=-1)
