"""Bicubic warp of the second image and both its gradients in one pass.

OpenCV's solver calls ``remap`` three times per warp. Here the image and its two gradients lie
next to each other, four floats for a pixel (the fourth is unused), so that 16 lanes hold the four
taps of a row with all their channels, and the weights are computed once. They are the weights of
``remap`` with ``INTER_CUBIC`` in OpenCV 5; OpenCV 4 rounds the position to 1/32 px first. Outside
the image everything is zero, as there.
"""

# The values below are of Numba's types, of which mypy knows nothing.
# mypy: ignore-errors

import numpy as np
from numba import njit

from preprocess.lanes import (
    channels,
    floor,
    fold,
    fused,
    load,
    load_one,
    lower,
    ramp,
    splat,
    spread_four,
    store,
    store_four,
    store_pixels,
    upper,
)

MARGIN = 4
SMALLEST = np.finfo(np.float32).eps


@njit(forceinline=True)
def _weights(t):
    """Return the weights of the taps at -1, 0, 1, 2 for positions 0 <= t < 1 between two pixels.

    Source: Keys (1981) with a = -0.75, the value of OpenCV's ``INTER_CUBIC``.
    """
    one = splat(np.float32(1))
    rest = one - t
    sharp = splat(np.float32(-0.75)) * t * rest
    w0 = sharp * rest
    w3 = sharp * t
    w1 = fused(fused(splat(np.float32(1.25)), t, splat(np.float32(-2.25))), t * t, one)
    return w0, w1, one - w0 - w1 - w3, w3


@njit(forceinline=True)
def fill_quads(quads, image):
    """Write the image, its x gradient and its y gradient next to each other.

    Args:
        quads: Room for (H + 8) * (W + 8) * 4 float32, of which the margin is set to zero here.
        image: The second image, shape (H, W), float32.
    """
    height, width = image.shape
    half = np.float32(0.5)
    quads[:] = np.float32(0)
    for y in range(height):
        above = image[max(y - 1, 0)]
        below = image[min(y + 1, height - 1)]
        row = image[y]
        base = ((y + MARGIN) * (width + 2 * MARGIN) + MARGIN) * 4
        for x in range(1, width - 1):
            quads[base + 4 * x + 1] = half * (row[x + 1] - row[x - 1])
        quads[base + 1] = half * (row[1] - row[0])
        quads[base + 4 * width - 3] = half * (row[width - 1] - row[width - 2])
        for x in range(width):
            quads[base + 4 * x] = row[x]
            quads[base + 4 * x + 2] = half * (below[x] - above[x])


@njit(forceinline=True)
def warp_row(work, y, flow_x, flow_y, scratch, quads, height, width, unit):
    """Warp one row and leave 4 floats a pixel at ``work[scratch]``.

    Args:
        work: All rows of the solver.
        y: The row.
        flow_x: Where the row of x displacements starts in ``work``.
        flow_y: Where the row of y displacements starts.
        scratch: Where the result goes, 4 floats a pixel; 10 more a pixel behind it may be used.
        quads: What ``fill_quads`` wrote.
        height: Rows of the image.
        width: Columns of the image.
        unit: Pixels in one unit of the displacements.
    """
    padded = (width + 15) // 16 * 16
    columns = scratch + 4 * padded
    rows = columns + padded
    across = rows + padded
    down = across + 4 * padded
    scale = splat(unit)
    first = splat(np.float32(1 - MARGIN))  # from here on all taps are in the margin
    last_x = splat(np.float32(width + 1))
    last_y = splat(np.float32(height + 1))
    for i in range(0, width, 16):
        at_x = ramp() + splat(np.float32(i)) + load(work, flow_x + i) * scale
        at_y = splat(np.float32(y)) + load(work, flow_y + i) * scale
        column = floor(at_x)
        row = floor(at_y)
        w0, w1, w2, w3 = _weights(at_x - column)
        store_pixels(work, across + 4 * i, w0, w1, w2, w3)
        w0, w1, w2, w3 = _weights(at_y - row)
        store_pixels(work, down + 4 * i, w0, w1, w2, w3)
        store(work, columns + i, upper(lower(column, last_x), first))
        store(work, rows + i, upper(lower(row, last_y), first))

    line = (width + 2 * MARGIN) * 4
    corner = (MARGIN - 1) * (line + 4)
    for x in range(width):
        row_start = np.int64(load_one(work, rows + x)) * line
        start = corner + row_start + np.int64(load_one(work, columns + x)) * 4
        weight = down + 4 * x
        taps = splat(load_one(work, weight)) * load(quads, start)
        taps = fused(splat(load_one(work, weight + 1)), load(quads, start + line), taps)
        taps = fused(splat(load_one(work, weight + 2)), load(quads, start + 2 * line), taps)
        taps = fused(splat(load_one(work, weight + 3)), load(quads, start + 3 * line), taps)
        store_four(work, scratch + 4 * x, fold(taps * spread_four(work, across + 4 * x)))


@njit(forceinline=True)
def linearise_row(work, first, pixels, flow_x, flow_y, slopes, stride, num_vectors, unit):
    """Write the four coefficients of the data term of one row.

    They are the x slope, the y slope and the constant part of the residual as a function of the
    scaled displacements, and the negative inverse of the squared slope.

    Args:
        work: All rows of the solver.
        first: Where the row of the first image starts in ``work``.
        pixels: Where ``warp_row`` wrote.
        flow_x: Where the row of x displacements starts.
        flow_y: Where the row of y displacements starts.
        slopes: Where the four rows of coefficients start, ``stride`` apart.
        stride: Floats from one of these rows to the next.
        num_vectors: Vectors in a row.
        unit: Pixels in one unit of the displacements.
    """
    scale = splat(unit)
    smallest = splat(np.float32(SMALLEST) * unit * unit)
    minus = splat(np.float32(-1))
    for vector in range(num_vectors):
        i = 16 * vector
        p = pixels + 4 * i
        value, slope_x, slope_y = channels(
            load(work, p), load(work, p + 16), load(work, p + 32), load(work, p + 48)
        )
        slope_x = slope_x * scale
        slope_y = slope_y * scale
        square = fused(slope_x, slope_x, slope_y * slope_y)
        moved = fused(slope_x, load(work, flow_x + i), slope_y * load(work, flow_y + i))
        store(work, slopes + i, slope_x)
        store(work, slopes + stride + i, slope_y)
        store(work, slopes + 2 * stride + i, value - load(work, first + i) - moved)
        store(work, slopes + 3 * stride + i, minus / upper(square, smallest))
