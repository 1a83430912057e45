"""What runs jobs: threads of this process, joblib's processes, a Dask or a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from preprocess.in_flight import completed
from tsn_core.errors import InputError, TSNError

if TYPE_CHECKING:
    from preprocess.guard import Guard

Job = TypeVar("Job")
Report = TypeVar("Report")

_STOP_SECONDS = 0.2
EXECUTORS = ("local", "dask", "ray")


class Executor(Protocol):
    """Runs a function over jobs, somewhere. Close it at the end.

    Attributes:
        in_this_process: Whether functions run in this process and may share objects with it.
    """

    in_this_process: bool

    def run(
        self, function: Callable[[Job], Report], jobs: Sequence[Job], num_gpus: float = 0.0
    ) -> Generator[Report, None, None]:
        """Run a function over jobs and yield what it returns, in the order of completion.

        Jobs are handed out as they are needed, a few for each worker. When one fails, or the
        generator is closed, no further job starts. Those that run are stopped and waited for in
        this process; on a cluster their results are dropped (see also `preprocess.guard`).

        Args:
            function: Takes one job. On a cluster it is imported by its name in a thread of a
                worker process. A Dask worker is a daemonic process: start other processes with
                ``subprocess`` there, ``multiprocessing`` refuses.
            jobs: Safe to run twice, as the jobs of a lost worker are. On a cluster they are
                pickled, and ``str(job)`` names one in messages.
            num_gpus: How much of a GPU each job needs; who hands out GPUs (Ray) is told.
        """
        ...

    def check(self, guard: Guard) -> None:
        """Ask every worker that is there now.

        Raises:
            ClusterError: There is no worker, or one cannot do the work.
        """
        ...

    def close(self) -> None:
        """Let go of the cluster; it goes on to exist."""
        ...


def default_workers() -> int:
    """Return how many cores this process may use."""
    import joblib

    return joblib.cpu_count()


def make_executor(
    kind: str,
    *,
    num_workers: int | None = None,
    address: str | None = None,
    stop: Callable[[], None] | None = None,
) -> Executor:
    """Return what runs jobs.

    Args:
        kind: ``local``: threads of this process. ``dask``, ``ray``: a cluster.
        num_workers: Jobs at a time, at least 1; None: one for each core, on a cluster two, so that
            the next is at hand when one is done.
        address: Of a Dask scheduler, such as ``tcp://head:8786``, or the path of its scheduler
            file; of a Ray cluster, such as ``head:6379`` or ``auto``; None starts a Ray on this
            machine alone.
        stop: See `ThreadExecutor`; a cluster does not need it.

    Raises:
        InputError: The kind is unknown, a number is out of range, or a local executor got an
            address, or Dask none.
        MissingDependencyError: Dask or Ray is not installed.
        ClusterError: The cluster cannot be reached.
    """
    if num_workers is not None and num_workers < 1:
        raise InputError(f"--jobs must be > 0, got {num_workers}")
    if kind == "local":
        if address is not None:
            raise InputError(
                f"--address {address}: only for --executor dask or ray; a local run has no address"
            )
        return ThreadExecutor(default_workers() if num_workers is None else num_workers, stop)
    if kind == "dask":
        from preprocess.executor_dask import DaskExecutor

        return DaskExecutor(address, num_workers)
    if kind == "ray":
        from preprocess.executor_ray import RayExecutor

        return RayExecutor(address, num_workers)
    raise InputError(f"unknown executor {kind!r}; choose from {', '.join(EXECUTORS)}")


class ThreadExecutor:
    """Threads of this process: for jobs that only look after a process of their own."""

    in_this_process = True

    def __init__(self, num_workers: int, stop: Callable[[], None] | None = None) -> None:
        """Start nothing yet.

        Args:
            num_workers: Threads, at least 1.
            stop: Called when a run ends early, again and again until its threads have ended:
                makes the jobs that are running return or raise soon.
        """
        self._num_workers = num_workers
        self._stop = stop

    def run(
        self, function: Callable[[Job], Report], jobs: Sequence[Job], num_gpus: float = 0.0
    ) -> Generator[Report, None, None]:
        """Run a function over jobs, as `Executor.run`."""
        threads = ThreadPoolExecutor(self._num_workers, thread_name_prefix="job")
        running: dict[int, Any] = {}
        try:
            for _, future in completed(
                lambda job: threads.submit(function, job),
                jobs,
                lambda: 2 * self._num_workers,
                running,
            ):
                yield future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            if self._stop is not None:
                self._end(running.values(), self._stop)
            raise
        finally:
            threads.shutdown(wait=True)

    @staticmethod
    def _end(futures: Iterable[Future[Report]], stop: Callable[[], None]) -> None:
        """Stop jobs until they have ended: one that had just begun has nothing to stop yet."""
        stop()
        while running := [future for future in futures if future.running()]:
            wait(running, timeout=_STOP_SECONDS)
            stop()

    def check(self, guard: Guard) -> None:
        """There is nobody to check."""

    def close(self) -> None:
        """There is nothing to close."""


def run_jobs(
    function: Callable[[Job], Report], jobs: Sequence[Job], num_workers: int
) -> Iterator[Report]:
    """Run a function over jobs in processes and yield what it returns, as jobs are completed.

    Args:
        function: Takes one job; importable by worker processes.
        jobs: Picklable.
        num_workers: Processes, at least 1, which runs everything in this one.

    Raises:
        TSNError: A worker process died.
    """
    import joblib

    # joblib keeps its processes between two calls, and with them the folder that they began in.
    here = Path.cwd()
    parallel = joblib.Parallel(
        n_jobs=min(num_workers, max(len(jobs), 1)),
        backend="loky",
        batch_size=1,
        pre_dispatch="2 * n_jobs",
        return_as="generator_unordered",
    )
    try:
        yield from parallel(joblib.delayed(_run_in)(here, function, job) for job in jobs)
    except joblib.externals.loky.process_executor.TerminatedWorkerError:
        raise TSNError(
            "a worker process died, out of memory or in a decoder; finished shards are kept: "
            "run the same command again, with fewer --jobs if memory is short"
        ) from None


def _run_in(folder: Path, function: Callable[[Job], Report], job: Job) -> Report:
    os.chdir(folder)
    return function(job)
