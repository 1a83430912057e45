"""Sixteen float32 values at once, inside Numba functions.

LLVM's own vectoriser gives up on loops over many arrays (it must prove that none overlaps another)
and picks other widths on other processors. Here the width is written into the code: a ``Lanes``
value is one vector of 16 float32, which LLVM maps to one, two or four registers of the machine at
hand. Every operation is a single IEEE operation per lane, in the order written, so the result does
not depend on the width of the registers.

Use inside ``numba.njit`` functions only::

    v = load(array, i) * splat(np.float32(2))
    store(array, i, fused(v, v, v))
"""

# The values below are of Numba's types, of which mypy knows nothing.
# mypy: ignore-errors

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(_F32, WIDTH)
_INTEGERS = ir.VectorType(_I32, WIDTH)


class LanesType(types.Type):
    """Numba type of a vector of 16 float32."""

    def __init__(self) -> None:
        super().__init__(name="Lanes16")


LANES = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: LanesType) -> None:
        super().__init__(manager, fe_type, _VECTOR)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    element = builder.gep(data, [index])
    return builder.bitcast(element, kind.as_pointer())


def _is_flat_float32(array: Any) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.float32 and array.ndim == 1


@intrinsic
def load(typingctx, array, index):
    """Return ``array[index : index + 16]`` of a flat float32 array, without a bounds check."""
    if not _is_flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        return builder.load(pointer, align=4)

    return LANES(array, types.intp), emit


@intrinsic
def load_one(typingctx, array, index):
    """Return ``array[index]``, without the test for a negative index that Python's rule needs."""
    if not _is_flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], args[0], args[1], _F32))

    return types.float32(array, types.intp), emit


@intrinsic
def store(typingctx, array, index, value):
    """Write 16 values to ``array[index : index + 16]``, without a bounds check."""
    if not _is_flat_float32(array) or value != LANES:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), emit


def _splat(builder: Any, vector_type: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, _I32(0))
    zeros = ir.Constant(_INTEGERS, [0] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(vector_type, ir.Undefined), zeros)


@intrinsic
def splat(typingctx, value):
    """Return 16 copies of one float32."""
    if value != types.float32:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, _VECTOR, args[0])

    return LANES(value), emit


def _binary(name: str) -> Callable:
    @intrinsic
    def operation(typingctx, a, b):
        if a != LANES or b != LANES:
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(args[0], args[1])

        return LANES(a, b), emit

    return operation


def _library(name: str, num_arguments: int) -> Callable:
    """Return an emitter of a call to one of LLVM's functions over vectors."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * num_arguments)
        function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{WIDTH}f32")
        return builder.call(function, args)

    return emit


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):

    def _register(symbol: Callable, operation: Callable) -> None:
        @overload(symbol)
        def choose(a, b):
            if a == LANES and b == LANES:
                return lambda a, b: operation(a, b)
            return None

    _register(_symbol, _binary(_name))


@intrinsic
def fused(typingctx, a, b, c):
    """Return ``a * b + c``, rounded once."""
    if a != LANES or b != LANES or c != LANES:
        return None
    return LANES(a, b, c), _library("llvm.fma", 3)


@intrinsic
def root(typingctx, a):
    """Return the square roots."""
    if a != LANES:
        return None
    return LANES(a), _library("llvm.sqrt", 1)


@intrinsic
def floor(typingctx, a):
    """Return the largest whole numbers that are not larger."""
    if a != LANES:
        return None
    return LANES(a), _library("llvm.floor", 1)


@intrinsic
def ramp(typingctx):
    """Return 0, 1, 2 … 15."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_VECTOR, [float(i) for i in range(WIDTH)])

    return LANES(), emit


def _select(predicate: str) -> Callable:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b = args
        return builder.select(builder.fcmp_ordered(predicate, a, b), a, b)

    return emit


@intrinsic
def lower(typingctx, a, b):
    """Return the smaller of each pair; ``b`` where one is not a number."""
    if a != LANES or b != LANES:
        return None
    return LANES(a, b), _select("<")


@intrinsic
def upper(typingctx, a, b):
    """Return the larger of each pair; ``b`` where one is not a number."""
    if a != LANES or b != LANES:
        return None
    return LANES(a, b), _select(">")


@intrinsic
def after(typingctx, previous, current):
    """Return the lanes of ``current`` moved one place up; the first is ``previous``'s last."""
    if previous != LANES or current != LANES:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        order = ir.Constant(_INTEGERS, list(range(WIDTH - 1, 2 * WIDTH - 1)))
        return builder.shuffle_vector(args[0], args[1], order)

    return LANES(previous, current), emit


@intrinsic
def total(typingctx, a):
    """Return the sum of the 16 lanes as a float32, by halves: always in the same order."""
    if a != LANES:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[0]
        half = WIDTH // 2
        while half:
            order = ir.Constant(_INTEGERS, [(i + half) % WIDTH for i in range(WIDTH)])
            value = builder.fadd(value, builder.shuffle_vector(value, value, order))
            half //= 2
        return builder.extract_element(value, _I32(0))

    return types.float32(a), emit


@intrinsic
def fold(typingctx, a):
    """Return, in the first four lanes, the sums of every fourth lane: 4 groups of 4 added up."""
    if a != LANES:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[0]
        for distance in (8, 4):
            order = ir.Constant(_INTEGERS, [(i + distance) % WIDTH for i in range(WIDTH)])
            value = builder.fadd(value, builder.shuffle_vector(value, value, order))
        return value

    return LANES(a), emit


@intrinsic
def store_four(typingctx, array, index, value):
    """Write the first four lanes to ``array[index : index + 4]``, without a bounds check."""
    if not _is_flat_float32(array) or value != LANES:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        few = ir.VectorType(_F32, 4)
        pointer = _address(context, builder, signature.args[0], args[0], args[1], few)
        order = ir.Constant(ir.VectorType(_I32, 4), [0, 1, 2, 3])
        builder.store(builder.shuffle_vector(args[2], args[2], order), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES), emit


@intrinsic
def channels(typingctx, a, b, c, d):
    """Return the first three channels of 16 pixels that are stored as 4 floats each."""
    if any(value != LANES for value in (a, b, c, d)):
        return None
    half = ir.VectorType(_I32, WIDTH // 2)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        planes = []
        for channel in range(3):
            order = ir.Constant(half, [channel + 4 * i for i in range(WIDTH // 2)])
            low = builder.shuffle_vector(args[0], args[1], order)
            high = builder.shuffle_vector(args[2], args[3], order)
            both = ir.Constant(_INTEGERS, list(range(WIDTH)))
            planes.append(builder.shuffle_vector(low, high, both))
        return context.make_tuple(builder, signature.return_type, planes)

    return types.UniTuple(LANES, 3)(a, b, c, d), emit


@intrinsic
def spread_four(typingctx, array, index):
    """Return ``array[index : index + 4]``, each value four times in a row."""
    if not _is_flat_float32(array):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        few = ir.VectorType(_F32, 4)
        pointer = _address(context, builder, signature.args[0], args[0], args[1], few)
        value = builder.load(pointer, align=4)
        order = ir.Constant(_INTEGERS, [i // 4 for i in range(WIDTH)])
        return builder.shuffle_vector(value, value, order)

    return LANES(array, types.intp), emit


@intrinsic
def store_pixels(typingctx, array, index, a, b, c, d):
    """Write 16 pixels of four channels, one after the other: the reverse of ``channels``."""
    if not _is_flat_float32(array) or any(value != LANES for value in (a, b, c, d)):
        return None
    wide = ir.VectorType(_F32, 4 * WIDTH)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _address(context, builder, signature.args[0], args[0], args[1], wide)
        pair = ir.Constant(ir.VectorType(_I32, 2 * WIDTH), list(range(2 * WIDTH)))
        first = builder.shuffle_vector(args[2], args[3], pair)
        second = builder.shuffle_vector(args[4], args[5], pair)
        order = [channel * WIDTH + i for i in range(WIDTH) for channel in range(4)]
        mixed = ir.Constant(ir.VectorType(_I32, 4 * WIDTH), order)
        builder.store(builder.shuffle_vector(first, second, mixed), pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, LANES, LANES, LANES, LANES), emit


def _select_bits(predicate: str) -> Callable:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b = (builder.bitcast(value, _INTEGERS) for value in args)
        chosen = builder.select(builder.icmp_signed(predicate, a, b), a, b)
        return builder.bitcast(chosen, _VECTOR)

    return emit


@intrinsic
def lower_ordered(typingctx, a, b):
    """Return the smaller of each pair of values that ``ordered`` returned."""
    if a != LANES or b != LANES:
        return None
    return LANES(a, b), _select_bits("<")


@intrinsic
def upper_ordered(typingctx, a, b):
    """Return the larger of each pair of values that ``ordered`` returned."""
    if a != LANES or b != LANES:
        return None
    return LANES(a, b), _select_bits(">")


@intrinsic
def ordered(typingctx, a):
    """Return bit patterns that compare as integers as the floats do; its own reverse.

    Many processors compare integers at twice the rate of floats.
    """
    if a != LANES:
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _INTEGERS)
        sign = builder.ashr(bits, ir.Constant(_INTEGERS, [31] * WIDTH))
        flip = builder.and_(sign, ir.Constant(_INTEGERS, [0x7FFFFFFF] * WIDTH))
        return builder.bitcast(builder.xor(bits, flip), _VECTOR)

    return LANES(a), emit
