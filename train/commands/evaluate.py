"""``tsn-train evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from train.commands.options import (
    PATH,
    default_workers,
    device_option,
    report_missing,
    stderr_console,
    workers_option,
)
from tsn_core.errors import InputError


@click.command()
@click.argument("run", type=PATH)
@click.option("--shards", type=PATH, help="[default: those that it was trained on]")
@click.option("--split", type=int, help="[default: that of the training]")
@click.option("--subset", type=click.Choice(["test", "val", "train"]), default="test")
@click.option("--checkpoint", type=click.Choice(["auto", "last", "best"]), default="auto")
@click.option("--num-snippets", type=int, default=25)
@click.option("--crops", type=click.Choice(["1", "3", "10"]), default="10")
@workers_option
@device_option
def evaluate(
    run: Path,
    shards: Path | None,
    split: int | None,
    subset: str,
    checkpoint: str,
    num_snippets: int,
    crops: str,
    workers: int | None,
    device: str,
) -> None:
    """Test a trained network; writes scores.npz, metrics.json and confusion.png into RUN.

    --checkpoint auto takes best.pt if the run had val videos to choose it by, else last.pt.

    Example: tsn-train evaluate runs/flow --num-snippets 25 --crops 10
    """
    from train import evaluate as testing
    from train.devices import choose_device
    from train.metrics import table
    from train.results import write_results
    from train.run_folder import RunFolder, load_checkpoint
    from train.subsets import subset_numbers
    from tsn_core.manifest import MANIFEST_NAME, read_manifest
    from tsn_core.shard_set import ShardSet

    if workers is not None and workers < 0:
        raise InputError(f"--workers must be 0 or more, got {workers}")
    folder = RunFolder(run)
    config = folder.read_config()
    if checkpoint == "auto":
        checkpoint = "best" if config["val_subset"] == "val" else "last"
    path = folder.checkpoint(checkpoint)
    model, class_names, _ = load_checkpoint(path)
    root = Path(config["shards"]) if shards is None else shards
    shard_set = ShardSet(root / config["modality_folder"])
    testing.check_fits(model, class_names, shard_set, path)
    manifest = read_manifest(root / MANIFEST_NAME)
    videos, missing = subset_numbers(
        shard_set,
        manifest,
        config["split"] if split is None else split,
        subset,
        config.get("val_fraction", 0.0),
    )
    console = stderr_console()
    report_missing(console, subset, missing, len(videos) + len(missing))
    scores = testing.evaluate(
        model,
        shard_set,
        videos,
        num_snippets=num_snippets,
        crops=int(crops),
        input_size=config["input_size"],
        num_workers=default_workers() if workers is None else workers,
        device=choose_device(device),
        console=console,
    )
    metrics = write_results(scores, run, {"checkpoint": checkpoint, "missing": missing})
    click.echo(table({scores.name: metrics}))
    click.echo(f"{run}: scores.npz, metrics.json, confusion.png")
