"""The same training on several splits, and what they say together."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from rich.console import Console

from train.metrics import summarize
from train.run_folder import RunFolder, chosen_checkpoint
from train.scores import Scores, read_scores
from train.settings import RunSettings
from train.testing import evaluate_run
from train.training import train_run
from tsn_core.errors import InputError
from tsn_core.manifest import MANIFEST_NAME, read_manifest


@dataclass(frozen=True)
class Machine:
    """What computes; it changes no result.

    Attributes:
        device: Where networks run.
        num_workers: Loading processes.
        worker_start: How these are started, or None for the platform's usual way.
        console: Where progress and remarks are shown.
    """

    device: torch.device
    num_workers: int
    worker_start: str | None
    console: Console


@dataclass(frozen=True)
class TestSettings:
    """How every network is tested.

    Attributes:
        num_snippets: Per video.
        crops: 1, 3 or 10.
    """

    __test__ = False  # whatever pytest thinks

    num_snippets: int
    crops: int


@dataclass(frozen=True)
class CrossResult:
    """What tests on several splits say.

    Attributes:
        top1: By split.
        mean_class_accuracy: By split.
        pooled: Metrics of all test videos together, and how many are ``right``; None where a video
            is tested in two splits.
        training_seconds: Of all splits together.
    """

    top1: dict[int, float]
    mean_class_accuracy: dict[int, float]
    pooled: dict[str, Any] | None
    training_seconds: float

    @property
    def mean(self) -> float:
        """Mean top-1 accuracy over the splits."""
        return mean(self.top1.values())

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of the top-1 accuracy; None of a single split."""
        return stdev(self.top1.values()) if len(self.top1) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON holds it."""
        return {
            "top1": self.top1,
            "top1_mean": self.mean,
            "top1_spread": self.spread,
            "mean_class_accuracy": self.mean_class_accuracy,
            "mean_class_accuracy_mean": mean(self.mean_class_accuracy.values()),
            "pooled": self.pooled,
            "training_seconds": self.training_seconds,
        }


def choose_splits(shards: Path, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Return the splits to train on: those wanted, or all that the dataset has.

    Raises:
        InputError: It does not have one of them, or one is wanted twice.
    """
    manifest = read_manifest(shards / MANIFEST_NAME)
    there = manifest.split_numbers
    known = ", ".join(map(str, there)) or "none"
    chosen = there if wanted is None else tuple(wanted)
    for split in chosen:
        if split not in there:
            raise InputError(f"{manifest.dataset}: no split {split}; it has {known}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"--splits must be different numbers; {manifest.dataset} has {known}")
    return chosen


def cross_validate(
    settings: RunSettings,
    splits: Sequence[int],
    out: Path,
    *,
    test: TestSettings,
    machine: Machine,
    runs_before: int = 0,
    runs: int | None = None,
) -> tuple[CrossResult, dict[int, Scores]]:
    """Train and test on every split; goes on where an interrupted call stopped.

    Args:
        settings: Of the training; their split does not count.
        splits: Numbers of the splits.
        out: The run of split n goes to ``split<n>`` in it.
        test: How the networks are tested.
        machine: What computes.
        runs_before: Runs of a larger undertaking that come before these, for the progress.
        runs: All runs of it; None are just these.

    Returns:
        The result, and the scores of the test videos by split.

    Raises:
        SettingsError: A run there has other settings.
        TSNError: As ``train_run`` and ``evaluate_run`` raise it.
    """
    scores, seconds = {}, 0.0
    for number, split in enumerate(splits, start=runs_before + 1):
        folder = out / f"split{split}"
        place = f"run {number} of {len(splits) if runs is None else runs}"
        machine.console.print(f"{place}: {folder}", highlight=False, markup=False, soft_wrap=True)
        rows = train_run(
            settings.with_split(split),
            folder,
            device=machine.device,
            num_workers=machine.num_workers,
            worker_start=machine.worker_start,
            console=machine.console,
        )
        seconds += sum(float(row["duration_seconds"]) for row in rows)
        gc.collect()  # ends its loading processes; those forked meanwhile would try to, in vain
        if not is_tested(folder, test):
            evaluate_run(
                folder,
                num_snippets=test.num_snippets,
                crops=test.crops,
                device=machine.device,
                num_workers=machine.num_workers,
                console=machine.console,
            )
        scores[split] = read_scores(folder)
    return cross_result(scores, seconds), scores


def is_tested(folder: Path, test: TestSettings) -> bool:
    """Return whether a run was tested in that way, after its training was over."""
    run = RunFolder(folder)
    checkpoint = chosen_checkpoint(run.read_config(), "auto")
    try:
        path = folder / "metrics.json"  # the last that a test writes
        metrics = json.loads(path.read_text(encoding="utf-8"))
        tested = path.stat().st_mtime_ns
        trained = run.checkpoint("last").stat().st_mtime_ns
    except (OSError, ValueError):
        return False
    wanted = {**asdict(test), "subset": "test", "checkpoint": checkpoint}
    same = isinstance(metrics, dict) and all(metrics.get(k) == v for k, v in wanted.items())
    return same and tested >= trained


def cross_result(scores: Mapping[int, Scores], training_seconds: float) -> CrossResult:
    """Return what the scores of the splits' test videos say together."""
    metrics = {n: summarize(part.video_scores, part.labels) for n, part in scores.items()}
    pooled = None
    together = pooled_scores(list(scores.values()))
    if together is not None:
        pooled = summarize(together.video_scores, together.labels)
        pooled["right"] = round(pooled["top1"] * pooled["num_videos"])
    return CrossResult(
        top1={n: part["top1"] for n, part in metrics.items()},
        mean_class_accuracy={n: part["mean_class_accuracy"] for n, part in metrics.items()},
        pooled=pooled,
        training_seconds=training_seconds,
    )


def pooled_scores(parts: Sequence[Scores]) -> Scores | None:
    """Return the scores of several tests as one, or None where a video stands in two of them."""
    names = np.concatenate([part.names for part in parts])
    if len(set(names.tolist())) < len(names):
        return None
    return Scores(
        name=parts[0].name,
        names=names,
        labels=np.concatenate([part.labels for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        video_scores=np.concatenate([part.video_scores for part in parts]),
        class_names=parts[0].class_names,
    )
