"""One video to extract, and doing so in this very process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import cv2

from preprocess.extraction import Emit, Extracted, extract_video
from preprocess.limits import Limits
from preprocess.meter import Meter
from preprocess.units import UnitMakers
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan


@dataclass(frozen=True)
class Task:
    """A video file and what to make of it; see ``extract_video``.

    Attributes:
        every: Where given, costs are measured, and only every so many-th unit of each modality is
            made; see ``Meter``.
    """

    path: Path
    plan: SnippetPlan
    modalities: tuple[StoredModality, ...]
    limits: Limits = field(default_factory=Limits)
    every: tuple[int, ...] | None = None


class Extractor(Protocol):
    """What extracts videos, one at a time."""

    def extract(
        self, task: Task, emit: Emit, then: Callable[[], Task | None] | None = None
    ) -> Extracted:
        """Extract a video, handing out its images.

        Args:
            task: What to do.
            emit: Takes the images; see ``extract_video``.
            then: Tells, once this video has begun, which one comes next if that is known: it may
                be begun before this call's caller is through with what it returns.

        Raises:
            VideoError: It cannot be extracted; what was handed out of it is void.
        """


class InProcess:
    """Extracts in this very process, which a decoder that crashes takes down with it."""

    def __init__(self, beat: Callable[[], None] | None = None) -> None:
        cv2.setNumThreads(1)
        self._beat = beat
        self._maker = UnitMakers()

    def extract(
        self, task: Task, emit: Emit, then: Callable[[], Task | None] | None = None
    ) -> Extracted:
        """Extract a video, and begin none ahead; limits of time and memory are not enforced."""
        meter = None if task.every is None else Meter(task.every)
        makers = [self._maker(modality) for modality in task.modalities]
        if meter is not None:
            makers = [meter.maker(place, make) for place, make in enumerate(makers)]
            emit = meter.emit(emit)
        extracted = extract_video(
            task.path,
            task.plan,
            task.modalities,
            makers,
            emit,
            limits=task.limits,
            beat=self._beat,
        )
        return extracted if meter is None else replace(extracted, costs=meter.costs())
