"""A whole training run: shards in, a folder with checkpoints, metrics and curves out."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from train.arithmetic import settled
from train.bottleneck import WaitingWatch
from train.distributed import Ranks
from train.fit import Report, fit, is_over
from train.jpegs import check_decoder
from train.labels import check_labels
from train.leakage import hashes, trained_videos
from train.learner import Learner
from train.loaders import make_loaders
from train.plots import plot_curves
from train.progress import EpochProgress
from train.run_folder import RunFolder, load_checkpoint, videos_behind
from train.settings import RunSettings
from train.subsets import remark_missing, subset_numbers, watched_subset
from train.videos import open_modality
from tsn_core.errors import CheckpointError, InputError, SettingsError
from tsn_core.listing import few
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN, ModelSettings

_START: dict[str, Any] = {"rows": [], "step": 0, "sums": (0, 0, 0), "seconds": (0, 0, 0)}
_MOST_SIDE = 4096  # of crops, in px: nobody has the memory for larger ones


def train_run(
    settings: RunSettings,
    out: Path,
    *,
    device: torch.device,
    num_workers: int,
    console: Console,
    worker_start: str | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 - frozen
    reports: tuple[Report, ...] = (),
) -> list[dict[str, Any]]:
    """Train a network into a folder, or go on where an interrupted run stopped there.

    Args:
        settings: What to train.
        out: Folder of the run.
        device: Where the network runs.
        num_workers: Loading processes of every rank; 0 loads in this one.
        console: Where progress and remarks are shown.
        worker_start: How they are started: ``fork``, ``spawn``, ``forkserver``, or None for the
            platform's usual way.
        ranks: The processes that train together; the first of them writes the files.
        reports: Told the row of every epoch.

    Returns:
        The rows of ``metrics.csv``, one for each epoch.

    Raises:
        InputError: A setting does not fit the data, the backbone or the device.
        ShardError: The shards are damaged, or somebody has changed them meanwhile.
        SettingsError: The folder holds a run with other settings.
        CheckpointError: It holds a checkpoint that does not fit.
        OutputError: A file cannot be written.
        TSNError: The loss is no longer finite; the last checkpoint is whole.
    """
    settings = replace(settings, loop=settled(settings.loop, device))
    data, loop = settings.data, settings.loop
    if data.decode_on == "device":
        check_decoder(device)
    shards, manifest = open_modality(settings.shards, settings.modality, settings.flow)
    check_labels(manifest, shards)
    val_subset = watched_subset(manifest, data.split, data.val_fraction)
    videos: dict[str, list[int]] = {}
    for subset in ("train", val_subset):
        numbers, missing = subset_numbers(shards, manifest, data.split, subset, data.val_fraction)
        videos[subset] = numbers
        remark_missing(console, subset, missing, len(numbers) + len(missing))
    _check_watched(settings, val_subset, console)
    _check_classes(shards, videos["train"], console)
    model_settings = ModelSettings(
        modality=settings.modality,
        snippet_length=shards.modality.snippet_length,
        num_classes=len(shards.class_names),
        **asdict(settings.network),
    )
    run = RunFolder(out)
    if ranks.is_first:
        run.claim(
            settings.to_config(
                modality_folder=shards.modality.folder,
                shards_digest=shards.digest,
                model=model_settings.to_dict(),
                val_subset=val_subset,
            )
        )
    ranks.wait()
    torch.manual_seed(loop.seed)
    model, progress = _begin(run, model_settings, settings, shards)
    rows = progress["rows"]
    seen = progress.get("trained_on", np.empty(0, np.int64))
    if "optimizer" not in progress:
        seen = videos_behind(settings.weights)
        watched = [shards.names[number] for number in videos[val_subset]]
        met = trained_videos(watched, shards.dataset, seen, manifest.origins)
        _remark_seen(console, settings.weights, val_subset, met, len(watched))
    elif "trained_on" in progress:
        names = [shards.names[number] for number in videos["train"]]
        known = trained_videos(names, shards.dataset, seen, manifest.origins)
        _check_same_videos(run, names, known, data.split)
    if ranks.is_first:
        run.write_metrics(rows)  # an interruption may have come between the two
    if len(rows) >= loop.epochs or is_over(rows, loop.patience):
        _print(console, f"all {len(rows)} epochs were done before")
        _draw(run, rows, settings, shards, val_subset, ranks)
        return rows
    learner = Learner(model, settings.optimizer, loop, device, ranks)
    if "optimizer" in progress:
        learner.load(progress)
        step = f" and step {progress['step']} of the next" if progress["step"] else ""
        _print(console, f"going on after epoch {len(rows)} of {loop.epochs}{step}")
    train_loader, val_loader = make_loaders(
        settings, shards, videos["train"], videos[val_subset], num_workers, worker_start, ranks
    )
    watch = WaitingWatch(
        lambda text: _print(console, text),
        loop.epochs,
        num_workers=num_workers,
        codec=shards.modality.codec,
        resize_on=data.resize_on,
        decode_on=data.decode_on,
    )
    names = [shards.names[number] for number in videos["train"]]
    trained_on = np.union1d(hashes(shards.dataset, names, manifest.origins), seen)
    with EpochProgress(console, loop.epochs, len(rows), val_subset) as show:
        rows = fit(
            learner,
            run=run,
            progress=progress,
            identity={
                "trained_on": torch.from_numpy(trained_on),
                "stored_modality": shards.modality.to_json(),
                "sampling": json.dumps(shards.sampling, sort_keys=True),
            },
            class_names=shards.class_names,
            train_loader=train_loader,
            val_loader=val_loader,
            check_data=shards.check_unchanged,
            optimizer=settings.optimizer,
            loop=loop,
            ranks=ranks,
            show=show,
            reports=(*reports, watch),
        )
    if len(rows) < loop.epochs:
        _print(console, f"no better {val_subset} accuracy for {loop.patience} epochs: stopped")
    _draw(run, rows, settings, shards, val_subset, ranks)
    return rows


def _draw(
    run: RunFolder,
    rows: list[dict[str, Any]],
    settings: RunSettings,
    shards: ShardSet,
    val_subset: str,
    ranks: Ranks,
) -> None:
    if ranks.is_first:
        title = f"{shards.dataset} {shards.modality.folder}, split {settings.data.split}"
        plot_curves(rows, run.curves, title, val_subset)


def _begin(
    run: RunFolder, model_settings: ModelSettings, settings: RunSettings, shards: ShardSet
) -> tuple[TSN, dict[str, Any]]:
    """Return the network and the progress of an interrupted run, or new ones."""
    last = run.checkpoint("last")
    if not last.is_file():
        model = TSN(model_settings, settings.weights)
        check_input(model, settings.data.input_size)
        return model, dict(_START)
    model, class_names, progress = load_checkpoint(last)
    if model.settings != model_settings or class_names != list(shards.class_names):
        raise CheckpointError(
            f"{last}: of another architecture or other classes than config.json and the shards "
            "say; choose another --out or delete the folder"
        )
    return model, {**_START, **progress}


def _check_watched(settings: RunSettings, val_subset: str, console: Console) -> None:
    """Say that test videos are watched, and refuse to choose anything by them."""
    if val_subset != "test":
        return
    split, remedy = settings.data.split, "hold some training videos out with --val-fraction 0.1"
    if settings.loop.patience:
        raise InputError(
            f"split {split} has no val videos, and --patience must not stop by test videos; "
            f"{remedy}"
        )
    _print(
        console,
        f"split {split} has no val videos: its test videos are watched instead, and evaluate takes "
        f"last.pt, not best.pt; to choose by val videos, {remedy}",
    )


def _check_same_videos(run: RunFolder, names: list[str], known: list[str], split: int) -> None:
    """Refuse to go on with a run to which some training videos of its split are new."""
    seen = set(known)
    added = [name for name in names if name not in seen]
    if added:
        raise SettingsError(
            f"{run.path}: holds a run that began before split {split} changed: {len(added)} of "
            f"{len(names)} training videos are new to it ({few(added)}); choose another --out or "
            "delete the folder"
        )


def _remark_seen(console: Console, weights: str, subset: str, met: list[str], number: int) -> None:
    """Say it, before hours are spent, if the weights know the videos that tell how good it is."""
    if met:
        _print(
            console,
            f"{weights} was trained on {len(met)} of {number} {subset} videos "
            f"({few(met)}): their accuracy says nothing, "
            "and evaluate will refuse them; choose --weights of the same split",
        )


def _check_classes(shards: ShardSet, training: list[int], console: Console) -> None:
    """Refuse training on a single class, and name classes that have no training video.

    Raises:
        InputError: All training videos are of one class.
    """
    labels, names = shards.labels[training], shards.class_names
    present = set(labels.tolist())
    if len(present) < 2:
        raise InputError(
            f"{shards.folder}: all {len(training)} training videos are of one class, "
            f"{names[labels[0]]}; at least 2 are needed"
        )
    empty = [name for label, name in enumerate(names) if label not in present]
    if empty:
        _print(
            console,
            f"{len(empty)} of {len(names)} classes have no training video: {few(empty)}; "
            "they will never be predicted",
        )


def check_input(model: TSN, size: int) -> None:
    """Check that the backbone takes crops of that size, before any video is read.

    Raises:
        InputError: It does not.
    """
    if size > _MOST_SIDE:
        raise InputError(f"input_size must be <= {_MOST_SIDE}, got {size}")
    snippets = torch.zeros(1, 1, len(model.mean), size, size, dtype=torch.uint8)
    try:
        with torch.inference_mode():
            model.eval().snippet_features(snippets)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".!")
        raise InputError(
            f"{model.settings.backbone} does not take crops of {size}x{size} px: {reason}; "
            "choose another --input-size"
        ) from None


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
