"""Pickles read as what they spell, and never executed.

A pickle is a program: it may name any function and have it called. Here its opcodes are followed
on a stack of their own, and what it names and calls is written down instead: a ``Call`` of that
name is all that ever comes of it. The reader of a format then decides what a known name means, and
every other name is refused where it stands.

Memory stays in proportion to the file, whatever it states: an opcode is taken with the bytes that
are really there, and the memo is a dictionary.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from tsn_core.errors import InputError


@dataclass(frozen=True)
class Name:
    """Something that a pickle names, ``collections.OrderedDict`` for example."""

    text: str


@dataclass(eq=False)
class Call:
    """What a pickle wants to be called, and was not.

    Attributes:
        name: Of the function or class.
        arguments: For it.
        state: What the object would be given next; None if nothing.
        items: Key and value, as they would be set in it.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Persistent:
    """Something that lies outside the pickle, such as a tensor's storage."""

    key: Any


class _Defect(ValueError):
    """The bytes are no pickle, or one that goes beyond data."""


def read_pickle(
    file: io.BytesIO, source: object, allowed: Collection[str], *, persistent: bool = False
) -> Any:
    """Return the content of the next pickle in a file.

    Args:
        file: Whose position is after the pickle then.
        source: What messages call it.
        allowed: Names that may stand in it.
        persistent: Whether parts of it may lie outside.

    Returns:
        Plain values and containers, with ``Name``, ``Call`` and ``Persistent`` among them; a
        container may hold itself.

    Raises:
        InputError: It is damaged, or names something that is not allowed.
    """
    try:
        return _Machine(source, allowed, persistent).run(file)
    except InputError:
        raise
    except Exception as error:  # pickletools and wrong pickles answer with many kinds
        reason = str(error) if isinstance(error, _Defect) else "damaged, or not a pickle"
        raise InputError(f"{source}: {reason}; write the scores again") from None


class _Machine:
    """The stack machine that a pickle is for, without the calls."""

    def __init__(self, source: object, allowed: Collection[str], persistent: bool) -> None:
        self._source, self._allowed, self._persistent = source, allowed, persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[int, Any] = {}

    def run(self, file: io.BytesIO) -> Any:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name == "STOP":
                break
            if name in _LITERALS:
                self._stack.append(argument)
            else:
                step = _STEPS.get(name)
                if step is None:
                    raise _Defect(f"a pickle with {name}, which scores do not need")
                step(self, argument)
        (result,) = self._stack
        return result

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _known(self, text: str) -> None:
        if text not in self._allowed:
            raise InputError(
                f"{self._source}: holds {text[:200]}, which is not data; arrays, tensors and plain "
                "values expected; do not open this file with other programs unless you know who "
                "made it"
            )
        self._stack.append(Name(text))

    def mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def named(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._known(f"{module}.{name}")

    def stack_named(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise _Defect("a pickle that names what is no text")
        self._known(f"{module}.{name}")

    def call(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise _Defect("a pickle that calls what is no name")
        self._stack.append(Call(function.text, arguments))

    def build(self, _: Any) -> None:
        state = self._stack.pop()
        if not isinstance(self._stack[-1], Call):
            raise _Defect("a pickle that gives a state to plain values")
        self._stack[-1].state = state

    def persistent(self, _: Any) -> None:
        if not self._persistent:
            raise _Defect("a pickle of which parts lie elsewhere")
        self._stack.append(Persistent(self._stack.pop()))

    def put(self, number: int) -> None:
        self._memo[number] = self._stack[-1]

    def memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, number: int) -> None:
        self._stack.append(self._memo[number])

    def append(self, _: Any) -> None:
        item = self._stack.pop()
        self._list().append(item)

    def appends(self, _: Any) -> None:
        items = self._since_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise _Defect("a pickle that appends to what is no list")
        return self._stack[-1]

    def set_item(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set(key, value)

    def set_items(self, _: Any) -> None:
        for key, value in _pairs(self._since_mark()):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        target = self._stack[-1]
        if isinstance(target, Call):
            target.items.append((key, value))
        elif isinstance(target, dict) and isinstance(key, str | int | float | bytes):
            target[key] = value
        else:
            raise _Defect("a pickle that sets items of what is no dictionary")

    def mark_tuple(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(tuple(items))

    def mark_list(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def mark_dict(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append({})
        for key, value in _pairs(items):
            self._set(key, value)

    def short_tuple(self, length: int) -> None:
        if len(self._stack) < length:
            raise _Defect("damaged, or not a pickle")
        items = tuple(self._stack[-length:])
        del self._stack[-length:]
        self._stack.append(items)


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _pushes(make: Callable[[], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine._stack.append(make())


def _nothing(machine: _Machine, _: Any) -> None:
    pass


_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    ]
)
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _nothing,
    "FRAME": _nothing,
    "NONE": _pushes(lambda: None),
    "NEWTRUE": _pushes(lambda: True),
    "NEWFALSE": _pushes(lambda: False),
    "EMPTY_TUPLE": _pushes(tuple),
    "EMPTY_LIST": _pushes(list),
    "EMPTY_DICT": _pushes(dict),
    "EMPTY_SET": _pushes(list),  # of what no reader asks, and what need not be hashable here
    "ADDITEMS": _Machine.appends,
    "FROZENSET": _Machine.mark_tuple,
    "MARK": _Machine.mark,
    "TUPLE": _Machine.mark_tuple,
    "TUPLE1": lambda machine, _: machine.short_tuple(1),
    "TUPLE2": lambda machine, _: machine.short_tuple(2),
    "TUPLE3": lambda machine, _: machine.short_tuple(3),
    "LIST": _Machine.mark_list,
    "DICT": _Machine.mark_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.stack_named,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
