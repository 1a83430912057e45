"""``tsn-train fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from train.commands.fit_options import fit_options, run_settings
from train.commands.options import (
    PATH,
    device_option,
    loading_workers,
    stderr_console,
    workers_option,
)


@click.command()
@fit_options
@workers_option
@device_option
@click.option("--tensorboard", is_flag=True, help="Write the curves for TensorBoard, too.")
@click.option("--resume", is_flag=True, help="Insist that there is a run to go on with.")
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
@click.pass_context
def fit(
    context: click.Context,
    *,
    out: Path,
    workers: int | None,
    worker_start: str | None,
    device: str,
    tensorboard: bool,
    resume: bool,
    **_: Any,
) -> None:
    """Train a network on one modality.

    Writes config.json, metrics.csv, last.pt, best.pt and curves.png. The same command goes on
    where an interrupted run stopped, to the same weights. Under torchrun the processes share
    every batch:

    torchrun --nproc-per-node 2 -m train fit --shards …

    Example: tsn-train fit --shards shards/hmdb51 --modality flow --preset hmdb51 --out runs/flow
    """
    settings = run_settings(context)
    num_workers = loading_workers(workers)

    from train.devices import choose_device
    from train.distributed import find_ranks, join, leave
    from train.run_folder import RunFolder
    from train.tensorboard import TensorBoard
    from train.training import train_run

    ranks = find_ranks()
    chosen = choose_device(device, ranks.local_rank)
    if resume:
        RunFolder(out).check_resumable()
    reports: tuple[TensorBoard, ...] = ()
    if tensorboard and ranks.is_first:
        reports = (TensorBoard(out),)
    join(ranks, chosen)
    try:
        rows = train_run(
            settings,
            out,
            device=chosen,
            num_workers=num_workers,
            console=stderr_console(quiet=not ranks.is_first),
            worker_start=worker_start,
            ranks=ranks,
            reports=reports,
        )
        # Gloo's threads let go of a sum's tensors a moment after it is there, for which they need
        # the interpreter: a rank that ends meanwhile is aborted. A barrier has no tensors.
        ranks.wait()
    finally:
        leave()
    if ranks.is_first:
        subset = RunFolder(out).read_config()["val_subset"]
        click.echo(
            f"{out}: {len(rows)} epochs, {subset} top-1 {100 * rows[-1]['val_top1']:.1f}%, "
            f"curves in {RunFolder(out).curves}"
        )
