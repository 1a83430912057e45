"""Where HDF5 keeps links and attributes that are too many for a header: heaps and their indices.

Only what a file of this package can hold: indices of one node, heaps without filters.

Source: HDF5 File Format Specification 3.0, III.A.2 (version 2 B-trees), III.G (fractal heaps).
"""

from __future__ import annotations

from tsn_core.hdf5_blocks import NOWHERE, Blocks, Cursor, StructureError

_TREE_BYTES, _HEAP_BYTES = 38, 146  # of their headers
_MANAGED, _HUGE = 0, 1  # kinds of objects in a heap
_HUGE_RECORDS = 1  # type of the tree that indexes huge objects


def tree_records(blocks: Blocks, address: int, kind: int) -> list[Cursor]:
    """Return the records of a version 2 B-tree.

    Args:
        blocks: Of the file.
        address: Of the tree's header.
        kind: Type of the records.

    Raises:
        StructureError: It is damaged, of another type, or has more than one node.
    """
    header = blocks.checked(address, _TREE_BYTES, b"BTHD")
    header.expect(0, "index")
    header.expect(kind, "index type")
    header.take(4)  # size of a node
    size, depth = header.number(2), header.number(2)
    header.take(2)
    root, count = header.number(8), header.number(2)
    if depth:
        raise StructureError("too many entries in an index of HDF5")
    if root == NOWHERE or not count:
        return []
    leaf = blocks.checked(root, 6 + count * size + 4, b"BTLF")
    leaf.expect(0, "index")
    leaf.expect(kind, "index type")
    return [Cursor(leaf.take(size)) for _ in range(count)]


class Heap:
    """A fractal heap: objects of any size, found by an identifier."""

    def __init__(self, blocks: Blocks, address: int) -> None:
        """Read the header.

        Raises:
            StructureError: It is damaged, or of a kind that this package does not write.
        """
        self._blocks = blocks
        self._address = address
        header = blocks.checked(address, _HEAP_BYTES, b"FRHP")
        header.expect(0, "heap")
        header.take(2)  # length of an identifier
        if header.number(2):
            raise StructureError("a heap of HDF5 without filters expected")
        self._checks_blocks = bool(header.number(1) & 2)
        header.take(4 + 8)
        self._huge_tree = header.number(8)
        header.take(10 * 8)
        self._width, self._start = header.number(2), header.number(8)
        self._largest = header.number(8)
        bits = header.number(2)
        header.take(2)
        self._root, self._rows = header.number(8), header.number(2)
        self._offset_bytes = (bits + 7) // 8
        if not (self._width and self._start) or self._offset_bytes > 8:
            raise StructureError("a heap of HDF5 has blocks without size")
        self._known: dict[int, bytes] = {}
        self._huge: dict[int, tuple[int, int]] | None = None

    def object(self, identifier: bytes) -> bytes:
        """Return an object.

        Raises:
            StructureError: There is none of that identifier, or it is damaged.
        """
        cursor = Cursor(identifier)
        kind = cursor.number(1) >> 4
        if kind == _HUGE:
            return self._huge_object(cursor.number(cursor.left))
        if kind != _MANAGED:
            raise StructureError("an object of HDF5's heap has an unknown kind")
        offset = cursor.number(self._offset_bytes)
        size = cursor.number(cursor.left)
        block, inside = self._block_at(offset)
        if not size or inside + size > len(block):
            raise StructureError("an object of HDF5's heap leaves its block")
        return block[inside : inside + size]

    def _huge_object(self, number: int) -> bytes:
        if self._huge is None:
            self._huge = {}
            if self._huge_tree != NOWHERE:
                for record in tree_records(self._blocks, self._huge_tree, _HUGE_RECORDS):
                    place, size, key = (record.number(8) for _ in range(3))
                    self._huge[key] = place, size
        if number not in self._huge:
            raise StructureError("a huge object of HDF5's heap is missing")
        return self._blocks.read(*self._huge[number])

    def _block_at(self, offset: int) -> tuple[bytes, int]:
        """Return the direct block that holds a place in the heap, and the place within it.

        Blocks stand in rows of ``width``; those of the first two rows have the starting size, those
        of every further row twice the size of the row before.
        """
        if not self._rows:
            return self._block(self._root, self._start, 0), offset
        row = (offset // (self._width * self._start)).bit_length()
        size = self._start << max(row - 1, 0)
        if row >= self._rows or size > self._largest:
            raise StructureError("a heap of HDF5 is larger than expected")
        first = self._width * size if row else 0
        column = (offset - first) // size
        length = 4 + 9 + self._offset_bytes + 8 * self._width * self._rows + 4
        if self._root not in self._known:
            cursor = self._blocks.checked(self._root, length, b"FHIB")
            self._known[self._root] = cursor.take(cursor.left)
        table = self._known[self._root]
        place = 9 + self._offset_bytes + 8 * (row * self._width + column)
        address = int.from_bytes(table[place : place + 8], "little")
        begin = first + column * size
        return self._block(address, size, begin), offset - begin

    def _block(self, address: int, size: int, begin: int) -> bytes:
        """Return a direct block, whose first byte is at ``begin`` in the heap."""
        if address not in self._known:
            place = 4 + 9 + self._offset_bytes
            if self._checks_blocks:
                cursor = self._blocks.checked(address, size, b"FHDB", checksum=place)
            else:
                raise StructureError("a heap of HDF5 with checksums expected")
            cursor.expect(0, "heap block")
            if cursor.number(8) != self._address or cursor.number(self._offset_bytes) != begin:
                raise StructureError("a block of HDF5's heap belongs elsewhere")
            self._known[address] = bytes(4 + 9 + self._offset_bytes) + cursor.take(cursor.left)
        return self._known[address]
