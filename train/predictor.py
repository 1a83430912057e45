"""The network of a run, and how the videos that it is shown must be made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from train.evaluate import check_snippets_fit, evaluate
from train.long_videos import LongVideo, score_videos
from train.run_folder import RunFolder, chosen_checkpoint, load_checkpoint
from tsn_core.errors import CheckpointError, InputError, TSNError
from tsn_core.index import read_index
from tsn_core.location import location
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.tsn import TSN
from tsn_core.video_source import VideoSource


@dataclass(frozen=True)
class Predictor:
    """A trained network for videos that no shard holds.

    Attributes:
        run: Its folder.
        model: The network.
        class_names: By class id.
        input_size: Side of the crops in px.
        modality: How its training snippets were made and stored, which new ones must be, too.
        plan: Which snippets of each video those were.
    """

    run: Path
    model: TSN
    class_names: tuple[str, ...]
    input_size: int
    modality: StoredModality
    plan: SnippetPlan

    def score(
        self, videos: VideoSource, *, num_snippets: int, crops: int, device: torch.device
    ) -> np.ndarray:
        """Return the class scores of the only video, (C,), as ``tsn-train evaluate`` would.

        Raises:
            CheckpointError: They are not finite, or the snippets are not those of the network.
            InputError: A number is out of range.
        """
        check_snippets_fit(self.model, videos, self.run)
        scores = evaluate(
            self.model,
            videos,
            [0],
            num_snippets=num_snippets,
            crops=crops,
            input_size=self.input_size,
            num_workers=0,
            device=device,
            console=Console(quiet=True),
        )
        if not np.isfinite(scores.video_scores).all():
            raise CheckpointError(
                f"{self.run}: its scores are not finite; train again with a lower --lr"
            )
        return scores.video_scores[0]

    def score_over_time(
        self,
        videos: VideoSource,
        *,
        scales: Sequence[float],
        stride: float,
        crops: int,
        device: torch.device,
    ) -> LongVideo:
        """Return the scores of the only video over time, as ``tsn-train windows`` would.

        Raises:
            CheckpointError: They are not finite, or the snippets are not those of the network.
            InputError: A number is out of range.
        """
        check_snippets_fit(self.model, videos, self.run)
        (found,) = score_videos(
            self.model,
            videos,
            [0],
            scales=scales,
            stride=stride,
            crops=crops,
            input_size=self.input_size,
            num_workers=0,
            device=device,
            console=Console(quiet=True),
        )
        return found


def open_predictor(run: Path, *, checkpoint: str = "auto", shards: Path | None = None) -> Predictor:
    """Open the network of a run; its shards may be gone.

    Args:
        run: Folder that a training made, or ``import-checkpoint``.
        checkpoint: ``best``, ``last``, or ``auto``: the best if val videos chose it, else the last.
        shards: Folder of a dataset's shards to make videos like those of; None takes what the
            checkpoint tells, or else the shards of the training.

    Raises:
        CheckpointError: The folder is not that of a run, or the checkpoint is damaged.
        InputError: Nobody tells how the snippets were made.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    checkpoint = chosen_checkpoint(config, checkpoint)
    path = folder.checkpoint(checkpoint)
    model, class_names, progress = load_checkpoint(path)
    modality, plan = _stored(run, path, config, progress, shards)
    return Predictor(run, model.eval(), tuple(class_names), config["input_size"], modality, plan)


def _stored(
    run: Path, path: Path, config: dict[str, Any], progress: dict[str, Any], shards: Path | None
) -> tuple[StoredModality, SnippetPlan]:
    told, sampling = progress.get("stored_modality"), progress.get("sampling")
    if shards is None and isinstance(told, str) and isinstance(sampling, str):
        try:
            return StoredModality.from_json(told), SnippetPlan.from_json(sampling)
        except (TSNError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path}: does not tell how its snippets were stored: {error}"
            ) from None
    root = config["shards"] if shards is None else shards
    if not root:
        raise InputError(f"{run}: was imported without shards; name like ones with --shards")
    try:
        index = read_index(location(root) / config["modality_folder"])
    except (TSNError, OSError) as error:
        if shards is not None:
            raise InputError(f"{run}: --shards does not fit it: {error}") from None
        raise InputError(
            f"{run}: an older version made it, and does not tell how its snippets were stored; "
            f"its shards would, but {error}; name others like them with --shards"
        ) from None
    return index.modality, SnippetPlan.from_json(json.dumps(dict(index.sampling)))
