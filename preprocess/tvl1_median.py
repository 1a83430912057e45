"""Median filters of the flow, 16 pixels at a time.

Both filters sort the columns of the window first, because a column is shared by all windows that
contain it, and then pick the median with a fixed list of minima and maxima. Borders repeat the
last pixel, as in OpenCV's ``medianBlur``.
"""

# The values below are of Numba's types, of which mypy knows nothing.
# mypy: ignore-errors

from numba import njit

from preprocess.lanes import load, ordered, store
from preprocess.lanes import lower_ordered as lower
from preprocess.lanes import upper_ordered as upper
from preprocess.median_network import (
    bound_to,
    median_of_9,
    median_of_25,
    sorted_five,
    sorted_three,
)

PAD = 16  # floats in front of a row of sorted columns; a whole vector keeps loads aligned


_inline = njit(forceinline=True)
_sorted_three = _inline(bound_to(sorted_three, lower=lower, upper=upper))
_sorted_five = _inline(bound_to(sorted_five, lower=lower, upper=upper))
_pick_of_9 = _inline(bound_to(median_of_9, lower=lower, upper=upper))
_pick_of_25 = _inline(bound_to(median_of_25, lower=lower, upper=upper))


@njit(forceinline=True)
def _median_of_9(work, i, pitch):
    """Return the median of 3x3 values whose columns are sorted downwards."""
    j, k = i + pitch, i + 2 * pitch
    return _pick_of_9(
        load(work, i - 1), load(work, i), load(work, i + 1),
        load(work, j - 1), load(work, j), load(work, j + 1),
        load(work, k - 1), load(work, k), load(work, k + 1),
    )  # fmt: skip


@njit(forceinline=True)
def _median_of_25(work, i, pitch):
    """Return the median of 5x5 values whose columns are sorted downwards."""
    j, k, m, n = i + pitch, i + 2 * pitch, i + 3 * pitch, i + 4 * pitch
    return _pick_of_25(
        load(work, i - 2), load(work, i - 1), load(work, i), load(work, i + 1), load(work, i + 2),
        load(work, j - 2), load(work, j - 1), load(work, j), load(work, j + 1), load(work, j + 2),
        load(work, k - 2), load(work, k - 1), load(work, k), load(work, k + 1), load(work, k + 2),
        load(work, m - 2), load(work, m - 1), load(work, m), load(work, m + 1), load(work, m + 2),
        load(work, n - 2), load(work, n - 1), load(work, n), load(work, n + 1), load(work, n + 2),
    )  # fmt: skip


@njit(forceinline=True)
def _sort_columns(work, a, b, c, d, e, sorted_rows, pitch):
    """Sort 16 columns of five values, each given by its place, and store them by rank."""
    v0, v1, v2 = ordered(load(work, a)), ordered(load(work, b)), ordered(load(work, c))
    v3, v4 = ordered(load(work, d)), ordered(load(work, e))
    v0, v1, v2, v3, v4 = _sorted_five(v0, v1, v2, v3, v4)
    store(work, sorted_rows, v0)
    store(work, sorted_rows + pitch, v1)
    store(work, sorted_rows + 2 * pitch, v2)
    store(work, sorted_rows + 3 * pitch, v3)
    store(work, sorted_rows + 4 * pitch, v4)


@njit(forceinline=True)
def median_in_place(work, plane, row_stride, height, width, size, scratch):
    """Replace a plane by its median over windows of 3x3 or 5x5.

    Args:
        work: The buffer that holds everything, shape (N,), float32.
        plane: Where the plane's first row starts in ``work``.
        row_stride: Floats from one of its rows to the next.
        height: Its rows.
        width: Its columns; rows must have room for the next multiple of 16.
        size: 3 or 5.
        scratch: Where ``7 * (width + 48)`` floats may be used.
    """
    num_vectors = (width + 15) // 16
    pitch = 16 * num_vectors + 2 * PAD
    kept = scratch + 5 * pitch  # the last two rows as they were before
    ranks = scratch + PAD
    for y in range(height):
        here = plane + y * row_stride
        below = plane + min(y + 1, height - 1) * row_stride
        below2 = plane + min(y + 2, height - 1) * row_stride
        above = kept + ((y - 1) & 1) * pitch if y > 0 else here
        keep = kept + (y & 1) * pitch
        above2 = keep if y > 1 else above
        for i in range(0, 16 * num_vectors, 16):
            if size == 5:
                _sort_columns(
                    work, above2 + i, above + i, here + i, below + i, below2 + i, ranks + i, pitch
                )
            else:
                a, b = ordered(load(work, above + i)), ordered(load(work, here + i))
                c = ordered(load(work, below + i))
                a, b, c = _sorted_three(a, b, c)
                store(work, ranks + i, a)
                store(work, ranks + pitch + i, b)
                store(work, ranks + 2 * pitch + i, c)
            store(work, keep + i, load(work, here + i))
        for rank in range(size):
            row = ranks + rank * pitch
            work[row - 1] = work[row]
            work[row - 2] = work[row]
            work[row + width] = work[row + width - 1]
            work[row + width + 1] = work[row + width - 1]
        for i in range(0, 16 * num_vectors, 16):
            if size == 5:
                store(work, here + i, ordered(_median_of_25(work, ranks + i, pitch)))
            else:
                store(work, here + i, ordered(_median_of_9(work, ranks + i, pitch)))
