"""``python -m benchmarks [NAME…] [OPTION…]``: run all measurements, or those named.

Those on a GPU (``gpu`` and ``gpu_…``) only run when they are named. Options, from the first one on,
are given to each.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.machine import lack

_HERE = Path(__file__).parent


def main() -> None:
    """Run ``bench_*.py``, each in a process of its own."""
    names = [path.stem.removeprefix("bench_") for path in sorted(_HERE.glob("bench_*.py"))]
    words = sys.argv[1:]
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    chosen = words[:first] or [name for name in names if not name.startswith("gpu")]
    for name in chosen:
        if name not in names:
            raise SystemExit(f"unknown benchmark {name!r}; choose from {', '.join(names)}")
    for name in chosen:
        print(f"== {name}", flush=True)
        if lacking := lack(name):
            raise SystemExit(lacking)
        command = [sys.executable, "-m", f"benchmarks.bench_{name}", *words[first:]]
        status = subprocess.run(command, check=False).returncode
        if status:
            raise SystemExit(status)


if __name__ == "__main__":
    main()
