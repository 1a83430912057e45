"""``tsn-train features``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from tsn_core.command_line import ModalityName
from tsn_core.errors import InputError
from tsn_core.modality import FLOW_ALGORITHMS

_OF_BACKBONE = ("backbone", "weights", "modality", "shards")


@click.command()
@click.argument("run", type=PATH, required=False)
@click.option("--backbone", help="Instead of a run: any torchvision classification model.")
@click.option("--weights", help="Of that: none, imagenet, or the path of a state dict.")
@click.option("--modality", type=ModalityName(), help="That it sees.")
@click.option(
    "--flow",
    type=click.Choice(FLOW_ALGORITHMS),
    help="Which flow, where several were extracted.  [default: the one there is]",
)
@shards_option("Folder of a dataset's shards.  [default: the run's]")
@checkpoint_option
@click.option("--split", type=int, help="Of the subset.  [default: that of the run, else 1]")
@click.option(
    "--subset",
    type=click.Choice(["all", "train", "val", "test"]),
    default="all",
    help="Which videos of the split.",
)
@click.option("--num-snippets", type=int, default=25, help="Snippets of each video.")
@click.option(
    "--crops",
    type=click.Choice(["1", "3", "10"]),
    default="1",
    help="Crops of each frame; 10 are four corners and the centre, mirrored too.",
)
@click.option("--input-size", type=int, help="Side of the crops.  [default: the run's, else 224]")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    help="Of the stored numbers; float16 halves the file.",
)
@workers_option
@device_option
@click.option("--out", type=PATH, required=True, help="HDF5 file to write.")
def features(run: Path | None, out: Path, **options: Any) -> None:
    """Store the pooled features of a backbone, for tsn-train head.

    The backbone is that of a RUN of tsn-train fit, or one that was never trained on the dataset.
    The file holds features (videos, snippets, crops, features), names, labels and class names, and
    remembers which videos the backbone was trained on: heads on them are not tested on those.

    Example: tsn-train features --backbone resnet50 --weights imagenet --modality rgb
    --shards shards/hmdb51 --out features/rgb.h5
    """
    _check_options(run, options)
    from train.devices import choose_device
    from train.features import extract_features, trained_backbone, untrained_backbone
    from train.subsets import remark_missing, subset_numbers
    from train.trained_run import open_run
    from train.videos import open_modality

    input_size, split, val_fraction = options["input_size"], options["split"], 0.0
    if run is None:
        shards, manifest = open_modality(options["shards"], options["modality"], options["flow"])
        backbone = untrained_backbone(options["backbone"], options["weights"], shards)
        split = 1 if split is None else split
        input_size = 224 if input_size is None else input_size
    else:
        trained = open_run(run, shards=options["shards"], checkpoint=options["checkpoint"])
        shards, manifest, config = trained.shards, trained.manifest, trained.config
        backbone = trained_backbone(trained)
        val_fraction = config.get("val_fraction", 0.0)
        split = config["split"] if split is None else split
        input_size = config["input_size"] if input_size is None else input_size
    console = stderr_console()
    videos = list(range(len(shards)))
    if options["subset"] != "all":
        videos, missing = subset_numbers(shards, manifest, split, options["subset"], val_fraction)
        remark_missing(console, options["subset"], missing, len(videos) + len(missing))
    extract_features(
        out,
        backbone,
        shards,
        videos,
        num_snippets=options["num_snippets"],
        crops=int(options["crops"]),
        input_size=input_size,
        dtype=options["dtype"],
        num_workers=loading_workers(options["workers"]),
        device=choose_device(options["device"]),
        console=console,
    )
    megabytes = out.stat().st_size / 1e6
    click.echo(f"{out}: features of {len(videos)} videos, {megabytes:.1f} MB")


def _check_options(run: Path | None, options: dict[str, Any]) -> None:
    if run is None:
        missing = [f"--{name}" for name in _OF_BACKBONE if options[name] is None]
        if missing:
            raise click.UsageError(f"Give a RUN, or {', '.join(missing)} as well.")
    else:
        given = [f"--{name}" for name in ("backbone", "weights", "modality", "flow")]
        given = [name for name in given if options[name.removeprefix("--")] is not None]
        if given:
            raise click.UsageError(f"A RUN brings its own {', '.join(given)}.")
    if options["split"] is not None and options["subset"] == "all":
        raise click.UsageError("--split goes with --subset train, val or test.")
    if options["input_size"] is not None and options["input_size"] < 1:
        raise InputError(f"--input-size must be > 0, got {options['input_size']}")
