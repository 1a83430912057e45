"""Jobs in flight: handed out as workers become free, taken back in the order of completion."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

Job = TypeVar("Job")

# An interrupt that comes just before a thread goes to sleep does not wake it; this does.
_WAKE_SECONDS = 1.0


class Future(Protocol):
    """What the futures of Python, Dask and Ray have in common."""

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        """Call this at the end, whatever the end is, from any thread."""
        ...

    def result(self) -> Any:
        """Return the result or raise what ended the job."""
        ...


def completed(
    submit: Callable[[Job], Future],
    jobs: Sequence[Job],
    most: Callable[[], int],
    running: dict[int, Future],
) -> Generator[tuple[Job, Future], None, None]:
    """Submit jobs, never more than so many at a time, and yield each when it is over.

    Args:
        submit: Starts a job.
        jobs: What to do.
        most: Tells how many jobs may be in flight now, at least 1; may change its mind.
        running: Filled with the jobs in flight, for who has to cancel them.
    """
    over: SimpleQueue[tuple[int, Job, Future]] = SimpleQueue()
    waiting = enumerate(jobs)
    exhausted = False
    while True:
        while not exhausted and len(running) < most():
            try:
                number, job = next(waiting)
            except StopIteration:
                exhausted = True
                break
            running[number] = future = submit(job)
            entry = (number, job, future)
            future.add_done_callback(lambda _, entry=entry: over.put(entry))  # type: ignore[misc]
        if not running:
            return
        try:
            number, job, future = over.get(timeout=_WAKE_SECONDS)
        except Empty:
            continue
        del running[number]
        yield job, future
