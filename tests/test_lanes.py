import numpy as np
from numba import njit

from preprocess import lanes
from preprocess.lanes import (
    after,
    channels,
    floor,
    fold,
    fused,
    load,
    load_one,
    lower,
    lower_ordered,
    ordered,
    ramp,
    root,
    splat,
    spread_four,
    store,
    store_four,
    store_pixels,
    total,
    upper,
    upper_ordered,
)


@njit
def arithmetic(inputs, out):
    a, b = load(inputs, 1), load(inputs, 17)
    store(out, 0, a + b)
    store(out, 16, a - b)
    store(out, 32, a * b)
    store(out, 48, a / b)
    store(out, 64, fused(a, b, ramp()))
    store(out, 80, root(a * a))
    store(out, 96, lower(a, b))
    store(out, 112, upper(a, b))
    store(out, 128, floor(a))
    store(out, 144, splat(load_one(inputs, 3)))
    store(out, 160, ordered(lower_ordered(ordered(a), ordered(b))))
    store(out, 176, ordered(upper_ordered(ordered(a), ordered(b))))
    store(out, 192, after(a, b))
    return total(a)


@njit
def rearrangement(inputs, out):
    a, b, c, d = load(inputs, 0), load(inputs, 16), load(inputs, 32), load(inputs, 48)
    first, second, third = channels(a, b, c, d)
    store(out, 0, first)
    store(out, 16, second)
    store(out, 32, third)
    store_pixels(out, 48, a, b, c, d)
    store(out, 112, spread_four(inputs, 5))
    store_four(out, 128, fold(a))


def test_arithmetic_is_numpys() -> None:
    inputs = np.random.default_rng(0).normal(size=40).astype(np.float32)
    out = np.zeros(208, np.float32)
    added = arithmetic(inputs, out)
    a, b = inputs[1:17], inputs[17:33]
    exact = a.astype(np.float64) * b + np.arange(16)
    expected = [
        a + b,
        a - b,
        a * b,
        a / b,
        exact.astype(np.float32),
        np.abs(a),
        np.minimum(a, b),
        np.maximum(a, b),
        np.floor(a),
        np.full(16, inputs[3]),
        np.minimum(a, b),
        np.maximum(a, b),
        np.concatenate([a[-1:], b[:-1]]),
    ]
    np.testing.assert_array_equal(out.reshape(13, 16), np.stack(expected))
    halves = a
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert added == halves[0]


def test_lanes_are_rearranged() -> None:
    inputs = np.random.default_rng(0).normal(size=64).astype(np.float32)
    out = np.zeros(132, np.float32)
    rearrangement(inputs, out)
    pixels = inputs.reshape(16, 4)
    np.testing.assert_array_equal(out[:48].reshape(3, 16), pixels.T[:3])
    np.testing.assert_array_equal(out[48:112].reshape(16, 4), inputs.reshape(4, 16).T)
    np.testing.assert_array_equal(out[112:128], np.repeat(inputs[5:9], 4))
    groups = inputs[:16].reshape(4, 4)
    np.testing.assert_array_equal(out[128:], (groups[0] + groups[2]) + (groups[1] + groups[3]))


def test_width_is_what_the_kernels_assume() -> None:
    assert lanes.WIDTH == 16
