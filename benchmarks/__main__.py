"""``python -m benchmarks [NAME…]``: run all measurements, or those named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent


def main() -> None:
    """Run every ``bench_*.py`` in a process of its own."""
    names = [path.stem.removeprefix("bench_") for path in sorted(_HERE.glob("bench_*.py"))]
    chosen = sys.argv[1:] or names
    for name in chosen:
        if name not in names:
            raise SystemExit(f"unknown benchmark {name!r}; choose from {', '.join(names)}")
    for name in chosen:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.bench_{name}"], check=True)


if __name__ == "__main__":
    main()
