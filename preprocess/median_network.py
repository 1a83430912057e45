"""Medians of small windows as fixed lists of minima and maxima, for whoever computes them.

Which minima and maxima these are is up to ``bound_to``: of 16 lanes in Numba, of blocks in Triton.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any


def lower(a: Any, b: Any) -> Any:
    """Return the smaller; stands for somebody's minimum, see ``bound_to``."""
    return min(a, b)


def upper(a: Any, b: Any) -> Any:
    """Return the larger; stands for somebody's maximum."""
    return max(a, b)


def bound_to(function: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """Return one of the functions below that sees other globals; its source stays as it stands.

    Args:
        function: One of them.
        **names: What ``lower`` and ``upper`` are, and what else a compiler looks for.

    Examples:
        >>> larger_first = bound_to(sorted_three, lower=max, upper=min)
        >>> larger_first(1, 3, 2)
        (3, 2, 1)
    """
    assert isinstance(function, FunctionType), function
    bound = FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__)
    bound.__module__ = function.__module__
    return bound


def sorted_three(a, b, c):  # type: ignore[no-untyped-def]
    """Return three values, the smallest first."""
    a, b = lower(a, b), upper(a, b)
    b, c = lower(b, c), upper(b, c)
    a, b = lower(a, b), upper(a, b)
    return a, b, c


def sorted_five(v0, v1, v2, v3, v4):  # type: ignore[no-untyped-def]
    """Return five values, the smallest first."""
    v0, v3 = lower(v0, v3), upper(v0, v3)
    v1, v4 = lower(v1, v4), upper(v1, v4)
    v0, v2 = lower(v0, v2), upper(v0, v2)
    v1, v3 = lower(v1, v3), upper(v1, v3)
    v0, v1 = lower(v0, v1), upper(v0, v1)
    v2, v4 = lower(v2, v4), upper(v2, v4)
    v1, v2 = lower(v1, v2), upper(v1, v2)
    v3, v4 = lower(v3, v4), upper(v3, v4)
    v2, v3 = lower(v2, v3), upper(v2, v3)
    return v0, v1, v2, v3, v4


def median_of_9(v0, v1, v2, v3, v4, v5, v6, v7, v8):  # type: ignore[no-untyped-def]
    """Return the median of 3x3 values, row by row, whose columns are sorted downwards."""
    low = upper(upper(v0, v1), v2)
    middle = upper(lower(v3, v4), lower(upper(v3, v4), v5))
    high = lower(lower(v6, v7), v8)
    return upper(lower(low, middle), lower(upper(low, middle), high))


def median_of_25(  # type: ignore[no-untyped-def]
    v00, v01, v02, v03, v04,
    v05, v06, v07, v08, v09,
    v10, v11, v12, v13, v14,
    v15, v16, v17, v18, v19,
    v20, v21, v22, v23, v24,
):  # fmt: skip
    """Return the median of 5x5 values, row by row, whose columns are sorted downwards.

    The steps were found by removing, at random, whatever a sorting network does not need once its
    columns are sorted. A test runs them over every pattern of zeros and ones, which proves them.
    """
    v00, v03 = lower(v00, v03), upper(v00, v03)
    v01, v03 = lower(v01, v03), upper(v01, v03)
    v01 = upper(v00, v01)
    v02, v04 = lower(v02, v04), upper(v02, v04)
    v02 = upper(v01, v02)
    v03, v04 = lower(v03, v04), upper(v03, v04)
    v03 = upper(v02, v03)
    v05, v08 = lower(v05, v08), upper(v05, v08)
    v05, v07 = lower(v05, v07), upper(v05, v07)
    v06, v08 = lower(v06, v08), upper(v06, v08)
    v06 = upper(v05, v06)
    v07, v09 = lower(v07, v09), upper(v07, v09)
    v07 = upper(v06, v07)
    v08, v09 = lower(v08, v09), upper(v08, v09)
    v07, v08 = lower(v07, v08), upper(v07, v08)
    v10, v13 = lower(v10, v13), upper(v10, v13)
    v11, v14 = lower(v11, v14), upper(v11, v14)
    v10, v12 = lower(v10, v12), upper(v10, v12)
    v11, v13 = lower(v11, v13), upper(v11, v13)
    v11 = upper(v10, v11)
    v12, v14 = lower(v12, v14), upper(v12, v14)
    v11, v12 = lower(v11, v12), upper(v11, v12)
    v13 = lower(v13, v14)
    v12, v13 = lower(v12, v13), upper(v12, v13)
    v15, v18 = lower(v15, v18), upper(v15, v18)
    v16, v19 = lower(v16, v19), upper(v16, v19)
    v15, v17 = lower(v15, v17), upper(v15, v17)
    v16, v18 = lower(v16, v18), upper(v16, v18)
    v15, v16 = lower(v15, v16), upper(v15, v16)
    v17 = lower(v17, v19)
    v16, v17 = lower(v16, v17), upper(v16, v17)
    v17 = lower(v17, v18)
    v20, v23 = lower(v20, v23), upper(v20, v23)
    v20, v22 = lower(v20, v22), upper(v20, v22)
    v21 = lower(v21, v23)
    v20, v21 = lower(v20, v21), upper(v20, v21)
    v22 = lower(v22, v24)
    v21 = lower(v21, v22)
    v07 = upper(v16, v07)
    v04 = upper(v11, v04)
    v12, v21 = lower(v12, v21), upper(v12, v21)
    v12 = upper(v03, v12)
    v20, v09 = lower(v20, v09), upper(v20, v09)
    v04, v07 = lower(v04, v07), upper(v04, v07)
    v09 = lower(v09, v13)
    v20, v12 = lower(v20, v12), upper(v20, v12)
    v08 = upper(v15, v08)
    v04 = upper(v20, v04)
    v12 = lower(v12, v09)
    v07 = lower(v07, v17)
    v12 = lower(v12, v07)
    v04, v21 = lower(v04, v21), upper(v04, v21)
    v08, v12 = lower(v08, v12), upper(v08, v12)
    v04 = upper(v08, v04)
    v12 = lower(v12, v21)
    v12 = lower(v12, v04)
    return v12
