"""Everything that is measured on a GPU, one after the other, and what it was meant to reach.

Run as ``make bench-gpu`` or ``python -m benchmarks gpu``. A measurement that fails does not keep
the others from running. At the end a table holds what was found against the bars and the aims; the
status is 1 if a bar was missed, or something failed.

``--small --device cpu`` runs the small form of each: nothing is measured, but each script is shown
to work, on any machine. ``--only gpu_chain`` runs that one alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import choose_device, lack
from benchmarks.report import RESULTS

SCRIPTS = ("gpu_flow", "gpu_extract", "gpu_train", "gpu_chain")
_NOTHING = "–"
_USUAL = "bf16, channels last"  # as bench_gpu_train calls it


@dataclass(frozen=True)
class Bar:
    """What a number has to reach.

    Attributes:
        what: The number is.
        script: Whose result holds it.
        read: Takes it out of the result; None where it was not measured.
        bar: It must be at least that, or at most where ``at_most``.
        aim: What would be better still; None for nothing.
        at_most: Whether less is better.
    """

    what: str
    script: str
    read: Callable[[Mapping[str, Any]], float | None]
    bar: float
    aim: float | None = None
    at_most: bool = False

    def found(self, results: Mapping[str, Mapping[str, Any]]) -> float | None:
        """Return the number in the results, by script; None if it is not there."""
        return self.read(results[self.script]) if self.script in results else None

    def verdict(self, value: float | None) -> str:
        """Return ``not measured``, ``missed``, ``reached`` or, with the aim, ``aim reached``."""
        if value is None:
            return "not measured"
        if not self._reaches(value, self.bar):
            return "missed"
        return (
            "aim reached" if self.aim is not None and self._reaches(value, self.aim) else "reached"
        )

    def _reaches(self, value: float, goal: float) -> bool:
        return value <= goal if self.at_most else value >= goal


def _pairs(result: Mapping[str, Any]) -> float | None:
    return result.get("pairs_per_second")  # at 340x256


def _extracted(result: Mapping[str, Any]) -> float | None:
    rows = [row for row in result.get("rows", ()) if row["device"] == "cuda:0"]
    return max((row["images_per_second"] for row in rows if row["flow"] is not None), default=None)


def _fed(modality: str, codec: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Return what finds the best way of feeding, in the arithmetic that is usual on a GPU."""

    def read(result: Mapping[str, Any]) -> float | None:
        shares = [
            row["fed_over_synthetic"]
            for row in result.get("fed", ())
            if (row["modality"], row["codec"], row["arithmetic"]) == (modality, codec, _USUAL)
        ]
        return max(shares, default=None)

    return read


def _minutes(result: Mapping[str, Any]) -> float | None:
    return result["seconds"] / 60 if result.get("complete") else None


BARS = (
    Bar("TV-L1, pairs/s at 340x256", "gpu_flow", _pairs, 1500, aim=4000),
    Bar("extraction with it on one GPU, pairs/s", "gpu_extract", _extracted, 1500, aim=4000),
    *(
        Bar(f"{modality} from {codec}, share of synthetic", "gpu_train", _fed(modality, codec), 0.9)
        for modality in ("rgb", "flow")
        for codec in ("jpeg", "raw")
    ),
    Bar("the whole chain, minutes", "gpu_chain", _minutes, 9, at_most=True),
)


def main() -> None:
    """Run them, print the table, and exit with 1 unless everything was reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="the small form of each, no bars")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--only", choices=SCRIPTS, action="append", help="may be repeated; all")
    options = parser.parse_args()
    device = choose_device(options.device, "gpu")
    arguments = ["--device", device, *(["--small"] if options.small else [])]
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) if options.small else RESULTS
        bars = () if options.small else BARS
        raise SystemExit(run_all(options.only or SCRIPTS, arguments, bars, results))


def run_all(
    scripts: Sequence[str], arguments: Sequence[str], bars: Sequence[Bar], folder: Path
) -> int:
    """Run scripts, print how that went and the table of bars.

    Args:
        scripts: Names without ``bench_``.
        arguments: Of each.
        bars: Judged, as far as they are of these scripts.
        folder: Of the results.

    Returns:
        0 if all scripts ended well and no bar was missed, else 1.
    """
    ended: dict[str, tuple[int, float]] = {}
    results: dict[str, dict[str, Any]] = {}
    for name in scripts:
        print(f"== {name}", flush=True)
        if lacking := lack(name):
            print(lacking, flush=True)
            ended[name] = (1, 0.0)
            continue
        path = folder / f"{name}.json"
        began, stamp = time.monotonic(), _stamp(path)
        words = [sys.executable, "-m", f"benchmarks.bench_{name}", *arguments]
        environment = {**os.environ, "TSN_RESULTS": str(folder)}
        status = subprocess.run(words, check=False, env=environment).returncode
        ended[name] = (status, time.monotonic() - began)
        if _stamp(path) != stamp:  # otherwise it is of an earlier run
            results[name] = json.loads(path.read_text(encoding="utf-8"))
    print("== gpu")
    for name, (status, seconds) in ended.items():
        print(f"{name:<12} {'ended well' if not status else f'status {status}'}, {seconds:.0f} s")
    judged = [bar for bar in bars if bar.script in ended]
    if judged:
        print(bar_table(judged, results))
    failed = [name for name, (status, _) in ended.items() if status]
    missed = [
        bar.what for bar in judged if bar.verdict(bar.found(results)) in ("missed", "not measured")
    ]
    if failed:
        print(f"failed: {', '.join(failed)}")
    if missed:
        print(f"missed or not measured: {'; '.join(missed)}")
    return 1 if failed or missed else 0


def bar_table(bars: Sequence[Bar], results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text table of bars and aims."""
    rows = [("what", "found", "bar", "aim", "")]
    for bar in bars:
        value = bar.found(results)
        sign = "≤" if bar.at_most else "≥"
        rows.append(
            (
                bar.what,
                _NOTHING if value is None else _number(value),
                f"{sign} {_number(bar.bar)}",
                _NOTHING if bar.aim is None else f"{sign} {_number(bar.aim)}",
                bar.verdict(value),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  "
        + "  ".join(f"{row[column]:>{widths[column]}}" for column in (1, 2, 3))
        + f"  {row[4]}".rstrip()
        for row in rows
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


if __name__ == "__main__":
    main()
