"""Hostile shards, made from a sound one.

Three ways: bytes of HDF5's own structures with their checksums made right again, values in the
tables and attributes through h5py, and datasets replaced by what readers must refuse.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from fuzz.hdf5_blocks import find_blocks, sign
from fuzz.text_mutations import mutate_json
from tsn_core.catalog import crc32_of
from tsn_core.shard_format import STRING_TABLES, TABLE_DTYPES

_EXTREME = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 1 << 15, (1 << 16) - 1, 1 << 20, (1 << 31) - 1)
_HUGE = (1 << 31, (1 << 32) - 1, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
_TEXTS = ("", "x", "\0", "é" * 300, "../../etc/passwd", "a\nb", "NaN", "[" * 5000, "tsn-shard")

_NOT_WRITTEN = (  # by HDF5, or the change before took it away
    ValueError, TypeError, OSError, KeyError, RuntimeError, OverflowError, AttributeError,
)  # fmt: skip

_blocks_of = lru_cache(maxsize=8)(find_blocks)


def mutate_shard(data: bytes, random: Random, *, sound: bool) -> bytes:
    """Return a hostile variant of the bytes of a shard.

    Args:
        data: Of the shard.
        random: Decides.
        sound: Whether it is one; h5py must not be given any other.
    """
    out = bytearray(_edited(data, random) if sound and random.random() < 0.5 else data)
    if not out:
        return b"\x89HDF"
    blocks = list(_blocks_of(bytes(out)))
    if blocks and random.random() < 0.6:
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            _change_block(out, random, blocks)
    if random.random() < 0.15:
        for _ in range(random.choice((1, 2, 8))):
            out[random.randrange(len(out))] ^= random.randrange(1, 256)
    if random.random() < 0.05:
        del out[random.randrange(len(out)) :]
    return bytes(out)


def mutate_catalog(data: bytes, random: Random, *, sound: bool) -> bytes:
    """Return a hostile variant of a catalogue, as ``mutate_shard`` does of a shard."""
    if sound and random.random() < 0.5:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "catalog.hdf5"
            path.write_bytes(data)
            with h5py.File(path, "r+", libver=("v110", "v110")) as file:
                for _ in range(random.choice((1, 1, 2, 3))):
                    with suppress(*_NOT_WRITTEN):
                        _change_column(file, random)
                if random.random() < 0.9 and all(file[name].size < 10**6 for name in file):
                    columns = {name: file[name][...] for name in file}
                    file.attrs["column_crc32"] = np.uint32(crc32_of(columns))
            data = path.read_bytes()
    return mutate_shard(data, random, sound=False)


def _change_column(file: h5py.File, random: Random) -> None:
    name = random.choice([name for name in file if file[name].size < 10**6])
    column = file[name][...]
    way = random.randrange(4)
    if way == 0:
        values = column.view(np.uint8)
        values[random.randrange(len(values))] = random.randrange(256)
        file[name][...] = column
    elif way == 1:
        file[name][...] = column[::-1]
    elif way == 2:
        _replace(file, name, data=column[: random.randrange(len(column))])
    else:
        _replace(file, name, shape=random.choice(((0,), (10**12,), (2, 2), ())), dtype=column.dtype)


def _change_block(data: bytearray, random: Random, blocks: list[Any]) -> None:
    """Change bytes of one of HDF5's structures and make its checksum right again."""
    block = random.choice(blocks)
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(block.start, block.stop)
        width = random.choice((1, 1, 2, 4, 8))
        if place + width > block.stop:
            continue
        way = random.randrange(4)
        if way == 0:
            data[place] ^= 1 << random.randrange(8)
        elif way == 1:
            value = random.choice(_EXTREME + _HUGE) & ((1 << 8 * width) - 1)
            data[place : place + width] = value.to_bytes(width, "little")
        elif way == 2:  # an address or a size of something that is there
            other = random.choice(blocks).start
            data[place : place + 8] = struct.pack("<Q", other)[: len(data[place : place + 8])]
        else:
            old = int.from_bytes(data[place : place + width], "little")
            value = (old + random.choice((-1, 1, 4, 255))) & ((1 << 8 * width) - 1)
            data[place : place + width] = value.to_bytes(width, "little")
    sign(data, block)


def _edited(sound: bytes, random: Random) -> bytes:
    """Return the bytes after one to three changes through h5py."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.h5"
        path.write_bytes(sound)
        libver = random.choice((("v110", "v110"),) * 3 + (None, "latest"))
        with h5py.File(path, "r+", libver=libver) as file:
            for _ in range(random.choice((1, 1, 2, 3))):
                with suppress(*_NOT_WRITTEN):
                    random.choice(_EDITS)(file, random)
        return path.read_bytes()


def _table_value(file: h5py.File, random: Random) -> None:
    name = random.choice(list(TABLE_DTYPES))
    table = file[name][...]
    if not table.size:
        return
    if table.dtype.kind == "f":
        value: Any = random.choice((np.nan, np.inf, -1.0, 0.0, 1e300))
    else:
        bounds = np.iinfo(table.dtype)
        value = random.choice((-1, *_EXTREME, *_HUGE, -(1 << 31), -(1 << 63), bounds.max))
        value = min(max(value, bounds.min), bounds.max)
    table.reshape(-1)[random.randrange(table.size)] = value
    file[name][...] = table


def _table_order(file: h5py.File, random: Random) -> None:
    name = random.choice(list(TABLE_DTYPES))
    file[name][...] = file[name][...][::-1]


def _replace(file: h5py.File, name: str, **options: Any) -> None:
    del file[name]
    file.create_dataset(name, **options)


def _shape(file: h5py.File, random: Random) -> None:
    """Make a table of an absurd shape; nothing of it is stored."""
    name = random.choice((*TABLE_DTYPES, "images"))
    shapes = (
        (), (0,), (1,), (10**6,), (10**12,), (2**62,), (2**32, 2**32), (2**33, 2**31),
        (0, 2**40), (2**16, 2**16, 2**16, 2**16), (1,) * 32, (2, 2), (2, 0),
    )  # fmt: skip
    _replace(file, name, shape=random.choice(shapes), dtype=file[name].dtype)


def _dtype(file: h5py.File, random: Random) -> None:
    name = random.choice((*TABLE_DTYPES, *STRING_TABLES, "images"))
    dtypes = (
        np.dtype(">i8"), np.dtype("f2"), np.dtype("S1"), np.dtype("S65536"), h5py.string_dtype(),
        h5py.vlen_dtype(np.int32), h5py.ref_dtype, np.dtype([("a", "i4"), ("b", "S3")]),
        np.dtype(("i8", (64, 64))), h5py.enum_dtype({"A": 1}), np.dtype("V8"), np.dtype(bool),
        h5py.string_dtype("utf-8", 1 << 20), np.dtype("c16"),
    )  # fmt: skip
    _replace(file, name, shape=file[name].shape, dtype=random.choice(dtypes))


def _storage(file: h5py.File, random: Random) -> None:
    """Store a table where or how it must not be: in pieces, packed, elsewhere."""
    name = random.choice((*TABLE_DTYPES, "images"))
    table = file[name]
    way = random.randrange(6)
    if way == 0:  # packed a thousandfold
        _replace(
            file, name, data=np.zeros(1 << 18, table.dtype), chunks=(1 << 18,), compression="gzip"
        )
    elif way == 1:
        _replace(file, name, data=table[...], chunks=True, maxshape=(None,) * table.ndim)
    elif way == 2:
        external = [(random.choice(("/etc/passwd", "/dev/zero", "/dev/stdin")), 0, 1 << 20)]
        _replace(file, name, shape=(1 << 10,), dtype=table.dtype, external=external)
    elif way == 3:
        layout = h5py.VirtualLayout((1 << 20,), table.dtype)
        layout[:8] = h5py.VirtualSource(random.choice((".", "/dev/zero")), name, (8,))
        del file[name]
        file.create_virtual_dataset(name, layout)
    elif way == 4:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        shape, kind = table.shape, h5py.h5t.py_create(table.dtype)
        del file[name]
        h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), plist)
    else:
        _replace(file, name, shape=table.shape, dtype=table.dtype, fillvalue=table.dtype.type(77))


def _link(file: h5py.File, random: Random) -> None:
    name = random.choice((*TABLE_DTYPES, *STRING_TABLES, "images"))
    del file[name]
    way = random.randrange(5)
    if way == 0:
        file[name] = h5py.ExternalLink("/dev/zero", name)
    elif way == 1:
        file[name] = h5py.SoftLink(f"/{name}")
    elif way == 2:
        file[name] = file["/"]
    elif way == 3:
        file[name] = np.dtype("i4")
    else:
        file[name] = file[random.choice(list(TABLE_DTYPES))] if len(file) else 0


def _texts(file: h5py.File, random: Random) -> None:
    name = random.choice(STRING_TABLES)
    length = random.choice((1, 2, 64))
    count = random.choice((0, len(file[name]), 3, 500))
    texts = [random.choice(_TEXTS).encode() or b"\xff\xfe" for _ in range(count)]
    if random.random() < 0.3:
        texts = [b"\xed\xa0\x80\xff"] * count
    kind = h5py.string_dtype(random.choice(("utf-8", "ascii")), length)
    _replace(file, name, data=np.array(texts, dtype=f"S{length}"), dtype=kind)


def _attribute(file: h5py.File, random: Random) -> None:
    name = random.choice([*file.attrs, "new"])
    way = random.randrange(8)
    if way == 0 and name in file.attrs:
        del file.attrs[name]
    elif way == 1:
        file.attrs[name] = random.choice((np.int64(-1), np.uint64(2**64 - 1), np.float64(np.nan)))
    elif way == 2:
        file.attrs[name] = np.array([random.choice(_TEXTS).encode()[:60]] * 5, dtype="S60")
    elif way == 3:
        file.attrs[name] = random.choice(_TEXTS)  # of varying length
    elif way == 4:
        file.attrs[name] = h5py.Empty(random.choice(("S1", "i8", "f4")))
    elif way == 5:
        file.attrs.create(name, np.zeros(random.choice((0, 2, 20_000)), "S3"))
    elif way == 6:
        file.attrs[name] = np.bytes_(random.choice(_TEXTS).encode() or b"\xff\xff")
    else:
        file.attrs[name] = np.array([(1, b"x")], dtype=[("a", "i4"), ("b", "S3")])


def _modality(file: h5py.File, random: Random) -> None:
    """Change the JSON text that says how units are stored."""
    text = mutate_json(bytes(file.attrs["modality"]), random)
    file.attrs["modality"] = np.bytes_(text or b" ")


def _jpeg(file: h5py.File, random: Random) -> None:
    """Let the header of an image claim another size, with a unit size to match."""
    images = bytearray(file["images"][...].tobytes())
    frame = images.find(b"\xff\xc0")
    if frame < 0:
        return
    size = random.choice((0, 1, 1000, 8192, 32767, 65500, 65535))
    struct.pack_into(">HH", images, frame + 5, size, random.choice((size, 1, 16)))
    file["images"][...] = np.frombuffer(bytes(images), np.uint8)
    if random.random() < 0.7:
        file["video_unit_size"][0] = (max(size, 1), max(size, 1))


def _unit_size(file: h5py.File, random: Random) -> None:
    file["video_unit_size"][...] = random.choice((65536, 65500, 30000, 1))


def _image_bytes(file: h5py.File, random: Random) -> None:
    """Put other kinds of pictures, or noise, where the images lie."""
    starts = (
        b"\x89PNG\r\n\x1a\n",
        b"II*\0",
        b"BM",
        b"RIFF\0\0\0\0WEBP",
        b"GIF89a",
        b"P6 9999 9999 255\n",
    )
    noise = random.choice(starts) + random.randbytes(64)
    file["images"][: len(noise)] = np.frombuffer(noise, np.uint8)


_EDITS: tuple[Callable[[h5py.File, Random], None], ...] = (
    _table_value, _table_value, _table_order, _shape, _dtype, _storage, _link, _texts, _attribute,
    _attribute, _modality, _jpeg, _unit_size, _image_bytes,
)  # fmt: skip
