"""HDF5 files that are written whole or not at all, and read without trusting them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tsn_core.atomic import atomic_path
from tsn_core.errors import ShardError


@contextmanager
def written_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Yield a new file to fill; on success it becomes ``path``, on error nothing is left of it.

    Version 1.10 of HDF5's own format has checksums for everything but what datasets hold: where
    these have their own, a flipped bit is an error and nothing worse.

    Raises:
        OutputError: It cannot be written.
    """
    with atomic_path(path) as temporary, _Sink(temporary) as sink:
        try:
            with h5py.File(sink, "w", libver=("v110", "v110")) as file:
                yield file
        finally:  # what HDF5 raises after a failure is only its consequence
            if sink.error is not None:
                raise sink.error


class _Sink(io.FileIO):
    """The file that HDF5 writes to, which remembers a failure instead of reporting it.

    HDF5 does not survive a full disk: it keeps the file half open, complains at length, and can
    crash the process when that ends. What it writes after the first failure is thrown away.

    Attributes:
        error: The first failure, or None.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, unless something failed before."""
        view = memoryview(data)
        done = 0
        try:
            while done < len(view) and self.error is None:
                done += super().write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file, unless something failed before."""
        try:
            if self.error is None:
                return super().truncate(size)
        except OSError as error:
            self.error = error
        return size or 0


def fixed_texts(texts: Sequence[str]) -> np.ndarray:
    """Return texts as HDF5 strings of one length, which lie where their checksum is.

    Those of varying length lie in a heap without one, where a flipped bit can make HDF5 search
    for ever.
    """
    encoded = [text.encode() for text in texts]
    length = max(map(len, encoded), default=0)
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", max(length, 1)))


def root_attributes(file: h5py.File) -> dict[str, Any]:
    """Return the root attributes, texts as ``str``.

    Those of varying length are not even looked at, see ``fixed_texts``.
    """
    found = {}
    for name in file.attrs:
        if not file.attrs.get_id(name).dtype.hasobject:
            value = file.attrs[name]
            found[name] = value.decode() if isinstance(value, bytes) else value
    return found


def plain_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset that lies in this very file, in one piece.

    Raises:
        ShardError: There is none of that kind.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ShardError(f"{name}: a dataset in the file expected, got none or a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ShardError(f"{name}: a dataset expected, got a group")
    if dataset.external or dataset.is_virtual or dataset.chunks is not None:
        raise ShardError(f"{name}: contiguous storage in the file expected")
    return dataset


def read_dataset(file: h5py.File, name: str, dtype: np.dtype | None, file_size: int) -> Any:
    """Return what a dataset holds: an array, or a tuple of texts.

    Args:
        file: An open file.
        name: Of the dataset.
        dtype: That it must have; None asks for texts.
        file_size: In bytes; no dataset can hold more.

    Raises:
        ShardError: It is not there, lies elsewhere, holds something else, or claims to be larger
            than the file.
    """
    dataset = plain_dataset(file, name)
    if dataset.dtype.hasobject:
        raise ShardError(f"{name}: strings of one length expected")
    if dataset.size * dataset.dtype.itemsize > file_size:
        raise ShardError(f"{name}: larger than the file")
    if dtype is None:
        return tuple(dataset.asstr()[:].tolist())
    if dataset.dtype != dtype:
        raise ShardError(f"{name}: {dtype.name} expected, got {dataset.dtype.name}")
    return dataset[:]
