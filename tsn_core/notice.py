"""A plain line before something that takes its time in silence."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Print a line on standard error at once, so that nobody wonders what is going on."""
    print(text, file=sys.stderr, flush=True)
