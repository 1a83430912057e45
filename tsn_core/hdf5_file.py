"""HDF5 files that are written whole or not at all; ``tsn_core.hdf5_reader`` reads them."""

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
    for ever, and are not read.
    """
    encoded = [text.encode() for text in texts]
    length = max(map(len, encoded), default=0)
    return np.array(encoded, dtype=text_dtype(max(length, 1)))


def text_dtype(num_bytes: int) -> np.dtype:
    """Return the type of HDF5 strings in UTF-8 that are so long."""
    return h5py.string_dtype("utf-8", num_bytes)
