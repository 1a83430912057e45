"""Reading the HDF5 files of this package, in memory-safe code and without trusting them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from tsn_core.errors import ShardError
from tsn_core.hdf5_blocks import NOWHERE, Blocks, Cursor, StructureError
from tsn_core.hdf5_heap import Heap, tree_records
from tsn_core.hdf5_messages import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    LAYOUT,
    LINK,
    LINK_INFO,
    Attribute,
    num_bytes,
    read_attribute,
    read_dtype,
    read_link,
    read_messages,
    read_place,
    read_shape,
)

_LINK_RECORDS, _ATTRIBUTE_RECORDS = 5, 8  # types of the trees that index them
_MOST_RANK = 4
_MOST_TEXTS = 1 << 20  # in one table: each costs its reader tens of bytes


@dataclass(frozen=True)
class Stored:
    """Where and as what a dataset lies in the file.

    Attributes:
        dtype: Of its values; None if it is none that this package writes.
        shape: As in NumPy.
        offset: First byte.
    """

    dtype: np.dtype | None
    shape: tuple[int, ...]
    offset: int

    @property
    def dtype_name(self) -> str:
        """The type, as messages call it."""
        return "another type" if self.dtype is None else self.dtype.name


class Hdf5Reader:
    """A file that ``written_hdf5`` wrote, or one that is as plain.

    Attributes:
        attributes: Of the root group: ``str`` or a tuple of ``bytes`` for texts, Python numbers,
            or arrays. Others than those are left out.
    """

    def __init__(self, file: BinaryIO, num_bytes: int) -> None:
        """Read the root group.

        Each dataset can be read once, or twice where it is small; see ``Blocks``.

        Args:
            file: Open for reading; it must stay open.
            num_bytes: Its size.

        Raises:
            StructureError: It is damaged, or no such file.
        """
        self._blocks = Blocks(file, num_bytes)
        messages = read_messages(self._blocks, self._blocks.root())
        self.attributes: dict[str, Any] = {}
        for attribute in self._attributes(messages):
            value = _value(attribute)
            if value is not None:
                self.attributes[attribute.name] = value
        self._stored: dict[str, Stored] = {}
        self._links = dict(self._read_links(messages))

    def stored(self, name: str) -> Stored:
        """Return what a dataset is and where it lies.

        Raises:
            StructureError: The file is damaged.
            ShardError: There is no such dataset, or it does not lie in this very file in one piece.
        """
        if name not in self._stored:
            self._stored[name] = self._locate(name)
        return self._stored[name]

    def _locate(self, name: str) -> Stored:
        address = self._links.get(name)
        if address is None:
            raise ShardError(f"{name}: a dataset in the file expected, got none or a link")
        messages = dict(read_messages(self._blocks, address))
        if LAYOUT not in messages or DATATYPE not in messages or DATASPACE not in messages:
            raise ShardError(f"{name}: a dataset expected, got a group")
        place = read_place(messages[LAYOUT])
        if place is None or EXTERNAL in messages:
            raise ShardError(f"{name}: contiguous storage in the file expected")
        dtype, shape = read_dtype(messages[DATATYPE]), read_shape(messages[DATASPACE])
        if shape is None or len(shape) > _MOST_RANK:
            raise ShardError(f"{name}: an array of at most {_MOST_RANK} dimensions expected")
        if dtype is None:
            return Stored(None, shape, 0)
        offset, size = place
        expected = num_bytes(dtype, shape)
        if expected > self._blocks.num_bytes:
            raise ShardError(f"{name}: larger than the file")
        if not expected:
            return Stored(dtype, shape, 0)
        if offset == NOWHERE:
            raise ShardError(f"{name}: contiguous storage in the file expected")
        if size != expected or offset + size > self._blocks.num_bytes:
            raise StructureError(f"{name}: {expected} bytes expected in the file")
        return Stored(dtype, shape, offset)

    def array(self, name: str, dtype: np.dtype) -> np.ndarray:
        """Return a dataset.

        Raises:
            StructureError: The file is damaged.
            ShardError: It is not there, lies elsewhere, or is of another type.
        """
        stored = self.stored(name)
        if stored.dtype != dtype:
            raise ShardError(f"{name}: {dtype.name} expected, got {stored.dtype_name}")
        data = self._blocks.read(stored.offset, num_bytes(dtype, stored.shape))
        return np.frombuffer(bytearray(data), dtype).reshape(stored.shape)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a dataset of texts.

        Raises:
            StructureError: The file is damaged.
            ShardError: It is not there, lies elsewhere, or does not hold texts of one length.
        """
        stored = self.stored(name)
        if stored.dtype is None or stored.dtype.kind != "S":
            raise ShardError(f"{name}: strings of one length expected")
        if len(stored.shape) != 1 or stored.shape[0] > _MOST_TEXTS:
            raise ShardError(f"{name}: a list of at most {_MOST_TEXTS} texts expected")
        data = self._blocks.read(stored.offset, num_bytes(stored.dtype, stored.shape))
        return decoded(name, np.frombuffer(data, stored.dtype).tolist())

    def _attributes(self, messages: list[tuple[int, Cursor]]) -> list[Attribute]:
        found = []
        for kind, content in messages:
            if kind == ATTRIBUTE:
                found.append(read_attribute(content))
            elif kind == ATTRIBUTE_INFO:
                content.expect(0, "attribute index")
                content.take(2 if content.number(1) & 1 else 0)
                heap, tree = content.number(8), content.number(8)
                objects = self._objects(heap, tree, _ATTRIBUTE_RECORDS, 0, 8)
                found.extend(map(read_attribute, objects))
        return found

    def _read_links(self, messages: list[tuple[int, Cursor]]) -> list[tuple[str, int | None]]:
        found = []
        for kind, content in messages:
            if kind == LINK:
                found.append(read_link(content))
            elif kind == LINK_INFO:
                content.expect(0, "link index")
                content.take(8 if content.number(1) & 1 else 0)
                heap, tree = content.number(8), content.number(8)
                objects = self._objects(heap, tree, _LINK_RECORDS, 4, 7)
                found.extend(map(read_link, objects))
        return found

    def _objects(self, heap: int, tree: int, kind: int, before: int, length: int) -> list[Cursor]:
        """Return the objects of a heap that a tree names.

        Args:
            heap: Address of the heap; nowhere if there is none.
            tree: Address of the tree.
            kind: Type of its records.
            before: Bytes of a record before the identifier.
            length: Of the identifier.
        """
        if heap == NOWHERE or tree == NOWHERE:
            return []
        objects = Heap(self._blocks, heap)
        found = []
        for record in tree_records(self._blocks, tree, kind):
            record.take(before)
            found.append(Cursor(objects.object(record.take(length))))
        return found


def decoded(name: str, texts: list[bytes]) -> tuple[str, ...]:
    """Return texts of UTF-8.

    Raises:
        ShardError: They are not.
    """
    try:
        return tuple(text.decode() for text in texts)
    except UnicodeDecodeError:
        raise ShardError(f"{name}: texts in UTF-8 expected, got other bytes") from None


def _value(attribute: Attribute) -> Any:
    """Return the value of an attribute; None for one that this package does not write."""
    dtype, shape = attribute.dtype, attribute.shape
    if dtype is None or shape is None or len(shape) > 1:
        return None
    size = num_bytes(dtype, shape)
    if size != len(attribute.data):
        raise StructureError(f"attribute {attribute.name}: {size} bytes expected")
    values = np.frombuffer(attribute.data, dtype)
    if shape:
        return tuple(values.tolist()) if dtype.kind == "S" else values
    value = values[0].item()
    return decoded(f"attribute {attribute.name}", [value])[0] if dtype.kind == "S" else value
