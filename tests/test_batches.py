"""The plan of an epoch: every video once, the same whoever asks and however many share it."""

from itertools import chain

import numpy as np
import pytest

from train.batches import BatchPlan, PlanSampler


def plan(num_videos, batch_size, **changes):
    return BatchPlan(num_videos, batch_size, **{"shuffle": True, "seed": 3, **changes})


def steps(plan, epoch):
    """The keys of every step of a rank, part by part."""
    parts = iter(plan.parts(epoch))
    found = [[next(parts) for _ in range(plan.num_parts(step))] for step in range(plan.num_steps)]
    assert next(parts, None) is None
    return found


def places(keys):
    return [place for _, place, counts in keys if counts]


@pytest.mark.parametrize("num_videos", [1, 2, 5, 8, 17])
@pytest.mark.parametrize("batch_size", [1, 3, 8, 32])
@pytest.mark.parametrize("accumulate", [1, 2, 5])
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_ranks_and_parts_deal_out_the_steps_of_one(num_videos, batch_size, accumulate, num_ranks):
    whole = plan(num_videos, batch_size)
    expected = [sorted(places(parts[0])) for parts in steps(whole, 4)]
    assert sorted(chain(*expected)) == list(range(num_videos))
    assert [len(step) for step in expected] == [whole.step_size(n) for n in range(len(expected))]
    shared = [
        steps(plan(num_videos, batch_size, accumulate=accumulate, rank=r, num_ranks=num_ranks), 4)
        for r in range(num_ranks)
    ]
    for number, wanted in enumerate(expected):
        found = [place for rank in shared for part in rank[number] for place in places(part)]
        assert sorted(found) == wanted
        parts = [rank[number] for rank in shared]
        assert len({len(rank) for rank in parts}) == 1, "ranks must meet as often"
        assert all(part for rank in parts for part in rank), "nobody may come with nothing"
        sizes = [len(places(part)) for rank in parts for part in rank]
        assert max(sizes) - min(sizes) <= 1
        # a part in which no rank has anything to do would be work for nothing
        for part in range(len(parts[0])):
            assert any(places(rank[part]) for rank in parts)


def test_a_video_that_does_not_count_belongs_to_the_step():
    first, second = (plan(3, 2, rank=r, num_ranks=2) for r in range(2))
    (_, [[last]]), (_, [[idle]]) = steps(first, 0), steps(second, 0)
    assert last[2] and not idle[2] and idle[1] == last[1]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(plan(20, 4).order(epoch)) for epoch in range(3)}
    orders |= {tuple(plan(20, 4, seed=4).order(epoch)) for epoch in range(3)}
    assert len(orders) == 6
    assert plan(5, 2, shuffle=False).order(7).tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(plan(20, 4).order(2), plan(20, 7, num_ranks=3).order(2))


def test_a_window_chooses_among_neighbours():
    shards = np.repeat(np.arange(10), 6)
    narrow = plan(60, 7, window=4, shard_numbers=shards)
    assert sorted(narrow.order(0).tolist()) == list(range(60))
    assert narrow.order(0).tolist() != narrow.order(1).tolist()
    changes = np.count_nonzero(np.diff(shards[narrow.order(0)]))
    assert changes < np.count_nonzero(np.diff(shards[plan(60, 7).order(0)])) / 1.3
    runs = shards[plan(60, 7, window=1, shard_numbers=shards).order(2)]
    assert np.count_nonzero(np.diff(runs)) == 9  # shard after shard
    in_order = plan(60, 7, shuffle=False, window=4, shard_numbers=shards)
    assert in_order.order(0).tolist() == list(range(60))


@pytest.mark.parametrize("first_step", [0, 1, 2])
def test_the_sampler_begins_at_any_step(first_step):
    sampler = PlanSampler(plan(11, 4, accumulate=2))
    sampler.epoch, sampler.first_step = 5, first_step
    expected = [part for step in steps(sampler.plan, 5)[first_step:] for part in step]
    assert list(sampler) == expected
    assert len(sampler) == len(expected)
    assert {epoch for part in expected for epoch, _, _ in part} == {5}
