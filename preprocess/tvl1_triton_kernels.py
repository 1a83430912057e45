"""TV-L1 at one scale as Triton kernels, for many pairs at once.

An iteration reads ten numbers of a pixel and writes six, so the memory decides how fast it is. Here
a program takes a tile with a halo of pixels around its core, does as many iterations as the halo is
wide without touching the memory, and writes the core: each iteration makes one more ring of the
halo worthless. Neighbours in a tile come by ``gather``, which goes through shared memory, two
float32 at a time.

Pairs need different numbers of iterations, and their error is known only when all tiles are done.
So a launch reads one set of fields and writes another; ``decide`` then looks for the first
iteration at which a pair was good enough. If that was the last one, or none was, the pair goes over
to the new fields; otherwise the next launch repeats exactly that many from the old ones. What comes
out is what stopping in time gives.

Formulas and units are those of ``tvl1_kernels``. The same source runs in Triton's interpreter on a
CPU (``TRITON_INTERPRET=1``), which is how it is tested.

Layout: fields are float32 with rows ``stride`` apart; u (2, N, 2, H, stride), p (2, N, 4, H,
stride), where the first axis is that of the old and the new fields, which ``at_u`` and ``at_p``
tell for each pair; slopes (N, 4, H, stride).
"""

# Of what a kernel is made, mypy knows nothing.
# mypy: ignore-errors

import triton
import triton.language as tl

from preprocess.median_network import (
    bound_to,
    median_of_9,
    median_of_25,
    sorted_five,
    sorted_three,
)

# The same code for any number of pairs: what comes out of one must not depend on the others.
_FREE = ["num_pairs", "num_tiles", "tiles_across", "next_todo"]
MARGIN = tl.constexpr(4)  # pixels beyond the border at which no tap of a warp is inside


@triton.jit
def _packed(a, b):
    low = a.to(tl.uint32, bitcast=True).to(tl.uint64)
    high = b.to(tl.uint32, bitcast=True).to(tl.uint64)
    return low | (high << 32)


@triton.jit
def _first(pair):
    return pair.to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit
def _second(pair):
    return (pair >> 32).to(tl.uint32).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=_FREE)
def sweep(
    u,
    p,
    slopes,
    errors,
    at_u,
    at_p,
    todo,
    num_pairs,
    height,
    width,
    stride,
    tiles_across,
    limit,
    tau,
    TILE_Y: tl.constexpr,
    TILE_X: tl.constexpr,
    HALO: tl.constexpr,
):
    """Do ``todo`` iterations, at most ``HALO``, of one tile of one pair.

    The grid is (tiles, pairs). Tiles begin one pixel outside the image, where everything is zero.
    ``errors`` (N, tiles, HALO) gets the sum of squared changes in the core after each iteration.
    """
    tile = tl.program_id(0)
    n = tl.program_id(1)
    count = tl.load(todo + n)
    if count == 0:
        return
    size: tl.constexpr = TILE_Y * TILE_X
    i = tl.arange(0, size)
    row = i // TILE_X
    column = i % TILE_X
    y = (tile // tiles_across) * (TILE_Y - 2 * HALO) - 1 + row
    x = (tile % tiles_across) * (TILE_X - 2 * HALO) - 1 + column
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    has_right = inside & (x < width - 1)
    has_below = inside & (y < height - 1)
    # Where a tile begins or ends at the border of the image, it has no halo.
    core = inside & ((row >= HALO) | (y < HALO)) & ((column >= HALO) | (x < HALO))
    core &= (row < TILE_Y - HALO) | (tile + tiles_across >= tl.num_programs(0))
    core &= (column < TILE_X - HALO) | (tile % tiles_across == tiles_across - 1)

    plane = height * stride
    at = y * stride + x
    read_u = tl.load(at_u + n)
    read_p = tl.load(at_p + n)
    long_n = n.to(tl.int64)
    old_u = u + (read_u * num_pairs + long_n) * 2 * plane
    old_p = p + (read_p * num_pairs + long_n) * 4 * plane
    new_u = u + ((1 - read_u) * num_pairs + long_n) * 2 * plane
    new_p = p + ((1 - read_p) * num_pairs + long_n) * 4 * plane
    slopes += long_n * 4 * plane
    u1 = tl.load(old_u + at, inside, 0.0)
    u2 = tl.load(old_u + plane + at, inside, 0.0)
    p11 = tl.load(old_p + at, inside, 0.0)
    p12 = tl.load(old_p + plane + at, inside, 0.0)
    p21 = tl.load(old_p + 2 * plane + at, inside, 0.0)
    p22 = tl.load(old_p + 3 * plane + at, inside, 0.0)
    slope_x = tl.load(slopes + at, inside, 0.0)
    slope_y = tl.load(slopes + plane + at, inside, 0.0)
    residual = tl.load(slopes + 2 * plane + at, inside, 0.0)
    inverse = tl.load(slopes + 3 * plane + at, inside, 0.0)

    left = tl.maximum(i - 1, 0)
    right = tl.minimum(i + 1, size - 1)
    above = tl.maximum(i - TILE_X, 0)
    below = tl.minimum(i + TILE_X, size - 1)
    errors += (n * tl.num_programs(0) + tile) * HALO
    for k in range(count):
        rho = slope_x * u1 + (slope_y * u2 + residual)
        force = tl.minimum(tl.maximum(rho * inverse, -limit), limit)
        p_left = tl.gather(_packed(p11, p21), left, 0)
        p_above = tl.gather(_packed(p12, p22), above, 0)
        change1 = force * slope_x + tau * ((p11 - _first(p_left)) + (p12 - _first(p_above)))
        change2 = force * slope_y + tau * ((p21 - _second(p_left)) + (p22 - _second(p_above)))
        u1 += change1
        u2 += change2
        square = change1 * change1 + change2 * change2
        tl.store(errors + k, tl.sum(tl.where(core, square, 0.0)))
        both = _packed(u1, u2)
        u_right = tl.gather(both, right, 0)
        u_below = tl.gather(both, below, 0)
        dx1 = tl.where(has_right, _first(u_right) - u1, 0.0)
        dx2 = tl.where(has_right, _second(u_right) - u2, 0.0)
        dy1 = tl.where(has_below, _first(u_below) - u1, 0.0)
        dy2 = tl.where(has_below, _second(u_below) - u2, 0.0)
        root1 = tl.rsqrt(1.0 + tl.sqrt(dx1 * dx1 + dy1 * dy1))
        root2 = tl.rsqrt(1.0 + tl.sqrt(dx2 * dx2 + dy2 * dy2))
        shrink1 = root1 * root1  # a division takes three times as many instructions
        shrink2 = root2 * root2
        p11 = (p11 + dx1) * shrink1
        p12 = (p12 + dy1) * shrink1
        p21 = (p21 + dx2) * shrink2
        p22 = (p22 + dy2) * shrink2
    tl.store(new_u + at, u1, core)
    tl.store(new_u + plane + at, u2, core)
    tl.store(new_p + at, p11, core)
    tl.store(new_p + plane + at, p12, core)
    tl.store(new_p + 2 * plane + at, p21, core)
    tl.store(new_p + 3 * plane + at, p22, core)


@triton.jit(do_not_specialize=_FREE)
def decide(
    errors,
    at_u,
    at_p,
    todo,
    active,
    iterations,
    num_tiles,
    next_todo,
    threshold,
    HALO: tl.constexpr,
    TILES: tl.constexpr,
    COUNTS: tl.constexpr,
):
    """Say how one pair goes on after a ``sweep``.

    The grid is (pairs,). ``TILES`` and ``COUNTS`` are powers of two, not below ``num_tiles`` and
    ``HALO``.
    """
    n = tl.program_id(0)
    count = tl.load(todo + n)
    if count == 0:
        return
    tile = tl.arange(0, TILES)[:, None]
    k = tl.arange(0, COUNTS)[None, :]
    there = (tile < num_tiles) & (k < count)
    total = tl.sum(tl.load(errors + (n * num_tiles + tile) * HALO + k, there, 0.0), 0)
    number = tl.arange(0, COUNTS)
    good = (number < count) & ((total > threshold) == 0)  # one that is no number ends it, too
    first = tl.min(tl.where(good, number, COUNTS), 0)
    again = first < count - 1
    ends = first == count - 1
    over = tl.where(again, 0, 1)
    tl.store(at_u + n, tl.load(at_u + n) ^ over)
    tl.store(at_p + n, tl.load(at_p + n) ^ over)
    tl.store(iterations + n, tl.load(iterations + n) + over * count)
    tl.store(todo + n, tl.where(again, first + 1, tl.where(ends, 0, next_todo)))
    tl.store(active + n, tl.where(ends, 0, 1))


@triton.jit
def _tap_weight(t, TAP: tl.constexpr):
    """Return the weight of the tap at ``TAP`` - 1 for positions 0 <= t < 1; see ``tvl1_warp``."""
    rest = 1.0 - t
    sharp = -0.75 * t * rest
    here = (1.25 * t - 2.25) * (t * t) + 1.0
    if TAP == 0:
        return sharp * rest
    elif TAP == 1:
        return here
    elif TAP == 2:
        return 1.0 - sharp * rest - here - sharp * t
    else:
        return sharp * t


@triton.jit(do_not_specialize=_FREE)
def linearise(
    frames,
    seconds,
    u,
    slopes,
    at_u,
    pairs,
    num_pairs,
    height,
    width,
    stride,
    unit,
    smallest,
    BLOCK: tl.constexpr,
):
    """Warp the second image at ``BLOCK`` pixels of one pair, and write the four coefficients.

    The grid is (blocks, pairs). ``frames`` (M, H, W); ``seconds`` (M, 3, H, W): the same with
    their gradients; ``pairs`` (N, 2) int64.
    """
    n = tl.program_id(1)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = i < height * width
    y = i // width
    x = i % width
    plane = height * stride
    at = y * stride + x
    long_n = n.to(tl.int64)
    u += (tl.load(at_u + n) * num_pairs + long_n) * 2 * plane
    u1 = tl.load(u + at, there, 0.0)
    u2 = tl.load(u + plane + at, there, 0.0)
    at_x = x + u1 * unit
    at_y = y + u2 * unit
    floor_x = tl.floor(at_x)
    floor_y = tl.floor(at_y)
    t_x = at_x - floor_x
    t_y = at_y - floor_y
    column = tl.minimum(tl.maximum(floor_x, 1.0 - MARGIN), width + 1.0).to(tl.int32) - 1
    row = tl.minimum(tl.maximum(floor_y, 1.0 - MARGIN), height + 1.0).to(tl.int32) - 1
    pixels = height * width
    seconds += tl.load(pairs + 2 * n + 1) * 3 * pixels
    value = tl.zeros((BLOCK,), tl.float32)
    slope_x = tl.zeros((BLOCK,), tl.float32)
    slope_y = tl.zeros((BLOCK,), tl.float32)
    for j in tl.static_range(4):
        row_value = tl.zeros((BLOCK,), tl.float32)
        row_x = tl.zeros((BLOCK,), tl.float32)
        row_y = tl.zeros((BLOCK,), tl.float32)
        tap_y = row + j
        in_row = there & (tap_y >= 0) & (tap_y < height)
        for k in tl.static_range(4):
            tap_x = column + k
            inside = in_row & (tap_x >= 0) & (tap_x < width)
            place = tap_y * width + tap_x
            weight = _tap_weight(t_x, k)
            row_value += weight * tl.load(seconds + place, inside, 0.0)
            row_x += weight * tl.load(seconds + pixels + place, inside, 0.0)
            row_y += weight * tl.load(seconds + 2 * pixels + place, inside, 0.0)
        weight = _tap_weight(t_y, j)
        value += weight * row_value
        slope_x += weight * row_x
        slope_y += weight * row_y
    slope_x *= unit
    slope_y *= unit
    square = slope_x * slope_x + slope_y * slope_y
    first = tl.load(frames + tl.load(pairs + 2 * n) * pixels + i, there, 0.0)
    slopes += long_n * 4 * plane + at
    tl.store(slopes, slope_x, there)
    tl.store(slopes + plane, slope_y, there)
    tl.store(slopes + 2 * plane, value - first - (slope_x * u1 + slope_y * u2), there)
    tl.store(slopes + 3 * plane, -1.0 / tl.maximum(square, smallest), there)


@triton.jit
def _smaller(a, b):
    return tl.minimum(a, b)


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


_NAMES = {"lower": _smaller, "upper": _larger, "tl": tl}
_sorted_three = triton.jit(bound_to(sorted_three, **_NAMES))
_sorted_five = triton.jit(bound_to(sorted_five, **_NAMES))
_median_of_9 = triton.jit(bound_to(median_of_9, **_NAMES))
_median_of_25 = triton.jit(bound_to(median_of_25, **_NAMES))


@triton.jit
def _near(plane, y, x, dy, dx, height, width, stride, there):
    """Return what lies (dy, dx) px beside; borders repeat the last pixel."""
    row = tl.minimum(tl.maximum(y + dy, 0), height - 1)
    column = tl.minimum(tl.maximum(x + dx, 0), width - 1)
    return tl.load(plane + row * stride + column, there, 0.0)


@triton.jit
def _column_of_three(plane, y, x, dx, height, width, stride, there):
    return _sorted_three(
        _near(plane, y, x, -1, dx, height, width, stride, there),
        _near(plane, y, x, 0, dx, height, width, stride, there),
        _near(plane, y, x, 1, dx, height, width, stride, there),
    )


@triton.jit
def _column_of_five(plane, y, x, dx, height, width, stride, there):
    return _sorted_five(
        _near(plane, y, x, -2, dx, height, width, stride, there),
        _near(plane, y, x, -1, dx, height, width, stride, there),
        _near(plane, y, x, 0, dx, height, width, stride, there),
        _near(plane, y, x, 1, dx, height, width, stride, there),
        _near(plane, y, x, 2, dx, height, width, stride, there),
    )


@triton.jit(do_not_specialize=_FREE)
def median(
    u,
    at_u,
    active,
    num_pairs,
    height,
    width,
    stride,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write the median of u over windows of 3x3 or 5x5 into the new fields of active pairs.

    The grid is (blocks, 2, pairs): ``BLOCK`` pixels of one of the two planes.
    """
    n = tl.program_id(2)
    if tl.load(active + n) == 0:
        return
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = i < height * width
    y = i // width
    x = i % width
    plane = height * stride
    read = tl.load(at_u + n)
    which = n.to(tl.int64) * 2 + tl.program_id(1)
    old = u + (read * num_pairs * 2 + which) * plane
    new = u + ((1 - read) * num_pairs * 2 + which) * plane
    if SIZE == 3:
        a0, a1, a2 = _column_of_three(old, y, x, -1, height, width, stride, there)
        b0, b1, b2 = _column_of_three(old, y, x, 0, height, width, stride, there)
        c0, c1, c2 = _column_of_three(old, y, x, 1, height, width, stride, there)
        middle = _median_of_9(a0, b0, c0, a1, b1, c1, a2, b2, c2)
    else:
        a0, a1, a2, a3, a4 = _column_of_five(old, y, x, -2, height, width, stride, there)
        b0, b1, b2, b3, b4 = _column_of_five(old, y, x, -1, height, width, stride, there)
        c0, c1, c2, c3, c4 = _column_of_five(old, y, x, 0, height, width, stride, there)
        d0, d1, d2, d3, d4 = _column_of_five(old, y, x, 1, height, width, stride, there)
        e0, e1, e2, e3, e4 = _column_of_five(old, y, x, 2, height, width, stride, there)
        middle = _median_of_25(
            a0, b0, c0, d0, e0,
            a1, b1, c1, d1, e1,
            a2, b2, c2, d2, e2,
            a3, b3, c3, d3, e3,
            a4, b4, c4, d4, e4,
        )  # fmt: skip
    tl.store(new + y * stride + x, middle, there)
