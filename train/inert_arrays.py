"""The numbers in arrays and tensors of a pickle that nobody executed, see ``train.inert_pickle``.

NumPy and PyTorch are asked to rebuild nothing: the bytes of an array are taken as numbers of a
plain type, once their count has been compared with what is wanted.
"""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import numpy as np

from train.inert_pickle import Call, Name, Persistent, read_pickle
from tsn_core.errors import InputError

_STORAGES = {  # torch's, by name
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bf16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
}
_TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_SETS = ("set", "frozenset")  # of which no reader wants to know anything
_NUMPY = [
    f"numpy.{core}.{name}"
    for core in ("core", "_core")  # before and since version 2
    for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
]
ARRAY_NAMES = frozenset(
    [
        *_NUMPY,
        "numpy.ndarray",
        "numpy.dtype",
        "_codecs.encode",
        "collections.OrderedDict",
        "torch._utils._rebuild_tensor_v2",
        "torch.storage._load_from_bytes",
        "torch.Size",
        *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _SETS),
    ]
)
_TORCH_MAGIC, _TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _NotNumbers(ValueError):
    """The object is no array, or not of so many numbers."""


def numbers(value: Any, count: int, source: object, what: str) -> np.ndarray:
    """Return the numbers of an array, a tensor, a list or a single number.

    Args:
        value: As ``read_pickle`` or ``json`` gave it.
        count: Of the numbers that are wanted; more are not even looked at.
        source: What messages call the file.
        what: What messages call the value.

    Returns:
        Shape (count,), float64.

    Raises:
        InputError: It is something else.
    """
    try:
        found = _flat(value, count)
    except (TypeError, ValueError, IndexError, OverflowError, struct.error) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error) if isinstance(error, _NotNumbers) else "something else"
        raise InputError(
            f"{source}: {what} must be {count} number{'' if count == 1 else 's'}, found {reason}; "
            "check --classes and --list, or write the scores again"
        ) from None
    return found.astype(np.float64)


def _flat(value: Any, count: int) -> np.ndarray:
    if isinstance(value, bool):
        raise _NotNumbers("a truth value")
    if isinstance(value, int | float):
        return _counted(np.array([value], np.float64), count)
    if isinstance(value, list | tuple):
        if len(value) == 1 and isinstance(value[0], list):
            value = value[0]  # of a batch of one
        if len(value) != count:
            raise _NotNumbers(str(len(value)))
        if not all(type(item) in (int, float) for item in value):
            raise _NotNumbers("a list of something else")
        return np.array(value, np.float64)
    if not isinstance(value, Call):
        raise _NotNumbers("something else")
    name = value.name.replace("numpy.core.", "numpy._core.")
    if name == "torch._utils._rebuild_tensor_v2":
        return _tensor(value, count)
    if name == "numpy._core.multiarray._reconstruct":
        _, shape, kind, _, data = value.state
        return _array(data, kind, shape, count)
    if name == "numpy._core.numeric._frombuffer":
        data, kind, shape, _ = value.arguments
        return _array(data, kind, shape, count)
    if name == "numpy._core.multiarray.scalar":
        kind, data = value.arguments
        return _array(data, kind, (), count)
    raise _NotNumbers("something else")


def _counted(found: np.ndarray, count: int) -> np.ndarray:
    if found.size != count:
        raise _NotNumbers(str(found.size))
    return found


def _size(shape: Any) -> int:
    """Return the numbers in an array of that shape, of which one side at most is longer than 1."""
    if isinstance(shape, Call) and shape.name == "torch.Size":
        (shape,) = shape.arguments
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise _NotNumbers("something else")
    if sum(side != 1 for side in shape) > 1:
        raise _NotNumbers(f"an array of shape {shape}"[:100])
    return math.prod(shape)


def _array(data: Any, kind: Any, shape: Any, count: int) -> np.ndarray:
    size = _size(shape)
    if size != count:
        raise _NotNumbers(str(size))
    code, order = _dtype(kind)
    raw = _bytes(data)
    if len(raw) != size * int(code[1:]):
        raise _NotNumbers("an array of other bytes")
    return np.frombuffer(raw, np.dtype(order + code))


def _dtype(kind: Any) -> tuple[str, str]:
    """Return NumPy's code of a plain type, ``f4`` for example, and its order of bytes."""
    if not isinstance(kind, Call) or kind.name != "numpy.dtype":
        raise _NotNumbers("something else")
    code = kind.arguments[0]
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "="
    if code not in _TYPES or order not in ("<", ">", "=", "|"):
        raise _NotNumbers("an array of something else")
    return code, order


def _bytes(data: Any) -> bytes:
    """Return bytes, which older protocols spell as a text to encode."""
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    if isinstance(data, Call) and data.name == "_codecs.encode" and len(data.arguments) == 2:
        text, encoding = data.arguments
        if isinstance(text, str) and encoding == "latin1":
            return text.encode("latin1")
    raise _NotNumbers("something else")


def _tensor(value: Call, count: int) -> np.ndarray:
    storage, offset, shape, stride = value.arguments[:4]
    size = _size(shape)
    if size != count:
        raise _NotNumbers(str(size))
    if not isinstance(storage, Call) or storage.name != "torch.storage._load_from_bytes":
        raise _NotNumbers("a tensor without its numbers")
    stored = _storage(_bytes(storage.arguments[0]))
    steps = [step for side, step in zip(shape, stride, strict=True) if side != 1]
    step = steps[0] if steps else 1
    if type(offset) is not int or type(step) is not int or offset < 0 or step < 0:
        raise _NotNumbers("a tensor of something else")
    if size and offset + (size - 1) * step >= stored.size:
        raise _NotNumbers("a tensor of fewer numbers than it states")
    return stored[offset + step * np.arange(size)]


def _storage(data: bytes) -> np.ndarray:
    """Return the numbers of a tensor's storage, as ``torch.save`` once wrote files.

    Source: PyTorch, ``torch/serialization.py``, ``_legacy_save``: pickles of a magic number, the
    version, the system, the object and the keys; then for each key a count of 64 bits, and numbers.
    """
    file = io.BytesIO(data)
    parts = [
        read_pickle(file, "a tensor", _STORAGES, persistent=number == 3) for number in range(5)
    ]
    magic, protocol, system, content, _ = parts
    if (magic, protocol) != (_TORCH_MAGIC, _TORCH_PROTOCOL) or not isinstance(content, Persistent):
        raise _NotNumbers("a tensor in an unknown format")
    kind = content.key[1] if isinstance(content.key, tuple) and len(content.key) > 1 else None
    if not isinstance(kind, Name) or not isinstance(system, dict):
        raise _NotNumbers("a tensor in an unknown format")
    if system.get("little_endian") is not True:
        raise _NotNumbers("a tensor with its bytes in another order")
    (size,) = struct.unpack("<q", file.read(8))
    raw = file.read()
    code = _STORAGES[kind.text]
    if code == "bf16":  # the upper half of float32
        halves = np.frombuffer(raw, "<u2")
        found = (halves.astype(np.uint32) << 16).view(np.float32)
    else:
        found = np.frombuffer(raw, f"<{code}")
    return _counted(found, size)
