"""One video in, the snippets of every modality out, from a single decode."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from preprocess.limits import Limits
from preprocess.meter import Costs
from preprocess.unit_batches import BatchMaker
from preprocess.unit_makers import Maker
from preprocess.units import Frame, Unit
from preprocess.video import PLAUSIBLE_FRAMES, Kept, Video, resize, target_size
from tsn_core.codec import encode_image
from tsn_core.errors import OutputError, VideoError
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan, units_of

_ENOUGH = 0.9  # of the frames that the header states; below, something is missing


Emit = Callable[[int, int, int, bytes], None]


@dataclass(frozen=True)
class VideoRow:
    """What a shard's tables say of one video, in one modality; see ``ShardWriter.end_video``."""

    starts: tuple[int, ...]
    num_frames: int
    fps: float
    size: tuple[int, int]
    unit_size: tuple[int, int]
    padding: int
    warped: int


@dataclass(frozen=True)
class Extracted:
    """A video whose images were all handed out.

    Attributes:
        rows: Its row in the tables of each modality.
        note: What is odd about it, such as far fewer frames than its header states; or None.
        costs: What it cost, where that was to be measured.
        flow_seconds: Wall time of waiting for flow that is computed in batches.
    """

    rows: tuple[VideoRow, ...]
    note: str | None
    costs: Costs | None = None
    flow_seconds: float = 0.0


@contextmanager
def _stage(name: str) -> Iterator[None]:
    """Turn any error into one that tells in which stage of the extraction it came up."""
    try:
        yield
    except OutputError:
        raise
    except VideoError as error:
        if error.stage is None:
            error.stage = name
        raise
    except Exception as error:  # libraries answer damaged input with many kinds
        failure = VideoError(" ".join(str(error).split()) or type(error).__name__)
        failure.stage = "memory" if isinstance(error, MemoryError) else name
        raise failure from error


def extract_video(
    path: str | os.PathLike[str],
    plan: SnippetPlan,
    modalities: Sequence[StoredModality],
    makers: Sequence[Maker],
    emit: Emit,
    *,
    limits: Limits | None = None,
    beat: Callable[[], None] | None = None,
) -> Extracted:
    """Decode one video once and hand out the encoded images of its snippets in every modality.

    Memory does not grow with the video: frames that no snippet needs are dropped at once, and with
    a fixed number of snippets only theirs are held.

    Args:
        path: Of the video file.
        plan: Which snippets to store.
        modalities: What to make; all of one frame size.
        makers: What makes the units of each modality.
        emit: Takes each image as (number of the modality, unit, source frame, encoded image); the
            units of a modality come in ascending order.
        limits: Of frames and their size; time and memory are somebody else's. None: the usual.
        beat: Called for every decoded frame.

    Raises:
        VideoError: The video cannot be extracted; ``stage`` tells where that came up.
        OutputError: From ``emit``.
    """
    limits = limits or Limits()
    with _stage("open"):
        video = Video(path, max_frames=limits.max_frames, max_pixels=limits.max_pixels, beat=beat)
        if plan.fps is not None and not video.fps:
            raise VideoError("the file states no frame rate, which --fps needs; use --snippets")
    extracted = extract_frames(video, plan, modalities, makers, emit)
    claimed, decoded = video.claimed_frames, video.num_frames
    note = None
    enough = claimed if video.damaged_packets else _ENOUGH * claimed
    if claimed <= PLAUSIBLE_FRAMES and decoded < enough:
        note = f"header says {claimed} frames, {decoded} could be decoded"
    return replace(extracted, note=note)


class FrameSource(Protocol):
    """Where the frames of a video come from: its file, or a memory of the last few seconds."""

    size: tuple[int, int]
    fps: float
    num_frames: int

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (number, BGR frame) of some frames; see ``Video.frames``."""

    def pick(
        self, needed: Callable[[int], Set[int]], keep: Callable[[np.ndarray], Kept]
    ) -> Iterator[tuple[int, Kept]]:
        """Return the frames that a video of this length needs; see ``Video.pick``."""


def extract_frames(
    video: FrameSource,
    plan: SnippetPlan,
    modalities: Sequence[StoredModality],
    makers: Sequence[Maker],
    emit: Emit,
) -> Extracted:
    """Hand out the encoded images of a video's snippets; see ``extract_video``.

    Raises:
        VideoError: A unit cannot be made; ``stage`` tells where that came up.
        OutputError: From ``emit``.
    """
    with _stage("decode"):
        size = _Size(modalities[0], video)
        if plan.snippets is not None:
            frames = _sparse_frames(video, plan, modalities, size)
        else:
            frames = _streamed_frames(video, plan, modalities, size)
        cursors = [
            _Cursor(partial(emit, place), modality, maker, _unit_filter(modality, plan, video))
            for place, (modality, maker) in enumerate(zip(modalities, makers))
        ]
        last = (-1, Frame(np.empty((0, 0, 3), np.uint8)))
        for number, frame in frames:
            for cursor in cursors:
                cursor.see(number, frame, last)
            last = (number, frame)
        for cursor in cursors:
            cursor.pad(video, last[1])
            cursor.finish()
    return Extracted(tuple(cursor.row(video, plan) for cursor in cursors), None)


class _Size:
    """The size that every frame of a video is brought to, decided by its first."""

    def __init__(self, modality: StoredModality, video: FrameSource) -> None:
        self._modality = modality
        self._video = video
        self._target: tuple[int, int] | None = None

    def __call__(self, frame: np.ndarray) -> Frame:
        if self._target is None:
            modality = self._modality
            fixed = (modality.height, modality.width) if modality.height else None
            self._target = target_size(self._video.size, fixed, modality.short_side)  # type: ignore[arg-type]
        return Frame(resize(frame, self._target))


class _Place(NamedTuple):
    """A unit that is to be made with others."""

    unit: int
    number: int
    first: Frame
    last: Frame


class _Cursor:
    """Turns the frames of one video into the units of one modality."""

    def __init__(
        self,
        emit: Callable[[int, int, bytes], None],
        modality: StoredModality,
        make: Maker,
        wanted: Callable[[int], bool],
    ) -> None:
        self._emit = emit
        self._modality = modality
        self._make = make
        self._wanted = wanted
        self._unit_size = (0, 0)
        self._warped = 0
        self._waiting: list[_Place] = []  # for a batch to be full
        self._begun: deque[tuple[list[_Place], Callable[[], list[Unit]]]] = deque()

    def see(self, number: int, frame: Frame, previous: tuple[int, Frame]) -> None:
        """Add the unit that this frame completes, if a snippet needs it."""
        if self._modality.kind.frames_per_unit == 1:
            self._add(number, number, frame, frame)
        elif previous[0] >= 0 and previous[0] == number - 1:
            self._add(number - 1, number - 1, previous[1], frame)

    def _add(self, unit: int, number: int, first: Frame, last: Frame) -> None:
        if not self._wanted(unit):
            return
        self._unit_size = first.size
        if isinstance(self._make, BatchMaker):
            self._waiting.append(_Place(unit, number, first, last))
            with _stage(self._modality.name):
                full = len(self._waiting) >= self._make.most_units(first.size)
            if full:
                self._begin(self._make)
            return
        with _stage(self._modality.name):
            made = self._make(first, last)
        self._hand_out(unit, number, made)

    def _hand_out(self, unit: int, number: int, made: Unit) -> None:
        with _stage("encode"):
            codec, quality = self._modality.codec, self._modality.quality
            data = encode_image(made.image, codec, quality, blue_first=made.blue_first)
        self._warped += made.warped
        self._emit(unit, number, data)

    def _begin(self, make: BatchMaker) -> None:
        """Begin what waits, and hand out the oldest units once enough others are on their way."""
        if self._waiting:
            with _stage(self._modality.name):
                units = make.begin([(place.first, place.last) for place in self._waiting])
            self._begun.append((self._waiting, units))
            self._waiting = []
        if len(self._begun) >= make.in_flight(self._unit_size):
            self._end_one()

    def _end_one(self) -> None:
        places, units = self._begun.popleft()
        with _stage(self._modality.name):
            made = units()
        for place, one in zip(places, made):
            self._hand_out(place.unit, place.number, one)

    def finish(self) -> None:
        """Hand out the units that are still on their way."""
        if isinstance(self._make, BatchMaker):
            self._begin(self._make)
            while self._begun:
                self._end_one()

    def _padding(self, video: FrameSource) -> range:
        length = self._modality.snippet_length
        return range(self._modality.kind.num_units(video.num_frames), length)

    def pad(self, video: FrameSource, last: Frame) -> None:
        """Repeat the last frame where the video is shorter than one snippet."""
        for unit in self._padding(video):
            self._add(unit, video.num_frames - 1, last, last)

    def row(self, video: FrameSource, plan: SnippetPlan) -> VideoRow:
        """Return what the shard's tables say of the video."""
        num_units = self._modality.kind.num_units(video.num_frames)
        starts = plan.starts(num_units, self._modality.snippet_length, video.fps)
        return VideoRow(
            starts=tuple(starts.tolist()),
            num_frames=video.num_frames,
            fps=video.fps,
            size=video.size,
            unit_size=self._unit_size,
            padding=len(self._padding(video)),
            warped=self._warped,
        )


def _units(modality: StoredModality, plan: SnippetPlan, num_frames: int) -> list[int]:
    """Return the units of a video of that length which some snippet of a sparse plan needs."""
    num_units = modality.kind.num_units(num_frames)
    starts = plan.starts(num_units, modality.snippet_length, 0.0)
    return units_of(starts, modality.snippet_length).tolist()


def _unit_filter(
    modality: StoredModality, plan: SnippetPlan, video: FrameSource
) -> Callable[[int], bool]:
    if plan.snippets is not None:
        return set(_units(modality, plan, video.num_frames)).__contains__
    return lambda unit: plan.wants(unit, modality.snippet_length, video.fps)


def _sparse_frames(
    video: FrameSource, plan: SnippetPlan, modalities: Sequence[StoredModality], size: _Size
) -> Iterator[tuple[int, Frame]]:
    """Return the frames that a fixed number of snippets needs, in order."""

    def needed(num_frames: int) -> set[int]:
        return {
            min(unit + offset, num_frames - 1)
            for modality in modalities
            for unit in _units(modality, plan, num_frames)
            for offset in range(modality.kind.frames_per_unit)
        }

    return video.pick(needed, keep=size)


def _streamed_frames(
    video: FrameSource, plan: SnippetPlan, modalities: Sequence[StoredModality], size: _Size
) -> Iterator[tuple[int, Frame]]:
    """Yield the frames that a dense or fixed-rate plan needs, as they are decoded."""

    def wanted(number: int) -> bool:
        return any(
            plan.wants(number - offset, modality.snippet_length, video.fps)
            for modality in modalities
            for offset in range(modality.kind.frames_per_unit)
        )

    for number, frame in video.frames(wanted):
        yield number, size(frame)
