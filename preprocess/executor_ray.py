"""Jobs on a Ray cluster: Ray's own tasks, since joblib's Ray backend cannot yield as it goes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from preprocess.in_flight import completed
from preprocess.reachable import check_reachable
from tsn_core.errors import ClusterError, InputError, MissingDependencyError

if TYPE_CHECKING:
    from preprocess.guard import Guard

Job = TypeVar("Job")
Report = TypeVar("Report")

ATTEMPTS = 4  # at a job whose worker dies, as Dask's default
_COUNT_SECONDS = 5.0  # between two counts of the cores
_CHECK_SECONDS = 120.0  # for a check on every machine; the first one starts a worker process
_LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anybody
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a Ray of our own listens on loopback alone
}
_REMEDY = "start one with: ray start --head; or check --address"


class RayExecutor:
    """Tasks of Ray; those of lost workers are run again elsewhere by it."""

    in_this_process = False

    def __init__(self, address: str | None, num_workers: int | None = None) -> None:
        """Connect to the cluster, or start one on this machine.

        Args:
            address: Of the cluster; None starts one that ends with `close`.
            num_workers: Jobs at a time; None: two for each core of the cluster, or one for each
                core of this machine.

        Raises:
            InputError: The address is none.
            MissingDependencyError: Ray is not installed.
            ClusterError: The cluster cannot be reached.
        """
        if address is None:
            for name, value in _LOCAL.items():
                os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                "--executor ray needs Ray, which is not installed; install it with: "
                "pip install 'tsn-shards[ray]'"
            ) from error
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            options |= {"num_cpus": num_workers, "include_dashboard": False}
            num_workers = None
        elif address != "auto":
            check_reachable("Ray cluster", *_host_and_port(address), _REMEDY, greets=True)
        try:
            ray.init(address="local" if address is None else address, **options)
        except ConnectionError as error:
            raise ClusterError(
                f"--address {address}: no Ray cluster runs here; {_REMEDY}"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            line = " ".join(str(error).split())
            raise ClusterError(f"--address {address}: Ray says: {line}") from error
        self._address = address or "local Ray"
        self._num_workers = num_workers
        self._counted, self._most = 0.0, 1

    def run(
        self, function: Callable[[Job], Report], jobs: Sequence[Job], num_gpus: float = 0.0
    ) -> Generator[Report, None, None]:
        """Run a function over jobs, as `Executor.run`."""
        import ray

        # The function travels once; a plain one, since Ray takes no callable objects.
        options: dict[str, Any] = {
            "num_cpus": 1,
            "max_retries": ATTEMPTS - 1,
            "retry_exceptions": False,
        }
        if num_gpus:  # otherwise Ray may hide the GPUs
            options["num_gpus"] = num_gpus
        task = ray.remote(_call)
        shared = ray.put(function)
        running: dict[int, Any] = {}
        try:
            for job, future in completed(
                lambda job: _Reference(task.options(name=str(job), **options).remote(shared, job)),
                jobs,
                self._in_flight,
                running,
            ):
                yield self._result(job, future)
        finally:
            for future in running.values():
                with suppress(Exception):  # it is over, or Ray is gone
                    ray.cancel(future.reference, force=False)

    def _result(self, job: Any, future: Any) -> Any:
        from ray import exceptions

        try:
            return future.result()
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError) as error:
            raise ClusterError(
                f"{job}: {ATTEMPTS} workers died while they worked on it; Ray's logs tell more. "
                "Finished shards are kept: give workers more memory, and run the same command again"
            ) from error
        except exceptions.OutOfMemoryError as error:
            raise ClusterError(
                f"{job}: Ray ended its worker since memory ran out; finished shards are kept: run "
                "the same command again with more memory or fewer jobs"
            ) from error
        except exceptions.RayError as error:
            line = " ".join(str(error).split())
            raise ClusterError(
                f"{job}: lost by Ray ({line}); finished shards are kept: run the same command again"
            ) from error

    def _in_flight(self) -> int:
        """Return how many jobs may be in flight; clusters grow and shrink."""
        if self._num_workers is not None:
            return self._num_workers
        now = time.monotonic()
        if now - self._counted >= _COUNT_SECONDS:
            import ray

            self._most = max(2 * int(ray.cluster_resources().get("CPU", 0)), 1)
            self._counted = now
        return self._most

    def check(self, guard: Guard) -> None:
        """Ask every machine, as `Executor.check`."""
        import ray
        from ray import exceptions
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [
            node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        ]
        if not nodes:
            raise ClusterError(
                f"{self._address}: the Ray cluster has no cores; start some with: "
                "ray start --address=HOST:PORT"
            )
        if guard.num_gpus:  # jobs go to no others
            nodes = [node for node in nodes if node["Resources"].get("GPU", 0) >= guard.num_gpus]
            if not nodes:
                raise ClusterError(
                    f"{self._address}: --device {guard.device} needs GPUs, of which this Ray "
                    "cluster has none; start machines that have some, or leave --device out"
                )
        task = ray.remote(_call)
        shared: Any = ray.put(_problem)
        asked = {
            node["NodeManagerAddress"]: task.options(
                num_cpus=0,
                **({"num_gpus": guard.num_gpus} if guard.num_gpus else {}),
                max_retries=ATTEMPTS - 1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(shared, guard)
            for node in nodes
        }
        deadline = time.monotonic() + _CHECK_SECONDS
        for host, reference in asked.items():
            try:
                problem = ray.get(reference, timeout=max(deadline - time.monotonic(), 0.1))
            except exceptions.GetTimeoutError as error:
                raise ClusterError(
                    f"worker on {host}: no answer after {_CHECK_SECONDS:g} seconds; remove it from "
                    "the cluster, or start it again"
                ) from error
            except exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                line = str(cause).strip().splitlines()[-1].strip()
                raise ClusterError(
                    f"worker on {host}: tsn-shards is not installed there, or not in this version "
                    f"({line}); install the same versions everywhere and start the cluster again"
                ) from error
            if problem is not None:
                raise ClusterError(problem)

    def close(self) -> None:
        """Let go of the cluster; one that was started here ends."""
        import ray

        ray.shutdown()


class _Reference:
    """What Ray promises, as a future."""

    def __init__(self, reference: Any) -> None:
        self.reference = reference
        self._future = reference.future()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._future.add_done_callback(callback)

    def result(self) -> Any:
        return self._future.result()


def _call(function: Callable[[Any], Any], job: Any) -> Any:
    return function(job)


def _problem(guard: Guard) -> str | None:
    return guard.problem()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--address {address}: HOST:PORT of a Ray cluster, or auto, expected")
    return host, int(port)
