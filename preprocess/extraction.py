"""One video in, the snippets of every modality out, from a single decode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from preprocess.units import Frame, UnitMaker
from preprocess.video import Video, resize, target_size
from tsn_core.codec import encode_image
from tsn_core.errors import VideoError
from tsn_core.manifest import Record
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan, units_of
from tsn_core.shard_writer import ShardWriter

_ENOUGH = 0.9  # of the frames that the header states; below, something is missing
_PLAUSIBLE_FRAMES = 10_000_000  # four days at 30 Hz; what claims more is not worth a plan


@dataclass(frozen=True)
class Output:
    """Where the units of one modality go, and how they are made."""

    modality: StoredModality
    make: UnitMaker
    writer: ShardWriter


def extract_video(
    path: str | os.PathLike[str], record: Record, plan: SnippetPlan, outputs: Sequence[Output]
) -> str | None:
    """Decode one video and append its snippets to the shard of every modality.

    Memory does not grow with the video: frames that no snippet needs are dropped at once, and with
    a fixed number of snippets only theirs are held.

    Args:
        path: Of the video file.
        record: Its name and label.
        plan: Which snippets to store.
        outputs: One for each modality; all of one frame size.

    Returns:
        A note if far fewer frames than the header states could be decoded, as of a file that was
        cut short; else None.

    Raises:
        VideoError: The video cannot be decoded; the caller drops it from the writers.
        OutputError: The images cannot be written.
    """
    video = Video(path)
    if plan.fps is not None and not video.fps:
        raise VideoError("the file states no frame rate, which --fps needs; use --snippets")
    modalities = [output.modality for output in outputs]
    size = _Size(modalities[0])
    if plan.snippets is not None:
        frames = _sparse_frames(video, plan, modalities, size)
    else:
        frames = _streamed_frames(video, plan, modalities, size)
    cursors = [_Cursor(output, _unit_filter(output.modality, plan, video)) for output in outputs]
    last = (-1, Frame(np.empty((0, 0, 3), np.uint8)))
    for number, frame in frames:
        for cursor in cursors:
            cursor.see(number, frame, last)
        last = (number, frame)
    for cursor in cursors:
        cursor.pad(video, last[1])
    for cursor in cursors:
        cursor.end(record, video, plan)
    claimed, decoded = video.claimed_frames, video.num_frames
    if claimed <= _PLAUSIBLE_FRAMES and decoded < _ENOUGH * claimed:
        return f"header says {claimed} frames, {decoded} could be decoded"
    return None


class _Size:
    """The size that every frame of a video is brought to, decided by its first."""

    def __init__(self, modality: StoredModality) -> None:
        self._modality = modality
        self._target: tuple[int, int] | None = None

    def __call__(self, frame: np.ndarray) -> Frame:
        if self._target is None:
            modality = self._modality
            fixed = (modality.height, modality.width) if modality.height else None
            self._target = target_size(frame.shape[:2], fixed, modality.short_side)  # type: ignore[arg-type]
        return Frame(resize(frame, self._target))


class _Cursor:
    """Turns the frames of one video into the units of one modality."""

    def __init__(self, output: Output, wanted: Callable[[int], bool]) -> None:
        self._output = output
        self._wanted = wanted
        self._unit_size = (0, 0)
        self._warped = 0

    def see(self, number: int, frame: Frame, previous: tuple[int, Frame]) -> None:
        """Add the unit that this frame completes, if a snippet needs it."""
        if self._output.modality.kind.frames_per_unit == 1:
            self._add(number, number, frame, frame)
        elif previous[0] >= 0 and previous[0] == number - 1:
            self._add(number - 1, number - 1, previous[1], frame)

    def _add(self, unit: int, number: int, first: Frame, last: Frame) -> None:
        if not self._wanted(unit):
            return
        modality = self._output.modality
        made = self._output.make(first, last)
        data = encode_image(made.image, modality.codec, modality.quality)
        self._warped += made.warped
        self._output.writer.add_image(unit, number, data)
        self._unit_size = first.size

    def _padding(self, video: Video) -> range:
        modality = self._output.modality
        return range(modality.kind.num_units(video.num_frames), modality.snippet_length)

    def pad(self, video: Video, last: Frame) -> None:
        """Repeat the last frame where the video is shorter than one snippet."""
        for unit in self._padding(video):
            self._add(unit, video.num_frames - 1, last, last)

    def end(self, record: Record, video: Video, plan: SnippetPlan) -> None:
        """Close the video in the shard."""
        modality = self._output.modality
        num_units = modality.kind.num_units(video.num_frames)
        self._output.writer.end_video(
            record.name,
            record.label,
            starts=plan.starts(num_units, modality.snippet_length, video.fps),
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
    modality: StoredModality, plan: SnippetPlan, video: Video
) -> Callable[[int], bool]:
    if plan.snippets is not None:
        return set(_units(modality, plan, video.num_frames)).__contains__
    return lambda unit: plan.wants(unit, modality.snippet_length, video.fps)


def _sparse_frames(
    video: Video, plan: SnippetPlan, modalities: Sequence[StoredModality], size: _Size
) -> Iterator[tuple[int, Frame]]:
    """Return the frames that a fixed number of snippets needs, in order.

    Which ones depends on the true length, known only after decoding. Headers mostly tell the truth
    or, as in HMDB51, one frame more: the frames for both lengths are kept in the first pass, and a
    second pass is needed only where the header lies otherwise.
    """

    def needed(num_frames: int) -> set[int]:
        return {
            min(unit + offset, num_frames - 1)
            for modality in modalities
            for unit in _units(modality, plan, num_frames)
            for offset in range(modality.kind.frames_per_unit)
        }

    claimed = video.claimed_frames
    guesses = [n for n in (claimed, claimed - 1) if 0 < n <= _PLAUSIBLE_FRAMES]
    kept = set().union(*map(needed, guesses))
    frames = {number: size(frame) for number, frame in video.frames(kept.__contains__)}
    length = video.num_frames
    if length not in guesses:
        frames.clear()
        kept = needed(length)
        frames = {number: size(frame) for number, frame in video.frames(kept.__contains__)}
        if video.num_frames != length:
            raise VideoError(
                f"{length} frames decoded at first, {video.num_frames} the second time; "
                "the file is damaged, or was changed meanwhile"
            )
    return ((number, frames.pop(number)) for number in sorted(needed(length)))


def _streamed_frames(
    video: Video, plan: SnippetPlan, modalities: Sequence[StoredModality], size: _Size
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
