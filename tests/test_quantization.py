"""Coding of flow and differences against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsn_core.errors import InputError
from tsn_core.quantization import (
    dequantize,
    flow_scale_zero,
    quantize_difference,
    quantize_flow,
)

BOUNDS = st.floats(0.25, 500)


def exact_code(value, bound):
    """The formula in rational numbers, before rounding."""
    value, bound = Fraction(float(value)), Fraction(bound)
    clamped = min(max(value, -bound), bound)
    return 255 * (clamped + bound) / (2 * bound)


def code_of(value, bound):
    flow = np.zeros((1, 1, 2), np.float32)
    flow[0, 0, 0] = value
    return int(quantize_flow(flow, bound)[0, 0])


@given(value=st.floats(-600, 600, width=32), bound=BOUNDS)
def test_flow_code_is_the_rounded_formula(value, bound):
    exact = exact_code(value, bound)
    # Half a step, and what float32 loses.
    assert abs(code_of(value, bound) - exact) <= Fraction(1, 2) + Fraction(1, 10_000)


@given(bound=BOUNDS)
def test_stillness_and_the_bounds_have_fixed_codes(bound):
    assert code_of(0, bound) == 128
    assert code_of(bound, bound) == code_of(10 * bound, bound) == 255
    assert code_of(-bound, bound) == code_of(-10 * bound, bound) == 0


def test_every_code_of_the_default_bound_is_the_formula_rounded_half_to_even():
    values = (np.arange(-160, 161) / 8).astype(np.float32)  # exact in float32
    expected = [round(exact_code(value, 20)) for value in values]  # halves to even
    assert [code_of(value, 20) for value in values] == expected


def test_x_lies_on_top_of_y():
    flow = np.zeros((2, 3, 2), np.float32)
    flow[..., 0] = [[-20, 0, 20], [0, 0, 0]]
    flow[..., 1] = 10
    image = quantize_flow(flow, 20)
    assert image.dtype == np.uint8
    assert image.tolist() == [[0, 128, 255], [128, 128, 128], [191, 191, 191], [191, 191, 191]]
    assert flow[0, 2, 0] == 20, "the argument is left as it was"


@given(value=st.floats(-1, 1, width=32), bound=BOUNDS)
def test_flow_comes_back_within_half_a_step(value, bound):
    value = np.float32(value * bound)
    scale, zero = flow_scale_zero(bound)
    back = dequantize(np.uint8([code_of(value, bound)]), scale, zero)
    assert back.dtype == np.float32
    assert abs(float(back[0]) - np.clip(value, -bound, bound)) <= 0.501 * scale


def test_every_code_survives_decoding_and_coding():
    codes = np.arange(256, dtype=np.uint8)
    for bound in (1, 7, 15, 20, 33.3):
        values = dequantize(codes, *flow_scale_zero(bound))
        assert [code_of(value, bound) for value in values] == codes.tolist()
        mirrored = dequantize(255 - codes, *flow_scale_zero(bound))
        assert (mirrored == -values).all()


@pytest.mark.parametrize("bound", [0, -1.0, float("nan"), float("inf")])
def test_bound_must_be_a_positive_number(bound):
    with pytest.raises(InputError) as caught:
        quantize_flow(np.zeros((1, 1, 2), np.float32), bound)
    assert str(caught.value) == f"bound must be > 0 and finite, got {bound}"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_flow_must_be_finite(value):
    with pytest.raises(InputError) as caught:
        quantize_flow(np.full((1, 1, 2), value, np.float32), 20)
    assert str(caught.value) == "the optical flow must be finite, got NaN or infinity"


def test_difference_of_every_pair_of_values():
    first, second = np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2)
    expected = [
        [max(min(int(b) - int(a), 127), -128) + 128 for a, b in zip(*rows)]
        for rows in zip(first, second)
    ]
    codes = quantize_difference(first, second)
    assert codes.dtype == np.uint8
    assert codes.tolist() == expected
