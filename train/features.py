"""Making a file of features: a backbone, run once over the views of every video."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from train.evaluate import check_snippets_fit
from train.feature_file import FeatureSource, write_features
from train.run_folder import videos_behind
from train.trained_run import TrainedRun, check_same_run
from train.training import check_input
from train.view_features import view_features
from tsn_core.errors import InputError
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN, ModelSettings

_SEED = 0  # of a backbone without weights, whose features are the same ones every time
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Backbone:
    """A network whose features are wanted, and what is known of its training.

    Attributes:
        model: Of which only the backbone is used.
        weights: ``none``, ``imagenet``, or the path of the weights or the checkpoint.
        weights_sha256: Of that file; empty where there is none.
        split: That it was trained on; 0 where none is known.
        trained_on: Hashes of the videos that it was trained on, (T,) int64.
    """

    model: TSN
    weights: str
    weights_sha256: str = ""
    split: int = 0
    trained_on: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


def untrained_backbone(name: str, weights: str, shards: ShardSet) -> Backbone:
    """Return a backbone with weights from elsewhere.

    Args:
        name: Of a torchvision classification model.
        weights: ``none``, ``imagenet`` or a path; adapted to the modality as training does.
        shards: Whose snippets it is to take.

    Raises:
        InputError: The weights cannot be had.
        CheckpointError: They do not fit.
    """
    torch.manual_seed(_SEED)
    settings = ModelSettings(
        modality=shards.modality.name,
        snippet_length=shards.modality.snippet_length,
        backbone=name,
        consensus="avg",
        num_segments=1,
        num_classes=max(len(shards.class_names), 2),
        dropout=0.0,
        top=1,
        partial_bn=False,
    )
    sha256 = "" if weights in ("none", "imagenet") else file_sha256(weights)
    return Backbone(TSN(settings, weights), weights, sha256, trained_on=videos_behind(weights))


def trained_backbone(trained: TrainedRun) -> Backbone:
    """Return the backbone of a trained network.

    Raises:
        CheckpointError: It does not take the snippets of the shards, or is that of another run.
    """
    check_snippets_fit(trained.model, trained.shards, trained.path)
    check_same_run(trained)
    return Backbone(
        trained.model,
        str(trained.path),
        file_sha256(trained.path),
        trained.config["split"],
        trained.trained_on,
    )


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        InputError: There is no such file.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weights file; give none, imagenet or a path")
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def extract_features(
    path: Path,
    backbone: Backbone,
    shards: ShardSet,
    videos: Sequence[int],
    *,
    num_snippets: int,
    crops: int,
    input_size: int,
    dtype: str,
    num_workers: int,
    device: torch.device,
    console: Console,
) -> None:
    """Write the pooled features of videos into a file.

    Args:
        path: File to write.
        backbone: What computes them.
        shards: Of its modality.
        videos: Which videos.
        num_snippets: Per video, S, at the centres of equal parts of the stored ones.
        crops: 1, 3 or 10.
        input_size: Side of the crops in px.
        dtype: That they are stored in: ``float32`` or ``float16``.
        num_workers: Processes that load; 0 loads in this one.
        device: Where the backbone runs.
        console: Where progress is shown.

    Raises:
        InputError: A number is out of range, there are no videos, the backbone does not take crops
            of that size, or a feature is not finite.
        OutputError: The file cannot be written.
    """
    if not videos:
        raise InputError(f"{shards.folder}: no videos to take features of")
    check_input(backbone.model, input_size)
    label = f"features of {shards.modality.folder}"
    views = view_features(
        backbone.model,
        shards,
        videos,
        num_snippets=num_snippets,
        crops=crops,
        input_size=input_size,
        num_workers=num_workers,
        device=device,
        label=label,
        console=console,
    )
    source = FeatureSource(
        dataset=shards.dataset,
        shards=str(shards.folder.parent.absolute()),
        modality=shards.modality,
        class_names=shards.class_names,
        backbone=backbone.model.settings.backbone,
        weights=backbone.weights,
        weights_sha256=backbone.weights_sha256,
        split=backbone.split,
        input_size=input_size,
    )
    write_features(
        path,
        source,
        names=tuple(shards.names[video] for video in videos),
        labels=shards.labels[list(videos)],
        num_snippets=shards.num_snippets[list(videos)],
        trained_on=backbone.trained_on,
        values=_snippets_first(views),
        dtype=dtype,
    )


def _snippets_first(views: Iterator[torch.Tensor]) -> Iterator[np.ndarray]:
    """Yield (S, crops, F) float32 from (crops, S, F)."""
    for features in views:
        yield features.float().transpose(0, 1).cpu().numpy()
