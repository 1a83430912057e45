"""``tsn-train fit``."""

from __future__ import annotations

from typing import Any

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
from tsn_core.modality import FLOW_ALGORITHMS, MODALITIES

_CONSENSUS = ("avg", "max", "topk", "weighted", "attention", "gru")
_OPTIMIZERS = {  # optimizer: (learning rate, factor of the head, tenths of the epochs to warm up)
    "sgd": (0.001, 1.0, 0),
    "adamw": (0.0002, 10.0, 1),
}


@click.command()
@click.option("--shards", type=PATH, required=True, help="Folder of a dataset's shards.")
@click.option("--modality", type=click.Choice(MODALITIES), required=True)
@click.option("--flow", type=click.Choice(FLOW_ALGORITHMS), help="[default: the one there is]")
@click.option("--split", type=int, default=1)
@click.option("--backbone", default="resnet18", help="Any torchvision classification model.")
@click.option("--weights", default="imagenet", help="none, imagenet, or the path of a state dict.")
@click.option("--consensus", type=click.Choice(_CONSENSUS), default="avg")
@click.option("--top", type=int, default=2, help="Snippets that the topk consensus averages.")
@click.option("--num-segments", type=int, default=3, help="Snippets per video in training.")
@click.option("--dropout", type=float, default=0.8)
@click.option(
    "--partial-bn/--full-bn",
    default=None,
    help="Freeze every BatchNorm but the first.  [default: with pretrained weights]",
)
@click.option("--input-size", type=int, default=224, help="Side of the crops, in px.")
@click.option("--flip/--no-flip", default=True, help="Mirror half of the training videos.")
@click.option(
    "--crop-scales",
    default="1,0.875,0.75,0.66",
    help="Sides of the training crops, as shares of the shorter side of a frame.",
)
@click.option("--epochs", type=int, default=90)
@click.option("--batch-size", type=int, default=32, help="Videos per step.")
@click.option("--optimizer", type=click.Choice(sorted(_OPTIMIZERS)), default="sgd")
@click.option("--lr", type=float, help="Learning rate.  [default: sgd 0.001, adamw 0.0002]")
@click.option(
    "--head-lr-factor", type=float, help="Of classifier and consensus.  [default: sgd 1, adamw 10]"
)
@click.option("--momentum", type=float, default=0.9, help="Of SGD.")
@click.option("--weight-decay", type=float, default=0.0005)
@click.option(
    "--schedule",
    type=click.Choice(["step", "cosine"]),
    default="step",
    help="How the rate falls: in steps, or along half a cosine.",
)
@click.option(
    "--lr-steps",
    help="Epochs after which the rate falls to a tenth, such as 36,72.  "
    "[default: at 40% and 80% of the epochs]",
)
@click.option(
    "--warmup-epochs",
    type=int,
    help="The rate rises over so many.  [default: sgd 0, adamw a tenth of the epochs]",
)
@click.option("--clip-gradient", type=float, default=20.0, help="Largest norm; 0 does not clip.")
@click.option("--seed", type=int, default=0)
@workers_option
@click.option("--worker-start", type=click.Choice(["fork", "spawn", "forkserver"]))
@device_option
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
def fit(**options: Any) -> None:
    """Train a network on one modality.

    Writes config.json, metrics.csv, last.pt, best.pt and curves.png. The same command goes on
    where an interrupted run stopped.

    Example: tsn-train fit --shards shards/hmdb51 --modality flow --split 1 --out runs/flow
    """
    from train.fit import choose_device, draw_curves, make_loaders
    from train.fit import fit as train
    from train.optimization import OptimizerSettings
    from train.run_folder import RunFolder
    from train.videos import open_modality, subset_numbers
    from tsn_core.tsn import ModelSettings

    for name in ("epochs", "batch_size", "input_size"):
        if options[name] < 1:
            raise InputError(f"--{name.replace('_', '-')} must be > 0, got {options[name]}")
    for name in ("seed", "workers"):
        if options[name] is not None and options[name] < 0:
            raise InputError(f"--{name} must be 0 or more, got {options[name]}")
    crop_scales = _crop_scales(options["crop_scales"])
    shards, manifest = open_modality(options["shards"], options["modality"], options["flow"])
    model_settings = ModelSettings(
        modality=options["modality"],
        snippet_length=shards.modality.snippet_length,
        backbone=options["backbone"],
        consensus=options["consensus"],
        num_segments=options["num_segments"],
        num_classes=len(shards.class_names),
        dropout=options["dropout"],
        top=options["top"],
        partial_bn=options["weights"] != "none"
        if options["partial_bn"] is None
        else options["partial_bn"],
    )
    usual_rate, usual_factor, usual_warmup = _OPTIMIZERS[options["optimizer"]]
    optimizer_settings = OptimizerSettings(
        optimizer=options["optimizer"],
        learning_rate=usual_rate if options["lr"] is None else options["lr"],
        head_factor=usual_factor
        if options["head_lr_factor"] is None
        else options["head_lr_factor"],
        momentum=options["momentum"],
        weight_decay=options["weight_decay"],
        schedule=options["schedule"],
        decay_epochs=_decay_epochs(options["lr_steps"], options["epochs"]),
        warmup_epochs=usual_warmup * options["epochs"] // 10
        if options["warmup_epochs"] is None
        else options["warmup_epochs"],
        gradient_clip=options["clip_gradient"],
    )
    device = choose_device(options["device"])
    train_loader, sampler, val_loader, val_subset = make_loaders(
        shards,
        manifest,
        split=options["split"],
        num_segments=options["num_segments"],
        input_size=options["input_size"],
        flip=options["flip"],
        crop_scales=crop_scales,
        batch_size=options["batch_size"],
        seed=options["seed"],
        num_workers=default_workers() if options["workers"] is None else options["workers"],
        worker_start=options["worker_start"],
    )
    console = stderr_console()
    for subset in ("train", val_subset):
        present, missing = subset_numbers(shards, manifest, options["split"], subset)
        report_missing(console, subset, missing, len(present) + len(missing))
    if val_subset == "test":
        console.print(
            f"split {options['split']} has no val videos: its test videos are watched instead, "
            "and evaluate takes last.pt, not best.pt",
            highlight=False,
            soft_wrap=True,
        )
    run = RunFolder(options["out"])
    run.claim(
        {
            "shards": str(options["shards"].absolute()),
            "modality_folder": shards.modality.folder,
            "split": options["split"],
            "model": model_settings.to_dict(),
            "weights": options["weights"],
            "optimizer": vars(optimizer_settings),
            "epochs": options["epochs"],
            "batch_size": options["batch_size"],
            "input_size": options["input_size"],
            "flip": options["flip"],
            "crop_scales": crop_scales,
            "seed": options["seed"],
            "val_subset": val_subset,
        }
    )
    rows = train(
        run=run,
        class_names=shards.class_names,
        model_settings=model_settings,
        weights=options["weights"],
        optimizer_settings=optimizer_settings,
        train_loader=train_loader,
        sampler=sampler,
        val_loader=val_loader,
        val_subset=val_subset,
        epochs=options["epochs"],
        seed=options["seed"],
        input_size=options["input_size"],
        device=device,
        console=console,
    )
    title = f"{shards.dataset} {shards.modality.folder}, split {options['split']}"
    curves = draw_curves(run, rows, title, val_subset)
    click.echo(
        f"{run.path}: {len(rows)} epochs, {val_subset} top-1 {100 * rows[-1]['val_top1']:.1f}%, "
        f"curves in {curves}"
    )


def _decay_epochs(text: str | None, epochs: int) -> tuple[int, ...]:
    """Return the epochs at which the rate falls; TSN's 36 and 72 of 90 in proportion."""
    if text is None:
        return max(round(0.4 * epochs), 1), max(round(0.8 * epochs), 1)
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        message = f"--lr-steps must be whole numbers such as 36,72, got {text!r}"
        raise InputError(message) from None


def _crop_scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        scales = ()
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise InputError(f"--crop-scales must be numbers above 0 and up to 1, got {text!r}")
    return scales
