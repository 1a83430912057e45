"""A cluster that extracts a dataset, event by event.

One parent and one scheduler serve messages one after the other, in the order in which they come;
each job passes through the parent (which makes and sends it), the scheduler and a worker, and its
report through the scheduler and the parent, which then hands out the next. A worker has at most two
jobs, one of which it works on. The shared folder is taken to be fast enough; how many operations a
second it would have to serve is part of the result.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Costs:
    """What was measured.

    Attributes:
        scheduler_seconds: Of the scheduler for one job, both ways.
        parent_seconds: Of the parent for one job, both ways.
        video_seconds: Of a worker, for each of some typical videos.
        operations_per_shard: On the shared folder.
        operations_per_video: On the shared folder.
    """

    scheduler_seconds: float
    parent_seconds: float
    video_seconds: Sequence[float]
    operations_per_shard: float
    operations_per_video: float


def simulate(
    costs: Costs, *, num_videos: int, videos_per_shard: int, num_workers: int, seed: int = 0
) -> dict[str, float]:
    """Extract a dataset and return what happened.

    Args:
        costs: What everything takes.
        num_videos: Of the dataset; what each takes is drawn from the measured ones.
        videos_per_shard: Videos of a job.
        num_workers: Workers with one core each, all there from the start.
        seed: Of the draws.

    Returns:
        ``jobs``; ``hours`` from start to end; ``idle_share`` of the workers' time;
        ``scheduler_load`` and ``parent_load``, the shares of time in which they were busy;
        ``most_in_flight``, shards being written at a time; ``jobs_per_second`` and
        ``operations_per_second`` (on the shared folder), means over the run.

    Examples:
        >>> costs = Costs(0.0, 0.0, [2.0], 10.0, 5.0)
        >>> result = simulate(costs, num_videos=8, videos_per_shard=2, num_workers=2)
        >>> round(result["hours"] * 3600, 6), result["idle_share"], result["most_in_flight"]
        (8.0, 0.0, 2)
    """
    num_jobs = -(-num_videos // videos_per_shard)
    generator = np.random.default_rng(seed)
    seconds = np.asarray(costs.video_seconds, float)
    lengths = np.zeros(num_jobs)
    for _ in range(videos_per_shard):
        lengths += generator.choice(seconds, num_jobs)
    half_scheduler, half_parent = costs.scheduler_seconds / 2, costs.parent_seconds / 2
    scheduler_free = parent_free = 0.0
    scheduler_busy = parent_busy = worked = 0.0
    queued = [0] * num_workers  # jobs that a worker has been sent and not begun
    working = [False] * num_workers
    in_flight = most_in_flight = 0
    handed_out, began, end = 0, 0, 0.0
    events: list[tuple[float, int, str, int]] = []
    number = 0

    def hand_out(now: float, worker: int) -> None:
        nonlocal parent_free, scheduler_free, parent_busy, scheduler_busy, number, handed_out
        handed_out += 1
        parent_free = max(parent_free, now) + half_parent
        scheduler_free = max(scheduler_free, parent_free) + half_scheduler
        parent_busy += half_parent
        scheduler_busy += half_scheduler
        number += 1
        heapq.heappush(events, (scheduler_free, number, "arrive", worker))

    for place in range(2 * num_workers):
        if handed_out < num_jobs:
            hand_out(0.0, place % num_workers)
    while events:
        now, _, kind, worker = heapq.heappop(events)
        if kind == "arrive":
            queued[worker] += 1
        elif kind == "done":
            working[worker] = False
            in_flight -= 1
            end = now
            scheduler_free = max(scheduler_free, now) + half_scheduler
            scheduler_busy += half_scheduler
            number += 1
            heapq.heappush(events, (scheduler_free, number, "report", worker))
        else:
            parent_free = max(parent_free, now) + half_parent
            parent_busy += half_parent
            end = max(end, parent_free)
            if handed_out < num_jobs:
                hand_out(parent_free, worker)
        if queued[worker] and not working[worker]:
            queued[worker] -= 1
            working[worker] = True
            in_flight += 1
            most_in_flight = max(most_in_flight, in_flight)
            length = float(lengths[began])
            began += 1
            worked += length
            number += 1
            heapq.heappush(events, (now + length, number, "done", worker))
    operations = num_jobs * costs.operations_per_shard + num_videos * costs.operations_per_video
    return {
        "jobs": num_jobs,
        "hours": end / 3600,
        "idle_share": 1 - worked / (end * num_workers),
        "scheduler_load": scheduler_busy / end,
        "parent_load": parent_busy / end,
        "most_in_flight": most_in_flight,
        "jobs_per_second": num_jobs / end,
        "operations_per_second": operations / end,
    }
