"""Small pictures of videos from the shards that a run was trained on."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.report.files import Remark
from tsn_core.codec import encode_image
from tsn_core.errors import TSNError
from tsn_core.index import INDEX_NAME
from tsn_core.listing import count
from tsn_core.location import location
from tsn_core.shard_set import ShardSet

SIDE = 192  # px of the longer side
_QUALITY = 72


@dataclass(frozen=True)
class Thumbnail:
    """A picture as an HTML page can hold it.

    Attributes:
        source: A ``data:`` URI of a JPEG.
        width: In px.
        height: In px.
        folder: Of the shards that it comes from: ``rgb``, ``flow-tvl1``.
    """

    source: str
    width: int
    height: int
    folder: str


def thumbnails(
    names: Sequence[str], configs: Sequence[dict[str, Any]], remark: Remark
) -> dict[str, Thumbnail]:
    """Return pictures of the middle of videos, by name.

    They come from the rgb shards beside those of the first run that has them, else from the shards
    of the runs' modalities.

    Args:
        names: Of the videos.
        configs: Settings of the runs, which name the shards.
        remark: Told if there are videos without a picture, and why.
    """
    found: dict[str, Thumbnail] = {}
    reasons: list[str] = []
    folders = _folders(configs)
    for folder in folders:
        wanted = [name for name in names if name not in found]
        if not wanted:
            break
        try:
            shards = ShardSet(folder)
            for name in wanted:
                if name in shards:
                    found[name] = _thumbnail(shards, shards.number(name))
        except TSNError as error:
            reasons.append(str(error))
    lacking = len(names) - len(found)
    if lacking:
        held = "the shards do not hold them" if folders else "no run names shards that are there"
        why = reasons[0] if reasons else held
        remark(f"{count(lacking, 'mistake')} without a picture: {why}")
    return found


def _folders(configs: Sequence[dict[str, Any]]) -> list[Path]:
    """Return the folders of shards to look into, each once, those of rgb first."""
    rgb, own = [], []
    for config in configs:
        root, folder = config.get("shards"), config.get("modality_folder")
        if isinstance(root, str) and isinstance(folder, str):
            with suppress(TSNError):  # what cannot be reached is remarked elsewhere
                rgb.append(location(root) / "rgb")
                own.append(location(root) / folder)
    there = [folder for folder in rgb if _is_there(folder / INDEX_NAME)]
    return list(dict.fromkeys([*there, *own]))


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, TSNError):
        return False


def _thumbnail(shards: ShardSet, video: int) -> Thumbnail:
    import cv2

    from tsn_core.picture import unit_picture

    units = shards.read(video, [int(shards.num_snippets[video]) // 2])[0]  # (L, H, W, C)
    picture = unit_picture(units[len(units) // 2], shards.modality)  # (H, W, 3) RGB
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA)
    data = base64.b64encode(encode_image(small, "jpeg", _QUALITY)).decode()
    return Thumbnail(f"data:image/jpeg;base64,{data}", *size, shards.modality.folder)
