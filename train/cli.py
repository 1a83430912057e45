"""``tsn-train``: fit, evaluate, fuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsn_core.command_line import Program
from tsn_core.errors import InputError
from tsn_core.modality import FLOW_ALGORITHMS, MODALITIES
from tsn_core.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

_PATH = click.Path(path_type=Path)
_CONSENSUS = ("avg", "max", "topk", "weighted", "attention", "gru")
_OPTIMIZERS = {  # optimizer: (learning rate, factor of the head, tenths of the epochs to warm up)
    "sgd": (0.001, 1.0, 0),
    "adamw": (0.0002, 10.0, 1),
}


@click.group(cls=Program, context_settings={"show_default": True, "max_content_width": 100})
@click.version_option(__version__, prog_name="tsn-train")
def main() -> None:
    """Temporal Segment Networks trained on shards, tested and fused."""


@main.command()
@click.option("--shards", type=_PATH, required=True, help="Folder of a dataset's shards.")
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
@click.option("--workers", type=int, help="Loading processes.  [default: 2, fewer on few cores]")
@click.option("--worker-start", type=click.Choice(["fork", "spawn", "forkserver"]))
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
@click.option("--out", type=_PATH, required=True, help="Folder of the run.")
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
        num_workers=_default_workers() if options["workers"] is None else options["workers"],
        worker_start=options["worker_start"],
    )
    console = _console()
    for subset in ("train", val_subset):
        present, missing = subset_numbers(shards, manifest, options["split"], subset)
        _report_missing(console, subset, missing, len(present) + len(missing))
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


@main.command()
@click.argument("run", type=_PATH)
@click.option("--shards", type=_PATH, help="[default: those that it was trained on]")
@click.option("--split", type=int, help="[default: that of the training]")
@click.option("--subset", type=click.Choice(["test", "val", "train"]), default="test")
@click.option("--checkpoint", type=click.Choice(["auto", "last", "best"]), default="auto")
@click.option("--num-snippets", type=int, default=25)
@click.option("--crops", type=click.Choice(["1", "3", "10"]), default="10")
@click.option("--workers", type=int, help="Loading processes.  [default: 2, fewer on few cores]")
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
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
    from train.fit import choose_device
    from train.metrics import table
    from train.run_folder import RunFolder, load_checkpoint
    from train.videos import MANIFEST_NAME, subset_numbers
    from tsn_core.manifest import read_manifest
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
        shard_set, manifest, config["split"] if split is None else split, subset
    )
    console = _console()
    _report_missing(console, subset, missing, len(videos) + len(missing))
    scores = testing.evaluate(
        model,
        shard_set,
        videos,
        num_snippets=num_snippets,
        crops=int(crops),
        input_size=config["input_size"],
        num_workers=_default_workers() if workers is None else workers,
        device=choose_device(device),
        console=console,
    )
    metrics = _write_results(scores, run, {"checkpoint": checkpoint, "missing": missing})
    click.echo(table({scores.name: metrics}))
    click.echo(f"{run}: scores.npz, metrics.json, confusion.png")


class _SpacedWeights(click.Command):
    """Takes ``--weights 1 1.5``, which click knows only as ``--weights 1 --weights 1.5``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before every number that follows it."""
        spread: list[str] = []
        inside = False
        for word in args:
            if inside and _is_number(word) and spread[-1] != "--weights":
                spread.append("--weights")
            elif not _is_number(word):
                inside = word.partition("=")[0] == "--weights"
            spread.append(word)
        return super().parse_args(ctx, spread)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


@main.command(cls=_SpacedWeights)
@click.argument("inputs", type=_PATH, nargs=-1, required=True, metavar="RUN_OR_SCORES...")
@click.option(
    "--weights",
    multiple=True,
    type=float,
    metavar="FLOAT...",
    help="One for each input, in their order.  [default: rgb 1, flow 1.5, rgbdiff 1]",
)
@click.option("--out", type=_PATH, required=True, help="Folder of the result.")
def fuse(inputs: tuple[Path, ...], weights: tuple[float, ...], out: Path) -> None:
    """Fuse the scores of evaluated runs; writes scores.npz, metrics.json and confusion.png.

    Example: tsn-train fuse runs/rgb runs/flow --weights 1 1.5 --out runs/fused
    """
    from train import fuse as fusion
    from train.metrics import summarize, table
    from train.scores import read_scores

    parts = [read_scores(path) for path in inputs]
    if out.resolve() in {(path if path.is_dir() else path.parent).resolve() for path in inputs}:
        raise InputError(f"--out {out}: holds one of the inputs; choose another folder")
    total = {name for part in parts for name in part.names.tolist()}
    parts = fusion.align(parts)
    left_out = len(total) - len(parts[0].names)
    if left_out:
        click.echo(f"{left_out} videos are left out: not every input has them", err=True)
    chosen = list(weights) or [fusion.default_weight(part.name) for part in parts]
    fused = fusion.fuse(parts, chosen)
    rows: dict[str, dict[str, Any]] = {}
    for part, weight, path in zip(parts, chosen, inputs):
        name = f"{part.name} ({path})" if part.name in (*rows, fused.name) else part.name
        rows[name] = {**summarize(part.video_scores, part.labels), "weight": weight}
    metrics = _write_results(fused, out, {"inputs": rows})
    click.echo(table({**rows, "fusion": metrics}))
    click.echo(f"{out}: scores.npz, metrics.json, confusion.png")


def _write_results(scores: Any, folder: Path, more: dict[str, Any]) -> dict[str, Any]:
    """Write the files of a test and return its metrics."""
    from train.metrics import confusion_matrix, summarize
    from train.plots import plot_confusion
    from train.scores import SCORES_NAME, write_scores
    from tsn_core.atomic import write_text

    metrics = summarize(scores.video_scores, scores.labels)
    confusion = confusion_matrix(scores.video_scores, scores.labels)
    write_scores(scores, folder / SCORES_NAME)
    write_text(folder / "metrics.json", json.dumps({**metrics, **more}, indent=1) + "\n")
    title = f"{scores.name}: {100 * metrics['top1']:.1f}% of {metrics['num_videos']} videos"
    plot_confusion(confusion, scores.class_names.tolist(), folder / "confusion.png", title)
    return metrics


def _decay_epochs(text: str | None, epochs: int) -> tuple[int, ...]:
    """Return the epochs at which the rate falls; TSN's 36 and 72 of 90 in proportion."""
    if text is None:
        return max(round(0.4 * epochs), 1), max(round(0.8 * epochs), 1)
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        message = f"--lr-steps must be whole numbers such as 36,72, got {text!r}"
        raise InputError(message) from None


def _report_missing(console: Console, subset: str, missing: list[str], total: int) -> None:
    if missing:
        console.print(
            f"{len(missing)} of {total} {subset} videos have no snippets and are left out: "
            f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}",
            highlight=False,
            soft_wrap=True,
        )


def _crop_scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        scales = ()
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise InputError(f"--crop-scales must be numbers above 0 and up to 1, got {text!r}")
    return scales


def _default_workers() -> int:
    return min(2, os.cpu_count() or 1)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)
