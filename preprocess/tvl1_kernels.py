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

import numpy as np
from numba import njit

from preprocess.lanes import after, fused, load, lower, root, splat, store, total, upper
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
def _sweep_row(work, row, stride, width, mask, limit, tau, error, with_u, with_p):  # type: ignore[no-untyped-def]
    """Update U in the row that starts at ``row``, and p in the row above it."""
    zero = splat(ZERO)
    one = splat(ONE)
    highest = splat(limit)
    lowest = splat(-limit)
    step = splat(tau)
    left1 = zero
    left2 = zero
    above = row - NUM_FIELDS * stride
    for i in range(0, width, 16):
        x = row + i
        a = above + i
        if with_p:
            a12 = load(work, a + P12 * stride)
            a22 = load(work, a + P22 * stride)
        else:
            a12 = zero
            a22 = zero
        if with_u:
            u1 = load(work, x + U1 * stride)
            u2 = load(work, x + U2 * stride)
            slope_x = load(work, x + SLOPE_X * stride)
            slope_y = load(work, x + SLOPE_Y * stride)
            rho = fused(slope_x, u1, fused(slope_y, u2, load(work, x + RESIDUAL * stride)))
            force = upper(lower(rho * load(work, x + INVERSE * stride), highest), lowest)
            p11 = load(work, x + P11 * stride)
            p21 = load(work, x + P21 * stride)
            div1 = (p11 - after(left1, p11)) + (load(work, x + P12 * stride) - a12)
            div2 = (p21 - after(left2, p21)) + (load(work, x + P22 * stride) - a22)
            left1 = p11
            left2 = p21
            change1 = fused(force, slope_x, step * div1)
            change2 = fused(force, slope_y, step * div2)
            u1 = u1 + change1
            u2 = u2 + change2
            store(work, x + U1 * stride, u1)
            store(work, x + U2 * stride, u2)
            square = fused(change1, change1, change2 * change2)
            error = fused(load(work, mask + i), square, error)
        if with_p:
            a1 = load(work, a + U1 * stride)
            a2 = load(work, a + U2 * stride)
            dx1 = load(work, a + U1 * stride + 1) - a1
            dx2 = load(work, a + U2 * stride + 1) - a2
            if with_u:
                dy1 = u1 - a1
                dy2 = u2 - a2
            else:
                dy1 = zero
                dy2 = zero
            shrink1 = one / (one + root(fused(dx1, dx1, dy1 * dy1)))
            shrink2 = one / (one + root(fused(dx2, dx2, dy2 * dy2)))
            store(work, a + P11 * stride, (load(work, a + P11 * stride) + dx1) * shrink1)
            store(work, a + P12 * stride, (a12 + dy1) * shrink1)
            store(work, a + P21 * stride, (load(work, a + P21 * stride) + dx2) * shrink2)
            store(work, a + P22 * stride, (a22 + dy2) * shrink2)
    if with_u:  # so that the forward difference in the last column is zero
        work[row + U1 * stride + width] = work[row + U1 * stride + width - 1]
        work[row + U2 * stride + width] = work[row + U2 * stride + width - 1]
    return error


@njit(forceinline=True)
def _sweep(work, height, width, stride, mask, limit, tau):  # type: ignore[no-untyped-def]
    """Do one iteration and return the sum of squared changes of U."""
    line = NUM_FIELDS * stride
    error = splat(ZERO)
    error = _sweep_row(work, 0, stride, width, mask, limit, tau, error, True, False)
    for y in range(1, height):
        error = _sweep_row(work, y * line, stride, width, mask, limit, tau, error, True, True)
    error = _sweep_row(work, height * line, stride, width, mask, limit, tau, error, False, True)
    return total(error)


@njit(cache=True, error_model="numpy", nogil=True)
def solve_scale(  # type: ignore[no-untyped-def]
    first,
    second,
    flow,
    work,
    quads,
    tau,
    lambda_,
    theta,
    num_warps,
    epsilon,
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
        tau: Time step.
        lambda_: Weight of the data term.
        theta: Tightness of the coupling.
        num_warps: How often the second image is warped.
        epsilon: Root mean square change, in pixels, below which iterations stop.
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
    unit = np.float32(theta / tau)
    scale = np.float32(tau / theta)
    limit = np.float32(lambda_ * theta * (tau / theta) ** 2)
    step = np.float32(tau)
    threshold = np.float32(epsilon * epsilon * height * width * (tau / theta) ** 2)

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
