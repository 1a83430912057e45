"""Inputs are given to targets in another process, which may crash, hang or run out of memory."""

from __future__ import annotations

import base64
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

_SECONDS = 20.0  # for one input, on a machine with much else to do
_ADDRESS_BYTES = 1 << 30  # that a worker may allocate for data
_EXTRA_BYTES, _BYTES_PER_BYTE = 48 << 20, 300  # of memory really used, beyond that before the input


class BugError(AssertionError):
    """A target did what it must not do."""


class Sandbox:
    """A process that runs targets; it is started anew after it died. Use as a context manager."""

    def __init__(self, seconds: float = _SECONDS, targets: str = "fuzz.targets") -> None:
        self._seconds = seconds
        self._targets = targets
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, target: str, data: bytes) -> str:
        """Give an input to a target; see ``fuzz.targets.run``.

        Raises:
            BugError: The target raised something else than a ``TSNError``, crashed, hung, opened
                other files than those in its folder, or took too much memory.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.sandbox", self._targets],
                cwd=Path(__file__).parent.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        request = {"target": target, "data": base64.b64encode(data).decode()}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], self._seconds)[0]:
            self._stop()
            raise BugError(f"{target}: no answer within {self._seconds:g} s")
        answer = process.stdout.readline()
        if not answer:
            code = process.wait()
            self._process = None
            raise BugError(f"{target}: the process ended with status {code}")
        reply = json.loads(answer)
        if "bug" in reply:
            raise BugError(f"{target}: {reply['bug']}")
        return str(reply["message"])

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _peak_bytes() -> int:
    """Return the most memory that was used since the last call of ``_forget_peak``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def _forget_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


class _Watch:
    """Notes every file that is opened outside the folder of the input."""

    def __init__(self) -> None:
        own = (sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent), "/proc/self/")
        self._allowed = own
        self.folder: str | None = None
        self.found: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or self.folder is None or not isinstance(arguments[0], str | bytes):
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((self.folder, *self._allowed)):
            self.found.append(path)


def _main() -> None:
    import cv2  # noqa: F401 - its memory is not the input's

    targets = import_module(sys.argv[1])
    os.fsync = lambda _: None  # nothing of this is kept
    for target in targets.TARGETS.values():
        target.sound()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    resource.setrlimit(resource.RLIMIT_DATA, (_ADDRESS_BYTES, _ADDRESS_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = _Watch()
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="fuzz-")))
    try:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            data = base64.b64decode(request["data"])
            shutil.rmtree(folder)
            folder.mkdir()
            _forget_peak()
            before = _peak_bytes()
            watch.folder, watch.found = str(folder), []
            reply = {}
            try:
                reply["message"] = targets.run(request["target"], data, folder)
            except BaseException:  # whatever it is, it is what was looked for
                watch.folder = None  # the traceback shows sources
                reply["bug"] = traceback.format_exc()
            watch.folder = None
            grown = _peak_bytes() - before
            if grown > _EXTRA_BYTES + _BYTES_PER_BYTE * len(data):
                reply["bug"] = f"{grown >> 20} MiB of memory for {len(data)} bytes"
            if watch.found:
                reply["bug"] = f"opened {watch.found[0]}"
            answers.write(json.dumps(reply).encode() + b"\n")
            answers.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main()
