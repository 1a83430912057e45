"""What measurements on the aerobics clips share: the programs, their settings, the splits.

Three arm actions, each of three people left out in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import clips_folder

FIT = "--preset small --backbone mobilenet_v2 --input-size 112 --channels-last --workers 2"
TEST = "--num-snippets 25 --crops 1"
_SIZE = "--size 170x128 --quality 95"


def run(module: str, arguments: str) -> str:
    """Run one of the programs and return the command as a user would type it."""
    done = subprocess.run([sys.executable, "-m", module, *arguments.split()], check=False)
    if done.returncode:
        raise SystemExit(f"tsn-{module} {arguments}: exit status {done.returncode}")
    return f"tsn-{module} {arguments}"


def extract(out: Path, modalities: Sequence[str], flow: str) -> str:
    """Extract the clips into ``OUT/shards`` and return the command."""
    wanted = " ".join(f"--modality {name}" for name in modalities)
    return run(
        "preprocess",
        f"extract --dataset folder --data {clips_folder() / 'aerobics'} --out {out / 'shards'} "
        f"{wanted} --flow {flow} {_SIZE}",
    )


def weights_file() -> str:
    """Return the ImageNet weights of ``mobilenet_v2`` that ``TSN_WEIGHTS`` names.

    Raises:
        SystemExit: It is not set.
    """
    weights = os.environ.get("TSN_WEIGHTS")
    if not weights:
        raise SystemExit("set TSN_WEIGHTS to ImageNet weights of mobilenet_v2")
    return weights


def without_paths(commands: Sequence[str], out: Path) -> list[str]:
    """Return commands with the names of variables in place of this machine's paths."""
    names = {str(clips_folder()): "$TSN_CLIPS", weights_file(): "$TSN_WEIGHTS", str(out): "OUT"}
    hidden = []
    for command in commands:
        for path, name in names.items():
            command = command.replace(path, name)
        hidden.append(command)
    return hidden
