"""Testing a trained network on the videos of a subset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console

from train.scores import Scores
from train.view_features import view_features
from tsn_core.errors import CheckpointError, InputError
from tsn_core.listing import few
from tsn_core.tsn import TSN
from tsn_core.video_source import VideoSource


def check_fits(model: TSN, class_names: Sequence[str], shards: VideoSource, source: object) -> None:
    """Check that a model was trained on such shards.

    Raises:
        CheckpointError: The modality, the snippets or the classes differ.
    """
    check_snippets_fit(model, shards, source)
    if tuple(class_names) != tuple(shards.class_names):
        raise CheckpointError(
            f"{source}: trained on {len(class_names)} classes ({few(class_names)}), "
            f"{shards.folder} has {len(shards.class_names)} ({few(shards.class_names)}); "
            "choose the shards that it was trained on, or train again"
        )


def check_snippets_fit(model: TSN, shards: VideoSource, source: object) -> None:
    """Check that a model takes the snippets of such shards, of whatever classes.

    Raises:
        CheckpointError: The modality or the length of the snippets differ.
    """
    settings, modality = model.settings, shards.modality
    if settings.modality != modality.name:
        raise CheckpointError(
            f"{source}: trained on {settings.modality}, {shards.folder} holds {modality.name}; "
            "choose the run of that modality"
        )
    if settings.snippet_length != modality.snippet_length:
        raise CheckpointError(
            f"{source}: trained on snippets of {settings.snippet_length} units, {shards.folder} "
            f"holds {modality.snippet_length}; extract with that --snippet-length, or train again"
        )


def evaluate(
    model: TSN,
    shards: VideoSource,
    videos: Sequence[int],
    *,
    num_snippets: int,
    crops: int,
    input_size: int,
    num_workers: int,
    device: torch.device,
    console: Console,
) -> Scores:
    """Score videos by many views each.

    The consensus is taken over the snippets of each crop, and the mean over the crops; for the
    average consensus that is the mean over all views.

    Args:
        model: A trained network.
        shards: Of the modality that it was trained on.
        videos: Which videos.
        num_snippets: Per video, S, at the centres of equal parts of the stored ones.
        crops: 1, 3 or 10.
        input_size: Side of the crops in px.
        num_workers: Processes that load; 0 loads in this one.
        device: Where the network runs.
        console: Where progress is shown.

    Returns:
        The scores, before softmax.

    Raises:
        InputError: There are no videos, or a number is out of range.
    """
    if not videos:
        raise InputError(f"{shards.folder}: no videos to test on")
    views = view_features(
        model,
        shards,
        videos,
        num_snippets=num_snippets,
        crops=crops,
        input_size=input_size,
        num_workers=num_workers,
        device=device,
        label=f"testing {shards.modality.folder}",
        console=console,
    )
    snippet_scores, video_scores = [], []
    for features in views:  # (crops, S, F)
        with torch.inference_mode():
            video, snippet = model.score(features)
        video_scores.append(video.float().mean(dim=0).cpu().numpy())  # (C,)
        snippet_scores.append(snippet.float().mean(dim=0).cpu().numpy())  # (S, C)
    return Scores(
        name=shards.modality.folder,
        names=np.array([shards.names[video] for video in videos]),
        labels=shards.labels[list(videos)],
        scores=np.stack(snippet_scores),
        video_scores=np.stack(video_scores),
        class_names=np.array(shards.class_names),
    )
