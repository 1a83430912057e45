"""In which order an epoch shows the videos of shards, and who shows which: known beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tsn_core.errors import InputError
from tsn_core.seed import check_seed


def shuffled(
    shard_numbers: np.ndarray, buffer_size: int, generator: np.random.Generator
) -> np.ndarray:
    """Return places in random order, near each other in one shard for most of the time.

    Whole shards come in random order, their videos run through a buffer, and the next one is any of
    those in the buffer: what a stream does that cannot look ahead. Here only the numbers run
    through, no video is read, so that any process can know the order.

    Args:
        shard_numbers: Shard that each place lies in, (n,).
        buffer_size: Places in the buffer; 1 leaves the videos of a shard in their order, n and more
            make every order equally likely.
        generator: Source of all randomness.

    Returns:
        Each of 0 to n - 1 once, (n,) int64.

    Examples:
        >>> shuffled(np.array([0, 0, 0, 1, 1, 1]), 1, np.random.default_rng(3)).tolist()
        [3, 4, 5, 0, 1, 2]
    """
    by_shard = np.argsort(shard_numbers, kind="stable")
    bounds = np.flatnonzero(np.diff(shard_numbers[by_shard])) + 1
    shards = np.split(by_shard, bounds)
    stream = np.concatenate([shards[number] for number in generator.permutation(len(shards))])
    buffer, rest = stream[:buffer_size].copy(), stream[buffer_size:]
    order = np.empty_like(stream)
    for turn, at in enumerate(generator.integers(buffer_size, size=len(rest))):
        order[turn], buffer[at] = buffer[at], rest[turn]
    order[len(rest) :] = generator.permutation(buffer)
    return order


@dataclass(frozen=True)
class VideoOrder:
    """How an epoch's videos are dealt out to ranks, and those of a rank to its workers.

    Every rank shows equally many, so that none waits for another: the first videos of the order
    once more where they do not come out even, or not the last ones with ``drop_uneven``.

    Attributes:
        shard_numbers: Shard that each place lies in, (n,).
        shuffle: Whether the order is random, another one in every epoch.
        buffer_size: See ``shuffled``.
        seed: Of the order.
        batch_size: Videos that a worker takes in a row. If it is the loader's, then batches and
            their order are the same for any number of workers.
        drop_uneven: Whether videos are left out, rather than shown twice, to come out even.
    """

    shard_numbers: np.ndarray
    shuffle: bool
    buffer_size: int
    seed: int
    batch_size: int = 1
    drop_uneven: bool = False

    def __post_init__(self) -> None:
        for name in ("buffer_size", "batch_size"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{name} must be > 0, got {value}")
        check_seed(seed=self.seed)

    def per_rank(self, num_ranks: int) -> int:
        """Return how many videos each of several ranks shows in an epoch."""
        return (len(self.shard_numbers) + (0 if self.drop_uneven else num_ranks - 1)) // num_ranks

    def of_epoch(self, epoch: int) -> np.ndarray:
        """Return the order of an epoch over all ranks, (n,) int64."""
        if not self.shuffle:
            return np.arange(len(self.shard_numbers))
        check_seed(epoch=epoch)
        generator = np.random.default_rng((self.seed, epoch))
        return shuffled(self.shard_numbers, self.buffer_size, generator)

    def of_rank(self, epoch: int, rank: int, num_ranks: int) -> np.ndarray:
        """Return what a rank shows in an epoch, (per_rank,) int64."""
        order = self.of_epoch(epoch)
        total = self.per_rank(num_ranks) * num_ranks
        return np.resize(order, total)[rank::num_ranks]

    def of_worker(
        self, epoch: int, rank: int, num_ranks: int, worker: int, num_workers: int
    ) -> Iterator[int]:
        """Yield what a worker of a rank loads: every ``num_workers``-th batch of the rank's."""
        order = self.of_rank(epoch, rank, num_ranks)
        step = num_workers * self.batch_size
        for first in range(worker * self.batch_size, len(order), step):
            yield from order[first : first + self.batch_size].tolist()
