"""Reading NumPy's ``.npz`` files from anybody: plain arrays, in bounded memory."""

from __future__ import annotations

import os
import zipfile
from typing import IO

import numpy as np

from tsn_core.errors import InputError

_ALWAYS_BYTES = 1 << 26  # unpacked; so much is no harm
_MOST_TIMES = 100  # of the file's size, beyond that; scores compress to a half, names to a tenth


def read_arrays(file: str | os.PathLike[str] | IO[bytes], source: object) -> dict[str, np.ndarray]:
    """Return all arrays of a file; nothing in it is unpickled.

    Args:
        file: Path, or an open file.
        source: What messages call it.

    Raises:
        InputError: It would unpack to far more than its size.
        Exception: It is damaged, or something else; NumPy answers hostile bytes with many kinds.
    """
    with np.load(file, allow_pickle=False) as arrays:
        packed: zipfile.ZipFile = arrays.zip
        rows = packed.infolist()
        unpacked = sum(row.file_size for row in rows)  # of which zipfile reads no byte more
        allowed = max(_ALWAYS_BYTES, _MOST_TIMES * sum(row.compress_size for row in rows))
        if unpacked > allowed:
            raise InputError(
                f"{source}: unpacks to {unpacked / 1e6:.0f} MB, at most {allowed / 1e6:.0f} MB "
                "expected of its size; save the scores again with numpy.savez"
            )
        return {name: arrays[name] for name in arrays.files}
