"""``tsn-train windows``."""

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
from tsn_core.errors import InputError


@click.command()
@click.argument("run", type=PATH)
@shards_option("Extracted with --fps (or --dense).", required=True)
@click.option(
    "--split", type=int, help="Which split of the lists.  [default: that of the training]"
)
@click.option(
    "--subset",
    type=click.Choice(["test", "val", "train", "all"]),
    default="test",
    help="Which videos of the split.",
)
@click.option("--annotations", type=PATH, help="JSON file of when what happens, to compare with.")
@checkpoint_option
@click.option(
    "--crops",
    type=click.Choice(["1", "3", "10"]),
    default="1",
    help="Crops of each frame; 10 are four corners and the centre, mirrored too.",
)
@click.option("--scales", default="1,2,4,8,16", help="Lengths of the windows in seconds.")
@click.option("--stride", type=float, default=0.8, help="To the next window, as a share of it.")
@click.option("--threshold", type=float, default=0.5, help="Least probability of an action.")
@click.option(
    "--smooth", type=float, default=1.0, help="Seconds over which probabilities are averaged."
)
@click.option("--merge", type=float, default=0.5, help="Longest gap inside an action, in seconds.")
@click.option("--least", type=float, default=1.0, help="Shortest action in seconds.")
@click.option("--background", help="The class that means no action, if there is one.")
@click.option("--allow-trained", is_flag=True, help="Test on videos that were trained on, too.")
@click.option("--out", type=PATH, help="Folder to write.  [default: RUN/windows]")
@workers_option
@device_option
def windows(
    run: Path,
    shards: Path,
    split: int | None,
    subset: str,
    annotations: Path | None,
    checkpoint: str,
    crops: str,
    scales: str,
    stride: float,
    threshold: float,
    smooth: float,
    merge: float,
    least: float,
    background: str | None,
    allow_trained: bool,
    out: Path | None,
    workers: int | None,
    device: str,
) -> None:
    """Find actions in long videos with a trained network.

    Snippets at a fixed rate are scored; windows of several lengths slide over them, and the best of
    these score the video (multi-scale temporal window integration). Where one class is more likely
    than --threshold, an action is found.

    Writes scores.npz (what fuse takes), windows.npz, metrics.json, actions.json, and for each video
    timeline/VIDEO.json and .png.

    Example: tsn-train windows runs/flow --shards shards/long --annotations annotations.json
    """
    from train.actions import ActionRule
    from train.annotations import read_annotations
    from train.devices import choose_device
    from train.evaluate import check_snippets_fit
    from train.leakage import check_not_trained_on, trained_videos
    from train.long_videos import check_rate, score_videos
    from train.subsets import remark_missing
    from train.trained_run import check_same_run, open_run
    from train.untrimmed import UntrimmedResults, choose_videos

    num_workers = loading_workers(workers)
    lengths = _lengths(scales)
    trained = open_run(run, shards=shards, checkpoint=checkpoint)
    config, shard_set, class_names = trained.config, trained.shards, trained.class_names
    if background is not None and background not in class_names:
        raise InputError(
            f"--background must be a class of the network ({', '.join(class_names)}), "
            f"got {background!r}"
        )
    number = None if background is None else class_names.index(background)
    rule = ActionRule(threshold, smooth, merge, least, number)
    check_snippets_fit(trained.model, shard_set, trained.path)
    check_same_run(trained)
    check_rate(shard_set)
    annotated = None if annotations is None else read_annotations(annotations, class_names)
    console = stderr_console()
    split = config["split"] if split is None else split
    videos, missing, untimed = choose_videos(
        shard_set, trained.manifest, split, subset, config.get("val_fraction", 0.0)
    )
    names = [shard_set.names[video] for video in videos]
    origins = trained.manifest.origins
    if subset != "all" and not allow_trained:
        check_not_trained_on(
            trained.path,
            names,
            shard_set.dataset,
            trained.trained_on,
            subset=subset,
            split=split,
            trained_split=config["split"],
            origins=origins,
        )
    seen = trained_videos(names, shard_set.dataset, trained.trained_on, origins)
    results = UntrimmedResults(
        run / "windows" if out is None else out,
        shard_set,
        videos,
        class_names,
        annotated,
        rule,
        subset,
    )
    total = len(videos) + len(missing) + len(untimed)
    remark_missing(console, subset, missing, total)
    remark_missing(console, subset, untimed, total, "frame rate")
    for remark in results.remarks(seen):
        console.print(remark, highlight=False, markup=False, soft_wrap=True)
    for video in score_videos(
        trained.model,
        shard_set,
        videos,
        scales=lengths,
        stride=stride,
        crops=int(crops),
        input_size=config["input_size"],
        num_workers=num_workers,
        device=choose_device(device),
        console=console,
    ):
        results.add(video)
    settings = {
        "checkpoint": trained.checkpoint,
        "split": split,
        "scales_seconds": lengths,
        "stride": stride,
        "crops": int(crops),
        "missing": [*missing, *untimed],
        "trained_on": len(seen),
    }
    click.echo("\n".join(results.finish(settings)))


def _lengths(text: str) -> tuple[float, ...]:
    try:
        lengths = tuple(float(word) for word in text.replace(",", " ").split())
    except ValueError:
        lengths = ()
    if not lengths:
        raise InputError(f"--scales must be numbers of seconds such as 1,2,4,8,16, got {text!r}")
    return lengths
