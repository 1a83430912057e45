"""Runs to make a page of, written as files, without any training."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from conftest import stored
from train_helpers import random_videos, write_shards

from train.run_folder import METRIC_COLUMNS
from train.scores import Scores, write_scores
from tsn_core.modality import StoredModality

HOSTILE = (
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=2</script>",
    "\"'&amp;<!--",
    "‮שלום עולם",
    "جري 🏃‍♀️ run",
    "{{ 7 * 7 }}${7*7}",
)


def scores_of(
    name: str, labels: np.ndarray, class_names: tuple[str, ...], strength: float, seed: int
) -> Scores:
    """Return scores of videos that are right the more often the stronger they are."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(len(labels), len(class_names))).astype(np.float32)
    rows = np.arange(len(labels))
    scores[rows, labels] += strength
    # some classes are taken for each other
    scores[rows, (labels + 1) % len(class_names)] += strength * (labels % 3 == 0) * 0.8
    names = [f"{class_names[label]}/v_{n:05d}.avi" for n, label in enumerate(labels.tolist())]
    return Scores(name, np.array(names), labels, scores[:, None], scores, np.array(class_names))


def epoch_rows(number: int) -> list[dict[str, float]]:
    """Return the rows of a run's metrics.csv."""
    return [
        dict(
            zip(
                METRIC_COLUMNS,
                (
                    *(n + 1, 0.1 / (1 + n // 4 * 9), 2 / (n + 1), n / number, 2.2 / (n + 1)),
                    *(0.9 * n / number, 1.0, 0.2, 0.1, 0.7, 0.0),
                ),
            )
        )
        for n in range(number)
    ]


def config_of(shards: Path, modality: StoredModality, num_classes: int, **changes: Any) -> dict:
    """Return the settings of a run, as config.json holds them."""
    return {
        "shards": str(shards),
        "modality_folder": modality.folder,
        "shards_digest": "0" * 16,
        "model": {
            "modality": modality.name,
            "snippet_length": modality.snippet_length,
            "backbone": "resnet18",
            "consensus": "avg",
            "num_segments": 3,
            "num_classes": num_classes,
            "dropout": 0.8,
            "head_dropout": 0.5,
            "top": 2,
            "partial_bn": True,
        },
        "weights": "imagenet",
        "optimizer": {
            "optimizer": "sgd",
            "learning_rate": 0.001,
            "head_factor": 1.0,
            "momentum": 0.9,
            "weight_decay": 0.0005,
            "schedule": "step",
            "decay_epochs": [36, 72],
            "warmup_epochs": 0,
            "gradient_clip": 20.0,
        },
        "split": 1,
        "val_fraction": 0.0,
        "input_size": 224,
        "flip": True,
        "unflipped_classes": [],
        "crop_scales": [1, 0.875, 0.75, 0.66],
        "crop_positions": 5,
        "batch_size": 32,
        "accumulate": 1,
        "epochs": 90,
        "seed": 0,
        "patience": 0,
        "ema": 0.0,
        "label_smoothing": 0.0,
        "precision": "fp32",
        "channels_last": False,
        "compile": False,
        "val_subset": "test",
        **changes,
    }


def write_run(folder: Path, scores: Scores, config: dict, *, epochs: int = 12) -> Path:
    """Write what fit and evaluate leave in a folder, as far as a page looks at it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    rows = epoch_rows(epochs)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, METRIC_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    metrics = {"checkpoint": "last", "split": 1, "subset": "test", "num_snippets": 25, "crops": 10}
    (folder / "metrics.json").write_text(json.dumps({**metrics, "missing": [], "trained_on": 0}))
    write_scores(scores, folder / "scores.npz")
    return folder


def write_runs(
    root: Path, class_names: tuple[str, ...], num_videos: int, *, with_shards: bool = True
) -> list[Path]:
    """Write an rgb and a flow run of the same videos, and small shards of the first of these."""
    labels = np.random.default_rng(0).integers(0, len(class_names), num_videos)
    runs = []
    for name, strength, seed in (("rgb", 2.0, 1), ("flow", 3.0, 2)):
        modality = stored(name)
        scores = scores_of(modality.folder, labels, class_names, strength, seed)
        config = config_of(root / "shards", modality, len(class_names), seed=seed)
        runs.append(write_run(root / "runs" / name, scores, config))
    if with_shards:
        names = scores.names[:200].tolist()
        noise = random_videos(stored("rgb"), [3] * len(names))
        videos = [
            (name, int(label), video[2], video[3])
            for name, label, video in zip(names, labels, noise)
        ]
        write_shards(root / "shards" / "rgb", stored("rgb"), videos, class_names=class_names)
        write_failures(root / "shards")
    return runs


def write_failures(shards: Path) -> None:
    """Write what an extraction that lost three videos leaves beside its shards."""
    reasons = ("no such file", HOSTILE[0], HOSTILE[1])
    lines = [
        {"name": f"{HOSTILE[n]}/lost.avi", "stage": stage, "reason": reason, "modalities": ["rgb"]}
        | {"command": f"tsn-preprocess try shards lost_{n}.avi"}
        for n, (stage, reason) in enumerate(zip(("open", "decode", "open"), reasons))
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (shards / "failures.jsonl").write_text(text)
    report = {
        "dataset": HOSTILE[1],
        "status": "finished",
        "ended": "2026-01-02T03:04:05Z",
        "videos": {"in_dataset": 43, "to_extract": 43, "extracted": 40, "failed": 3},
        "versions": {"package": "0.1.0", "opencv": HOSTILE[0], "av": "17.0.0"},
    }
    (shards / "report.json").write_text(json.dumps(report))
