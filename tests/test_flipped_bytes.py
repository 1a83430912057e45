"""Every flipped byte of images and tables is found; others are found or change nothing."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import add_video, header_of, stored

from tsn_core.check import folder_defects
from tsn_core.index import Index, shard_entry, write_index
from tsn_core.shard_reader import Shard
from tsn_core.shard_writer import ShardWriter

NUM_FLIPS = 1000
# Where HDF5 keeps the free space of its heaps, and the rest of the nodes of its indices: nobody
# reads that, neither here nor with HDF5's library, unless the file is changed.
UNREAD = 0.15


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A shard of six videos of two sizes and their failures, and its index."""
    folder = tmp_path_factory.mktemp("tiny") / "rgb"
    folder.mkdir()
    modality = stored(
        "rgbdiff",
        snippet_length=2,
        height=None,
        width=None,
        short_side=24,
        codec="jpeg",
        quality=90,
    )
    generator = np.random.default_rng(0)
    header = header_of(modality, videos_per_shard=8)
    path = folder / "shard-00000.h5"
    with ShardWriter(path, header) as writer:
        for number in range(6):
            shape = (8, 24, (32, 42)[number % 2], 3)
            units = generator.integers(0, 256, shape, dtype=np.uint8)
            add_video(
                writer,
                modality,
                units,
                name=f"run/video {number}.avi",
                label=number % 2,
                starts=(0, 1, 5, 6),
                num_frames=90 + number,
            )
        writer.drop_video("walk/é.avi", "decode", "it ends after 3 of 90 frames")
        writer.drop_video("walk/b.avi", "open", "no such file")
        tables = writer.finish()
    entry = shard_entry(path, header, tables)
    sampling = json.loads(header.sampling)
    write_index(Index("tiny", modality, sampling, ("walk", "run"), (entry,)), folder)
    assert folder_defects(folder).lines == []
    return folder


def spans_of(path: Path) -> dict[str, range]:
    """Return where images and tables lie in the file, as HDF5's own library says."""
    spans = {}
    with h5py.File(path, "r") as file:
        for name, table in file.items():
            if table.size:
                start = table.id.get_offset()
                spans[name] = range(start, start + table.size * table.dtype.itemsize)
    return spans


def found_flips(folder: Path, places: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Flip one byte after the other; return which of them were reported, in which shard."""
    path = folder / "shard-00000.h5"
    original = path.read_bytes()
    found = []
    try:
        for place, mask in zip(places.tolist(), masks.tolist()):
            data = bytearray(original)
            data[place] ^= mask
            path.write_bytes(data)
            defects = folder_defects(folder)
            assert defects.folder == ()
            assert set(defects.shards) <= {path}
            found.append(bool(defects.shards))
    finally:
        path.write_bytes(original)
    return np.array(found)


@pytest.mark.slow(reason="a thousand checks of a shard")
def test_every_flipped_byte_of_images_and_tables_is_found(folder):
    spans = spans_of(folder / "shard-00000.h5")
    assert {"images", "image_start", "video_crc32", "video_name", "failed_reason"} <= set(spans)
    generator = np.random.default_rng(1)
    tables = np.concatenate([list(span) for name, span in spans.items() if name != "images"])
    half = NUM_FLIPS // 2
    places = np.concatenate(
        [generator.choice(tables, half), generator.choice(spans["images"], half)]
    )
    masks = generator.integers(1, 256, NUM_FLIPS)
    found = found_flips(folder, places, masks)
    assert found.all(), places[~found]


def images_of(shard: Shard) -> list[bytes]:
    return [shard.read_snippets(video, [0, 3]).tobytes() for video in range(6)]


@pytest.mark.slow(reason="hundreds of checks of a shard")
def test_a_flip_elsewhere_is_found_or_changes_nothing(folder):
    path = folder / "shard-00000.h5"
    covered = {place for span in spans_of(path).values() for place in span}
    others = np.array(sorted(set(range(path.stat().st_size)) - covered))
    generator = np.random.default_rng(2)
    places = generator.choice(others, NUM_FLIPS // 2)
    masks = generator.integers(1, 256, len(places))
    missed = ~found_flips(folder, places, masks)
    assert missed.mean() < UNREAD
    shard = Shard(path)
    images = images_of(shard)
    original = path.read_bytes()
    for place, mask in zip(places[missed].tolist(), masks[missed].tolist()):
        data = bytearray(original)
        data[place] ^= mask
        path.write_bytes(data)
        changed = Shard(path)
        assert changed.header == shard.header
        assert changed.tables.crc32() == shard.tables.crc32()
        assert images_of(changed) == images
    path.write_bytes(original)
