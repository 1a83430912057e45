"""Images to shards: what is imported of a video, and the job that does it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from preprocess.exchange.images import image_size, stored_image
from preprocess.exchange.source import ImageReader, ImageRun
from preprocess.making import Seen, ShardJob, ShardReport, write_shard
from tsn_core.errors import InputError
from tsn_core.modality import StoredModality
from tsn_core.shard_writer import ShardWriter


@dataclass(frozen=True)
class VideoPlan:
    """One video to import, in one modality.

    Attributes:
        name: Of the video.
        label: Class id.
        runs: Its images, one run for each image of a unit.
        offset: Number of the image of place 0.
        places: Of the images to store, ascending.
        frames: Source frame of each.
        starts: First place of each snippet; images of all its places are stored.
        num_frames: Of the video.
        padding: Units made by repeating the last frame.
        repeats: How often the last image is to be repeated.
        fps: Frame rate in Hz, 0 where unknown.
        size: (height, width) of the source; None takes that of the images.
        warped: Units from which the camera's motion was taken out.
        crc32: What all stored bytes should have, where that is known.
        problem: (stage, reason) why it is not to be imported.
    """

    name: str
    label: int
    runs: tuple[ImageRun, ...] = ()
    offset: int = 0
    places: Sequence[int] = ()
    frames: Sequence[int] = ()
    starts: Sequence[int] = ()
    num_frames: int = 0
    padding: int = 0
    repeats: int = 0
    fps: float = 0.0
    size: tuple[int, int] | None = None
    warped: int = 0
    crc32: int | None = None
    problem: tuple[str, str] | None = None


def import_shard(job: ShardJob[VideoPlan], seen: Seen) -> ShardReport:
    """Write one shard; videos that fail are recorded in it."""
    modality = job.header.modality
    with ImageReader() as reader:

        def put(writer: ShardWriter, video: VideoPlan) -> tuple[bool, bool]:
            return _import_video(writer, reader, modality, video)

        return write_shard(job, put, seen, modality.name)


def _import_video(
    writer: ShardWriter, reader: ImageReader, modality: StoredModality, video: VideoPlan
) -> tuple[bool, bool]:
    """Store one video; return whether it was coded anew, and whether bytes differ from before."""
    from preprocess.video import target_size

    recoded, crc32, data = False, 0, b""
    size: tuple[int, int] | None = None
    for place, frame in zip(video.places, video.frames):
        parts = []
        for run in video.runs:
            number = video.offset + place
            name = run.name(number)
            part = reader.read(run, number)
            try:
                found = image_size(part)
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
            size = size or found
            if found != size:
                raise InputError(
                    f"{name}: {found[1]}x{found[0]} pixels, the first image has {size[1]}x{size[0]}"
                )
            parts.append(part)
        assert size is not None
        try:
            data, again = stored_image(modality, parts, size)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        recoded |= again
        crc32 = zlib.crc32(data, crc32)
        writer.add_image(place, frame, data)
    if size is None:
        raise InputError("no images")
    last = video.places[-1]
    for extra in range(1, video.repeats + 1):
        writer.add_image(last + extra, video.frames[-1], data)
    fixed = None if modality.height is None else (modality.height, modality.width)
    writer.end_video(
        video.name,
        video.label,
        starts=video.starts,
        num_frames=video.num_frames,
        fps=video.fps,
        size=video.size or size,
        unit_size=target_size(size, fixed, modality.short_side),  # type: ignore[arg-type]
        padding=video.padding,
        warped=video.warped,
    )
    return recoded, video.crc32 is not None and crc32 != video.crc32
