"""Which shard holds which video: the same from run to run, whatever is added or removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tsn_core.errors import InputError
from tsn_core.manifest import Record

_MOST_VIDEOS_PER_SHARD, _FEWEST_SHARDS = 64, 16
_MOST_VIDEOS = 1_000_000  # in one shard


def check_videos_per_shard(videos_per_shard: int | None) -> None:
    """Check what a user wants in one shard.

    Raises:
        InputError: It is not positive, or too large for a file to tell.
    """
    if videos_per_shard is not None and videos_per_shard < 1:
        raise InputError(f"--videos-per-shard must be > 0, got {videos_per_shard}")
    if videos_per_shard is not None and videos_per_shard > _MOST_VIDEOS:
        raise InputError(f"--videos-per-shard must be <= {_MOST_VIDEOS}, got {videos_per_shard}")


def default_videos_per_shard(num_videos: int) -> int:
    """Return 64, or fewer where that would make less than 16 shards.

    Examples:
        >>> default_videos_per_shard(27), default_videos_per_shard(6766)
        (2, 64)
    """
    return min(max(-(-num_videos // _FEWEST_SHARDS), 1), _MOST_VIDEOS_PER_SHARD)


def assign_shards(
    records: Sequence[Record], known: Mapping[str, int], videos_per_shard: int
) -> tuple[Record, ...]:
    """Return the records with the number of the shard that each belongs to.

    A video stays in the shard that is known to hold it. New ones fill the last shard up and then
    further ones, in their order; where none is known, that cuts the dataset into equal parts.

    Args:
        records: All videos.
        known: Number of the shard by name, as an earlier run decided; others may stand there, too.
        videos_per_shard: How many a shard holds.
    """
    sizes: dict[int, int] = defaultdict(int)
    for record in records:
        if record.name in known:
            sizes[known[record.name]] += 1
    last = max(sizes, default=0)
    assigned = []
    for record in records:
        if record.name in known:
            number = known[record.name]
        else:
            if sizes[last] >= videos_per_shard:
                last += 1
            number = last
            sizes[last] += 1
        assigned.append(replace(record, shard=number))
    return tuple(assigned)


def by_shard(records: Sequence[Record]) -> dict[int, tuple[Record, ...]]:
    """Return the records of every shard, by its number, in ascending order."""
    shards: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        assert record.shard is not None
        shards[record.shard].append(record)
    return {number: tuple(shards[number]) for number in sorted(shards)}
