"""``tsn-train evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from train.commands.options import (
    PATH,
    checkpoint_option,
    device_option,
    loading_workers,
    shards_option,
    stderr_console,
    workers_option,
)


@click.command()
@click.argument("run", type=PATH)
@shards_option("Folder of a dataset's shards.  [default: those that it was trained on]")
@click.option(
    "--split", type=int, help="Which split of the lists.  [default: that of the training]"
)
@click.option(
    "--subset",
    type=click.Choice(["test", "val", "train"]),
    default="test",
    help="Which videos of the split.",
)
@checkpoint_option
@click.option("--num-snippets", type=int, default=25, help="Snippets of each video.")
@click.option(
    "--crops",
    type=click.Choice(["1", "3", "10"]),
    default="10",
    help="Crops of each frame; 10 are four corners and the centre, mirrored too.",
)
@click.option("--allow-trained", is_flag=True, help="Test on videos that were trained on, too.")
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
    allow_trained: bool,
    workers: int | None,
    device: str,
) -> None:
    """Test a trained network.

    Writes scores.npz, metrics.json, classes.csv, mistakes.csv and confusion.png into RUN; of
    another subset than test, scores-val.npz and so on.

    --checkpoint auto takes best.pt if the run had val videos to choose it by, else last.pt.

    Example: tsn-train evaluate runs/flow --num-snippets 25 --crops 10
    """
    from train.devices import choose_device
    from train.results import RESULT_FILES, results_text
    from train.scores import read_scores, subset_path
    from train.testing import evaluate_run

    num_workers = loading_workers(workers)
    metrics = evaluate_run(
        run,
        shards=shards,
        split=split,
        subset=subset,
        checkpoint=checkpoint,
        num_snippets=num_snippets,
        crops=int(crops),
        num_workers=num_workers,
        device=choose_device(device),
        console=stderr_console(),
        allow_trained=allow_trained,
    )
    scores = read_scores(run, subset)
    click.echo(results_text(scores, {scores.name: metrics}))
    files = ", ".join(subset_path(Path(name), subset).name for name in RESULT_FILES)
    click.echo(f"\n{run}: {files}")
