"""Extracting in a process of its own, which a crash, a hang or a memory bomb takes down alone."""

from __future__ import annotations

import errno
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any

import psutil

from preprocess.child_environment import child_environment
from preprocess.extraction import Emit, Extracted, VideoRow
from preprocess.flow_pool import (
    FlowProcess,
    end_flow_processes,
    flow_process,
    has_flow_processes,
)
from preprocess.limits import Limits
from preprocess.meter import costs_from
from preprocess.process_end import last_line, signal_text
from preprocess.task import Task
from preprocess.wire import (
    ALIVE,
    DONE,
    FAILED,
    IMAGE,
    KINDS,
    LARGEST_MESSAGE,
    LOST_FLOW_STATUS,
    STARTED,
    WARNING,
    Message,
    messages,
)
from tsn_core.errors import MissingDependencyError, TSNError, VideoError

CHILD_MODULE = "preprocess.child"
_LOOK_SECONDS = 0.1  # between two looks at time and memory
_START_SECONDS = 120.0
_KILL_SECONDS = 30.0  # for the kernel to end a child
_STARTS = 3  # tries to start a child before giving up
_PIPE_BYTES = 1 << 20


class LostProcess(VideoError):
    """The process that extracted a video died or had to be ended; another try may do better."""


class VideoProcess:
    """A child process that extracts one video after another, and is replaced when it is lost.

    Not for two threads at once, except for ``close``.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._ahead: Task | None = None  # handed to the child already
        self._usage: psutil.Process | None = None
        self._requests: Connection
        self._answers: Connection
        self._complaints: IO[bytes] | None = None
        self._flow: FlowProcess | None = None  # that the child is connected to
        self._served: tuple[str | None, frozenset[str]] = (None, frozenset())  # by it
        self.peak_bytes = 0

    def extract(
        self, task: Task, emit: Emit, then: Callable[[], Task | None] | None = None
    ) -> Extracted:
        """Extract a video, handing out its images.

        Args:
            task: What to do.
            emit: Takes the images; see ``extract_video``.
            then: Is asked for the next task when this one has begun. The process goes on with it
                while the caller is busy with what this call returns; it must come next, then.

        Raises:
            LostProcess: The process crashed, or went beyond a limit of time or memory.
            VideoError: The video cannot be extracted.
            TSNError: No process can be started, or ``close`` was called.
        """
        self._submit(task)
        if then is not None:
            self._look_ahead(then())
        began = heard = looked = time.monotonic()
        while True:
            try:
                gathered = self._answers.recv_bytes(LARGEST_MESSAGE) if self._waits() else b""
            except (EOFError, OSError):
                raise self._lost() from None
            if self._closed:
                raise TSNError("the extraction was stopped")
            now = time.monotonic()
            if gathered:
                heard = now
            for kind, place, unit, frame, payload in self._told(gathered, task):
                if kind == IMAGE:
                    emit(place, unit, frame, payload)
                elif kind == DONE:
                    return self._done(payload, len(task.modalities))
                elif kind == FAILED:
                    raise self._failed(payload)
                elif kind == WARNING:
                    warnings.warn(payload.decode(errors="replace"), stacklevel=2)
                else:
                    assert kind == ALIVE, kind
            if now - looked >= _LOOK_SECONDS:
                looked = now
                self._enforce(task.limits, now - began, now - heard)

    def _told(self, gathered: bytes, task: Task) -> list[Message]:
        """Return the messages in what was received.

        Raises:
            LostProcess: It is none of what a process in its senses would send.
        """
        with suppress(ValueError):
            told = list(messages(gathered))
            if all(kind in KINDS and place < len(task.modalities) for kind, place, *_ in told):
                return told
        raise self._nonsense()

    def _nonsense(self) -> LostProcess:
        return self._end("crash", "the decoding process sent what makes no sense")

    def _failed(self, payload: bytes) -> VideoError:
        with suppress(ValueError, TypeError, KeyError):
            content = json.loads(payload)
            return _failure(str(content["stage"]), str(content["reason"]))
        return self._nonsense()

    def _waits(self) -> bool:
        return self._answers.poll(_LOOK_SECONDS)

    def _done(self, payload: bytes, num_modalities: int) -> Extracted:
        try:
            content = json.loads(payload)
            self.peak_bytes = content["peak_bytes"]
            rows = tuple(
                VideoRow(**{**row, **{name: tuple(row[name]) for name in ("size", "unit_size")}})
                for row in content["rows"]
            )
            note, waited = content["note"], float(content["flow_seconds"])
            if len(rows) == num_modalities and isinstance(note, str | None):
                return Extracted(rows, note, costs_from(content["costs"]), waited)
        except (ValueError, TypeError, KeyError):
            pass
        raise self._nonsense()

    def _enforce(self, limits: Limits, seconds: float, silent_seconds: float) -> None:
        """End the process if it is beyond a limit.

        Raises:
            LostProcess: It was.
        """
        if limits.max_seconds is not None and seconds > limits.max_seconds:
            raise self._end("timeout", f"not done after {limits.max_seconds:g} s (--max-seconds)")
        if silent_seconds > limits.stall_seconds:
            raise self._end("timeout", f"no frame for {limits.stall_seconds:g} s (--stall-seconds)")
        used = self._resident_bytes()
        if used > limits.max_memory_mb * 1e6:
            raise self._end(
                "memory", f"needed more than {limits.max_memory_mb:g} MB (--max-memory-mb)"
            )

    def _resident_bytes(self) -> int:
        if self._usage is not None:
            with suppress(psutil.Error):  # it is gone, which is found out in a moment
                return self._usage.memory_info().rss
        return 0

    def _end(self, stage: str, reason: str) -> LostProcess:
        self._kill()
        return _failure(stage, reason, LostProcess)

    def _lost(self) -> VideoError:
        """Return why the process is gone."""
        if self._closed:
            raise TSNError("the extraction was stopped")
        assert self._child is not None
        try:
            status = self._child.wait(_LOOK_SECONDS * 10)
        except subprocess.TimeoutExpired:  # it closed the connection and lives on
            status = None
        complaint = self._last_complaint()
        self._kill()
        if status is not None and status < 0:
            reason = f"the decoding process was killed by {signal_text(-status)}"
        elif status == LOST_FLOW_STATUS and self._flow is not None:
            reason = self._flow.end_text()
        elif status is None:
            reason = "the decoding process fell silent"
        else:
            reason = f"the decoding process ended with status {status}"
        return _failure("crash", f"{reason}: {complaint}" if complaint else reason, LostProcess)

    def _last_complaint(self) -> str:
        """Return the last line that the process wrote to its standard error."""
        return "" if self._complaints is None else last_line(self._complaints)

    def _look_ahead(self, task: Task | None) -> None:
        self._ahead = task if task is not None and self._serves(task) else None
        if self._ahead is not None:
            with suppress(OSError):  # it is gone, which is found out in a moment
                self._requests.send_bytes(pickle.dumps(task))

    def _submit(self, task: Task) -> None:
        """Hand the task to a process that says that it has begun.

        Raises:
            TSNError: None can be started.
        """
        request = pickle.dumps(task)
        if (self._ahead is not None and self._ahead != task) or not self._serves(task):
            self._kill()
        for _ in range(_STARTS):
            if self._closed:
                raise TSNError("the extraction was stopped")
            if self._child is None:
                self._start(task)
            with suppress(OSError, EOFError):  # one that was idle may just have gone home
                if self._ahead is None:
                    self._requests.send_bytes(request)
                self._ahead = None
                while self._answers.poll(_START_SECONDS):
                    for kind, *_, payload in messages(self._answers.recv_bytes(LARGEST_MESSAGE)):
                        if kind == STARTED:
                            return
                        if kind == WARNING:
                            warnings.warn(payload.decode(errors="replace"), stacklevel=2)
            complaint = self._last_complaint()
            self._kill()
        raise TSNError(f"no process for decoding can be started: {complaint or 'it says nothing'}")

    def _serves(self, task: Task) -> bool:
        """Return whether the child, if there is one, can ask for the flow that a task needs."""
        device, methods = self._served
        return task.methods <= methods and (not task.methods or task.device == device)

    def _connected(self, task: Task) -> socket.socket | None:
        """Return a new child's end of a connection to the flow process, where one is needed.

        Raises:
            TSNError: That process cannot be started.
        """
        self._flow, self._served = None, (task.device, task.methods)
        if not task.methods or task.device is None or not has_flow_processes():
            return None  # nothing to compute in batches, or the child does that itself
        self._flow = flow_process(task.device)
        return self._flow.connect(sorted(task.methods))

    def _start(self, task: Task) -> None:
        if sys.platform == "win32":
            raise MissingDependencyError(
                "processes of their own for videos need Linux or macOS; extract with --no-isolation"
            )
        flow = self._connected(task)
        with ExitStack() as ours, ExitStack() as theirs:
            if flow is not None:
                theirs.enter_context(flow)
            try:
                reads, requests = _pipe(theirs, ours)
                answers, writes = _pipe(ours, theirs)
                _widen(writes.fileno())
                complaints = _complaints(ours)
                ends = [reads.fileno(), writes.fileno()]
                words: list[str] = []
                if flow is not None:
                    ends.append(flow.fileno())
                    words.append(json.dumps(sorted(task.methods)))
                child = subprocess.Popen(
                    [sys.executable, "-m", CHILD_MODULE, *map(str, ends), *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints or subprocess.DEVNULL,
                    pass_fds=ends,
                    env=child_environment(one_thread=True),
                )
            except OSError as error:
                raise TSNError(
                    f"no process for decoding can be started: {error.strerror}; allow more open "
                    "files and processes (ulimit -n, ulimit -u), or use fewer --jobs"
                ) from error
            ours.pop_all()  # these live as long as the child
        self._requests, self._answers, self._complaints = requests, answers, complaints
        self._child, self._usage = child, None
        with suppress(psutil.Error):  # it is gone already, which is found out in a moment
            self._usage = psutil.Process(child.pid)

    def _kill(self) -> None:
        self._ahead = None
        if self._child is None:
            return
        with suppress(OSError):
            self._child.kill()
        with suppress(subprocess.TimeoutExpired):  # in the kernel, waiting for a disk
            self._child.wait(_KILL_SECONDS)
        self._child = None
        self._requests.close()
        self._answers.close()
        if self._complaints is not None:
            self._complaints.close()

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        """End the process, in the middle of a video if need be; ``extract`` then raises.

        This alone may be called from any thread.
        """
        self._closed = True
        child = self._child
        if child is not None:
            with suppress(OSError):
                child.kill()

    def dispose(self) -> None:
        """End the process and let go of all that it held."""
        self.close()
        self._kill()

    def __repr__(self) -> str:
        return f"VideoProcess({self._child.pid if self._child else None})"


def _failure(stage: str | None, reason: str, kind: type[VideoError] = VideoError) -> Any:
    error = kind(reason)
    error.stage = stage
    return error


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[Connection, Connection]:
    """Return the ends of a pipe, to read and to write, each of which its stack closes."""
    reads, writes = Pipe(duplex=False)
    return reader.enter_context(reads), writer.enter_context(writes)


def _complaints(stack: ExitStack) -> IO[bytes] | None:
    """Return a file for what a child writes to its standard error; None if there is no room."""
    try:
        return stack.enter_context(tempfile.TemporaryFile())
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return None


def _widen(fd: int) -> None:
    """Let a pipe hold a MiB, so that the two ends wait less for each other (Linux)."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


class _Pool:
    """The child processes of this process, kept between jobs: starting one takes half a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[VideoProcess] = []
        self._all: set[VideoProcess] = set()

    @contextmanager
    def borrow(self) -> Iterator[VideoProcess]:
        with self._lock:
            process = self._idle.pop() if self._idle else VideoProcess()
            self._all.add(process)
        try:
            yield process
        except BaseException:
            process.close()  # it may be in the middle of a video
            raise
        finally:
            with self._lock:
                if process.closed:
                    self._all.discard(process)
                else:
                    self._idle.append(process)
            if process.closed:
                process.dispose()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
            self._all = set()
        for process in busy:
            process.close()  # whoever borrowed it disposes of it
        for process in idle:
            process.dispose()

    def forget(self) -> None:
        """Drop what belongs to the process that this one was forked from."""
        self.__init__()  # type: ignore[misc]


_POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)


def borrowed_process() -> Any:
    """Return a context manager that lends a ``VideoProcess``."""
    return _POOL.borrow()


def end_processes() -> None:
    """End all child processes of this process, those that compute flow included."""
    _POOL.close()
    end_flow_processes()
