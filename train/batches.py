"""Which videos every step of an epoch takes, on every rank: a plan that anybody can compute."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from tsn_core.video_order import shuffled

# Epoch, place of the video in the dataset, and whether it counts: a rank that has no video left in
# an incomplete step computes one for nothing, since all ranks must take part.
Key = tuple[int, int, bool]


@dataclass(frozen=True)
class BatchPlan:
    """How an epoch's videos are dealt out to steps, ranks and parts of a step.

    Attributes:
        num_videos: In the dataset.
        batch_size: Videos of a step, over all ranks and parts.
        shuffle: Whether the order is random, another one in every epoch.
        seed: Of the order.
        accumulate: Parts of a step that every rank computes one after the other.
        rank: Of this process.
        num_ranks: How many processes share every step.
        window: Where it is not 0, the next video is any of so many that lie near each other: shards
            come in random order, and their videos run through a window of that size.
        shard_numbers: Shard that each video lies in, (num_videos,); for the window alone.
    """

    num_videos: int
    batch_size: int
    shuffle: bool
    seed: int
    accumulate: int = 1
    rank: int = 0
    num_ranks: int = 1
    window: int = 0
    shard_numbers: np.ndarray | None = None

    @property
    def num_steps(self) -> int:
        """Steps of an epoch; the last one may be incomplete."""
        return math.ceil(self.num_videos / self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Return the places of all videos in the order of an epoch, (num_videos,) int64."""
        places = np.arange(self.num_videos)
        if not self.shuffle:
            return places
        generator = np.random.default_rng((self.seed, epoch))
        if self.window:
            assert self.shard_numbers is not None
            return shuffled(self.shard_numbers, self.window, generator)
        generator.shuffle(places)
        return places

    def step_size(self, step: int) -> int:
        """Return how many videos a step has, over all ranks and parts."""
        return min(self.batch_size, self.num_videos - step * self.batch_size)

    @property
    def largest_part(self) -> int:
        """Videos of the largest part of a step."""
        first = self.step_size(0)
        return math.ceil(first / (self.num_parts(0) * self.num_ranks)) if first else 0

    def num_parts(self, step: int) -> int:
        """Return in how many parts every rank computes a step."""
        return min(self.accumulate, math.ceil(self.step_size(step) / self.num_ranks))

    def parts(self, epoch: int, first_step: int = 0) -> Iterator[list[Key]]:
        """Yield what this rank computes in an epoch, from a step on.

        Yields:
            ``num_parts(step)`` lists of keys for every step, none of them empty.
        """
        order = self.order(epoch)
        for step in range(first_step, self.num_steps):
            first = step * self.batch_size
            places = order[first : first + self.step_size(step)]
            shares = np.array_split(places, self.num_parts(step) * self.num_ranks)
            for share in shares[self.rank :: self.num_ranks]:
                keys = [(epoch, int(place), True) for place in share]
                yield keys or [(epoch, int(places[0]), False)]


class PlanSampler(Sampler):
    """Yields the parts of an epoch's steps, as lists of keys; a loader's ``batch_sampler``.

    Attributes:
        plan: Whose parts.
        epoch: Which epoch.
        first_step: From which step on.
    """

    def __init__(self, plan: BatchPlan) -> None:
        self.plan = plan
        self.epoch = 0
        self.first_step = 0

    def __len__(self) -> int:
        steps = range(self.first_step, self.plan.num_steps)
        return sum(self.plan.num_parts(step) for step in steps)

    def __iter__(self) -> Iterator[list[Key]]:
        return self.plan.parts(self.epoch, self.first_step)
