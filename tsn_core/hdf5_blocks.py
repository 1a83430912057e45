"""The bytes of an HDF5 file: read within its bounds, structures with their checksums.

HDF5's own library crashes on hostile files, so that shards are read without it; see
``docs/decisions/0003-reading-without-hdf5.md``.

Source: HDF5 File Format Specification, version 3.0; https://docs.hdfgroup.org.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from tsn_core.errors import ShardError

SUPERBLOCK = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK_BYTES = 48
_MASK = 0xFFFFFFFF


class StructureError(ShardError):
    """The file is none that this package wrote, or its structure is damaged."""


def lookup3(data: bytes) -> int:
    """Return Jenkins' lookup3 hash of some bytes, with which HDF5 checks its structures.

    Source: Jenkins, lookup3.c, ``hashlittle`` with the initial value 0.

    Examples:
        >>> hex(lookup3(b"Four score and seven years ago"))
        '0x17770551'
    """
    a = b = c = (0xDEADBEEF + len(data)) & _MASK
    if not data:
        return c
    padded = data + bytes(-len(data) % 12)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    for place in range(0, len(words) - 3, 3):
        a = (a + words[place]) & _MASK
        b = (b + words[place + 1]) & _MASK
        c = (c + words[place + 2]) & _MASK
        for turn in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & _MASK) ^ ((c << turn | c >> 32 - turn) & _MASK)
            a, b, c = b, (c + b) & _MASK, a
    a, b, c = (a + words[-3]) & _MASK, (b + words[-2]) & _MASK, (c + words[-1]) & _MASK
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - ((b << turn | b >> 32 - turn) & _MASK)) & _MASK
        a, b, c = b, c, a
    return b


class Cursor:
    """A place in some bytes; nothing behind their end is read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> int:
        """Number of bytes that were not taken yet."""
        return len(self._data) - self._place

    def take(self, size: int) -> bytes:
        """Return the next bytes.

        Raises:
            StructureError: There are fewer.
        """
        if size > self.left:
            raise StructureError("a structure of HDF5 ends too early")
        self._place += size
        return self._data[self._place - size : self._place]

    def number(self, size: int) -> int:
        """Return the next bytes as an unsigned number, the lowest byte first."""
        return int.from_bytes(self.take(size), "little")

    def expect(self, value: int, what: str) -> None:
        """Check the next byte, the version of a structure.

        Raises:
            StructureError: It is another one.
        """
        found = self.number(1)
        if found != value:
            raise StructureError(f"HDF5's {what} of version {value} expected, got {found}")


class Blocks:
    """The file, piece by piece.

    All pieces together may have twice as many bytes as the file, so that a hostile one cannot make
    its reader work or allocate for ever.
    """

    def __init__(self, file: BinaryIO, num_bytes: int) -> None:
        self._file = file
        self.num_bytes = num_bytes
        self._left = 2 * num_bytes + 4096

    def read(self, offset: int, size: int) -> bytes:
        """Return a piece.

        Raises:
            StructureError: It does not lie in the file, or too much was read already.
        """
        if offset + size > self.num_bytes:
            raise StructureError(
                f"bytes {offset} to {offset + size} expected, the file has {self.num_bytes}"
            )
        self._left -= size
        if self._left < 0:
            raise StructureError("its structures hold more than the file")
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise StructureError(f"{size} bytes expected from byte {offset} on, got {len(data)}")
        return data

    def checked(
        self, offset: int, size: int, signature: bytes, checksum: int | None = None
    ) -> Cursor:
        """Return what lies between the signature and the checksum of a structure.

        Args:
            offset: Of the structure in the file.
            size: Of all of it.
            signature: That it begins with.
            checksum: Its place in the structure where it is not the end; it counts as zeros then.

        Raises:
            StructureError: Signature or checksum are others.
        """
        if size < len(signature) + 4:
            raise StructureError("a structure of HDF5 is too small")
        data = self.read(offset, size)
        place = size - 4 if checksum is None else checksum
        stored = int.from_bytes(data[place : place + 4], "little")
        rest = b"" if checksum is None else bytes(4) + data[place + 4 :]
        name = signature[-4:].decode("latin-1").strip() if len(signature) == 4 else "superblock"
        if not data.startswith(signature):
            raise StructureError(f"HDF5's {name} expected at byte {offset}, got something else")
        if lookup3(data[:place] + rest) != stored:
            raise StructureError(f"HDF5's {name} at byte {offset} does not match its checksum")
        return Cursor((data[:place] + rest if rest else data[:place])[len(signature) :])

    def root(self) -> int:
        """Read the superblock and return where the header of the root group lies.

        Raises:
            StructureError: It is not HDF5 1.10's, or the file has lost or won bytes.
        """
        start = self.read(0, min(_SUPERBLOCK_BYTES, self.num_bytes))
        if not start.startswith(SUPERBLOCK):
            raise StructureError("not an HDF5 file")
        if len(start) < _SUPERBLOCK_BYTES:
            raise StructureError(f"{_SUPERBLOCK_BYTES} bytes expected at least, got {len(start)}")
        cursor = self.checked(0, _SUPERBLOCK_BYTES, SUPERBLOCK)
        cursor.expect(3, "superblock")
        if cursor.take(2) != b"\x08\x08":
            raise StructureError("HDF5's addresses of 8 bytes expected")
        cursor.take(1)  # flags that only matter while somebody writes
        base, extension, end, root = (cursor.number(8) for _ in range(4))
        if base or extension != NOWHERE:
            raise StructureError("an HDF5 file without user block and extensions expected")
        if end != self.num_bytes:
            raise StructureError(f"truncated: {end} bytes expected, got {self.num_bytes}")
        return root


NOWHERE = (1 << 64) - 1  # HDF5's undefined address
