"""The child process that extracts videos for ``preprocess.isolation``.

It ends by itself when the process that started it is gone, even while it decodes; when nothing is
asked of it for a while; and, whatever it hangs in, some time after its watcher should have done it.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocess.flow_lost import FlowProcessLost
from preprocess.task import Extractor, InProcess, Task
from preprocess.wire import DONE, FAILED, LOST_FLOW_STATUS, STARTED, WARNING, Outbox
from tsn_core.errors import VideoError

if TYPE_CHECKING:
    from preprocess.flow_client import FlowConnection

_IDLE_SECONDS = 60.0
_ALARM_SECONDS = 60  # past the limit at which the watcher ends a process that hangs


def main(read_fd: int, write_fd: int, flow_fd: int | None = None, methods: str = "[]") -> None:
    """Extract what is asked for until there is nobody to ask any more.

    Args:
        read_fd: Of the pipe that tasks come from.
        write_fd: Of the pipe that images go to.
        flow_fd: Of the connection to the flow process, if there is one.
        methods: Those that it was told of, as JSON.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the watcher that is interrupted
    _be_the_first_to_go()
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    listener = threading.Thread(
        target=_listen, args=(Connection(read_fd, writable=False), requests), daemon=True
    )
    listener.start()
    outbox = Outbox(Connection(write_fd, readable=False))

    def warn(message: Warning | str, *_: Any, **__: Any) -> None:
        outbox.send(WARNING, str(message).encode())

    warnings.showwarning = warn
    heart = _Heart(outbox)
    extractor = InProcess(heart.beat)
    flow = None
    if flow_fd is not None:
        from preprocess.flow_client import FlowConnection

        flow = FlowConnection(flow_fd, json.loads(methods), heart.beat)
        extractor = InProcess(heart.beat, flow.service)
    try:
        _serve(requests, extractor, outbox, heart, flow)
    except FlowProcessLost:
        os._exit(LOST_FLOW_STATUS)
    os._exit(0)  # without waiting for what libraries have left running


def _serve(
    requests: queue.SimpleQueue[bytes],
    extractor: Extractor,
    outbox: Outbox,
    heart: _Heart,
    flow: FlowConnection | None,
) -> None:
    """Extract one video after the other, until none has come for a while.

    Raises:
        FlowProcessLost: In the middle of a video.
    """
    with suppress(queue.Empty, BrokenPipeError):
        while True:
            task: Task = pickle.loads(requests.get(timeout=_IDLE_SECONDS))
            if flow is not None and flow.is_lost:  # before the video has begun, so no harm is done
                return
            heart.start(task.limits.stall_seconds)
            outbox.send(STARTED)
            if flow is not None:
                flow.settle()
            _extract(extractor, task, outbox, heart)
            heart.stop()


class _Heart:
    """Tells the watcher that work goes on; has the kernel end a process that hangs unwatched."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._seconds = 0
        self._next = 0.0

    def start(self, stall_seconds: float) -> None:
        """Begin a video that may be silent for that long."""
        self._seconds = min(int(stall_seconds) + _ALARM_SECONDS, 1 << 30)
        self._next = 0.0
        self.beat()

    def beat(self) -> None:
        """Say that work goes on; cheap enough for every frame and image."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 1.0
            signal.alarm(self._seconds)
            self._outbox.alive()

    def stop(self) -> None:
        """End the video."""
        signal.alarm(0)


def _listen(connection: Connection, requests: queue.SimpleQueue[bytes]) -> None:
    """Pass requests on; end the process once nobody can send any more."""
    try:
        while True:
            requests.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _extract(extractor: Extractor, task: Task, outbox: Outbox, heart: _Heart) -> None:
    def emit(place: int, unit: int, frame: int, data: bytes) -> None:
        outbox.image(place, unit, frame, data)
        heart.beat()  # flow may take minutes after the last frame was decoded

    try:
        extracted = extractor.extract(task, emit)
    except BrokenPipeError:
        raise
    except VideoError as error:
        outbox.send(FAILED, json.dumps({"stage": error.stage, "reason": str(error)}).encode())
    else:
        content = {
            "rows": [asdict(row) for row in extracted.rows],
            "note": extracted.note,
            "costs": extracted.costs and asdict(extracted.costs),
            "peak_bytes": _peak_bytes(),
            "flow_seconds": extracted.flow_seconds,
        }
        outbox.send(DONE, json.dumps(content).encode())


def _peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    with suppress(OSError, StopIteration):  # Linux; what getrusage tells there is the parent's, too
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _be_the_first_to_go() -> None:
    """Ask the kernel to end this process rather than its watcher where memory runs out (Linux)."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *sys.argv[4:])  # type: ignore[arg-type]
