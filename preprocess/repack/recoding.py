"""The job that makes one shard from others: images are copied, or decoded and coded anew."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

import numpy as np

from preprocess.exchange.stored import StoredVideo
from preprocess.making import Seen, ShardJob, ShardReport, write_shard
from preprocess.repack.source import STAGE, SourceShard, SourceVideo
from preprocess.resizing import resized_image
from tsn_core.codec import encode_image
from tsn_core.errors import InputError, ShardError
from tsn_core.index import ShardEntry
from tsn_core.modality import StoredModality
from tsn_core.sampling import center_offsets, units_of
from tsn_core.shard_reader import Shard, changed
from tsn_core.shard_writer import ShardWriter


@dataclass(frozen=True)
class RepackedVideo:
    """One video to store anew, in one modality.

    Attributes:
        name: In the result.
        label: Class id there.
        source: Where it is stored now; None where there is a problem.
        snippets: How many of its snippets are kept; None for all.
        unit_size: (height, width) of its units in the result, in px.
        recode: Whether its images are decoded and coded anew.
        problem: (stage, reason) why it fails.
    """

    name: str
    label: int
    source: SourceVideo | None = None
    snippets: int | None = None
    unit_size: tuple[int, int] = (0, 0)
    recode: bool = False
    problem: tuple[str, str] | None = None

    @property
    def num_frames(self) -> int:
        """Of the video."""
        return 0 if self.source is None else self.source.num_frames


def repack_shard(job: ShardJob[RepackedVideo], seen: Seen) -> ShardReport:
    """Write one shard; videos that are damaged are recorded in it.

    Raises:
        OutputError: The shard cannot be written.
        ShardError: A source was changed since the work was planned.
    """
    source = _Source()

    def put(writer: ShardWriter, video: RepackedVideo) -> tuple[bool, bool]:
        assert video.source is not None
        shard = source.opened(video.source.shard)
        try:
            _put(writer, job.header.modality, video, shard)
        except ShardError as error:
            source.close()
            source.opened(video.source.shard)  # raises if somebody has changed it meanwhile
            raise InputError(str(error)) from error
        return video.recode, False

    try:
        return write_shard(job, put, seen, STAGE)
    finally:
        source.close()


def is_repacked(job: ShardJob[RepackedVideo], entry: ShardEntry) -> bool:
    """Return whether a shard that is there is as its job would make it.

    One that lacks more videos than was known beforehand met damaged images, which may have been
    mended since: it is made again.
    """
    known = sum(video.problem is not None for video in job.videos)
    return entry.fingerprint == job.header.fingerprint and entry.num_failures == known


class _Source:
    """The source shard that is open: one at a time."""

    def __init__(self) -> None:
        self._shard: Shard | None = None

    def opened(self, source: SourceShard) -> Shard:
        """Return a shard, if it is still what it was.

        Raises:
            ShardError: It is another one now.
        """
        if self._shard is None or self._shard.path != source.path:
            self.close()
            try:
                self._shard = Shard(source.path)
            except ShardError as error:
                raise ShardError(changed(source.path)) from error
        if self._shard.table_crc32 != source.table_crc32:
            raise ShardError(changed(source.path))
        return self._shard

    def close(self) -> None:
        """Let go of it."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None


def _put(writer: ShardWriter, modality: StoredModality, video: RepackedVideo, shard: Shard) -> None:
    """Add one video to a shard.

    Raises:
        ShardError: Its images are damaged.
        InputError: An image cannot be coded.
    """
    assert video.source is not None
    place = video.source.place
    if not video.recode and video.snippets is None:
        writer.copy_video(shard, place, video.label, video.name)
        return
    stored = StoredVideo(shard, place)
    starts, kept = kept_images(stored, video.snippets)
    images = compress(zip(range(stored.num_images), stored.frames, stored.images()), kept)
    for number, frame, data in images:
        if video.recode:
            pixels = resized_image(modality, stored.decoded(data), video.unit_size)
            data = encode_image(pixels, modality.codec, modality.quality)
        writer.add_image(number, frame, data)
    tables = shard.tables
    writer.end_video(
        video.name,
        video.label,
        starts=starts,
        num_frames=video.num_frames,
        fps=float(tables.video_fps[place]),
        size=video.source.size,
        unit_size=video.unit_size,
        padding=int(tables.video_padding[place]),
        # of which units is not stored: of fewer, their share
        warped=round(int(tables.video_warped[place]) * int(kept.sum()) / max(len(kept), 1)),
    )


def kept_images(stored: StoredVideo, snippets: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the first image of every snippet to keep, and whether each stored image is kept.

    Args:
        stored: A video.
        snippets: How many of its snippets: those at the centres of equal parts; None for all.
    """
    starts = np.asarray(stored.snippets, np.int64)
    kept = np.ones(stored.num_images, bool)
    if snippets is not None:
        starts = starts[center_offsets(len(starts), snippets, 1)]
        kept[:] = False
        kept[units_of(starts, stored.modality.snippet_length)] = True
    return starts, kept
