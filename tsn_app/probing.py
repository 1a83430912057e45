"""Starting probes, and what a probe that fails comes to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

_SECONDS = 120.0  # the first compilation of TV-L1 takes half a minute on a slow machine


@dataclass(frozen=True)
class Probed:
    """What a probe found, or why it found nothing.

    Attributes:
        facts: As ``tsn_app.probe`` returns them; None where it failed.
        failure: One line, where it failed.
    """

    facts: dict[str, Any] | None
    failure: str = ""


def run_probe(name: str, *words: str, seconds: float = _SECONDS) -> Probed:
    """Run a probe in a process of its own.

    Args:
        name: Of the probe.
        words: What it takes besides.
        seconds: After which it counts as hanging.
    """
    command = [sys.executable, "-W", "ignore", "-m", "tsn_app.probe", name, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Probed(None, f"does not come back within {seconds:.0f} s")
    except OSError as error:
        return Probed(None, f"cannot be started: {error.strerror}")
    if done.returncode < 0:
        return Probed(None, f"ends its process with {_signal_name(-done.returncode)}")
    lines = done.stdout.strip().splitlines()
    try:
        facts = json.loads(lines[-1]) if done.returncode == 0 and lines else None
    except ValueError:
        facts = None
    if isinstance(facts, dict):
        return Probed(facts)
    said = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return Probed(None, said[-1].strip() if said else f"ends with status {done.returncode}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
