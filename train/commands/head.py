"""``tsn-train head``."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click

from train.commands.fit_options import CONSENSUS
from train.commands.options import PATH, stderr_console
from tsn_core.command_line import Location
from tsn_core.errors import InputError


@click.command()
@click.argument("files", type=PATH, nargs=-1, required=True, metavar="FEATURES...")
@click.option(
    "--shards", type=Location(), help="Where the splits are.  [default: as in the features]"
)
@click.option("--split", type=int, default=1, help="Which split, where the lists make several.")
@click.option(
    "--consensus",
    type=click.Choice(CONSENSUS),
    default="avg",
    help="How the scores of the snippets become those of the video.",
)
@click.option("--top", type=int, default=2, help="Snippets that the topk consensus averages.")
@click.option("--num-segments", type=int, default=3, help="Snippets per video in training.")
@click.option("--dropout", type=float, default=0.5, help="Of the features.")
@click.option("--head-dropout", type=float, default=0.2, help="Between the layers of gru.")
@click.option(
    "--epochs",
    type=int,
    help="Passes over the training videos.  [default: enough for 500 steps, at least 30]",
)
@click.option("--batch-size", type=int, default=32, help="Videos per step.")
@click.option("--lr", type=float, default=0.001, help="Learning rate of AdamW; falls to 0.")
@click.option("--weight-decay", type=float, default=0.01, help="Pull of the weights towards 0.")
@click.option("--seed", type=int, default=0, help="The same one gives the same losses.")
@click.option("--allow-trained", is_flag=True, help="Test on videos the backbone was trained on.")
@click.option("--out", type=PATH, required=True, help="Folder of the result.")
def head(files: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Train a consensus head on stored features, in seconds, and test it.

    Several files of features, one for each modality, give a fusion head: every modality is
    standardised by its training videos, and the classifier sees all of them side by side. Training
    takes K random snippets of each video, the test all of them. Writes scores.npz, metrics.json
    and confusion.png of the test videos, as evaluate does.

    Example: tsn-train head features/rgb.h5 features/flow.h5 --consensus gru --split 1
    --out runs/head
    """
    import numpy as np
    import torch

    from train.feature_file import read_features
    from train.head import HeadSettings, score, side_by_side, train_head
    from train.leakage import check_not_trained_on
    from train.metrics import top_k_accuracy
    from train.optimization import OptimizerSettings
    from train.results import RESULT_FILES, results_text, write_results
    from train.scores import Scores
    from train.subsets import remark_missing
    from tsn_core.location import location
    from tsn_core.manifest import MANIFEST_NAME, read_manifest

    settings = HeadSettings(**{field.name: options[field.name] for field in fields(HeadSettings)})
    optimizer_settings = OptimizerSettings(
        optimizer="adamw",
        learning_rate=options["lr"],
        head_factor=1.0,
        momentum=0.0,
        weight_decay=options["weight_decay"],
        schedule="cosine",
        decay_epochs=(),
        warmup_epochs=0,
        gradient_clip=20.0,
    )
    split, console = options["split"], stderr_console()
    parts = [read_features(path) for path in files]
    joined = side_by_side(parts)
    root = location(parts[0].source.shards) if options["shards"] is None else options["shards"]
    manifest = read_manifest(root / MANIFEST_NAME)
    rows: dict[str, list[int]] = {}
    for subset in ("train", "val", "test"):
        names = manifest.subset_names(split, subset)
        rows[subset], missing = joined.places(names)
        remark_missing(console, subset, missing, len(names), "features")
        if not rows[subset] and subset != "val":
            raise InputError(
                f"{files[0]}: split {split} has no {subset} videos with features; make them with "
                "tsn-train features --subset all"
            )
        if subset == "train" or options["allow_trained"]:
            continue
        for path, part in zip(files, parts):
            check_not_trained_on(
                path,
                joined.names[rows[subset]].tolist(),
                part.source.dataset,
                part.trained_on,
                subset=subset,
                split=split,
                trained_split=part.source.split or split,
                origins=manifest.origins,
            )
    features, labels = torch.from_numpy(joined.values()), torch.from_numpy(joined.labels)
    trained = train_head(
        features[rows["train"]],
        labels[rows["train"]],
        len(joined.class_names),
        settings,
        optimizer_settings,
    )
    accuracies = {}
    for subset, places in rows.items():
        if places:
            video_scores, snippet_scores = score(trained, features[places])
            accuracies[subset] = top_k_accuracy(video_scores, joined.labels[places], 1)
    scores = Scores(  # of the last subset, test
        name=parts[0].name if len(parts) == 1 else "fusion",
        names=joined.names[places],
        labels=joined.labels[places],
        scores=snippet_scores,
        video_scores=video_scores,
        class_names=np.array(joined.class_names),
    )
    more = {
        "features": [str(path) for path in files],
        "split": split,
        "head": {**asdict(settings), "lr": options["lr"], "weight_decay": options["weight_decay"]},
        "top1_by_subset": accuracies,
    }
    metrics = write_results(scores, out, more)
    click.echo(results_text(scores, {scores.name: metrics}))
    shares = ", ".join(f"{subset} {100 * top1:.1f}%" for subset, top1 in accuracies.items())
    click.echo(f"\ntop-1: {shares}\n{out}: {', '.join(RESULT_FILES)}")
