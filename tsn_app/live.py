"""Predictions of a stream, again and again, each of its last few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tsn_app.frame_buffer import FrameBuffer
from tsn_app.prediction import Ensemble, Extraction, Prediction, predict
from tsn_app.stream import Stream
from tsn_core.errors import InputError, VideoError
from tsn_core.sampling import SnippetPlan


@dataclass(frozen=True)
class LiveRule:
    """How a stream is looked at.

    Attributes:
        window_seconds: A prediction is of so much.
        every_seconds: From one prediction to the next.
        most_seconds: When to stop; None goes on until the stream ends.
    """

    window_seconds: float
    every_seconds: float
    most_seconds: float | None = None

    def __post_init__(self) -> None:
        for option, value in (
            ("--window", self.window_seconds),
            ("--every", self.every_seconds),
            ("--seconds", self.most_seconds),
        ):
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"{option} must be > 0 seconds, got {value:g}")


def watch(
    stream: Stream,
    ensemble: Ensemble,
    extraction: Extraction,
    plans: Sequence[SnippetPlan],
    rule: LiveRule,
    *,
    num_snippets: int,
    crops: int,
    device: torch.device,
) -> Iterator[tuple[float, Prediction]]:
    """Yield (seconds since the first frame, prediction).

    Time is counted in frames, so that a stream that arrives in bursts gives the same predictions.

    Raises:
        VideoError: The stream gives no frame, or a unit cannot be made.
        CheckpointError: Scores are not finite.
    """
    buffer = FrameBuffer(stream.name, stream.fps, rule.window_seconds)
    step = max(round(rule.every_seconds * stream.fps), 1)
    seen = 0
    for frame in stream.frames():
        assert isinstance(frame, np.ndarray)
        buffer.add(frame)
        seen += 1
        if seen % step == 0:
            began = time.perf_counter()
            videos = extraction.frames(buffer, plans)
            yield (
                seen / stream.fps,
                predict(
                    ensemble,
                    videos,
                    num_snippets=num_snippets,
                    crops=crops,
                    device=device,
                    began=began,
                ),
            )
        if rule.most_seconds is not None and seen >= rule.most_seconds * stream.fps:
            return
    if not seen:
        raise VideoError(f"{stream.name}: opened, but gives no frame")
