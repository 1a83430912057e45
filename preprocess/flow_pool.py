"""The flow processes of this process, one for every device, kept between jobs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from preprocess.child_environment import child_environment
from preprocess.devices import CPU, find_devices
from preprocess.flow_method import torch_name
from preprocess.flow_service import direct_usage
from preprocess.flow_usage import BATCH_SECONDS, FlowUsage
from preprocess.process_end import last_line, signal_text
from tsn_core.errors import DeviceError, TSNError

FLOW_MODULE = "preprocess.flow_process"
_START_SECONDS = 300.0  # torch may lie on a slow disk
_ANSWER_SECONDS = 300.0
_KILL_SECONDS = 30.0
_END_SECONDS = 1.0  # from closing its connections to its end
_STARTS = 2
_LARGEST_ANSWER = 1 << 16


def has_flow_processes() -> bool:
    """Return whether this system has what they need: memory that is handed over (Linux)."""
    return hasattr(os, "memfd_create") and hasattr(socket, "send_fds")


class FlowProcess:
    """A process that computes flow on one device, replaced when it is lost; threads share it."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket
        self._complaints: IO[bytes]
        self._obituary = ""

    def connect(self, methods: Sequence[str]) -> socket.socket:
        """Return a decoding process's end of a new connection; starts the process if need be.

        Args:
            methods: How flow may be asked for: by the place here.

        Raises:
            DeviceError: It cannot be started, or does not compute by one of the methods.
            TSNError: ``close`` was called.
        """
        with self._lock:
            for _ in range(_STARTS):
                self._start()
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    try:
                        answer = self._ask({"connect": list(methods)}, theirs)
                    except (OSError, ValueError):  # it has just ended
                        ours.close()
                        self._bury()
                        continue
                if answer["error"] is not None:
                    ours.close()
                    raise DeviceError(answer["error"])
                return ours
            raise self._unstartable(self._obituary)

    def usage(self) -> FlowUsage | None:
        """Return how busy the device has been, or None where no process is there to tell."""
        with self._lock:
            if self._closed or self._process is None:
                return None
            try:
                return FlowUsage(**self._ask({"usage": True}))
            except (OSError, ValueError):
                self._bury()
                return None

    def end_text(self) -> str:
        """Return why a decoding process has lost its connection, one line."""
        with self._lock:
            if self._process is not None:
                with suppress(subprocess.TimeoutExpired):  # it may be about to end
                    self._process.wait(_END_SECONDS)
            if self._process is not None and self._process.poll() is not None:
                self._bury()
            if self._process is None and self._obituary:
                return self._obituary
            return f"the flow process on {self._device} refused what the decoding process sent"

    def _ask(self, order: dict[str, Any], fd: socket.socket | None = None) -> dict[str, Any]:
        fds = [] if fd is None else [fd.fileno()]
        socket.send_fds(self._control, [json.dumps(order).encode()], fds)
        return self._answer(_ANSWER_SECONDS)

    def _answer(self, seconds: float) -> dict[str, Any]:
        """Return what the process says.

        Raises:
            OSError: It says nothing.
            ValueError: It is gone.
        """
        self._control.settimeout(seconds)
        answer: dict[str, Any] = json.loads(self._control.recv(_LARGEST_ANSWER))
        return answer

    def _start(self) -> None:
        """Start the process unless it runs.

        Raises:
            DeviceError: It cannot be started.
            TSNError: ``close`` was called.
        """
        if self._process is not None:
            if self._process.poll() is None and not self._closed:
                return
            self._bury()
        if self._closed:
            raise TSNError("the extraction was stopped")
        try:
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", FLOW_MODULE, str(theirs.fileno()), self._device],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._complaints,
                    pass_fds=(theirs.fileno(),),
                    env=child_environment(one_thread=torch_name(self._device) == CPU),
                )
        except OSError as error:
            raise self._unstartable(error.strerror or str(error)) from error
        try:
            problem = self._answer(_START_SECONDS)["error"]
        except (OSError, ValueError):
            self._bury()
            if self._closed:
                raise TSNError("the extraction was stopped") from None
            raise self._unstartable(self._obituary) from None
        if problem is not None:
            self._bury()
            raise DeviceError(problem)

    def _unstartable(self, why: str) -> DeviceError:
        return DeviceError(f"no flow process on {self._device} can be started: {why}")

    def _bury(self) -> None:
        """Make sure that the process is gone, and keep why."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            status: int | None = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        with suppress(OSError):
            process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS)
        self._obituary = f"the flow process on {self._device} {_end_of(status)}"
        complaint = last_line(self._complaints)
        if complaint:
            self._obituary += f": {complaint}"
        self._control.close()
        self._complaints.close()

    def close(self) -> None:
        """End the process, in the middle of a batch if need be. From any thread."""
        self._closed = True
        process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()

    def dispose(self) -> None:
        """End the process and let go of all that it held."""
        self.close()
        with self._lock:
            self._bury()


def _end_of(status: int | None) -> str:
    """Return how a flow process has ended; None: not by itself."""
    if status is None:
        return "fell silent"
    if status >= 0:
        return f"ended with status {status}"
    if status == -getattr(signal, "SIGALRM", 0):
        return f"was ended, as a batch took more than {BATCH_SECONDS} s"
    return f"was killed by {signal_text(-status)}"


class _FlowPool:
    """The flow processes of this process, and how many jobs each device has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: dict[tuple[str, str | None], FlowProcess] = {}
        self._jobs: Counter[str] = Counter()

    def process(self, device: str) -> FlowProcess:
        """Return the flow process of a device, not started yet."""
        key = (device, os.environ.get("CUDA_VISIBLE_DEVICES"))  # Ray changes it between jobs
        with self._lock:
            if key not in self._processes:
                self._processes[key] = FlowProcess(device)
            return self._processes[key]

    @contextmanager
    def lend(self, text: str) -> Iterator[str]:
        """Lend the one of some devices that has the fewest jobs."""
        names = [device.name for device in find_devices(text)]
        with self._lock:
            chosen = min(names, key=lambda name: self._jobs[name])
            self._jobs[chosen] += 1
        try:
            yield chosen
        finally:
            with self._lock:
                self._jobs[chosen] -= 1

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            processes = list(self._processes.values())
            self._processes.clear()
        for process in processes:
            process.close()
        for process in processes:
            process.dispose()

    def forget(self) -> None:
        """Drop what belongs to the process that this one was forked from."""
        self.__init__()  # type: ignore[misc]


_POOL = _FlowPool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)


def flow_process(device: str) -> FlowProcess:
    """Return the flow process of a device; it starts when somebody connects."""
    return _POOL.process(device)


def usage_of(device: str, isolated: bool) -> FlowUsage | None:
    """Return how busy what computes flow on a device has been; None where nothing does yet.

    Args:
        device: ``cpu`` or ``cuda:N``.
        isolated: Whether videos are extracted in processes of their own.
    """
    if isolated and has_flow_processes():
        return _POOL.process(device).usage()
    return None if isolated else direct_usage(device)


def lent_device(text: str) -> Any:
    """Return a context manager that lends one of the devices that a text names, to one job.

    Raises:
        TSNError: See ``find_devices``.
    """
    return _POOL.lend(text)


def end_flow_processes() -> None:
    """End all flow processes of this process."""
    _POOL.close()
