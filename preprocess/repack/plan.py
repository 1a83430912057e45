"""From sets of shards and what is asked for to the shards to make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from preprocess.assignment import assign_shards, by_shard
from preprocess.inventory import flat_settings
from preprocess.making import Folder, ShardJob
from preprocess.repack.recoding import RepackedVideo
from preprocess.repack.selection import Selection, Taken, select
from preprocess.repack.source import SourceFolder, SourceSet, resolved
from preprocess.video import target_size
from tsn_core.check import modality_folders
from tsn_core.errors import InputError, SettingsError
from tsn_core.listing import few
from tsn_core.manifest import MANIFEST_NAME, Manifest, Record, read_manifest
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader, fingerprint, shard_name

_USUAL_QUALITY = 95
_SAMPLING = ("snippets", "dense", "fps")


@dataclass(frozen=True)
class Choice:
    """How the images are to be stored; None keeps what the sources have.

    Attributes:
        codec: ``jpeg`` or ``raw``.
        quality: Of JPEGs.
        size: (height, width) in px.
        short_side: In px, the aspect ratio kept; instead of ``size``.
        snippets: Of each video.
        videos_per_shard: How the result is cut.
    """

    codec: str | None = None
    quality: int | None = None
    size: tuple[int, int] | None = None
    short_side: int | None = None
    snippets: int | None = None
    videos_per_shard: int | None = None


def plan_repack(
    sets: Sequence[SourceSet], selection: Selection, choice: Choice, out: Path, name: str | None
) -> tuple[Manifest, list[Folder[RepackedVideo]]]:
    """Return the manifest of the result, and the shards of every modality.

    Args:
        sets: What to make it from.
        selection: Which videos.
        choice: How they are to be stored.
        out: Folder of all shards.
        name: Of the result; None takes that of the first set.

    Raises:
        InputError: The sets do not go together, or something cannot be done with them.
        SettingsError: They were made with different settings, or something else is in the result's
            folder.
    """
    dataset = sets[0].dataset if name is None else name
    root = out / dataset
    for one in sets:
        if f"{resolved(root)}/".startswith(f"{one.root}/"):
            raise InputError(
                f"{root}: lies in the shards to repack; choose another --out or --name"
            )
    folders = _common_folders(sets)
    class_names, taken = select(sets, selection, dataset)
    records, per_shard = _cut(sets, taken, choice.videos_per_shard)
    manifest = Manifest(dataset, class_names, records)
    _check_beside(root, manifest, folders)
    by_name = {one.record.name: one for one in taken}
    planned = [
        _folder(folder, sets, by_name, manifest, choice, per_shard, root) for folder in folders
    ]
    return manifest, planned


def _common_folders(sets: Sequence[SourceSet]) -> list[str]:
    """Return the modalities' folders that all sets have.

    Raises:
        InputError: One of them lacks what another has.
    """
    names = list(dict.fromkeys(name for one in sets for name in one.folders))
    for name in names:
        lacking = next((one for one in sets if name not in one.folders), None)
        if lacking is not None:
            having = next(one for one in sets if name in one.folders)
            raise InputError(
                f"{lacking.root}: has no {name} shards, {having.root} has; choose what both have "
                "with --modality"
            )
    return names


def _cut(
    sets: Sequence[SourceSet], taken: Sequence[Taken], videos_per_shard: int | None
) -> tuple[tuple[Record, ...], int]:
    """Return the records with the numbers of their shards, and how many videos a shard holds.

    A set that is taken whole, with the cut that it has, keeps its numbers: what is added to it
    later changes few shards.
    """
    cut = max(folder.videos_per_shard for one in sets for folder in one.folders.values())
    per_shard = videos_per_shard or max(cut, 1)
    records = [one.record for one in taken]
    known: dict[str, int] = {}
    whole = len(sets) == 1 and len(records) == len(sets[0].records)
    if whole and per_shard == cut:
        known = {one.name: one.shard for one in records if one.shard is not None}
    return assign_shards(records, known, per_shard), per_shard


def _check_beside(root: Path, manifest: Manifest, folders: Iterable[str]) -> None:
    """Refuse to give shards of other modalities that are there another manifest."""
    path = root / MANIFEST_NAME
    others = [one.name for one in modality_folders(root) if one.name not in set(folders)]
    if others and path.exists() and read_manifest(path) != manifest:
        raise SettingsError(
            f"{path}: names other videos, classes or shards than this run, and {few(others)} "
            "beside it belongs to it; repack all modalities at once, or choose another --name"
        )


def _folder(
    name: str,
    sets: Sequence[SourceSet],
    taken: Mapping[str, Taken],
    manifest: Manifest,
    choice: Choice,
    per_shard: int,
    root: Path,
) -> Folder[RepackedVideo]:
    """Return the shards of one modality."""
    sources = [one.folders[name] for one in sets]
    _check_settings(sources, choice)
    modality = _stored(sources[0].index.modality, choice)
    plan = _plan(sources, choice.snippets)
    sampling = plan.to_json()
    jobs = []
    for number, group in by_shard(manifest.records).items():
        found = (_video(taken[one.name], name, modality, choice) for one in group)
        videos = tuple(video for video in found if video is not None)
        if not videos:
            continue
        header = ShardHeader(
            manifest.dataset,
            modality,
            sampling,
            manifest.class_names,
            per_shard,
            fingerprint(
                modality,
                sampling,
                manifest.class_names,
                [(f"{video.name}\n{_origin(video)}", video.label) for video in videos],
            ),
        )
        path = root / modality.folder / shard_name(number)
        jobs.append(ShardJob(path, header, videos, _versions(videos)))
    if not jobs:
        raise InputError(f"{name}: none of these videos is stored; choose another --modality")
    return Folder(modality, plan, per_shard, tuple(jobs))


def _check_settings(sources: Sequence[SourceFolder], choice: Choice) -> None:
    """Refuse sets whose images differ in more than what is made the same.

    Raises:
        SettingsError: They do.
    """
    free = {"videos_per_shard"}
    remedies = dict.fromkeys(("height", "width", "short_side"), "choose one --size for all")
    remedies |= dict.fromkeys(_SAMPLING, "choose one --snippets for all")
    remedies |= {"codec": "choose one --codec for all", "quality": "choose one --quality for all"}
    if choice.size is not None or choice.short_side is not None:
        free |= {"height", "width", "short_side"}
    if choice.snippets is not None:
        free |= set(_SAMPLING)
    if choice.codec is not None:
        free.add("codec")
    if choice.quality is not None or choice.codec == "raw":
        free.add("quality")
    first, *others = (
        (
            one.path,
            flat_settings(one.index.modality, SnippetPlan(**one.index.sampling).to_json(), 0),
        )
        for one in sources
    )
    for path, settings in others:
        for name in sorted(set(settings) | set(first[1])):
            if name not in free and settings.get(name) != first[1].get(name):
                remedy = remedies.get(name, "such sets cannot be merged")
                raise SettingsError(
                    f"{path}: has {name}={settings.get(name)}, {first[0]} has "
                    f"{name}={first[1].get(name)}; {remedy}"
                )


def _stored(source: StoredModality, choice: Choice) -> StoredModality:
    """Return how the images of the result are stored."""
    codec = choice.codec or source.codec
    if codec == "raw" and choice.quality is not None:
        raise InputError("--quality is that of JPEGs, and the result is raw; leave it out")
    quality = (choice.quality or source.quality or _USUAL_QUALITY) if codec == "jpeg" else None
    stored = replace(source, codec=codec, quality=quality)
    if choice.size is not None:
        height, width = choice.size
        return replace(stored, height=height, width=width, short_side=None)
    if choice.short_side is not None:
        return replace(stored, height=None, width=None, short_side=choice.short_side)
    return stored


def _plan(sources: Sequence[SourceFolder], snippets: int | None) -> SnippetPlan:
    """Return which snippets the result has.

    Raises:
        InputError: They are more than are stored. Of dense videos, which have all snippets there
            are, short ones repeat some, as they do when they are extracted.
    """
    if snippets is None:
        return SnippetPlan(**sources[0].index.sampling)
    for source in sources:
        if source.index.sampling.get("dense"):
            continue
        for name, video in source.videos.items():
            if video.num_snippets < snippets:
                raise InputError(
                    f"--snippets {snippets}: of {name} only {video.num_snippets} are stored in "
                    f"{source.path}; extract again for more"
                )
    return SnippetPlan(snippets=snippets)


def _video(
    taken: Taken, folder: str, modality: StoredModality, choice: Choice
) -> RepackedVideo | None:
    """Return what is to be done with one video; None where the modality never had it."""
    source = taken.source.folders[folder]
    name, label = taken.record.name, taken.record.label
    failure = source.failures.get(taken.name)
    if failure is not None:
        return RepackedVideo(name, label, problem=failure)
    video = source.videos.get(taken.name)
    if video is None:
        return None
    before = source.index.modality
    unit_size = video.unit_size
    if choice.size is not None:
        unit_size = choice.size
    elif choice.short_side is not None:  # of the video, where its aspect ratio was kept
        shape = unit_size if before.short_side is None else video.size
        unit_size = target_size(shape, None, choice.short_side)
    if unit_size != video.unit_size and modality.kind.displacements is None:
        raise InputError(
            f"{before.folder}: nobody says how its images are resized (displacements of the "
            "modality is None); leave the size out, or choose others with --modality"
        )
    same = before == replace(
        modality, height=before.height, width=before.width, short_side=before.short_side
    )
    return RepackedVideo(
        name,
        label,
        video,
        snippets=choice.snippets,
        unit_size=unit_size,
        recode=not same or unit_size != video.unit_size,
    )


def _origin(video: RepackedVideo) -> str:
    """Return what tells apart all that a video can be stored from."""
    if video.source is None:
        return repr(video.problem)
    return f"{video.source.digest} {video.snippets}"


def _versions(videos: Iterable[RepackedVideo]) -> Mapping[str, str] | None:
    """Return the versions of what wrote the images; None unless all are copied from the same."""
    found = [video for video in videos if video.source is not None]
    versions = [video.source.shard.versions for video in found if video.source is not None]
    if any(video.recode for video in found) or any(one != versions[0] for one in versions):
        return None
    return versions[0] if versions else None
