"""Jobs on a Dask cluster.

joblib's Dask backend is not used: when a task's workers die again and again, it never tells, and
the run would wait for ever (seen with joblib 1.6 and Dask 2026.8).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from preprocess.in_flight import completed
from preprocess.reachable import CONNECT_SECONDS, check_reachable
from tsn_core.errors import ClusterError, InputError, MissingDependencyError

if TYPE_CHECKING:
    from preprocess.guard import Guard

Job = TypeVar("Job")
Report = TypeVar("Report")

_WORKER_SECONDS = 60.0  # to wait for a first worker
_COUNT_SECONDS = 5.0  # between two counts of the workers
_REMEDY = "start one with: dask scheduler; or check --address"


class DaskExecutor:
    """Tasks of a Dask scheduler; those of lost workers are run again elsewhere by it."""

    in_this_process = False

    def __init__(self, address: str | None, num_workers: int | None = None) -> None:
        """Connect to the scheduler.

        Args:
            address: Of the scheduler, or of its scheduler file.
            num_workers: Jobs at a time; None: two for each thread of a worker.

        Raises:
            InputError: There is no address, or it is none.
            MissingDependencyError: Dask is not installed.
            ClusterError: The scheduler cannot be reached.
        """
        try:
            import distributed
        except ImportError as error:
            raise MissingDependencyError(
                "--executor dask needs Dask, which is not installed; install it with: "
                "pip install 'tsn-shards[dask]'"
            ) from error
        if address is None:
            raise InputError(
                "--executor dask needs the --address of a scheduler, such as tcp://head:8786, or "
                "the path of its scheduler file"
            )
        self._address = _resolved(address)
        try:
            host, port = distributed.comm.get_address_host_port(self._address)
        except ValueError as error:
            raise InputError(
                f"--address {address}: tcp://HOST:PORT or the path of a scheduler file expected"
            ) from error
        greets = not self._address.startswith("tls:")
        check_reachable("Dask scheduler", host, port, _REMEDY, greets=greets)
        try:
            self._client = distributed.Client(
                self._address, timeout=CONNECT_SECONDS, set_as_default=False
            )
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"{self._address}: what listens there is no Dask scheduler of a fitting version; "
                f"{_REMEDY}"
            ) from error
        self._num_workers = num_workers
        self._counted, self._most = 0.0, 1

    def run(
        self, function: Callable[[Job], Report], jobs: Sequence[Job], num_gpus: float = 0.0
    ) -> Generator[Report, None, None]:
        """Run a function over jobs, as `Executor.run`."""
        running: dict[int, Any] = {}
        try:
            for job, future in completed(
                lambda job: self._submit(function, job), jobs, self._in_flight, running
            ):
                yield self._result(job, future)
        finally:
            if running:
                with suppress(OSError):  # the scheduler is gone
                    self._client.cancel(list(running.values()), force=True)

    def _submit(self, function: Callable[[Job], Report], job: Job) -> Any:
        return self._client.submit(function, job, key=f"{job}-{uuid4().hex}", pure=False, retries=0)

    def _result(self, job: Any, future: Any) -> Any:
        from distributed import CancelledError, KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            raise ClusterError(
                f"{job}: {error.allowed_failures + 1} workers died while they worked on it, the "
                f"last one was {error.last_worker.address}; its log tells more. Finished shards "
                "are kept: give workers more memory, and run the same command again"
            ) from None
        except CancelledError:
            raise ClusterError(
                f"{self._address}: the Dask scheduler is gone; finished shards are kept: start it "
                "and its workers, and run the same command again"
            ) from None

    def _in_flight(self) -> int:
        """Return how many jobs may be in flight; clusters grow and shrink."""
        if self._num_workers is not None:
            return self._num_workers
        now = time.monotonic()
        if now - self._counted >= _COUNT_SECONDS:
            with suppress(OSError):  # it may be gone, which the jobs in flight will tell
                self._most = max(2 * sum(self._client.nthreads().values()), 1)
            self._counted = now
        return self._most

    def check(self, guard: Guard) -> None:
        """Ask every worker, as `Executor.check`."""
        try:
            self._client.submit(abs, 0, pure=False).result(_WORKER_SECONDS)
        except TimeoutError:
            raise ClusterError(
                f"{self._address}: the scheduler has no workers after {_WORKER_SECONDS:g} seconds; "
                f"start some with: dask worker {self._address}"
            ) from None
        answers = self._client.run(guard.problem, on_error="return")
        for address, problem in answers.items():
            if isinstance(problem, OSError):  # it went away meanwhile
                continue
            if isinstance(problem, Exception):  # with the name of a module that is not there
                raise _not_installed("worker", address, problem) from problem
            if problem is not None:
                raise ClusterError(problem)
        try:
            self._client.submit(_nothing, pure=False).result()
        except RuntimeError as error:
            raise _not_installed("scheduler", self._address, error.__cause__ or error) from error

    def close(self) -> None:
        """Let go of the scheduler."""
        self._client.close()


def _nothing() -> None:
    """A task that the scheduler, too, must know of."""


def _not_installed(part: str, address: str, error: BaseException) -> ClusterError:
    return ClusterError(
        f"{part} {address}: tsn-shards is not installed there, or not in this version ({error}); "
        "install the same versions everywhere and start the cluster again"
    )


def _resolved(address: str) -> str:
    """Return the address that a scheduler file holds, or the address that it is."""
    if "://" in address or not Path(address).is_file():
        if address.endswith(".json") and "://" not in address:
            raise InputError(f"--address {address}: there is no such scheduler file")
        return address
    try:
        return str(json.loads(Path(address).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--address {address}: a scheduler file of Dask expected, with its address in it"
        ) from error
