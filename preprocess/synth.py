"""The synthetic dataset: real video files in which only the motion tells the class.

Textured shapes lie on a textured background. In a video of ``left`` all of them drift to the left,
in ``clockwise`` each turns about its own centre, and so on. Appearance, background, number, size,
place, angle, speed and start are random and independent of the class: shapes that leave on one
side come in on the other, so that places and angles are distributed alike in every single frame
of every class. One frame cannot tell the class; two can.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from preprocess.executor import run_jobs
from tsn_core.atomic import atomic_path, write_text
from tsn_core.errors import InputError, OutputError

# Drift (x, y) of a shape and movement of its rim, as multiples of the speed; y points down.
CLASSES: dict[str, tuple[float, float, float]] = {
    "clockwise": (0, 0, 1.8),
    "counterclockwise": (0, 0, -1.8),
    "down": (0, 1, 0),
    "left": (-1, 0, 0),
    "right": (1, 0, 0),
    "up": (0, -1, 0),
}
_FPS = 25.0
_TEST_FRACTION = 4  # every fourth video


@dataclass(frozen=True)
class _Shape:
    """A textured shape: (2R, 2R, 3) float32 texture, (2R, 2R) mask in 0…1, start and radius."""

    texture: np.ndarray
    mask: np.ndarray
    x: float
    y: float
    angle: float
    radius: float


def synthesize(
    out: Path,
    *,
    videos_per_class: int = 40,
    num_frames: int = 32,
    size: tuple[int, int] = (120, 160),
    seed: int = 0,
    num_workers: int = 1,
) -> int:
    """Write the dataset in the ``folder`` layout, with train and test lists of one split.

    Args:
        out: Folder to make; ``videos/CLASS/*.avi`` and ``splits/*.txt`` appear in it.
        videos_per_class: How many for each of the six classes; every fourth is for testing.
        num_frames: Length of the shortest video; others are up to half longer.
        size: (height, width) of the frames in px, both even.
        seed: The same seed gives the same pixels, for any number of workers.
        num_workers: Processes that make videos side by side.

    Returns:
        Number of videos written.

    Raises:
        InputError: A number is too small, or the size is odd.
        OutputError: A file cannot be written.
    """
    if videos_per_class < 2:
        raise InputError(f"videos_per_class must be > 1, got {videos_per_class}")
    if num_frames < 2:
        raise InputError(f"num_frames must be > 1, got {num_frames}")
    if min(size) < 32 or size[0] % 2 or size[1] % 2:
        raise InputError(f"size must be even and at least 32x32, got {size[1]}x{size[0]}")
    lists: dict[str, list[str]] = {"train": [], "test": []}
    clips = []
    for label, name in enumerate(sorted(CLASSES)):
        for number in range(videos_per_class):
            relative = f"{name}/{name}_{number:04d}.avi"
            clips.append(
                _Clip(out / "videos" / relative, name, num_frames, size, (seed, label, number))
            )
            subset = "test" if number % _TEST_FRACTION == _TEST_FRACTION - 1 else "train"
            lists[subset].append(f"{relative} {name}\n")
    for _ in run_jobs(_make_clip, clips, num_workers):
        pass
    for subset, lines in lists.items():
        write_text(out / "splits" / f"{subset}_split_1.txt", "".join(lines))
    return len(clips)


@dataclass(frozen=True)
class _Clip:
    """One video to make: where, what, how long at least, how large, and from which seed."""

    path: Path
    class_name: str
    num_frames: int
    size: tuple[int, int]
    seed: tuple[int, int, int]


def _make_clip(clip: _Clip) -> None:
    cv2.setNumThreads(1)
    generator = np.random.default_rng(clip.seed)
    length = int(generator.integers(clip.num_frames, clip.num_frames * 3 // 2 + 1))
    write_video(clip.path, render(clip.class_name, length, clip.size, generator), clip.size, _FPS)


def render(
    class_name: str, num_frames: int, size: tuple[int, int], generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the frames of one video, (H, W, 3) uint8.

    Args:
        class_name: One of ``CLASSES``.
        num_frames: How many.
        size: (height, width) in px.
        generator: Source of all randomness.
    """
    drift_x, drift_y, turn = CLASSES[class_name]
    background = _texture(size, cells=6, generator=generator) * 0.6 + 40
    shapes = [_shape(size, generator) for _ in range(generator.integers(2, 5))]
    speed = generator.uniform(1.5, 4.0) * min(size) / 120
    for number in range(num_frames):
        canvas = background.copy()
        way = number * speed
        for shape in shapes:
            _draw(
                canvas,
                shape,
                (shape.x + drift_x * way) % size[1],
                (shape.y + drift_y * way) % size[0],
                shape.angle + turn * way / shape.radius,
            )
        canvas += generator.normal(0, 2, canvas.shape).astype(np.float32)
        yield np.clip(canvas, 0, 255).astype(np.uint8)


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


def write_video(
    path: Path, frames: Iterator[np.ndarray], size: tuple[int, int], fps: float
) -> None:
    """Write frames as an MPEG-4 video in an AVI file, atomically.

    Args:
        path: Ends in ``.avi``.
        frames: (H, W, 3) uint8, BGR.
        size: (height, width) of the frames.
        fps: Frame rate in Hz.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        named = temporary.with_suffix(".avi")  # the encoder chooses the container by the ending
        writer = cv2.VideoWriter(
            str(named), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, (size[1], size[0])
        )
        if not writer.isOpened():
            raise OutputError(f"{path}: cannot be written; check the folder and its free space")
        try:
            for frame in frames:
                writer.write(frame)
            writer.release()
            named.replace(temporary)
        finally:
            writer.release()
            named.unlink(missing_ok=True)
