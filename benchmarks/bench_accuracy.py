"""Accuracy on the aerobics clips: three arm actions, each of three people left out in turn.

Everything goes through the command-line programs, as a user would type it; the commands are part
of the result. Run as ``python -m benchmarks.bench_accuracy`` with ``TSN_CLIPS`` set, and
``TSN_WEIGHTS`` naming ImageNet weights of ``mobilenet_v2``.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import clips_folder, write_result
from train.metrics import summarize, table
from train.scores import read_scores

_FOLDS = (1, 2, 3)
_MODALITIES = ("rgb", "flow", "rgbdiff")
_EXTRACT = "--size 170x128 --quality 95"
_FIT = "--preset small --backbone mobilenet_v2 --input-size 112 --channels-last --workers 2"
_EVALUATE = "--num-snippets 25 --crops 1"


def run(module: str, arguments: str) -> str:
    """Run one of the programs and return the command as a user would type it."""
    done = subprocess.run([sys.executable, "-m", module, *arguments.split()], check=False)
    if done.returncode:
        raise SystemExit(f"tsn-{module} {arguments}: exit status {done.returncode}")
    return f"tsn-{module} {arguments}"


def fold(out: Path, flow: str, seed: int, split: int) -> list[str]:
    """Train, test and fuse on one split; return the commands."""
    weights = os.environ.get("TSN_WEIGHTS")
    if not weights:
        raise SystemExit("set TSN_WEIGHTS to ImageNet weights of mobilenet_v2")
    commands = []
    runs = []
    for name in _MODALITIES:
        folder = out / f"{flow}-seed{seed}" / f"{name}-split{split}"
        runs.append(str(folder))
        commands.append(
            run(
                "train",
                f"fit --shards {out / 'shards/aerobics'} --modality {name} "
                f"{f'--flow {flow} ' if name == 'flow' else ''}--split {split} "
                f"--weights {weights} {_FIT} --seed {seed} --out {folder}",
            )
        )
        commands.append(run("train", f"evaluate {folder} {_EVALUATE}"))
    fused = out / f"{flow}-seed{seed}" / f"fused-split{split}"
    commands.append(run("train", f"fuse {' '.join(runs)} --out {fused}"))
    commands.append(run("train", f"fuse {runs[0]} {runs[1]} --out {fused}-rgb-flow"))
    return commands


def pooled(out: Path, flow: str, seed: int) -> dict[str, dict[str, Any]]:
    """Return the metrics over the videos of all folds, by modality and fusion."""
    rows = {}
    for name, folder in (
        *((name, f"{name}-split") for name in _MODALITIES),
        ("rgb + flow", "fused-split{}-rgb-flow"),
        ("all three", "fused-split"),
    ):
        where = folder if "{}" in folder else folder + "{}"
        parts = [read_scores(out / f"{flow}-seed{seed}" / where.format(split)) for split in _FOLDS]
        scores = np.concatenate([part.video_scores for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        rows[name] = summarize(scores, labels)
        rows[name]["right"] = round(rows[name]["top1"] * len(labels))
    return rows


def waiting_share(out: Path) -> float:
    """Return which part of the training steps of all runs was spent waiting for data."""
    data = compute = 0.0
    for path in sorted(out.glob("*/*/metrics.csv")):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                data += float(row["data_seconds"])
                compute += float(row["compute_seconds"])
    return data / (data + compute)


def main() -> None:
    """Measure and write ``results/accuracy.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flow", default="tvl1", choices=("tvl1", "farneback", "dis"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("demo/accuracy"))
    options = parser.parse_args()
    data = clips_folder() / "aerobics"
    began = time.perf_counter()
    commands = [
        run(
            "preprocess",
            f"extract --dataset folder --data {data} --out {options.out / 'shards'} "
            f"--modality rgb --modality flow --modality rgbdiff --flow {options.flow} {_EXTRACT}",
        )
    ]
    results = {}
    for seed in options.seeds:
        for split in _FOLDS:
            done = fold(options.out, options.flow, seed, split)
            if seed == options.seeds[0]:
                commands += done
        results[f"seed {seed}"] = pooled(options.out, options.flow, seed)
        print(f"seed {seed}, {len(_FOLDS)} folds together:")
        print(table(results[f"seed {seed}"]))
    names = {
        str(clips_folder()): "$TSN_CLIPS",
        os.environ["TSN_WEIGHTS"]: "$TSN_WEIGHTS",
        str(options.out): "OUT",
    }
    for path, name in names.items():
        commands = [command.replace(path, name) for command in commands]
    minutes = (time.perf_counter() - began) / 60
    result = {"flow": options.flow, "minutes": minutes, "pooled": results, "commands": commands}
    result["waiting_share"] = waiting_share(options.out)
    print(write_result("accuracy", result))


if __name__ == "__main__":
    main()
