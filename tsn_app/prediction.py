"""From a video file to class scores: extracted in memory, scored by each network, fused."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from preprocess.extraction import Emit, Extracted, extract_frames
from preprocess.isolation import borrowed_process
from preprocess.limits import Limits
from preprocess.task import Extractor, InProcess, Task
from preprocess.unit_makers import UnitMakers
from train.fuse import default_weight
from train.predictor import Predictor
from train.scores import softmax
from tsn_app.frame_buffer import FrameBuffer
from tsn_app.memory_video import Collector, MemoryVideo
from tsn_core.errors import InputError
from tsn_core.listing import few
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan


@dataclass(frozen=True)
class Ensemble:
    """The networks that look at a video, and what each weighs.

    Attributes:
        predictors: At least one; all of the same classes.
        weights: One for each.
    """

    predictors: tuple[Predictor, ...]
    weights: tuple[float, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class id."""
        return self.predictors[0].class_names

    @property
    def names(self) -> tuple[str, ...]:
        """Of the networks: the folders of their modalities, numbered where two are the same."""
        folders = [predictor.modality.folder for predictor in self.predictors]
        return tuple(
            folder
            if folders.count(folder) == 1
            else f"{folder} #{folders[:place].count(folder) + 1}"
            for place, folder in enumerate(folders)
        )


def make_ensemble(predictors: Sequence[Predictor], weights: Sequence[float]) -> Ensemble:
    """Return networks that score together.

    Args:
        predictors: At least one.
        weights: One for each, or none for the usual of fusion; a network alone weighs 1, so that
            its probabilities are those that ``tsn-train evaluate`` gives.

    Raises:
        InputError: Their classes differ, or there are not as many weights.
    """
    first = predictors[0]
    for other in predictors[1:]:
        if other.class_names != first.class_names:
            raise InputError(
                f"{other.run}: knows {len(other.class_names)} classes ({few(other.class_names)}), "
                f"{first.run} {len(first.class_names)} ({few(first.class_names)}); choose runs of "
                "the same dataset"
            )
    chosen = list(weights)
    if not chosen:
        usual = [default_weight(one.modality.folder) for one in predictors]
        chosen = usual if len(predictors) > 1 else [1.0]
    if len(chosen) != len(predictors):
        raise InputError(f"{len(predictors)} --weights expected, one a run, got {len(chosen)}")
    if not all(np.isfinite(chosen)):
        raise InputError(f"--weights must be finite numbers, got {','.join(map(str, chosen))}")
    return Ensemble(tuple(predictors), tuple(chosen))


@dataclass(frozen=True)
class Prediction:
    """What the networks say of one video.

    Attributes:
        name: Of the video.
        duration_seconds: Of it; None where no frame rate is known.
        seconds: What it took, decoding included.
        scores: Before softmax, (R, C): a row for each network.
        fused: Their weighted sum, (C,).
        note: What is odd about the video; or None.
    """

    name: str
    duration_seconds: float | None
    seconds: float
    scores: np.ndarray
    fused: np.ndarray
    note: str | None = None

    @property
    def probabilities(self) -> np.ndarray:
        """Softmax of the fused scores, (C,)."""
        return softmax(self.fused[None])[0]

    def best(self, count: int) -> list[int]:
        """Return the most probable classes, best first."""
        return np.argsort(-self.fused, kind="stable")[:count].tolist()


class Extraction:
    """Extracts videos into memory, each decoded once for all networks of one size and plan."""

    def __init__(
        self, ensemble: Ensemble, limits: Limits, isolated: bool, gpu: str | None = None
    ) -> None:
        """Take what the networks need.

        Args:
            ensemble: The networks.
            limits: Of one video.
            isolated: Whether videos are extracted in processes of their own.
            gpu: ``cuda:N`` for flow that was computed in batches for training; None: on the CPU,
                one pair at a time, with differences of rounding.
        """
        self._gpu = gpu
        self._ensemble = ensemble
        self._limits = limits
        self._isolated = isolated
        self._maker = UnitMakers()

    def file(
        self, path: Path, plans: Sequence[SnippetPlan]
    ) -> tuple[list[MemoryVideo], str | None]:
        """Return a file's video in the modality of each network, and what is odd about it.

        Raises:
            VideoError: It cannot be extracted.
        """

        def extract(
            plan: SnippetPlan, modalities: tuple[StoredModality, ...], emit: Emit
        ) -> Extracted:
            with self._extractor() as extractor:
                return extractor.extract(
                    Task(path.absolute(), plan, modalities, self._limits, device=self._gpu), emit
                )

        return self._grouped(str(path), plans, extract)

    def frames(self, buffer: FrameBuffer, plans: Sequence[SnippetPlan]) -> list[MemoryVideo]:
        """Return the frames of a buffer in the modality of each network.

        Raises:
            VideoError: A unit cannot be made.
        """

        def extract(
            plan: SnippetPlan, modalities: tuple[StoredModality, ...], emit: Emit
        ) -> Extracted:
            makers = [self._maker(modality, self._gpu) for modality in modalities]
            return extract_frames(buffer, plan, modalities, makers, emit)

        return self._grouped(buffer.name, plans, extract)[0]

    def _grouped(
        self,
        name: str,
        plans: Sequence[SnippetPlan],
        extract: Callable[[SnippetPlan, tuple[StoredModality, ...], Emit], Extracted],
    ) -> tuple[list[MemoryVideo], str | None]:
        """Extract once for all networks of one size and plan; return the videos, and a note."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, (predictor, plan) in enumerate(zip(self._ensemble.predictors, plans)):
            one = predictor.modality
            key = (plan, one.height, one.width, one.short_side)
            groups.setdefault(key, []).append(place)
        found: dict[int, MemoryVideo] = {}
        notes = []
        for places in groups.values():
            plan = plans[places[0]]
            modalities = tuple(self._ensemble.predictors[place].modality for place in places)
            collector = Collector(len(places))
            extracted = extract(plan, modalities, collector.emit)
            notes.append(extracted.note)
            names = self._ensemble.class_names
            found.update(zip(places, collector.videos(name, modalities, names, plan, extracted)))
        videos = [found[place] for place in range(len(plans))]
        return videos, next((note for note in notes if note), None)

    def _extractor(self) -> AbstractContextManager[Extractor]:
        return borrowed_process() if self._isolated else nullcontext(InProcess())


def plans_for(ensemble: Ensemble, num_snippets: int) -> list[SnippetPlan]:
    """Return which snippets each network is to see: those of its training.

    Where it was trained on every one, ``num_snippets`` of them, the same that a test would take.
    """
    return [
        SnippetPlan(snippets=num_snippets) if predictor.plan.dense else predictor.plan
        for predictor in ensemble.predictors
    ]


def predict(
    ensemble: Ensemble,
    videos: Sequence[MemoryVideo],
    *,
    num_snippets: int,
    crops: int,
    device: torch.device,
    began: float,
    note: str | None = None,
) -> Prediction:
    """Score a video that was extracted for each network.

    Args:
        ensemble: The networks.
        videos: The same video in the modality of each.
        num_snippets: At the centres of equal parts of those that are there.
        crops: 1, 3 or 10.
        device: Where the networks run.
        began: When work on the video began, by ``time.perf_counter``.
        note: What is odd about the video.

    Raises:
        CheckpointError: Scores are not finite.
        InputError: A number is out of range.
    """
    scores = np.stack(
        [
            predictor.score(video, num_snippets=num_snippets, crops=crops, device=device)
            for predictor, video in zip(ensemble.predictors, videos)
        ]
    )
    fused = np.asarray(
        sum(weight * row for weight, row in zip(ensemble.weights, scores)), dtype=np.float32
    )
    row = videos[0].row
    duration = row.num_frames / row.fps if row.fps else None
    seconds = time.perf_counter() - began
    return Prediction(videos[0].folder, duration, seconds, scores, fused, note)
