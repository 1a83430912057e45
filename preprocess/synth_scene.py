"""What the synthetic videos show: textured shapes that move as a script says.

Textured shapes lie on a textured background. While a part of the script says ``left`` all of them
drift to the left, in ``clockwise`` each turns about its own centre, and so on. Appearance,
background, number, size, place, angle, speed and start are random and independent of the script:
shapes that leave on one side come in on the other, so that places and angles are distributed alike
in every single frame. One frame cannot tell the motion; two can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# Drift (x, y) of a shape and movement of its rim, as multiples of the speed; y points down.
MOTIONS: dict[str, tuple[float, float, float]] = {
    "clockwise": (0, 0, 1.8),
    "counterclockwise": (0, 0, -1.8),
    "down": (0, 1, 0),
    "left": (-1, 0, 0),
    "right": (1, 0, 0),
    "up": (0, -1, 0),
}
_TREMOR = 0.5  # px in a frame of 120 px


@dataclass(frozen=True)
class Part:
    """A stretch of a video with one motion.

    Attributes:
        motion: One of ``MOTIONS``, or None where the shapes stay in place.
        num_frames: Pairs of frames that show it: frame t + 1 differs by it from each frame t of
            the part.
        trembles: Whether the shapes tremble about their places: no drift, in no direction.
    """

    motion: str | None
    num_frames: int
    trembles: bool = False


@dataclass(frozen=True)
class _Shape:
    """A textured shape: (2R, 2R, 3) float32 texture, (2R, 2R) mask in 0…1, start and radius."""

    texture: np.ndarray
    mask: np.ndarray
    x: float
    y: float
    angle: float
    radius: float


def render(
    parts: Sequence[Part], size: tuple[int, int], generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the frames of one video, (H, W, 3) uint8; every frame has noise of its own.

    Args:
        parts: What moves, and for how long, from the first frame to the last.
        size: (height, width) in px.
        generator: Source of all randomness.
    """
    background = _texture(size, cells=6, generator=generator) * 0.6 + 40
    shapes = [_shape(size, generator) for _ in range(generator.integers(2, 5))]
    speed = generator.uniform(1.5, 4.0) * min(size) / 120
    start_x = start_y = start_rim = 0.0  # way gone in the parts before, in px
    for part in parts:
        drift_x, drift_y, turn = MOTIONS[part.motion] if part.motion else (0, 0, 0)
        for number in range(part.num_frames):
            canvas = background.copy()
            way = number * speed
            x, y, rim = start_x + drift_x * way, start_y + drift_y * way, start_rim + turn * way
            if part.trembles:
                x, y = np.array([x, y]) + generator.uniform(-1, 1, 2) * _TREMOR * min(size) / 120
            for shape in shapes:
                _draw(
                    canvas,
                    shape,
                    (shape.x + x) % size[1],
                    (shape.y + y) % size[0],
                    shape.angle + rim / shape.radius,
                )
            canvas += generator.normal(0, 2, canvas.shape).astype(np.float32)
            yield np.clip(canvas, 0, 255).astype(np.uint8)
        way = part.num_frames * speed
        start_x, start_y = start_x + drift_x * way, start_y + drift_y * way
        start_rim += turn * way


def _texture(size: tuple[int, int], cells: int, generator: np.random.Generator) -> np.ndarray:
    """Return a smooth random colour pattern, (H, W, 3) float32 in 0…255."""
    coarse = generator.uniform(0, 255, (cells, cells, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0, 255)


def _shape(size: tuple[int, int], generator: np.random.Generator) -> _Shape:
    radius = generator.uniform(0.2, 0.36) * min(size)
    side = int(2 * radius)
    mask = np.zeros((side, side), np.float32)
    corners = int(generator.integers(3, 9))
    if corners > 6:
        axes = (side // 2 - 1, int(side * generator.uniform(0.3, 0.48)))
        cv2.ellipse(mask, (side // 2, side // 2), axes, 0, 0, 360, 1, -1, cv2.LINE_AA)
    else:
        angles = np.arange(corners) * 2 * np.pi / corners
        rim = np.stack([np.cos(angles), np.sin(angles)], 1) * (side / 2 - 1) + side / 2
        cv2.fillPoly(mask, [np.rint(rim).astype(np.int32)], 1, cv2.LINE_AA)
    return _Shape(
        texture=_texture((side, side), int(generator.integers(4, 8)), generator),
        mask=mask,
        x=generator.uniform(0, size[1]),
        y=generator.uniform(0, size[0]),
        angle=generator.uniform(0, 2 * np.pi),
        radius=radius,
    )


def _draw(canvas: np.ndarray, shape: _Shape, x: float, y: float, angle: float) -> None:
    """Blend the shape into the canvas, centred at (x, y), coming in where it leaves."""
    height, width = canvas.shape[:2]
    middle = (shape.mask.shape[0] - 1) / 2
    reach = int(middle * 1.5) + 1  # more than half the diagonal of the texture
    cosine, sine = np.cos(angle), np.sin(angle)
    for shift_x in (-width, 0, width):
        for shift_y in (-height, 0, height):
            to_x, to_y = x + shift_x, y + shift_y
            left, right = max(int(to_x) - reach, 0), min(int(to_x) + reach + 1, width)
            top, bottom = max(int(to_y) - reach, 0), min(int(to_y) + reach + 1, height)
            if left >= right or top >= bottom:
                continue
            place = np.array(
                [
                    [cosine, -sine, to_x - left - cosine * middle + sine * middle],
                    [sine, cosine, to_y - top - sine * middle - cosine * middle],
                ]
            )
            size = (right - left, bottom - top)
            mask = cv2.warpAffine(shape.mask, place, size)[..., None]
            texture = cv2.warpAffine(shape.texture, place, size, borderMode=cv2.BORDER_REPLICATE)
            part = canvas[top:bottom, left:right]
            part += mask * (texture - part)
