"""The environment of the processes that this one starts to run modules of its own."""

from __future__ import annotations

import os
import sys

_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


def child_environment(*, one_thread: bool = False) -> dict[str, str]:
    """Return this process's environment, with which a new one finds the same modules.

    Args:
        one_thread: Whether libraries of arithmetic are to start no threads there.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    threads = _ONE_THREAD if one_thread else {}
    return {**os.environ, **threads, "PYTHONPATH": path}
