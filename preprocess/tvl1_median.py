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

PAD = 16  # floats in front of a row of sorted columns; a whole vector keeps loads aligned


@njit(forceinline=True)
def _middle(a, b, c):
    return upper(lower(a, b), lower(upper(a, b), c))


@njit(forceinline=True)
def _median_of_9(work, i, pitch):
    """Return the median of 3x3 values whose columns are sorted downwards."""
    low = upper(upper(load(work, i - 1), load(work, i)), load(work, i + 1))
    j = i + pitch
    middle = _middle(load(work, j - 1), load(work, j), load(work, j + 1))
    j = i + 2 * pitch
    high = lower(lower(load(work, j - 1), load(work, j)), load(work, j + 1))
    return _middle(low, middle, high)


@njit(forceinline=True)
def _median_of_25(work, i, pitch):
    """Return the median of 5x5 values whose columns are sorted downwards.

    The steps were found by removing, at random, whatever a sorting network does not need once its
    columns are sorted. A test runs them over every pattern of zeros and ones, which proves them.
    """
    v00 = load(work, i - 2)
    v01 = load(work, i - 1)
    v02 = load(work, i)
    v03 = load(work, i + 1)
    v04 = load(work, i + 2)
    v05 = load(work, i + pitch - 2)
    v06 = load(work, i + pitch - 1)
    v07 = load(work, i + pitch)
    v08 = load(work, i + pitch + 1)
    v09 = load(work, i + pitch + 2)
    v10 = load(work, i + 2 * pitch - 2)
    v11 = load(work, i + 2 * pitch - 1)
    v12 = load(work, i + 2 * pitch)
    v13 = load(work, i + 2 * pitch + 1)
    v14 = load(work, i + 2 * pitch + 2)
    v15 = load(work, i + 3 * pitch - 2)
    v16 = load(work, i + 3 * pitch - 1)
    v17 = load(work, i + 3 * pitch)
    v18 = load(work, i + 3 * pitch + 1)
    v19 = load(work, i + 3 * pitch + 2)
    v20 = load(work, i + 4 * pitch - 2)
    v21 = load(work, i + 4 * pitch - 1)
    v22 = load(work, i + 4 * pitch)
    v23 = load(work, i + 4 * pitch + 1)
    v24 = load(work, i + 4 * pitch + 2)
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


@njit(forceinline=True)
def _sort_columns(work, a, b, c, d, e, sorted_rows, pitch):
    """Sort 16 columns of five values, each given by its place, and store them by rank."""
    v0, v1, v2 = ordered(load(work, a)), ordered(load(work, b)), ordered(load(work, c))
    v3, v4 = ordered(load(work, d)), ordered(load(work, e))
    v0, v3 = lower(v0, v3), upper(v0, v3)
    v1, v4 = lower(v1, v4), upper(v1, v4)
    v0, v2 = lower(v0, v2), upper(v0, v2)
    v1, v3 = lower(v1, v3), upper(v1, v3)
    v0, v1 = lower(v0, v1), upper(v0, v1)
    v2, v4 = lower(v2, v4), upper(v2, v4)
    v1, v2 = lower(v1, v2), upper(v1, v2)
    v3, v4 = lower(v3, v4), upper(v3, v4)
    v2, v3 = lower(v2, v3), upper(v2, v3)
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
                a, b = lower(a, b), upper(a, b)
                b, c = lower(b, c), upper(b, c)
                a, b = lower(a, b), upper(a, b)
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
