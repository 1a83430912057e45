"""The checksummed blocks of an HDF5 file, so that mutations can be signed as HDF5 would.

Without that, nearly every mutation of HDF5's own structures ends at a checksum and never reaches
the code behind it.

Source: HDF5 File Format Specification, version 3.0.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from tsn_core.hdf5_blocks import lookup3

_SIGNATURE = re.compile(rb"\x89HDF\r\n\x1a\n|OHDR|FRHP|FHDB|BTHD|BTLF|FSHD|FSSE")
_HEAP_BLOCK_SIZES = (512, 1024, 2048, 4096)
_RECORD_BYTES = {5: 11, 8: 17}  # by type of the tree: links and attributes


@dataclass(frozen=True)
class Block:
    """A piece of a file with its own checksum.

    Attributes:
        start: First byte.
        stop: Byte behind the last.
        checksum: Where the four bytes of the checksum stand, between the two.
    """

    start: int
    stop: int
    checksum: int


def find_blocks(data: bytes) -> list[Block]:
    """Return the blocks of a sound file, in its order."""
    found = []
    for match in _SIGNATURE.finditer(data):
        block = _block(data, match.start())
        if block is not None:
            found.append(block)
    return found


def _block(data: bytes, start: int) -> Block | None:
    if start + 8 > len(data):
        return None
    signature = data[start : start + 4]
    if signature == b"FHDB":
        return _heap_block(data, start)
    stops = {b"\x89HDF": 48, b"FRHP": 146, b"BTHD": 38, b"FSHD": 82}
    if signature in stops:
        candidates = [start + stops[signature]]
    elif signature == b"OHDR":
        flags = data[start + 5]
        place = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(data[place : place + width], "little")
        candidates = [place + width + size + 4]
    elif signature == b"BTLF":
        step = _RECORD_BYTES.get(data[start + 5], 1)
        candidates = list(range(start + 10, start + 512, step))
    else:
        candidates = list(range(start + 17, start + 64))
    for stop in candidates:
        if stop <= len(data) and _stored(data, stop - 4) == lookup3(data[start : stop - 4]):
            return Block(start, stop, stop - 4)
    return None


def _heap_block(data: bytes, start: int) -> Block | None:
    for size in _HEAP_BLOCK_SIZES:
        for width in range(1, 9):
            place = start + 13 + width
            piece = data[start:place] + bytes(4) + data[place + 4 : start + size]
            if len(piece) == size and _stored(data, place) == lookup3(piece):
                return Block(start, start + size, place)
    return None


def _stored(data: bytes, place: int) -> int:
    return int(struct.unpack_from("<I", data, place)[0])


def sign(data: bytearray, block: Block) -> None:
    """Write the checksum that belongs to the bytes of a block."""
    place = block.checksum
    if place == block.stop - 4:
        piece = bytes(data[block.start : place])
    else:
        piece = bytes(data[block.start : place]) + bytes(4) + bytes(data[place + 4 : block.stop])
    struct.pack_into("<I", data, place, lookup3(piece))
