"""How a process ended, in words."""

from __future__ import annotations

import os
import signal
from typing import IO


def signal_text(number: int) -> str:
    """Return the signal that killed a process, and what that usually means.

    Examples:
        >>> signal_text(9)
        'SIGKILL, as the kernel does when memory runs out'
    """
    name = _signal_name(number)
    if name == "SIGKILL":
        return f"{name}, as the kernel does when memory runs out"
    return name


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most of the real-time ones have no name
        return f"signal {number}"


def last_line(complaints: IO[bytes]) -> str:
    """Return the last line that a process wrote to its standard error, a file; or nothing."""
    size = complaints.seek(0, os.SEEK_END)
    complaints.seek(max(size - 1000, 0))
    lines = complaints.read().decode(errors="replace").split("\n")
    return next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
