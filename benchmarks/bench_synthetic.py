"""Accuracy on the synthetic sets, where the theory says what can be known from what.

In the set of motions a single frame tells nothing, flow and RGB differences everything. In the set
of orders a consensus that does not look at the order of the snippets can tell which two motions a
video shows, but not which came first: at best it is right in half of the videos. The GRU can.

Everything goes through the command-line programs, as a user would type it; the commands are part
of the result. Run as ``python -m benchmarks.bench_synthetic``; a run that was interrupted goes on.
The settings were chosen on videos made with ``--seed 1``; what is reported are those of seed 0.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_accuracy import run
from benchmarks.report import write_result
from train.metrics import summarize, table
from train.scores import read_scores

_STORED = "--flow farneback --bound 8 --size 160x120"
_FIT = (
    "--no-flip --optimizer adamw --lr 0.001 --head-lr-factor 1 --schedule cosine "
    "--crop-scales 1,0.875 --input-size 64"
)
_MOTION = {  # the more can be learnt, the more is trained
    "rgb": "--num-segments 3 --dropout 0.2 --batch-size 16 --epochs 4",
    "flow": "--num-segments 3 --dropout 0.2 --batch-size 16 --epochs 12",
    "rgbdiff": "--num-segments 1 --dropout 0 --batch-size 16 --epochs 30",
}
_ORDER = (
    "--backbone shufflenet_v2_x0_5 --num-segments 6 --dropout 0 --head-dropout 0 --batch-size 8"
)
_MOTION_SNIPPETS = 25
_ORDER_SNIPPETS = 6  # as many as in training: a GRU has learnt sequences of that length


def prepare(out: Path, kind: str, number: int, modalities: str, seed: int) -> list[str]:
    """Make a set and its shards; return the commands."""
    data, shards = out / "data" / kind, out / "shards"
    synth = f"synth --kind {kind} --out {data} --videos-per-class {number} --seed {seed}"
    extract = f"extract --dataset folder --data {data} --out {shards} {modalities} {_STORED}"
    return [run("preprocess", synth), run("preprocess", extract)]


def train_and_test(folder: Path, options: str, num_snippets: int) -> list[str]:
    """Train and test one network; return the commands."""
    fit = f"fit {options} {_FIT} --out {folder}"
    evaluate = f"evaluate {folder} --num-snippets {num_snippets} --crops 1"
    return [run("train", fit), run("train", evaluate)]


def motion(out: Path, seed: int, more: str) -> tuple[dict[str, Any], list[str]]:
    """Measure the modalities and their fusion on the set of motions."""
    modalities = " ".join(f"--modality {name}" for name in _MOTION)
    commands = prepare(out, "motion", 100, modalities, seed)
    folders = {name: out / "runs" / name for name in _MOTION}
    for name, settings in _MOTION.items():
        options = f"--shards {out / 'shards/motion'} --modality {name} --weights none {settings}"
        commands += train_and_test(folders[name], options + more, _MOTION_SNIPPETS)
    folders["fusion"] = out / "runs" / "fused"
    inputs = " ".join(str(folders[name]) for name in _MOTION)
    commands.append(run("train", f"fuse {inputs} --out {folders['fusion']}"))
    return {name: tested(folder) for name, folder in folders.items()}, commands


def order(out: Path, seed: int, more: str) -> tuple[dict[str, Any], list[str]]:
    """Measure average and GRU on the set of orders.

    The GRU starts from the backbone that the average has trained, which knows the motions. From
    nothing it has to learn motions and order at once, and often does not get that far.
    """
    commands = prepare(out, "order", 60, "--modality flow", seed)
    average, gru = (out / "runs" / f"order-{name}" for name in ("avg", "gru"))
    shared = f"--shards {out / 'shards/order'} --modality flow {_ORDER}{more}"
    for folder, own in (
        (average, "--consensus avg --weights none --epochs 20"),
        (gru, f"--consensus gru --weights {average / 'last.pt'} --full-bn --epochs 15"),
    ):
        commands += train_and_test(folder, f"{shared} {own}", _ORDER_SNIPPETS)
    folders = {"avg": average, "gru": gru}
    rows = {name: {**tested(path), **pair_accuracies(path)} for name, path in folders.items()}
    return rows, commands


def tested(folder: Path) -> dict[str, Any]:
    """Return the metrics of a test."""
    scores = read_scores(folder)
    return summarize(scores.video_scores, scores.labels)


def pair_accuracies(folder: Path) -> dict[str, float]:
    """Return the share of videos whose two motions are right, and whose order is.

    The order is decided between ``a_then_b`` and ``b_then_a`` by the larger score.
    """
    scores = read_scores(folder)
    orders = [tuple(name.split("_then_")) for name in scores.class_names.tolist()]
    reverse = np.array([orders.index((second, first)) for first, second in orders])
    rows, labels = np.arange(len(scores.labels)), scores.labels
    found = scores.video_scores.argmax(axis=1)
    own, other = (scores.video_scores[rows, which] for which in (labels, reverse[labels]))
    return {
        "pair": float(((found == labels) | (found == reverse[labels])).mean()),
        "order_in_pair": float((own > other).mean()),
    }


def main() -> None:
    """Measure and write ``results/synthetic.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the videos")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--out", type=Path, default=Path("demo/synthetic"))
    options = parser.parse_args()
    more = "" if options.precision == "fp32" else f" --precision {options.precision}"
    motions, commands = motion(options.out, options.seed, more)
    print(table(motions))
    orders, order_commands = order(options.out, options.seed, more)
    print(table(orders))
    for name, row in orders.items():
        shares = f"pair {100 * row['pair']:.1f}%, order in it {100 * row['order_in_pair']:.1f}%"
        print(f"{name}: {shares}")
    result = {
        "seed": options.seed,
        "motion": motions,
        "order": orders,
        "commands": [
            command.replace(str(options.out), "OUT") for command in commands + order_commands
        ],
    }
    print(write_result("synthetic", result))


if __name__ == "__main__":
    main()
