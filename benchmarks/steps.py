"""Steps of a long measurement: programs that are timed, within a limit, and not done twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tsn_core.atomic import write_text

_STEPS_NAME = "steps.json"
_END_SECONDS = 20.0  # for a program that is told to end


class Stopped(Exception):
    """A step failed, or there is no time left for it; the message says which."""


class Steps:
    """Runs programs one after the other, and remembers in a folder what is done.

    The programs go on where they were interrupted, so a step that has no time left is ended, and
    begun again by the next call; its seconds are those of all calls.
    """

    def __init__(self, out: Path, seconds: float) -> None:
        """Begin.

        Args:
            out: Folder of everything.
            seconds: Until when steps may run, from now.
        """
        self._path = out / _STEPS_NAME
        self._end = time.monotonic() + seconds
        out.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            self.done = json.loads(self._path.read_text(encoding="utf-8"))

    def run(self, name: str, module: str, arguments: str) -> None:
        """Run one of the programs, unless that is done already.

        Args:
            name: Of the step.
            module: ``preprocess`` or ``train``.
            arguments: As a user would type them.

        Raises:
            Stopped: It failed, or time is up.
        """
        command = f"tsn-{module} {arguments}"
        step = self.done.get(name)
        if step is None or step["command"] != command:
            step = {"command": command, "seconds": 0.0, "calls": 0, "complete": False}
        if step["complete"]:
            return
        left = self._end - time.monotonic()
        if left <= 0:
            raise Stopped(f"{name}: no time left; the same command goes on there")
        print(f"-- {name}: {command}", flush=True)
        began = time.monotonic()
        status = _status([sys.executable, "-m", module, *arguments.split()], left)
        step["seconds"] += time.monotonic() - began
        step["calls"] += 1
        step["complete"] = status == 0
        self.done[name] = step
        write_text(self._path, json.dumps(self.done, indent=1) + "\n")
        if status is None:
            raise Stopped(f"{name}: ended, time is up; the same command goes on there")
        if status:
            raise Stopped(f"{name}: exit status {status}: {command}")

    def forget(self) -> None:
        """Do every step again."""
        self.done = {}
        self._path.unlink(missing_ok=True)

    def complete(self, name: str) -> bool:
        """Return whether a step is done."""
        return bool(self.done.get(name, {}).get("complete"))


def _status(words: list[str], seconds: float) -> int | None:
    """Return the exit status of a command; None if it had to be ended."""
    with subprocess.Popen(words) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            return None
        except BaseException:
            process.kill()
            raise
