"""Whether training waits for its data, and what would help."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

STEP_PARTS = ("data_seconds", "copy_seconds", "compute_seconds")  # of ``metrics.csv``
_MUCH = 0.15  # of the time of all steps
_START = 1  # epochs in which processes start and files are read first


def step_shares(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float, float] | None:
    """Return which shares of the steps' time went into waiting, copying and computing.

    Args:
        rows: Of ``metrics.csv``. The first one counts only where there is no other: in it processes
            start, and files are read for the first time.

    Returns:
        None where the rows do not tell.
    """
    later = rows[_START:] or rows
    totals = [math.fsum(_number(row.get(part)) for row in later) for part in STEP_PARTS]
    whole = math.fsum(totals)
    if not 0 < whole < math.inf:
        return None
    return totals[0] / whole, totals[1] / whole, totals[2] / whole


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0  # of a run that did not measure it


def step_text(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return one line about where the time of the steps went, or None where nobody knows.

    Examples:
        >>> print(step_text([{"data_seconds": 1, "copy_seconds": 0, "compute_seconds": 3}]))
        Of a step's time 25% was waiting for data, 0% copying and 75% computing.
    """
    shares = step_shares(rows)
    if shares is None:
        return None
    waiting, copying, computing = (f"{100 * share:.0f}%" for share in shares)
    return (
        f"Of a step's time {waiting} was waiting for data, {copying} copying and {computing} "
        "computing."
    )


def waiting_hint(
    rows: Sequence[Mapping[str, Any]],
    *,
    num_workers: int | None,
    codec: str | None,
    resize_on: str,
    decode_on: str,
) -> str | None:
    """Return one line about a loader that is too slow, with what to change.

    Args:
        rows: Of ``metrics.csv``.
        num_workers: Loading processes of this rank; None where nobody knows.
        codec: Of the shards; None where nobody knows.
        resize_on: ``workers`` or ``device``.
        decode_on: Likewise.

    Returns:
        None where training waits little.
    """
    shares = step_shares(rows)
    if shares is None or shares[0] < _MUCH:
        return None
    remedies = []
    cores = usable_cores()
    if num_workers is None:
        remedies.append("more --workers")
    elif num_workers < cores:
        remedies.append(f"--workers {min(max(2 * num_workers, 1), cores)}, of {cores} cores")
    if resize_on == "workers":
        remedies.append("--resize-on device")
    if decode_on == "workers" and codec != "raw":
        remedies.append("--decode-on device, on a GPU")
    if codec != "raw":
        remedies.append("raw shards, by tsn-preprocess repack --codec raw")
    remedies.append("smaller frames, by tsn-preprocess repack --size")
    return (
        f"{100 * shares[0]:.0f}% of the steps' time was spent waiting for data; "
        f"what helps: {'; '.join(remedies)}"
    )


class WaitingWatch:
    """Says once, after the second epoch or an only one, that training waits; told every row."""

    def __init__(
        self,
        say: Callable[[str], None],
        epochs: int,
        *,
        num_workers: int,
        codec: str,
        resize_on: str,
        decode_on: str,
    ) -> None:
        self._say = say
        self._due = min(_START + 1, epochs)
        self._known: dict[str, Any] = {
            "num_workers": num_workers,
            "codec": codec,
            "resize_on": resize_on,
            "decode_on": decode_on,
        }
        self._rows: list[Mapping[str, Any]] = []

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Take the row of an epoch."""
        self._rows.append(row)
        if len(self._rows) != self._due:
            return
        hint = waiting_hint(self._rows, **self._known)
        if hint:
            self._say(hint)


def usable_cores() -> int:
    """Return how many cores this process may use, within the limits of a container too."""
    import joblib

    return joblib.cpu_count()
