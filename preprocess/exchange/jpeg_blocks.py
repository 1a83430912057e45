"""Cutting one gray JPEG into images that lay below each other, and joining such images, exactly.

A baseline JPEG codes blocks of 8x8 pixels, row by row. Only the mean of a block, its DC
coefficient, leans on the block before. So where each part is a multiple of 8 pixels high, its
blocks are cut out, or put in, bit by bit, and only the DC of the first one is written anew. No
coefficient changes: the pixels are those of the original, and the bytes are those that the same
encoder had written for the part alone.

Source: ITU-T T.81, annexes B, C and F.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.numba_cache import numba_cache
from tsn_core.errors import InputError

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _HUFFMAN, _SCAN, _RESTART = 0xC0, 0xC4, 0xDA, 0xDD
_BLOCK = 8


@functools.cache
def _walker() -> Callable[..., np.ndarray]:
    """Return the compiled ``walk``, from this machine's cache of compiled code."""
    with numba_cache([Path(__file__).with_name("jpeg_scan.py")], "the cutting of JPEGs"):
        from preprocess.exchange.jpeg_scan import walk
    return walk


class NotSplittableError(InputError):
    """A JPEG that cannot be cut or joined without decoding it."""


@dataclass(frozen=True)
class _Jpeg:
    """A gray baseline JPEG, taken apart.

    Attributes:
        head: Everything before the coded blocks.
        size_at: Where in ``head`` the height stands.
        height: In pixels.
        width: In pixels.
        tables: (DC, AC): (bits, symbols) of the Huffman codes.
        settings: What must be equal for blocks to be joined: tables of all kinds.
        data: The coded blocks without stuffed bytes, (n,) uint8.
    """

    head: bytes
    size_at: int
    height: int
    width: int
    tables: tuple[bytes, bytes]
    settings: tuple[bytes, ...]
    data: np.ndarray

    @property
    def blocks_across(self) -> int:
        return -(-self.width // _BLOCK)

    @property
    def num_blocks(self) -> int:
        return self.blocks_across * -(-self.height // _BLOCK)

    def walk(self, stops: Sequence[int]) -> np.ndarray:
        """Return what ``jpeg_scan.walk`` finds.

        Raises:
            NotSplittableError: The scan is damaged.
        """
        places = np.asarray(stops, np.int64)
        dc, ac = (_lookup(table) for table in self.tables)
        found = _walker()(self.data, self.num_blocks, dc, ac, places)
        if found[0, 0] < 0:
            raise NotSplittableError("the JPEG is damaged or cut short")
        return found

    def with_blocks(self, height: int, bits: np.ndarray) -> bytes:
        """Return a JPEG of another height, made of other coded blocks."""
        head = bytearray(self.head)
        struct.pack_into(">H", head, self.size_at, height)
        filled = np.concatenate([bits, np.ones(-bits.size % 8, np.uint8)])  # T.81, F.1.2.3
        return bytes(head) + np.packbits(filled).tobytes().replace(b"\xff", b"\xff\x00") + _END


def split_jpeg(data: bytes, parts: int) -> list[bytes]:
    """Cut a gray JPEG into parts of equal height.

    Args:
        data: The JPEG, of (parts * H, W) pixels.
        parts: How many; H must be a multiple of 8 unless it is one.

    Returns:
        JPEGs of (H, W) pixels, from the top down, with the coefficients of the original.

    Raises:
        NotSplittableError: It is no gray baseline JPEG, or of another height, or damaged.
    """
    jpeg = _parse(data)
    height = jpeg.height // parts
    if height * parts != jpeg.height or height % _BLOCK:
        raise NotSplittableError(
            f"{parts} parts of a multiple of {_BLOCK} rows expected, got {jpeg.height} rows"
        )
    stops = [part * (jpeg.num_blocks // parts) for part in range(parts)]
    found = jpeg.walk(stops)
    bits = np.unpackbits(jpeg.data)
    pieces = []
    for part in range(parts):
        _, behind_dc, value = found[part].tolist()
        end = int(found[part + 1, 0])
        coded = [_coded_dc(jpeg, value), bits[behind_dc:end]]
        pieces.append(jpeg.with_blocks(height, np.concatenate(coded)))
    return pieces


def join_jpegs(parts: Sequence[bytes]) -> bytes:
    """Join gray JPEGs of the same size and tables into one, each below the one before.

    Args:
        parts: JPEGs of (H, W) pixels; H must be a multiple of 8.

    Returns:
        A JPEG of (parts * H, W) pixels with the coefficients of the originals.

    Raises:
        NotSplittableError: One is no gray baseline JPEG, or damaged, or they differ in size or
            tables.
    """
    jpegs = [_parse(part) for part in parts]
    first = jpegs[0]
    if first.height % _BLOCK:
        raise NotSplittableError(f"a multiple of {_BLOCK} rows expected, got {first.height} rows")
    coded, before = [], 0
    for jpeg in jpegs:
        if (jpeg.height, jpeg.width) != (first.height, first.width):
            raise NotSplittableError("the JPEGs differ in size")
        if jpeg.settings != first.settings:
            raise NotSplittableError("the JPEGs differ in their tables")
        start, end = jpeg.walk([0]).tolist()
        coded.append(_coded_dc(jpeg, start[2] - before))
        coded.append(np.unpackbits(jpeg.data)[start[1] : end[0]])
        before = end[2]
    return first.with_blocks(len(jpegs) * first.height, np.concatenate(coded))


def _parse(data: bytes) -> _Jpeg:
    """Take a JPEG apart."""
    if not data.startswith(_START):
        raise NotSplittableError("no JPEG")
    place, size_at, size = 2, 0, (0, 0)
    huffman: dict[int, bytes] = {}
    settings: list[bytes] = []
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        body = data[place + 4 : place + 2 + length]
        if marker == _BASELINE:
            if len(body) != 9 or body[0] != 8 or body[5] != 1:
                raise NotSplittableError("no gray JPEG")
            size_at, size = place + 5, struct.unpack_from(">HH", body, 1)
        elif 0xC1 <= marker <= 0xCF and marker != _HUFFMAN:
            raise NotSplittableError("no baseline JPEG")
        elif marker == _RESTART and any(body):
            raise NotSplittableError("a JPEG with restart markers")
        elif marker == _HUFFMAN:
            huffman.update(_huffman_tables(body))
        if marker in (_BASELINE, _SCAN):
            settings.append(body[5:] if marker == _BASELINE else body)
        elif not 0xE0 <= marker <= 0xEF and marker not in (_HUFFMAN, 0xFE):
            settings.append(body)
        place += 2 + length
        if marker != _SCAN:
            continue
        if not all(size) or len(body) != 6 or body[0] != 1:
            raise NotSplittableError("no gray JPEG")
        tables = huffman.get(body[2] >> 4), huffman.get(16 | (body[2] & 15))
        end = data.rfind(_END)
        if tables[0] is None or tables[1] is None or end < place:
            raise NotSplittableError("the JPEG is damaged or cut short")
        coded = data[place:end].replace(b"\xff\x00", b"\xff")
        found = (tables[0], tables[1])
        return _Jpeg(
            head=data[:place],
            size_at=size_at,
            height=size[0],
            width=size[1],
            tables=found,
            settings=(*settings, *found),
            data=np.frombuffer(coded, np.uint8),
        )
    raise NotSplittableError("the JPEG is damaged or cut short")


def _huffman_tables(body: bytes) -> dict[int, bytes]:
    """Return (16 counts, symbols) by class and number of the tables in a DHT segment."""
    found, place = {}, 0
    while place + 17 <= len(body):
        length = 17 + sum(body[place + 1 : place + 17])
        found[body[place]] = body[place + 1 : place + length]
        place += length
    return found


@functools.lru_cache(maxsize=64)
def _codes(table: bytes) -> dict[int, tuple[int, int]]:
    """Return (code, bits) by symbol; T.81, annex C."""
    codes: dict[int, tuple[int, int]] = {}
    code, place = 0, 16
    for length in range(1, 17):
        for symbol in table[place : place + table[length - 1]]:
            if code >= 1 << length:
                raise NotSplittableError("the JPEG is damaged: its Huffman table is none")
            codes[symbol] = code, length
            code += 1
        place += table[length - 1]
        code <<= 1
    return codes


@functools.lru_cache(maxsize=64)
def _lookup(table: bytes) -> np.ndarray:
    """Return ``length << 8 | symbol`` by the next 16 bits, 0 where no code begins so."""
    found = np.zeros(1 << 16, np.int64)
    for symbol, (code, length) in _codes(table).items():
        first = code << (16 - length)
        found[first : first + (1 << (16 - length))] = length << 8 | symbol
    return found


def _coded_dc(jpeg: _Jpeg, difference: int) -> np.ndarray:
    """Return the bits of a DC difference."""
    size = abs(difference).bit_length()
    code = _codes(jpeg.tables[0]).get(size)
    if code is None:
        raise NotSplittableError("the JPEG's Huffman table lacks a code")
    value = difference if difference >= 0 else difference + (1 << size) - 1
    text = f"{code[0]:0{code[1]}b}" + (f"{value:0{size}b}" if size else "")
    return np.frombuffer(text.encode(), np.uint8) - ord("0")
