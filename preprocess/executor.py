"""What runs jobs: joblib's worker processes, or this very process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import joblib

from tsn_core.errors import TSNError

Job = TypeVar("Job")
Report = TypeVar("Report")


def default_workers() -> int:
    """Return how many cores this process may use."""
    return joblib.cpu_count()


def run_jobs(
    function: Callable[[Job], Report], jobs: Sequence[Job], num_workers: int
) -> Iterator[Report]:
    """Run a function over jobs and yield what it returns, in the order of completion.

    Args:
        function: Takes one job; importable by worker processes.
        jobs: Picklable.
        num_workers: Processes, at least 1, which runs everything in this one.

    Raises:
        TSNError: A worker process died.
    """
    parallel = joblib.Parallel(
        n_jobs=min(num_workers, max(len(jobs), 1)),
        backend="loky",
        batch_size=1,
        pre_dispatch="2 * n_jobs",
        return_as="generator_unordered",
    )
    try:
        yield from parallel(joblib.delayed(function)(job) for job in jobs)
    except joblib.externals.loky.process_executor.TerminatedWorkerError:
        raise TSNError(
            "a worker process died, out of memory or in a decoder; finished shards are kept: "
            "run the same command again, with fewer --jobs if memory is short"
        ) from None
