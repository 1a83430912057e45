"""The compiled part of TV-L1 flow: everything that happens at one scale of the pyramid.

The displacements are kept in units of ``theta / tau`` pixels, which takes four multiplications
out of the inner loop: with ``U = u * tau / theta`` a step is

    U += clamp(rho(U) / -|slope|^2, limit) * slope + tau * div(p)
    p = (p + grad(U)) / (1 + |grad(U)|)

and both happen in one sweep over the image: while row y of U is computed, row y - 1 of p, whose
gradients are complete by then, follows.

All ten rows of an image line (see the constants below) lie next to each other in one buffer,
padded to a multiple of 16 floats, so a sweep reads memory once and in order.

Source: Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (2007),
in the form of Sánchez, Meinhardt-Llopis and Facciolo, "TV-L1 Optical Flow Estimation" (IPOL 2013);
behaviour of OpenCV's ``DualTVL1OpticalFlow``.
"""

# The values below are of Numba's types, of which mypy knows nothing.
# mypy: ignore-errors

from pathlib import Path

import numpy as np
from numba import njit

from preprocess.lanes import after, fused, load, lower, root, splat, store, total, upper
from preprocess.numba_cache import numba_cache
from preprocess.tvl1_median import median_in_place
from preprocess.tvl1_warp import MARGIN, fill_quads, linearise_row, warp_row

U1, U2, P11, P12, P21, P22, SLOPE_X, SLOPE_Y, RESIDUAL, INVERSE = range(10)
NUM_FIELDS = 10
ZERO = np.float32(0)
ONE = np.float32(1)


def row_stride(width: int) -> int:
    """Return the floats from one row of a field to the next."""
    return (width + 15) // 16 * 16 + 16


def work_size(height: int, width: int) -> int:
    """Return how many float32 the solver needs beside the images."""
    # ten fields and the first image; the mask; what the median (7 rows) or the warp (14) needs
    return row_stride(width) * ((NUM_FIELDS + 1) * height + 1 + 14) + 256


def quads_size(height: int, width: int) -> int:
    """Return how many float32 the second image and its gradients need."""
    return (height + 2 * MARGIN) * (width + 2 * MARGIN) * 4


@njit(forceinline=True)
def _step_u(work, x, stride, left1, left2, above12, above22, highest, lowest, step):
    """Update 16 pixels of U at ``x``.

    Returns:
        New U, its change, and p11 and p21, which the next 16 pixels need.
    """
    u1 = load(work, x + U1 * stride)
    u2 = load(work, x + U2 * stride)
    slope_x = load(work, x + SLOPE_X * stride)
    slope_y = load(work, x + SLOPE_Y * stride)
    rho = fused(slope_x, u1, fused(slope_y, u2, load(work, x + RESIDUAL * stride)))
    force = upper(lower(rho * load(work, x + INVERSE * stride), highest), lowest)
    p11 = load(work, x + P11 * stride)
    p21 = load(work, x + P21 * stride)
    div1 = (p11 - after(left1, p11)) + (load(work, x + P12 * stride) - above12)
    div2 = (p21 - after(left2, p21)) + (load(work, x + P22 * stride) - above22)
    change1 = fused(force, slope_x, step * div1)
    change2 = fused(force, slope_y, step * div2)
    u1 = u1 + change1
    u2 = u2 + change2
    store(work, x + U1 * stride, u1)
    store(work, x + U2 * stride, u2)
    return u1, u2, fused(change1, change1, change2 * change2), p11, p21


@njit(forceinline=True)
def _close_row(work, row, stride, width):
    """Make the forward difference in the last column zero."""
    work[row + U1 * stride + width] = work[row + U1 * stride + width - 1]
    work[row + U2 * stride + width] = work[row + U2 * stride + width - 1]


@njit(forceinline=True)
def _store_p(work, x, stride, p11, p12, p21, p22, shrink1, shrink2):
    store(work, x + P11 * stride, p11 * shrink1)
    store(work, x + P12 * stride, p12 * shrink1)
    store(work, x + P21 * stride, p21 * shrink2)
    store(work, x + P22 * stride, p22 * shrink2)


@njit(forceinline=True)
def _first_row(work, stride, width, mask, limit, tau):
    """Update U in row 0, which has no p above it."""
    zero = splat(ZERO)
    error, left1, left2 = zero, zero, zero
    for i in range(0, width, 16):
        _, _, square, left1, left2 = _step_u(
            work, i, stride, left1, left2, zero, zero, splat(limit), splat(-limit), splat(tau)
        )
        error = fused(load(work, mask + i), square, error)
    _close_row(work, 0, stride, width)
    return error


@njit(forceinline=True)
def _middle_row(work, row, stride, width, mask, limit, tau, error):
    """Update U in the row that starts at ``row``, and p in the row above it.

    Roots and divisions take ten times as long as the rest, so their results are used two rounds
    after they were asked for; otherwise the processor's queues fill up with waiting products.
    """
    zero = splat(ZERO)
    one = splat(ONE)
    highest = splat(limit)
    lowest = splat(-limit)
    step = splat(tau)
    above = row - NUM_FIELDS * stride
    left1, left2 = zero, zero
    norm1, norm2, shrink1, shrink2 = zero, zero, zero, zero
    new11, new12, new21, new22 = zero, zero, zero, zero
    old11, old12, old21, old22 = zero, zero, zero, zero
    for i in range(0, width, 16):
        a = above + i
        if i > 16:
            _store_p(work, a - 32, stride, old11, old12, old21, old22, shrink1, shrink2)
        old11, old12, old21, old22 = new11, new12, new21, new22
        shrink1 = one / (one + norm1)
        shrink2 = one / (one + norm2)
        above12 = load(work, a + P12 * stride)
        above22 = load(work, a + P22 * stride)
        u1, u2, square, left1, left2 = _step_u(
            work, row + i, stride, left1, left2, above12, above22, highest, lowest, step
        )
        error = fused(load(work, mask + i), square, error)
        above1 = load(work, a + U1 * stride)
        above2 = load(work, a + U2 * stride)
        dx1 = load(work, a + U1 * stride + 1) - above1
        dx2 = load(work, a + U2 * stride + 1) - above2
        dy1 = u1 - above1
        dy2 = u2 - above2
        norm1 = root(fused(dx1, dx1, dy1 * dy1))
        norm2 = root(fused(dx2, dx2, dy2 * dy2))
        new11 = load(work, a + P11 * stride) + dx1
        new12 = above12 + dy1
        new21 = load(work, a + P21 * stride) + dx2
        new22 = above22 + dy2
    end = above + (width + 15) // 16 * 16
    if width > 16:
        _store_p(work, end - 32, stride, old11, old12, old21, old22, shrink1, shrink2)
    shrink1 = one / (one + norm1)
    shrink2 = one / (one + norm2)
    _store_p(work, end - 16, stride, new11, new12, new21, new22, shrink1, shrink2)
    _close_row(work, row, stride, width)
    return error


@njit(forceinline=True)
def _last_p(work, row, stride, width):
    """Update p in the last row, below which the vertical difference is zero."""
    one = splat(ONE)
    for i in range(0, width, 16):
        x = row + i
        dx1 = load(work, x + U1 * stride + 1) - load(work, x + U1 * stride)
        dx2 = load(work, x + U2 * stride + 1) - load(work, x + U2 * stride)
        p11 = load(work, x + P11 * stride) + dx1
        p21 = load(work, x + P21 * stride) + dx2
        p12 = load(work, x + P12 * stride)
        p22 = load(work, x + P22 * stride)
        shrink1 = one / (one + root(dx1 * dx1))
        shrink2 = one / (one + root(dx2 * dx2))
        _store_p(work, x, stride, p11, p12, p21, p22, shrink1, shrink2)


@njit(forceinline=True)
def _sweep(work, height, width, stride, mask, limit, tau):
    """Do one iteration and return the sum of squared changes of U."""
    line = NUM_FIELDS * stride
    error = _first_row(work, stride, width, mask, limit, tau)
    for y in range(1, height):
        error = _middle_row(work, y * line, stride, width, mask, limit, tau, error)
    _last_p(work, (height - 1) * line, stride, width)
    return total(error)


def _solve_scale(
    first,
    second,
    flow,
    work,
    quads,
    unit,
    scale,
    limit,
    step,
    num_warps,
    threshold,
    inner_iterations,
    outer_iterations,
    median,
):
    """Refine a flow at one scale, in place.

    Args:
        first: First image, shape (H, W), float32, 0 to 255.
        second: Second image, the same.
        flow: x and y displacements in pixels, shape (2, H, W), float32; read and written.
        work: Room for ``work_size(H, W)`` float32, aligned to 64 bytes.
        quads: Room for ``quads_size(H, W)`` float32, aligned to 64 bytes.
        unit: Pixels in one unit of the displacements; see ``TVL1Parameters`` for this and others.
        scale: Units of the displacements in one pixel.
        limit: Largest step along the slope.
        step: Time step.
        num_warps: How often the second image is warped.
        threshold: Sum of squared changes at which iterations stop.
        inner_iterations: Iterations between two median filters.
        outer_iterations: Median filters for one warp.
        median: Size of the median filter, 1, 3 or 5; 1 is none.

    Returns:
        Number of iterations, all warps together.
    """
    height, width = first.shape
    stride = (width + 15) // 16 * 16 + 16
    line = NUM_FIELDS * stride
    num_vectors = (width + 15) // 16
    image = height * line
    mask = image + height * stride
    scratch = mask + stride

    work[:] = ZERO
    for x in range(width):
        work[mask + x] = ONE
    for y in range(height):
        for x in range(width):
            work[image + y * stride + x] = first[y, x]
            work[y * line + U1 * stride + x] = flow[0, y, x] * scale
            work[y * line + U2 * stride + x] = flow[1, y, x] * scale
    fill_quads(quads, second)

    iterations = 0
    for _ in range(num_warps):
        for i in range(4 * stride):  # pixels beyond the right border stay zero
            work[scratch + i] = ZERO
        for y in range(height):
            row = y * line
            u1, u2 = row + U1 * stride, row + U2 * stride
            warp_row(work, y, u1, u2, scratch, quads, height, width, unit)
            linearise_row(
                work, image + y * stride, scratch, u1, u2, row + SLOPE_X * stride, stride,
                num_vectors, unit,
            )  # fmt: skip
        error = np.float32(np.inf)
        for _outer in range(outer_iterations):
            if not error > threshold:
                break
            if median > 1:
                median_in_place(work, U1 * stride, line, height, width, median, scratch)
                median_in_place(work, U2 * stride, line, height, width, median, scratch)
            for _inner in range(inner_iterations):
                if not error > threshold:
                    break
                error = _sweep(work, height, width, stride, mask, limit, step)
                iterations += 1

    for y in range(height):
        for x in range(width):
            flow[0, y, x] = work[y * line + U1 * stride + x] * unit
            flow[1, y, x] = work[y * line + U2 * stride + x] * unit
    return iterations


SIGNATURE = (
    "int64(float32[:,::1], float32[:,::1], float32[:,:,::1], float32[::1], float32[::1], "
    "float32, float32, float32, float32, int64, float32, int64, int64, int64)"
)
SOURCES = [
    Path(__file__).with_name(f"{name}.py")
    for name in ("tvl1_kernels", "tvl1_median", "median_network", "tvl1_warp", "lanes")
]

# With its signature given, the function is loaded or compiled here, when this module is imported.
with numba_cache(SOURCES, "TV-L1 flow"):
    solve_scale = njit(SIGNATURE, cache=True, error_model="numpy", nogil=True)(_solve_scale)
