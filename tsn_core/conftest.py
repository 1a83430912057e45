"""Tiny shards for the examples in docstrings, which open ``shards/gestures``."""

from pathlib import Path

import numpy as np
import pytest

from tsn_core.codec import encode_image
from tsn_core.index import Index, ShardEntry, write_index
from tsn_core.manifest import Manifest, Record, write_manifest
from tsn_core.modality import StoredModality
from tsn_core.quantization import flow_scale_zero
from tsn_core.shard_format import ShardHeader, shard_name
from tsn_core.shard_writer import ShardWriter

_UNITS, _HEIGHT, _WIDTH = 14, 24, 32
_CLASSES, _SUBSETS = ("nod", "wave"), ("train", "train", "test", "test")


@pytest.fixture(scope="session")
def _gestures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with dense flow of four videos in two shards, below ``shards/gestures``."""
    home = tmp_path_factory.mktemp("examples")
    folder = home / "shards" / "gestures" / "flow-farneback"
    folder.mkdir(parents=True)
    scale, zero = flow_scale_zero(bound=20)
    modality = StoredModality(
        *("flow", 5, 2, "raw", None, scale, zero, _HEIGHT, _WIDTH, None, "farneback")
    )
    header = ShardHeader("gestures", modality, '{"dense": true}', _CLASSES, 2, "f" * 64)
    generator = np.random.default_rng(0)
    entries = []
    for number in range(2):
        path = folder / shard_name(number)
        with ShardWriter(path, header) as writer:
            for label, name in enumerate(_CLASSES):
                for unit in range(_UNITS):
                    image = generator.integers(0, 256, (2 * _HEIGHT, _WIDTH), dtype=np.uint8)
                    writer.add_image(unit, unit, encode_image(image, "raw", None))
                writer.end_video(
                    f"{name}/{2 * number + label}.avi",
                    label,
                    starts=np.arange(_UNITS - 4),
                    num_frames=_UNITS + 1,
                    fps=25.0,
                    size=(_HEIGHT, _WIDTH),
                    unit_size=(_HEIGHT, _WIDTH),
                    padding=0,
                )
            tables = writer.finish()
        counts = (tables.num_videos, tables.num_images, tables.num_snippets, 0)
        entries.append(ShardEntry(path.name, "f" * 64, path.stat().st_size, *counts))
    write_index(Index("gestures", modality, {"dense": True}, _CLASSES, tuple(entries)), folder)
    records = [
        Record(f"{_CLASSES[place % 2]}/{place}.avi", place % 2, {1: subset})
        for place, subset in enumerate(_SUBSETS)
    ]
    write_manifest(Manifest("gestures", _CLASSES, tuple(records)), folder.parent / "manifest.jsonl")
    return home


@pytest.fixture(autouse=True)
def _beside_the_gestures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        examples = request.node.dtest.examples
        if any("shards/gestures" in example.source for example in examples):
            monkeypatch.chdir(request.getfixturevalue("_gestures"))
