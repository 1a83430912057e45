"""What is lost when videos are shuffled in a window of the shards' order, and not all together.

Mixing: of batches of 32 from the synthetic set of motions, in shards of 16 videos: how many shards
and classes a batch holds, and how much likelier than by full shuffling two videos of one batch are
together in one of the next epoch, too. Accuracy: flow networks trained on that set with each window
and several seeds, tested on its test videos.

Run as ``python -m benchmarks.bench_shuffle``; a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_accuracy import run
from benchmarks.report import write_result
from train.batches import BatchPlan
from train.plots import new_figure, save_figure
from train.videos import open_modality

_BATCH = 32
_EPOCHS = 40  # of the statistics
_SEEDS = (0, 1)
_PER_SHARD = 16
_FIT = (
    "--backbone shufflenet_v2_x0_5 --weights none --no-flip --optimizer adamw --lr 0.001 "
    "--head-lr-factor 1 --schedule cosine "
    "--crop-scales 1,0.875 --input-size 64 --dropout 0.2 --batch-size 16 --epochs 12"
)
_PICTURE = Path(__file__).parent.parent / "docs" / "images" / "shuffle.png"


def mixing(shard_numbers: np.ndarray, labels: np.ndarray, window: int) -> dict[str, float]:
    """Return what the batches of many epochs hold; window 0 is full shuffling."""
    plan = BatchPlan(len(labels), _BATCH, True, 0, window=window, shard_numbers=shard_numbers)
    shards, classes, kept = [], [], []
    before = None
    for epoch in range(_EPOCHS):
        batches = [places for places in _batches(plan, epoch) if len(places) == _BATCH]
        shards += [len(set(shard_numbers[places].tolist())) for places in batches]
        classes += [len(set(labels[places].tolist())) for places in batches]
        together = np.zeros((len(labels), len(labels)), bool)
        for places in batches:
            together[np.ix_(places, places)] = True
        np.fill_diagonal(together, val=False)
        if before is not None:
            kept.append((together & before).sum() / before.sum())
        before = together
    by_chance = (_BATCH - 1) / (len(labels) - 1)
    return {
        "shards_in_a_batch": float(np.mean(shards)),
        "classes_in_a_batch": float(np.mean(classes)),
        "pairs_met_again_over_chance": float(np.mean(kept)) / by_chance,
    }


def _batches(plan: BatchPlan, epoch: int) -> list[np.ndarray]:
    order = plan.order(epoch)
    return [order[first : first + _BATCH] for first in range(0, len(order), _BATCH)]


def accuracy(out: Path, window: int, seed: int) -> tuple[float, float]:
    """Return top-1 accuracy on the test videos, and the loss of the last epoch of training."""
    folder = out / "runs" / f"window{window}-seed{seed}"
    run(
        "train",
        f"fit --shards {out / 'shards' / 'motion'} --modality flow {_FIT} "
        f"--shuffle-window {window} --seed {seed} --out {folder}",
    )
    run("train", f"evaluate {folder} --num-snippets 5 --crops 1")
    metrics = json.loads((folder / "metrics.json").read_text())
    last = (folder / "metrics.csv").read_text().splitlines()[-1].split(",")
    return metrics["top1"], float(last[2])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw mixing and accuracy over the window."""
    figure, subplots = new_figure(9, 3.6)
    left, right = subplots(1, 2)
    names = [str(row["window"]) if row["window"] else "all" for row in rows]
    left.plot(names, [row["pairs_met_again_over_chance"] for row in rows], marker="o")
    left.set_ylabel("pairs met again in a batch, times chance")
    for seed in range(len(_SEEDS)):
        values = [100 * row["top1"][seed] for row in rows]
        right.plot(names, values, marker="o", label=f"seed {_SEEDS[seed]}")
    right.set_ylabel("top-1 accuracy, %")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("window, videos")
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def main() -> None:
    """Measure and write ``results/shuffle.json`` and its picture."""
    parser = argparse.ArgumentParser(description="Measure shuffling in a window.")
    parser.add_argument("--out", type=Path, default=Path("bench_shuffle"))
    out = parser.parse_args().out
    data = out / "data" / "motion"
    commands = [
        run("preprocess", f"synth --kind motion --out {data} --videos-per-class 60"),
        run(
            "preprocess",
            f"extract --dataset folder --data {data} --out {out / 'shards'} --modality flow "
            f"--flow farneback --bound 8 --size 160x120 --videos-per-shard {_PER_SHARD}",
        ),
    ]
    shards, manifest = open_modality(out / "shards" / "motion", "flow", None)
    names = manifest.subset_names(1, "train")
    videos = [shards.number(name) for name in names]
    numbers, labels = shards.shard_numbers()[videos], shards.labels[videos]
    rows = []
    for window in (1, 16, 64, 0):
        found = [accuracy(out, window, seed) for seed in _SEEDS]
        rows.append(
            {
                "window": window,
                **mixing(numbers, labels, window),
                "top1": [top1 for top1, _ in found],
                "last_train_loss": [loss for _, loss in found],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    plot(rows, _PICTURE)
    result = {
        "videos": len(videos),
        "shards": len(set(numbers.tolist())),
        "commands": [*commands, f"fit {_FIT}"],
        "rows": rows,
    }
    print(write_result("shuffle", result))


if __name__ == "__main__":
    main()
