"""From what was found to the shards to make: exported shards again, or those of other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from preprocess.assignment import assign_shards, by_shard, default_videos_per_shard
from preprocess.exchange.foreign import SLOTS, Probe, bases, defect, probe
from preprocess.exchange.importing import VideoPlan
from preprocess.exchange.layout import FIRST_NUMBER, FRAMES_FOLDER, prefixes
from preprocess.exchange.sidecar import ExportedModality, Sidecar
from preprocess.exchange.source import FoundVideo, ImageRun
from preprocess.making import Folder, ShardJob
from tsn_core.errors import InputError
from tsn_core.manifest import Manifest, Record, check_relative
from tsn_core.modality import StoredModality, get_modality
from tsn_core.sampling import SnippetPlan, units_of
from tsn_core.shard_format import ShardHeader, fingerprint, shard_name


@dataclass(frozen=True)
class Choice:
    """What is to be stored of images from elsewhere.

    Attributes:
        modalities: ``rgb``, ``flow`` or both; none takes what is there.
        plan: Which snippets.
        snippet_length: Of flow; None takes the usual.
        size: (height, width) to resize to; None keeps that of the images.
        short_side: The same with the aspect ratio kept.
        codec: ``jpeg`` or ``raw``.
        quality: Of JPEGs that have to be coded anew; None takes that of the images.
        bound: Of the flow in px, which the images do not tell.
        algorithm: Of the flow, likewise.
        videos_per_shard: None takes 64, or fewer for a small dataset.
    """

    modalities: tuple[str, ...]
    plan: SnippetPlan
    snippet_length: int | None
    size: tuple[int, int] | None
    short_side: int | None
    codec: str
    quality: int | None
    bound: float
    algorithm: str
    videos_per_shard: int | None


def plan_foreign(
    manifest: Manifest,
    videos: Mapping[str, FoundVideo],
    listed: Mapping[str, int],
    choice: Choice,
    out: Path,
) -> tuple[Manifest, list[Folder[VideoPlan]]]:
    """Return the manifest with the shards' numbers, and the shards of every modality.

    Raises:
        InputError: The images do not go together, or there are none of a modality.
    """
    slots = {slot for video in videos.values() for slot in video.runs}
    names = choice.modalities or tuple(
        name for name, needed in SLOTS.items() if slots.intersection(needed)
    )
    if not names:
        raise InputError("images of rgb or flow expected, such as img_00001.jpg, flow_x_00001.jpg")
    per_shard = choice.videos_per_shard or default_videos_per_shard(len(manifest.records))
    records = assign_shards(manifest.records, {}, per_shard)
    first = bases(videos)
    folders = []
    for name in names:
        modality = _described(name, probe(videos, SLOTS[name][0]), choice)
        jobs = []
        for number, group in by_shard(records).items():
            plans = tuple(_video(modality, one, videos, listed, first, choice) for one in group)
            counted = [(f"{plan.name}\n{plan.num_frames}", plan.label) for plan in plans]
            sampling = choice.plan.to_json()
            header = ShardHeader(
                manifest.dataset,
                modality,
                sampling,
                manifest.class_names,
                per_shard,
                fingerprint(modality, sampling, manifest.class_names, counted),
            )
            path = out / manifest.dataset / modality.folder / shard_name(number)
            jobs.append(ShardJob(path, header, plans))
        folders.append(Folder(modality, choice.plan, per_shard, tuple(jobs)))
    return replace(manifest, records=records), folders


def _described(name: str, seen: Probe, choice: Choice) -> StoredModality:
    """Return how images of one modality are to be stored."""
    kind = get_modality(name)
    size, short_side = choice.size, choice.short_side
    if size is None and short_side is None:
        if not seen.sizes:
            raise InputError(f"no sound {name} images")
        shorts = {min(one) for one in seen.sizes}
        if len(seen.sizes) == 1:
            size = next(iter(seen.sizes))
        elif len(shorts) == 1:
            short_side = shorts.pop()
        else:
            (one, _), (other, _) = seen.sizes.most_common(2)
            raise InputError(
                f"{name} images of {len(seen.sizes)} sizes, such as {one[1]}x{one[0]} and "
                f"{other[1]}x{other[0]}; choose --size or --short-side"
            )
    usual = seen.qualities.most_common(1)
    quality = choice.quality or (usual[0][0] if usual else None) or 95
    parameters = {"bound": choice.bound} if name == "flow" else {}
    scale, zero = kind.scale_zero(parameters)
    return StoredModality(
        name=name,
        snippet_length=choice.snippet_length
        if choice.snippet_length and kind.frames_per_unit > 1
        else kind.snippet_length,
        channels=kind.unit_channels,
        codec=choice.codec,
        quality=quality if choice.codec == "jpeg" else None,
        scale=scale,
        zero=zero,
        height=None if size is None else size[0],
        width=None if size is None else size[1],
        short_side=short_side if size is None else None,
        algorithm=choice.algorithm if kind.has_algorithm else None,
        parameters=parameters,
    )


def _video(
    modality: StoredModality,
    record: Record,
    videos: Mapping[str, FoundVideo],
    listed: Mapping[str, int],
    first: Mapping[str, int],
    choice: Choice,
) -> VideoPlan:
    """Return what is to be imported of one video."""
    name, label = record.name, record.label
    video = videos.get(name)
    if video is None:
        return VideoPlan(name, label, problem=("open", "a list names it, but it has no images"))
    problem = defect(video, modality.name, first, listed.get(name))
    if problem is not None:
        return VideoPlan(name, label, problem=("count", problem))
    slots = SLOTS[modality.name]
    runs = tuple(video.runs[slot] for slot in slots)
    units = len(runs[0].numbers)
    img = video.runs.get("img")
    num_frames = units + modality.kind.frames_per_unit - 1
    if modality.name != "rgb" and img is not None:
        num_frames = len(img.numbers)
    length = modality.snippet_length
    starts = choice.plan.starts(units, length, 0.0)
    places = [place for place in units_of(np.asarray(starts), length).tolist() if place < units]
    repeats = max(length - units, 0)
    return VideoPlan(
        name,
        label,
        runs,
        offset=first[slots[0]],
        places=places,
        frames=places,
        starts=starts.tolist(),
        num_frames=num_frames,
        padding=repeats,
        repeats=repeats,
    )


def plan_restored(sidecar: Sidecar, source: Path, out: Path) -> list[Folder[VideoPlan]]:
    """Return the shards that an export came from.

    Args:
        sidecar: Of the export.
        source: Its folder, or a ZIP archive of what is in it.
        out: Folder of all shards.

    Raises:
        InputError: The sidecar does not go together.
    """
    folders = []
    labels = {record.name: record.label for record in sidecar.manifest.records}
    for one in sidecar.modalities.values():
        jobs = []
        for file, names in one.shards.items():
            if check_relative(file) != Path(file).name or not file.startswith("shard-"):
                raise InputError(f"{file!r}: the name of a shard expected")
            plans = [_restored(one, name, labels, sidecar, source) for name in names]
            plans += [
                VideoPlan(name, 0, problem=(stage, reason))
                for name, stage, reason in one.failures.get(file, ())
            ]
            path = out / sidecar.manifest.dataset / one.modality.folder / file
            jobs.append(ShardJob(path, one.header(file, sidecar.manifest), tuple(plans)))
        folders.append(Folder(one.modality, one.sampling, one.videos_per_shard, tuple(jobs)))
    return folders


def _restored(
    one: ExportedModality, name: str, labels: Mapping[str, int], sidecar: Sidecar, source: Path
) -> VideoPlan:
    video = one.videos.get(name)
    folder = sidecar.folders.get(name)
    if video is None or folder is None or name not in labels:
        raise InputError(f"{source}: the export says too little of {name}; export again")
    inner = f"{FRAMES_FOLDER}/{folder}"
    packed = not source.is_dir()
    container, within = (source, f"{inner}/") if packed else (source / inner, "")
    runs = tuple(
        ImageRun(container, within, prefix, 5, video.ending)
        for prefix in prefixes(one.modality.kind)
    )
    places: Sequence[int] = range(video.num_images)
    return VideoPlan(
        name,
        labels[name],
        runs,
        offset=FIRST_NUMBER,
        places=places,
        frames=video.image_frames,
        starts=video.first_images,
        num_frames=video.num_frames,
        padding=video.padding,
        fps=video.fps,
        size=(video.size[0], video.size[1]),
        warped=video.warped,
        crc32=video.crc32,
    )
