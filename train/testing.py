"""Testing the network of a run, from its folder to the files of the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from train.evaluate import check_fits, evaluate
from train.leakage import check_not_trained_on, trained_videos
from train.results import write_results
from train.scores import Scores
from train.subsets import remark_missing, subset_numbers
from train.trained_run import check_same_run, open_run
from tsn_core.errors import CheckpointError
from tsn_core.listing import few


def evaluate_run(
    run: Path,
    *,
    shards: Path | None = None,
    split: int | None = None,
    subset: str = "test",
    checkpoint: str = "auto",
    num_snippets: int = 25,
    crops: int = 10,
    num_workers: int = 0,
    device: torch.device,
    console: Console,
    allow_trained: bool = False,
) -> dict[str, Any]:
    """Test the network of a run and write ``results.RESULT_FILES`` into its folder.

    Args:
        run: Folder that a training made.
        shards: Folder of a dataset's shards; None takes those of the training.
        split: Whose videos to test on; None takes that of the training.
        subset: Which of its videos: ``test``, ``val`` or ``train``.
        checkpoint: ``best``, ``last``, or ``auto``: the best if val videos chose it, else the last.
        num_snippets: Per video.
        crops: 1, 3 or 10.
        num_workers: Processes that load; 0 loads in this one.
        device: Where the network runs.
        console: Where progress and remarks are shown.
        allow_trained: Test on videos that the network was trained on, too.

    Returns:
        The content of ``metrics.json``.

    Raises:
        CheckpointError: There is none, it does not fit the shards, it was trained on videos that
            it would be tested on, or its scores are not finite.
        InputError: There are no such videos, or a number is out of range.
        ShardError: The shards are damaged.
    """
    trained = open_run(run, shards=shards, checkpoint=checkpoint)
    config, shard_set, path = trained.config, trained.shards, trained.path
    check_fits(trained.model, trained.class_names, shard_set, path)
    check_same_run(trained)
    split = config["split"] if split is None else split
    videos, missing = subset_numbers(
        shard_set, trained.manifest, split, subset, config.get("val_fraction", 0.0)
    )
    remark_missing(console, subset, missing, len(videos) + len(missing))
    names = [shard_set.names[video] for video in videos]
    origins = trained.manifest.origins
    seen = trained_videos(names, shard_set.dataset, trained.trained_on, origins)
    if not allow_trained:
        check_not_trained_on(
            path,
            names,
            shard_set.dataset,
            trained.trained_on,
            subset=subset,
            split=split,
            trained_split=config["split"],
            origins=origins,
        )
    _remark(console, _seen_text(subset, len(seen), len(names)))
    _remark(console, _few_text(num_snippets, shard_set.num_snippets[videos]))
    scores = evaluate(
        trained.model,
        shard_set,
        videos,
        num_snippets=num_snippets,
        crops=crops,
        input_size=config["input_size"],
        num_workers=num_workers,
        device=device,
        console=console,
    )
    _check_finite(scores, path)
    more = {
        "checkpoint": trained.checkpoint,
        "split": split,
        "subset": subset,
        "num_snippets": num_snippets,
        "crops": crops,
        "missing": missing,
        "trained_on": len(seen),
    }
    return write_results(scores, run, more, subset)


def _remark(console: Console, text: str) -> None:
    if text:
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _seen_text(subset: str, seen: int, total: int) -> str:
    if not seen:
        return ""
    return f"{seen} of {total} {subset} videos were trained on: the accuracy says little of others"


def _few_text(num_snippets: int, stored: np.ndarray) -> str:
    """Return what to say of videos with fewer stored snippets than are asked for, if any."""
    few = stored[stored < num_snippets]
    if not few.size:
        return ""
    return (
        f"{few.size} of {stored.size} videos have fewer than --num-snippets {num_snippets} stored "
        f"({few.min()} at least): some of theirs are taken more than once"
    )


def _check_finite(scores: Scores, path: Path) -> None:
    """Check that all scores are numbers.

    Raises:
        CheckpointError: They are not.
    """
    wrong = scores.names[~np.isfinite(scores.video_scores).all(axis=1)].tolist()
    if wrong:
        raise CheckpointError(
            f"{path}: its scores of {len(wrong)} of {len(scores.names)} videos are not finite "
            f"({few(wrong)}); "
            "train again with a lower --lr"
        )
