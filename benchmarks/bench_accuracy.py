"""Accuracy on the aerobics clips: three arm actions, each of three people left out in turn.

Everything goes through the command-line programs, as a user would type it; the commands are part
of the result. Run as ``python -m benchmarks.bench_accuracy`` with ``TSN_CLIPS`` set, and
``TSN_WEIGHTS`` naming ImageNet weights of ``mobilenet_v2``.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.aerobics import FIT, TEST, extract, run, weights_file, without_paths
from benchmarks.report import write_result
from train.metrics import summarize, table
from train.scores import read_scores

_FOLDS = (1, 2, 3)
_MODALITIES = ("rgb", "flow", "rgbdiff")


def fold(out: Path, flow: str, seed: int, split: int) -> list[str]:
    """Train, test and fuse on one split; return the commands."""
    weights = weights_file()
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
                f"--weights {weights} {FIT} --seed {seed} --out {folder}",
            )
        )
        commands.append(run("train", f"evaluate {folder} {TEST}"))
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
    began = time.perf_counter()
    commands = [extract(options.out, _MODALITIES, options.flow)]
    results = {}
    for seed in options.seeds:
        for split in _FOLDS:
            done = fold(options.out, options.flow, seed, split)
            if seed == options.seeds[0]:
                commands += done
        results[f"seed {seed}"] = pooled(options.out, options.flow, seed)
        print(f"seed {seed}, {len(_FOLDS)} folds together:")
        print(table(results[f"seed {seed}"]))
    commands = without_paths(commands, options.out)
    minutes = (time.perf_counter() - began) / 60
    result = {"flow": options.flow, "minutes": minutes, "pooled": results, "commands": commands}
    result["waiting_share"] = waiting_share(options.out)
    print(write_result("accuracy", result))


if __name__ == "__main__":
    main()
