"""Sampling formulas against naive ones."""

import math
from fractions import Fraction
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsn_core.errors import InputError
from tsn_core.sampling import SnippetPlan, center_offsets, random_offsets, random_stored, units_of

CASES = [(k, length) for k in (1, 3, 5, 7, 25) for length in (1, 5, 6)]
LONGEST = 400


class Extreme:
    """A generator that always draws its lowest or its highest number, or counts down."""

    def __init__(self, draw):
        self.draw = draw

    def integers(self, high, size):
        return np.array([self.draw(high, place) for place in range(size)])


LOWEST = Extreme(lambda high, _: 0)
HIGHEST = Extreme(lambda high, _: high - 1)
FALLING = Extreme(lambda high, place: max(high - 1 - place, 0))


def naive_centers(num_frames, num_segments, length):
    """Middle of each of K equal parts of the snippets' starts, rounded down."""
    part = Fraction(num_frames - length + 1, num_segments)
    return [math.floor(part * k + part / 2) for k in range(num_segments)]


@pytest.mark.parametrize(("segments", "length"), CASES)
def test_centers_equal_naive_ones(segments, length):
    for frames in range(length, LONGEST + 1):
        offsets = center_offsets(frames, segments, length)
        assert offsets.dtype == np.int64
        assert offsets.tolist() == naive_centers(frames, segments, length)
        assert 0 <= offsets[0] <= offsets[-1] <= frames - length


def tsn_centers(num_frames, num_segments, length):
    """The TSN authors' test-time indices, counted from 0: floating point and rounded down."""
    tick = (num_frames - length + 1) / float(num_segments)
    return [int(tick / 2.0 + tick * k) for k in range(num_segments)]


@pytest.mark.parametrize(("segments", "length"), CASES)
def test_centers_are_tsns_but_for_its_rounding_errors(segments, length):
    """Where the exact middle is a whole number, floating point may fall just short of it."""
    for frames in range(length, LONGEST + 1):
        ours = center_offsets(frames, segments, length).tolist()
        for k, (own, theirs) in enumerate(zip(ours, tsn_centers(frames, segments, length))):
            if own != theirs:
                exact = Fraction((2 * k + 1) * (frames - length + 1), 2 * segments)
                assert own == exact and theirs == own - 1


@pytest.mark.parametrize(("segments", "length"), CASES)
def test_all_snippets_stored_are_the_timeline_itself(segments, length):
    """On dense shards the numbers of stored snippets are their first frames."""
    plan = SnippetPlan(dense=True)
    for frames in range(1, LONGEST + 1):
        starts = plan.starts(frames, length, 25.0)
        assert np.array_equal(starts, np.arange(max(frames - length, 0) + 1))
        chosen = starts[center_offsets(len(starts), segments, 1)]
        assert chosen.tolist() == naive_centers(max(frames, length), segments, length)


@pytest.mark.parametrize(("segments", "length"), CASES)
def test_random_offsets_equal_naive_ones_at_their_extremes(segments, length):
    for frames in range(length, LONGEST + 1):
        lowest = random_offsets(frames, segments, length, LOWEST)
        highest = random_offsets(frames, segments, length, HIGHEST)
        n = (frames - length + 1) // segments
        if n > 0:
            assert lowest.tolist() == [k * n for k in range(segments)]
            assert highest.tolist() == [k * n + n - 1 for k in range(segments)]
        elif frames > segments:
            assert lowest.tolist() == [0] * segments
            assert highest.tolist() == [frames - length] * segments
            falling = random_offsets(frames, segments, length, FALLING)
            drawn = [max(frames - length - place, 0) for place in range(segments)]
            assert falling.tolist() == sorted(drawn)
        else:
            assert lowest.tolist() == highest.tolist() == [0] * segments


@given(
    frames=st.integers(1, LONGEST),
    segments=st.integers(1, 25),
    length=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_random_offsets_are_valid_sorted_and_repeatable(frames, segments, length, seed):
    frames = max(frames, length)
    offsets = random_offsets(frames, segments, length, np.random.default_rng(seed))
    again = random_offsets(frames, segments, length, np.random.default_rng(seed))
    assert offsets.shape == (segments,) and offsets.dtype == np.int64
    assert offsets.tolist() == again.tolist() == sorted(offsets)
    assert 0 <= offsets[0] <= offsets[-1] <= frames - length


def test_random_offsets_reach_every_start():
    generator = np.random.default_rng(0)
    seen = {tuple(random_offsets(6, 2, 1, generator)) for _ in range(300)}
    assert seen == {(first, second) for first in range(3) for second in range(3, 6)}


def members(snippets, segments):
    """The snippets of every segment, by the middles of their parts of the video."""
    middles = [Fraction(2 * i + 1, 2 * snippets) for i in range(snippets)]
    return [
        [i for i in range(snippets) if k <= middles[i] * segments < k + 1] for k in range(segments)
    ]


class Bound:
    """A generator that always draws the lowest number, or the highest."""

    def __init__(self, highest):
        self.highest = highest

    def integers(self, low, high):
        assert (low < high).all()
        return high - 1 if self.highest else low


@pytest.mark.parametrize("segments", [1, 3, 5, 7, 25])
def test_stored_snippets_belong_to_the_segment_of_their_middle(segments):
    for snippets in range(segments + 1, 80):
        lowest = random_stored(snippets, segments, Bound(highest=False)).tolist()
        highest = random_stored(snippets, segments, Bound(highest=True)).tolist()
        expected = members(snippets, segments)
        assert lowest == [numbers[0] for numbers in expected]
        assert highest == [numbers[-1] for numbers in expected]
        assert list(chain(*expected)) == list(range(snippets))  # every one has its turn


@pytest.mark.parametrize(("snippets", "segments"), [(25, 3), (25, 7), (26, 25), (9, 1)])
def test_every_stored_snippet_of_a_segment_is_equally_likely(snippets, segments):
    generator = np.random.default_rng(0)
    draws = np.stack([random_stored(snippets, segments, generator) for _ in range(2000)])
    assert draws.dtype == np.int64
    assert (np.diff(draws) > 0).all()
    for k, numbers in enumerate(members(snippets, segments)):
        found, counts = np.unique(draws[:, k], return_counts=True)
        assert found.tolist() == numbers
        assert counts.min() > 0.75 * 2000 / len(numbers)


@pytest.mark.parametrize("segments", [1, 3, 5, 7, 25])
def test_with_fewer_snippets_than_segments_the_nearest_ones_repeat(segments):
    for snippets in range(1, segments + 1):
        chosen = random_stored(snippets, segments, np.random.default_rng(0))
        assert chosen.dtype == np.int64
        # segment k's middle lies in the part of the video that this snippet stands for
        middles = [Fraction(2 * k + 1, 2 * segments) for k in range(segments)]
        assert chosen.tolist() == [math.floor(middle * snippets) for middle in middles]
        for k, numbers in enumerate(members(snippets, segments)):
            assert numbers in ([], [chosen[k]])
    assert random_stored(2, 7, np.random.default_rng(0)).tolist() == [0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 3), "num_snippets must be > 0, got 0"), ((9, 0), "num_segments must be > 0, got 0")],
)
def test_random_stored_refuses_what_makes_no_sense(arguments, message):
    with pytest.raises(InputError) as caught:
        random_stored(*arguments, np.random.default_rng(0))
    assert str(caught.value) == message


@pytest.mark.parametrize("function", [center_offsets, random_offsets])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, 1), "num_frames must be > 0, got 0"),
        ((9, 0, 1), "num_segments must be > 0, got 0"),
        ((9, 3, -2), "snippet_length must be > 0, got -2"),
        ((4, 3, 5), "num_frames must be >= snippet_length=5, got 4"),
    ],
)
def test_offsets_refuse_what_makes_no_sense(function, arguments, message):
    rest = (np.random.default_rng(0),) if function is random_offsets else ()
    with pytest.raises(InputError) as caught:
        function(*arguments, *rest)
    assert str(caught.value) == message


def naive_starts(plan, num_units, length, video_fps):
    """One snippet at a time, from the plan's own words."""
    num_units = max(num_units, length)
    if plan.snippets:
        return naive_centers(num_units, plan.snippets, length)
    if plan.dense:
        return list(range(num_units - length + 1))
    starts, number = [], 0
    step = max(video_fps / plan.fps, 1.0)
    while round(number * step) + length <= num_units:
        starts.append(round(number * step))
        number += 1
    return starts


PLANS = st.one_of(
    st.integers(1, 30).map(lambda number: SnippetPlan(snippets=number)),
    st.just(SnippetPlan(dense=True)),
    st.floats(0.1, 80).map(lambda rate: SnippetPlan(fps=rate)),
)


@given(
    plan=PLANS,
    num_units=st.integers(0, LONGEST),
    length=st.sampled_from([1, 5, 6]),
    video_fps=st.floats(1, 120),
)
def test_starts_equal_naive_ones(plan, num_units, length, video_fps):
    starts = plan.starts(num_units, length, video_fps)
    assert starts.dtype == np.int64
    assert starts.tolist() == naive_starts(plan, num_units, length, video_fps)
    assert len(starts) > 0


@given(
    rate=st.none() | st.floats(0.1, 80),
    length=st.sampled_from([1, 5, 6]),
    video_fps=st.floats(1, 120),
)
def test_wants_exactly_the_units_of_an_endless_video(rate, length, video_fps):
    plan = SnippetPlan(dense=True) if rate is None else SnippetPlan(fps=rate)
    longest = 200
    units = set(units_of(plan.starts(longest + length, length, video_fps), length).tolist())
    wanted = {unit for unit in range(longest) if plan.wants(unit, length, video_fps)}
    assert wanted == {unit for unit in units if unit < longest}
    assert not plan.wants(-1, length, video_fps)


@given(starts=st.lists(st.integers(0, 50), min_size=1), length=st.integers(1, 6))
def test_units_of_is_the_sorted_union(starts, length):
    units = units_of(np.array(sorted(starts)), length).tolist()
    assert units == sorted({start + place for start in starts for place in range(length)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "choose exactly one of --snippets, --dense and --fps"),
        ({"snippets": 3, "dense": True}, "choose exactly one of --snippets, --dense and --fps"),
        ({"fps": 2.0, "dense": True}, "choose exactly one of --snippets, --dense and --fps"),
        ({"snippets": 0}, "--snippets must be > 0, got 0"),
        ({"fps": 0.0}, "--fps must be > 0, got 0.0"),
        ({"fps": float("nan")}, "--fps must be > 0, got nan"),
        ({"fps": float("inf")}, "--fps must be > 0, got inf"),
    ],
)
def test_a_plan_is_one_of_three(fields, message):
    with pytest.raises(InputError) as caught:
        SnippetPlan(**fields)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (SnippetPlan(snippets=25), '{"snippets": 25}'),
        (SnippetPlan(dense=True), '{"dense": true}'),
        (SnippetPlan(fps=2.5), '{"fps": 2.5}'),
    ],
)
def test_a_plan_is_written_with_what_is_set(plan, text):
    assert plan.to_json() == text
    assert SnippetPlan(**plan.to_dict()) == plan
