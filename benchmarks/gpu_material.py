"""Shards of pictures that are made up, for ``bench_gpu_train``: nothing else need be there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tsn_core.codec import encode_image
from tsn_core.index import Index, ShardEntry, write_index
from tsn_core.modality import StoredModality, get_modality
from tsn_core.shard_format import ShardHeader, shard_name
from tsn_core.shard_set import ShardSet
from tsn_core.shard_writer import ShardWriter

CODECS = ("jpeg", "raw")
MODALITIES = ("rgb", "flow")
_QUALITY = 95
_CLASSES = 51
_PER_SHARD = 64
# Spots so many px wide, so much lighter or darker, and so strong a grain make JPEGs about as large
# as those of real videos: 28 KB of rgb and 10 KB of flow at 340x256 and quality 95.
_LOOKS = {"rgb": (12, 50, 2.0), "flow": (40, 12, 0.0)}
_CANVAS = 3  # times the size of a unit, of which units are pieces


def make_shards(
    folder: Path, modality: str, size: tuple[int, int], num_videos: int, num_snippets: int
) -> dict[str, ShardSet]:
    """Write the same videos with every codec, and return them by codec.

    Args:
        folder: To write to.
        modality: ``rgb`` or ``flow``.
        size: (height, width) of the units in px.
        num_videos: How many.
        num_snippets: Of each, none of which share units.
    """
    kind, generator = get_modality(modality), np.random.default_rng(0)
    base = StoredModality(
        name=modality,
        snippet_length=kind.snippet_length,
        channels=kind.unit_channels,
        codec="jpeg",
        quality=_QUALITY,
        scale=2 * 20 / 255 if modality == "flow" else 1.0,
        zero=127.5 if modality == "flow" else 0.0,
        height=size[0],
        width=size[1],
        algorithm="dis" if modality == "flow" else None,
        parameters={"bound": 20.0} if modality == "flow" else {},
    )
    canvas = _canvas(modality, kind.image_shape(*size), generator)
    starts = np.arange(num_snippets) * kind.snippet_length
    videos = [
        [
            _piece(canvas, kind.image_shape(*size), generator)
            for _ in range(num_snippets * kind.snippet_length)
        ]
        for _ in range(num_videos)
    ]
    made = {}
    for codec in CODECS:
        stored = replace(base, codec=codec, quality=_QUALITY if codec == "jpeg" else None)
        made[codec] = _write(folder / codec / stored.folder, stored, videos, starts)
    return made


def _canvas(modality: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    spot, strength, grain = _LOOKS[modality]
    height, width = _CANVAS * shape[0], _CANVAS * shape[1]
    small = (max(height // spot, 2), max(width // spot, 2), *shape[2:])
    smooth = cv2.resize(
        generator.normal(128, strength, small).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    noise = generator.normal(0, grain, smooth.shape)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def _piece(
    canvas: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    """Return a view of a random piece: no two units are alike, and none is made pixel by pixel."""
    top, left = (int(generator.integers((_CANVAS - 1) * side)) for side in shape[:2])
    return canvas[top : top + shape[0], left : left + shape[1]]


def _write(
    folder: Path, stored: StoredModality, videos: list[list[np.ndarray]], starts: np.ndarray
) -> ShardSet:
    folder.mkdir(parents=True)
    names = tuple(f"class{number:02d}" for number in range(_CLASSES))
    sampling = {"snippets": len(starts)}
    header = ShardHeader(
        dataset="made_up",
        modality=stored,
        sampling=f'{{"snippets": {len(starts)}}}',
        class_names=names,
        videos_per_shard=_PER_SHARD,
        fingerprint="0" * 64,
    )
    entries = []
    for number, first in enumerate(range(0, len(videos), _PER_SHARD)):
        path = folder / shard_name(number)
        with ShardWriter(path, header) as writer:
            for video, images in enumerate(videos[first : first + _PER_SHARD], start=first):
                for place, image in enumerate(images):
                    whole = np.ascontiguousarray(image)
                    writer.add_image(place, place, encode_image(whole, stored.codec, _QUALITY))
                writer.end_video(
                    f"{names[video % _CLASSES]}/{video:04d}.avi",
                    video % _CLASSES,
                    starts=starts.astype(np.int64),
                    num_frames=len(images) + 1,
                    fps=25.0,
                    size=(stored.height or 0, stored.width or 0),
                    unit_size=(stored.height or 0, stored.width or 0),
                    padding=0,
                )
            tables = writer.finish()
        counts = (tables.num_videos, tables.num_images, tables.num_snippets, 0)
        entries.append(ShardEntry(path.name, "0" * 64, path.stat().st_size, *counts))
    write_index(Index("made_up", stored, sampling, names, tuple(entries)), folder)
    return ShardSet(folder)
