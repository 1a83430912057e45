"""Scoring long videos snippet by snippet; what is held of one are the scores of its windows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console

from train.view_features import Chosen, chosen_features
from train.windows import (
    Windows,
    place_windows,
    snippet_times,
    timeline_scores,
    window_scores,
)
from tsn_core.errors import CheckpointError, InputError, ShardError
from tsn_core.tsn import TSN
from tsn_core.video_source import VideoSource

_VIEWS_AT_ONCE = 64  # crops of snippets that are loaded together


@dataclass(frozen=True)
class LongVideo:
    """The scores of one video, before softmax.

    Attributes:
        number: Its place in the shards.
        duration_seconds: Of the frames that were decoded.
        times: Of the snippets' middles in seconds, (S,).
        scores: Of the snippets, (S, C) float32.
        scales: For each length of windows: these, and their scores (W, C) float32.
    """

    number: int
    duration_seconds: float
    times: np.ndarray
    scores: np.ndarray
    scales: tuple[tuple[Windows, np.ndarray], ...]


def check_rate(shards: VideoSource) -> None:
    """Check that snippets are stored at a fixed rate: so many a second, or every one.

    Raises:
        InputError: They are not.
    """
    if "fps" not in shards.sampling and "dense" not in shards.sampling:
        raise InputError(
            f"{shards.folder}: snippets at a fixed rate expected, these were extracted with "
            f"--snippets {shards.sampling.get('snippets')}; extract the videos again with "
            "tsn-preprocess extract --fps 5 and another --out"
        )


def timed(shards: VideoSource, video: int) -> bool:
    """Return whether it is known when the frames of a video are shown."""
    return bool(shards.fps[video] > 0 and math.isfinite(shards.fps[video]))


def score_videos(
    model: TSN,
    shards: VideoSource,
    videos: Sequence[int],
    *,
    scales: Sequence[float],
    stride: float,
    crops: int,
    input_size: int,
    num_workers: int,
    device: torch.device,
    console: Console,
) -> Iterator[LongVideo]:
    """Score the windows of videos, one video after the other.

    Scores are the mean over the crops. A window has the largest scores of its snippets, whatever
    consensus the network was trained with. Only where the consensus is all that scores (``gru``), a
    window is scored by it, from the features of the window's snippets in their order, and a snippet
    has the mean scores of the shortest windows that hold it.

    Args:
        model: A trained network.
        shards: Of the modality that it was trained on, at a fixed rate.
        videos: Which videos; each is ``timed``.
        scales: Lengths of the windows in seconds.
        stride: From one window to the next, as a share of the length.
        crops: 1, 3 or 10.
        input_size: Side of the crops in px.
        num_workers: Processes that load; 0 loads in this one.
        device: Where the network runs.
        console: Where progress is shown.

    Yields:
        Each video, in the order of ``videos``.

    Raises:
        InputError: A number is out of range, or the network shifts in time. Nothing is scored
            before the first video is asked for.
        ShardError: The times in a shard make no sense.
        CheckpointError: Scores are not finite.
    """
    if not scales:
        raise InputError("--scales must be numbers of seconds such as 1,2,4,8,16, got none")
    if model.settings.temporal_shift:
        raise InputError(
            "windows need the scores of single snippets, which a temporal shift mixes; choose a "
            "run without --temporal-shift"
        )
    placed = [_placed(shards, video, scales, stride) for video in videos]
    step = max(_VIEWS_AT_ONCE // crops, 1)
    items: list[Chosen] = [
        (video, range(first, min(first + step, len(times))))
        for video, (_, times, _) in zip(videos, placed)
        for first in range(0, len(times), step)
    ]
    parts = chosen_features(
        model,
        shards,
        items,
        crops=crops,
        input_size=input_size,
        num_workers=num_workers,
        device=device,
        label=f"scoring {shards.modality.folder}",
        console=console,
    )
    for number, (duration, times, windows) in zip(videos, placed):
        features = _up_to(parts, len(times))
        if model.classifier is None:
            of_windows = _consensus_scores(model, features, windows)
            shortest = int(np.argmin(scales))
            only = [(windows[shortest], of_windows[shortest])]
            scores = timeline_scores(len(times), only).astype(np.float32)
        else:
            scores = np.concatenate([_snippet_scores(model, part) for part in features])
            of_windows = [window_scores(scores, one) for one in windows]
        if not np.isfinite(scores).all():
            raise CheckpointError(
                f"{shards.names[number]}: its scores are not finite; train again with a lower --lr"
            )
        yield LongVideo(number, duration, times, scores, tuple(zip(windows, of_windows)))


def _placed(
    shards: VideoSource, video: int, scales: Sequence[float], stride: float
) -> tuple[float, np.ndarray, list[Windows]]:
    """Return the duration of a video, the times of its snippets, and its windows."""
    fps = float(shards.fps[video])
    duration = float(shards.num_frames[video] / fps)
    frames = shards.snippet_frames(video)
    if not (duration > 0 and len(frames) and frames[0] >= 0 and (np.diff(frames) >= 0).all()):
        raise ShardError(
            f"{shards.folder}: {shards.names[video]}: the frames of its snippets make no sense; "
            "extract again"
        )
    # A video shorter than a snippet was made longer; the middle may lie behind its end.
    times = snippet_times(frames, shards.modality.snippet_length, fps).clip(max=duration)
    return duration, times, [place_windows(times, duration, one, stride) for one in scales]


def _up_to(parts: Iterator[torch.Tensor], count: int) -> Iterator[torch.Tensor]:
    """Yield the parts (crops, S, F) that make up the next ``count`` snippets."""
    while count > 0:
        part = next(parts)
        count -= part.shape[1]
        yield part


def _snippet_scores(model: TSN, features: torch.Tensor) -> np.ndarray:
    """Return the scores (S, C) that the classifier gives to features (crops, S, F)."""
    with torch.inference_mode():
        return model.score(features)[1].float().mean(dim=0).cpu().numpy()


def _consensus_scores(
    model: TSN, parts: Iterator[torch.Tensor], scales: Sequence[Windows]
) -> list[np.ndarray]:
    """Return the scores that the consensus gives to the features in each window, (W, C) each.

    A window is scored as soon as its last snippet is there; features are dropped when no window
    needs them any more.
    """
    scores: list[list[np.ndarray]] = [[] for _ in scales]
    held: torch.Tensor | None = None
    begin = 0  # the snippet that ``held`` begins with
    for part in parts:
        held = part if held is None else torch.cat([held, part], dim=1)
        end = begin + held.shape[1]
        needed = end
        for windows, done in zip(scales, scores):
            for first, after in windows.snippets[len(done) :].tolist():
                if after > end:
                    needed = min(needed, first)
                    break
                with torch.inference_mode():
                    video = model.score(held[:, first - begin : after - begin])[0]
                done.append(video.float().mean(dim=0).cpu().numpy())
        held, begin = held[:, needed - begin :], needed
    return [np.stack(done) for done in scores]
