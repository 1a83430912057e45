"""What happens when in one video: the scores of several networks over time, fused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from train.actions import ActionRule, find_actions, probabilities_over_time
from train.timeline import Timeline
from train.windows import moment_edges
from tsn_app.memory_video import MemoryVideo
from tsn_app.prediction import Ensemble
from tsn_core.errors import VideoError


def find_timeline(
    ensemble: Ensemble,
    videos: Sequence[MemoryVideo],
    rule: ActionRule,
    *,
    scales: Sequence[float],
    stride: float,
    crops: int,
    device: torch.device,
) -> Timeline:
    """Return class probabilities over time, and the actions in them.

    The scores of each network are brought to the times of the first one's snippets, linearly
    between its own, weighted and added up, as fusion does with whole videos.

    Args:
        ensemble: The networks.
        videos: The same video in the modality of each, extracted at a fixed rate.
        rule: What makes an action.
        scales: Lengths of the windows in seconds.
        stride: From one window to the next, as a share of the length.
        crops: 1, 3 or 10.
        device: Where the networks run.

    Raises:
        VideoError: The video states no frame rate.
        CheckpointError: Scores are not finite.
        InputError: A number is out of range, or a network shifts in time.
    """
    if not videos[0].row.fps:
        raise VideoError(f"{videos[0].folder}: states no frame rate; a timeline needs one")
    long = [
        predictor.score_over_time(video, scales=scales, stride=stride, crops=crops, device=device)
        for predictor, video in zip(ensemble.predictors, videos)
    ]
    times = long[0].times
    fused = np.zeros((len(times), len(ensemble.class_names)))
    for weight, one in zip(ensemble.weights, long):
        for label in range(fused.shape[1]):
            fused[:, label] += weight * np.interp(times, one.times, one.scores[:, label])
    probabilities = probabilities_over_time(fused, times, rule.smooth_seconds)
    edges = moment_edges(times, long[0].duration_seconds)
    return Timeline(
        name=videos[0].folder,
        duration_seconds=long[0].duration_seconds,
        fps=videos[0].row.fps,
        times=times,
        edges=edges,
        probabilities=probabilities,
        found=find_actions(probabilities, edges, rule),
        annotated=None,
    )
