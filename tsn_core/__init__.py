"""The ground floor: words, formulas, shard format and model shared by both programs.

For other projects that want the shards::

    from tsn_core import open_shards

    for video in open_shards("shards/hmdb51/rgb").subset(split=1, subset="train"):
        snippets = video.snippets([0, 12, 24])  # (3, L, H, W, C) uint8

Everything named in ``__all__`` keeps its name and meaning; ``docs/reuse.md`` shows it at work. It
is imported when it is first asked for: torch only with the datasets.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tsn_core.version import __version__

if TYPE_CHECKING:
    from tsn_core.array_batches import ArrayBatches
    from tsn_core.errors import InputError, ShardError, StoreError, TSNError, UnknownVideoError
    from tsn_core.shards import Shards, open_shards
    from tsn_core.stored_video import Video
    from tsn_core.torch_dataset import IterableVideoDataset, VideoDataset

_HOMES = {
    "ArrayBatches": "array_batches",
    "InputError": "errors",
    "IterableVideoDataset": "torch_dataset",
    "ShardError": "errors",
    "Shards": "shards",
    "StoreError": "errors",
    "TSNError": "errors",
    "UnknownVideoError": "errors",
    "Video": "stored_video",
    "VideoDataset": "torch_dataset",
    "open_shards": "shards",
}

__all__ = [
    "ArrayBatches",
    "InputError",
    "IterableVideoDataset",
    "ShardError",
    "Shards",
    "StoreError",
    "TSNError",
    "UnknownVideoError",
    "Video",
    "VideoDataset",
    "__version__",
    "open_shards",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
