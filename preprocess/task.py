"""One video to extract, and doing so in this very process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import cv2

from preprocess.extraction import Emit, Extracted, extract_video
from preprocess.flow_method import method_of
from preprocess.flow_service import DirectFlow, FlowService
from preprocess.limits import Limits
from preprocess.meter import Meter
from preprocess.unit_makers import Maker, UnitMakers
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan


@dataclass(frozen=True)
class Task:
    """A video file and what to make of it; see ``extract_video``.

    Attributes:
        every: Where given, costs are measured, and only every so many-th unit of each modality is
            made; see ``Meter``. Flow is then computed one pair at a time.
        device: Where flow that is computed in batches is computed; None: one pair at a time.
    """

    path: Path
    plan: SnippetPlan
    modalities: tuple[StoredModality, ...]
    limits: Limits = field(default_factory=Limits)
    every: tuple[int, ...] | None = None
    device: str | None = None

    @property
    def methods(self) -> frozenset[str]:
        """How the flow that is computed in batches is computed."""
        if self.device is None or self.every is not None:
            return frozenset()
        methods = map(method_of, self.modalities)
        return frozenset(method for method in methods if method is not None)


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

    def __init__(
        self,
        beat: Callable[[], None] | None = None,
        service: Callable[[str, str], FlowService] = DirectFlow,
    ) -> None:
        """Make ready.

        Args:
            beat: Called for every decoded frame.
            service: See ``UnitMakers``.
        """
        cv2.setNumThreads(1)
        self._beat = beat
        self._maker = UnitMakers(service)

    def extract(
        self, task: Task, emit: Emit, then: Callable[[], Task | None] | None = None
    ) -> Extracted:
        """Extract a video, and begin none ahead; limits of time and memory are not enforced."""
        meter = None if task.every is None else Meter(task.every)
        waited = self._maker.waited_seconds
        makers: list[Maker]
        if meter is None:
            makers = [self._maker(modality, task.device) for modality in task.modalities]
        else:
            each = map(self._maker.one_by_one, task.modalities)
            makers = [meter.maker(place, make) for place, make in enumerate(each)]
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
        return replace(
            extracted,
            costs=None if meter is None else meter.costs(),
            flow_seconds=self._maker.waited_seconds - waited,
        )
