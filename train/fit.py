"""Training one network: the loop, from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from train.augmentation import CentreCrop, TrainingAugmentation
from train.optimization import OptimizerSettings, make_optimizer, rate_at, set_rate
from train.plots import plot_curves
from train.progress import EpochProgress
from train.run_folder import RunFolder, load_checkpoint, save_checkpoint
from train.videos import EpochSampler, SnippetDataset, make_loader, stream, subset_numbers
from tsn_core.errors import CheckpointError, InputError, TSNError
from tsn_core.manifest import Manifest
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN, ModelSettings


def choose_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` takes a GPU if there is one.

    Raises:
        InputError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}; choose auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"unknown device {name!r}; choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: this machine has no GPU that torch can use")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {name}: this machine has {torch.cuda.device_count()}, counted from 0"
        )
    return device


def make_loaders(
    shards: ShardSet,
    manifest: Manifest,
    *,
    split: int,
    num_segments: int,
    input_size: int,
    flip: bool,
    crop_scales: Sequence[float],
    batch_size: int,
    seed: int,
    num_workers: int,
    worker_start: str | None,
) -> tuple[DataLoader, EpochSampler, DataLoader, str]:
    """Return the loader of the training videos, its sampler, that of validation, and its subset.

    Validation uses the ``val`` videos of the split; where it has none, as in the official splits
    of HMDB51 and UCF101, the ``test`` videos are watched instead.

    Raises:
        InputError: The split has no videos for one of them.
    """
    training, _ = subset_numbers(shards, manifest, split, "train")
    subset = "val" if manifest.subset_names(split, "val") else "test"
    validation, _ = subset_numbers(shards, manifest, split, subset)
    common: dict[str, Any] = {"num_segments": num_segments, "seed": seed}
    loading: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": seed,
        "num_workers": num_workers,
        "worker_start": worker_start,
    }
    augmentation = TrainingAugmentation(
        input_size, flip, shards.modality.kind.mirrored_channels, crop_scales
    )
    train_loader, sampler = make_loader(
        SnippetDataset(shards, training, augmentation=augmentation, training=True, **common),
        shuffle=True,
        **loading,
    )
    centre = CentreCrop(input_size)
    val_loader, _ = make_loader(
        SnippetDataset(shards, validation, augmentation=centre, training=False, **common),
        shuffle=False,
        **loading,
    )
    return train_loader, sampler, val_loader, subset


def fit(
    *,
    run: RunFolder,
    class_names: tuple[str, ...],
    model_settings: ModelSettings,
    weights: str,
    optimizer_settings: OptimizerSettings,
    train_loader: DataLoader,
    sampler: EpochSampler,
    val_loader: DataLoader,
    val_subset: str,
    epochs: int,
    seed: int,
    input_size: int,
    device: torch.device,
    console: Console,
) -> list[dict[str, Any]]:
    """Train, validating after every epoch; goes on where an interrupted run stopped.

    Everything random follows from the seed: the same settings on the same machine give the same
    losses, also across an interruption.

    Args:
        run: Where checkpoints, metrics and curves go.
        class_names: By class id.
        model_settings: The architecture.
        weights: That the backbone starts from.
        optimizer_settings: How it is trained.
        train_loader: Training batches.
        sampler: Of the training batches; told the epoch.
        val_loader: Validation batches.
        val_subset: What these are: ``val`` or ``test``.
        epochs: Passes over the training videos.
        seed: Of weights and dropout.
        input_size: Side of the crops in px.
        device: Where the network runs.
        console: Where progress is shown.

    Returns:
        The rows of ``metrics.csv``.

    Raises:
        InputError: The backbone does not take crops of that size.
        CheckpointError: The run in the folder was of another architecture or other classes.
        TSNError: The loss is no longer finite; the last checkpoint is whole.
    """
    torch.manual_seed(seed)
    rows: list[dict[str, Any]] = []
    last, best = run.checkpoint("last"), run.checkpoint("best")
    state = None
    if last.is_file():
        model, had, state = load_checkpoint(last)
        if model.settings != model_settings or had != list(class_names):
            raise CheckpointError(
                f"{last}: of another architecture or other classes than config.json and the shards "
                "say; choose another --out or delete the folder"
            )
        rows = state["rows"]
        run.write_metrics(rows)  # an interruption may have come between the two
        if len(rows) >= epochs:
            console.print(f"all {epochs} epochs were done before", highlight=False, soft_wrap=True)
            return rows
    else:
        model = TSN(model_settings, weights)
        _check_input(model, input_size)
    model.to(device)
    optimizer = make_optimizer(model, optimizer_settings)
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        console.print(
            f"going on after epoch {len(rows)} of {epochs}", highlight=False, soft_wrap=True
        )
    progress = EpochProgress(console, epochs)
    for epoch in range(len(rows), epochs):
        began = time.perf_counter()
        rate = rate_at(epoch, epochs, optimizer_settings)
        set_rate(optimizer, rate)
        sampler.epoch = epoch
        torch.manual_seed(_epoch_seed(seed, epoch))  # of dropout, wherever the run was interrupted
        model.train()

        def step(loss: torch.Tensor) -> None:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if optimizer_settings.gradient_clip:
                nn.utils.clip_grad_norm_(model.parameters(), optimizer_settings.gradient_clip)
            optimizer.step()

        show = progress.batches(epoch, "train")
        trained = _pass(model, train_loader, epoch, device, show, step)
        model.eval()
        show = progress.batches(epoch, val_subset)
        with torch.inference_mode():
            validated = _pass(model, val_loader, epoch, device, show)
        rows.append(
            {
                "epoch": epoch + 1,
                "learning_rate": rate,
                "train_loss": trained["loss"],
                "train_top1": trained["top1"],
                "val_loss": validated["loss"],
                "val_top1": validated["top1"],
                "duration_seconds": time.perf_counter() - began,
                "waiting_seconds": trained["waiting_seconds"],
            }
        )
        kept = {
            "rows": rows,
            "optimizer": optimizer.state_dict(),
        }
        if _is_best(rows):
            save_checkpoint(best, model, class_names, kept)
        save_checkpoint(last, model, class_names, kept)  # an epoch is done when this one is
        run.write_metrics(rows)
        progress.epoch_done(rows[-1], val_subset)
    return rows


def draw_curves(run: RunFolder, rows: list[dict[str, Any]], title: str, val_subset: str) -> Path:
    """Draw ``curves.png`` of a run and return its path."""
    plot_curves(rows, run.curves, title, val_subset)
    return run.curves


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])


def _check_input(model: TSN, size: int) -> None:
    """Check that the backbone takes crops of that size, before any video is read."""
    images = torch.zeros(1, len(model.mean), size, size, dtype=torch.uint8)
    try:
        with torch.inference_mode():
            model.eval().features(images)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".!")
        raise InputError(
            f"{model.settings.backbone} does not take crops of {size}x{size} px: {reason}; "
            "choose another --input-size"
        ) from None


def _is_best(rows: list[dict[str, Any]]) -> bool:
    """Return whether the last epoch has the best accuracy, or the lower loss at the same."""
    ranks = [(row["val_top1"], -row["val_loss"]) for row in rows]
    return ranks[-1] == max(ranks) and ranks.index(max(ranks)) == len(ranks) - 1


def _pass(
    model: TSN,
    loader: DataLoader,
    epoch: int,
    device: torch.device,
    show: Callable[[int, int], None],
    step: Callable[[torch.Tensor], None] | None = None,
) -> dict[str, float]:
    """Run over all batches once; with ``step``, train on them.

    Returns:
        Means over the videos of loss and top1, and waiting_seconds spent for data.
    """
    losses, right, videos, waiting = 0.0, 0, 0, 0.0
    asked = time.perf_counter()
    for number, (snippets, labels, places) in enumerate(stream(loader), start=1):
        waiting += time.perf_counter() - asked
        snippets = snippets.to(device, non_blocking=True)  # (N, K, L * C, H, W) uint8
        labels = labels.to(device, non_blocking=True)
        scores, _ = model(snippets)  # (N, num_classes)
        loss = functional.cross_entropy(scores, labels)
        if not math.isfinite(loss.item()):
            names = [loader.dataset.name(int(place)) for place in places]  # type: ignore[attr-defined]
            kept = f"last.pt keeps epoch {epoch}" if epoch else "no epoch was finished"
            raise TSNError(
                f"epoch {epoch + 1}: the loss is {loss.item()} in a batch of "
                f"{', '.join(names[:3])}{', …' if len(names) > 3 else ''}; "
                f"lower --lr or --clip-gradient; {kept}"
            )
        if step is not None:
            step(loss)
        losses += loss.item() * len(labels)
        right += int((scores.argmax(dim=1) == labels).sum())
        videos += len(labels)
        show(number, len(loader))
        asked = time.perf_counter()
    return {"loss": losses / videos, "top1": right / videos, "waiting_seconds": waiting}
