"""What stands in the headers of HDF5's objects: types, shapes, places, links and attributes.

Source: HDF5 File Format Specification 3.0, IV.A (data object headers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tsn_core.hdf5_blocks import Blocks, Cursor, StructureError

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT = 1, 2, 3, 6, 7, 8
ATTRIBUTE, CONTINUATION, ATTRIBUTE_INFO = 12, 16, 21
_SHARED = 2  # flag of a message that stands elsewhere
_CONTIGUOUS = 1
_MOST_PIECES = 64  # of one header
# Bit offset, precision, exponent and mantissa of the floating-point types of IEEE 754.
_FLOATS = {
    bytes.fromhex("00001000 0a05000a 0f000000"): "<f2",
    bytes.fromhex("00002000 17080017 7f000000"): "<f4",
    bytes.fromhex("00004000 340b0034 ff030000"): "<f8",
}


def read_messages(blocks: Blocks, address: int) -> list[tuple[int, Cursor]]:
    """Return (type, content) of every message in an object's header.

    Raises:
        StructureError: It is damaged, or shares messages with others.
    """
    start = Cursor(blocks.read(address, min(34, max(blocks.num_bytes - address, 0))))
    if start.take(4) != b"OHDR":
        raise StructureError(f"HDF5's OHDR expected at byte {address}, got something else")
    start.expect(2, "header")
    flags = start.number(1)
    before = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    start.take(before - 6)
    width = 1 << (flags & 3)
    size = start.number(width)
    piece = blocks.checked(address, before + width + size + 4, b"OHDR")
    piece.take(before + width - 4)
    pieces = [piece]
    found = []
    head = 6 if flags & 4 else 4
    for piece in pieces:  # which grow while they are read
        while piece.left >= head:
            kind, length, shared = piece.number(1), piece.number(2), piece.number(1) & _SHARED
            piece.take(head - 4)
            content = Cursor(piece.take(length))
            if shared:
                raise StructureError("an object of HDF5 shares parts of its header")
            if kind != CONTINUATION:
                found.append((kind, content))
                continue
            if len(pieces) == _MOST_PIECES:
                raise StructureError("a header of HDF5 has too many pieces")
            pieces.append(blocks.checked(content.number(8), content.number(8), b"OCHK"))
    return found


def read_dtype(cursor: Cursor) -> np.dtype | None:
    """Return the type in a datatype message; None for one that no file of this package holds."""
    first = cursor.number(1)
    bits, size = cursor.number(3), cursor.number(4)
    kind = first & 15
    if kind == 3 and 0 < size < 1 << 31:  # texts of one length
        return np.dtype(f"S{size}")
    if kind == 0 and size in (1, 2, 4, 8) and cursor.take(4) == bytes([0, 0, 8 * size, 0]):
        return np.dtype(f"{'>' if bits & 1 else '<'}{'i' if bits & 8 else 'u'}{size}")
    if kind == 1 and not bits & 0x41:
        return np.dtype(_FLOATS[text]) if (text := cursor.take(12)) in _FLOATS else None
    return None


def read_shape(cursor: Cursor) -> tuple[int, ...] | None:
    """Return the shape in a dataspace message, () for a single value; None for nothing at all."""
    cursor.expect(2, "dataspace")
    rank = cursor.number(1)
    cursor.take(1)
    kind = cursor.number(1)
    if kind > 1:
        return None
    return tuple(cursor.number(8) for _ in range(rank))


def read_link(cursor: Cursor) -> tuple[str, int | None]:
    """Return a link's name and where it leads; None for one that is not to this very file."""
    cursor.expect(1, "link")
    flags = cursor.number(1)
    kind = cursor.number(1) if flags & 8 else 0
    cursor.take((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = cursor.take(cursor.number(1 << (flags & 3))).decode("utf-8", "replace")
    return name, None if kind else cursor.number(8)


@dataclass(frozen=True)
class Attribute:
    """An attribute as it is stored.

    Attributes:
        name: Of the attribute.
        dtype: Of its values; None if it is none that this package writes.
        shape: () for a single value; None for nothing at all.
        data: Its bytes, perhaps too few or too many.
    """

    name: str
    dtype: np.dtype | None
    shape: tuple[int, ...] | None
    data: bytes


def read_attribute(cursor: Cursor) -> Attribute:
    """Return what stands in an attribute message."""
    cursor.expect(3, "attribute")
    if cursor.number(1):
        raise StructureError("an attribute of HDF5 shares its type")
    sizes = [cursor.number(2) for _ in range(3)]
    cursor.take(1)
    name, dtype, shape = (cursor.take(size) for size in sizes)
    return Attribute(
        name.rstrip(b"\0").decode("utf-8", "replace"),
        read_dtype(Cursor(dtype)),
        read_shape(Cursor(shape)),
        cursor.take(cursor.left),
    )


def read_place(cursor: Cursor) -> tuple[int, int] | None:
    """Return (address, bytes) of contiguous storage; None for any other layout."""
    version, kind = cursor.number(1), cursor.number(1)
    if version not in (3, 4) or kind != _CONTIGUOUS:
        return None
    return cursor.number(8), cursor.number(8)


def num_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Return the size of an array, as a Python number that cannot overflow."""
    return math.prod(shape) * dtype.itemsize
