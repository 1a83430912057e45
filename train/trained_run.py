"""A trained network together with the shards, the splits and the videos that it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.labels import check_labels
from train.leakage import hashes
from train.run_folder import RunFolder, chosen_checkpoint, load_checkpoint
from train.subsets import subset_names
from tsn_core.errors import CheckpointError, InputError
from tsn_core.location import is_remote, location
from tsn_core.manifest import MANIFEST_NAME, Manifest, read_manifest
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN


@dataclass(frozen=True)
class TrainedRun:
    """What is needed to use the network of a run.

    Attributes:
        checkpoint: ``best`` or ``last``.
        path: Of the checkpoint.
        model: The network in it.
        class_names: That it was trained on.
        config: Settings of the training.
        shards: Of its modality.
        manifest: Beside the shards.
        trained_on: Hashes of the videos that it was trained on, (T,) int64, see ``train.leakage``.
    """

    checkpoint: str
    path: Path
    model: TSN
    class_names: tuple[str, ...]
    config: dict[str, Any]
    shards: ShardSet
    manifest: Manifest
    trained_on: np.ndarray


def open_run(run: Path, *, shards: Path | None = None, checkpoint: str = "auto") -> TrainedRun:
    """Open the network of a run.

    Whether it fits the shards is not checked, see ``train.evaluate``.

    Args:
        run: Folder that a training made.
        shards: Folder of a dataset's shards; None takes those of the training.
        checkpoint: ``best``, ``last``, or ``auto``: the best if val videos chose it, else the last.

    Raises:
        CheckpointError: The folder is not that of a run, or the checkpoint is damaged.
        InputError: There is no manifest, or no shards are named.
        ShardError: The shards are not there, or damaged.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    checkpoint = chosen_checkpoint(config, checkpoint)
    path = folder.checkpoint(checkpoint)
    model, class_names, progress = load_checkpoint(path)
    if shards is None and not config["shards"]:
        raise InputError(f"{run}: was imported without shards; name them with --shards")
    root = location(config["shards"]) if shards is None else shards
    if shards is None and not is_remote(root) and not root.is_dir():
        raise InputError(
            f"{root}: the shards that {run} was trained on are not there any more; name them with "
            "--shards"
        )
    shard_set = ShardSet(root / config["modality_folder"])
    manifest = read_manifest(root / MANIFEST_NAME)
    check_labels(manifest, shard_set)
    trained_on = progress.get("trained_on")
    if isinstance(trained_on, torch.Tensor):
        known = trained_on.numpy()
    else:  # a checkpoint of an older version
        known = np.empty(0, np.int64)
        if config["split"] in manifest.split_numbers:
            fraction = config.get("val_fraction", 0.0)
            training = subset_names(manifest, config["split"], "train", fraction)
            known = hashes(shard_set.dataset, training, manifest.origins)
    return TrainedRun(
        checkpoint, path, model, tuple(class_names), config, shard_set, manifest, known
    )


def check_same_run(trained: TrainedRun) -> None:
    """Check that a checkpoint is of the architecture that its run's settings say.

    Raises:
        CheckpointError: It is that of another run.
    """
    expected, found = trained.config.get("model"), trained.model.settings.to_dict()
    for name, value in (expected if isinstance(expected, dict) else {}).items():
        if name in found and found[name] != value:
            raise CheckpointError(
                f"{trained.path}: has {name}={found[name]}, config.json beside it says {value}; "
                "put the checkpoint of that run there, or train again"
            )
