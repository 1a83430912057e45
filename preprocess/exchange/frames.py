"""Shards to folders of images and the list files of tsn-pytorch and mmaction2."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from preprocess.exchange.layout import (
    FRAMES_FOLDER,
    check_apart,
    folder_names,
    image_name,
    prefixes,
)
from preprocess.exchange.list_files import list_text
from preprocess.exchange.sidecar import (
    SIDECAR_NAME,
    ExportedModality,
    ExportedVideo,
    Sidecar,
    claim,
)
from preprocess.exchange.stored import StoredShards, StoredVideo, unit_images
from tsn_core.atomic import temporary_path, unwritable, write_text
from tsn_core.sampling import SnippetPlan

CLASSES_NAME = "label_map.txt"  # mmaction2's name for one class a line
MODALITY_LISTS = {"rgb": "rawframes", "flow": "rawframes_flow"}


@dataclass(frozen=True)
class Exported:
    """What an export to folders of images has done.

    Attributes:
        videos: Videos in it.
        written: Videos that this run wrote.
        recoded: Videos of which images were coded anew as JPEG, and so are not exact, by this run
            or an earlier one.
        lists: Names of the list files.
    """

    videos: int
    written: int
    recoded: int
    lists: tuple[str, ...]


def export_frames(
    shards: StoredShards,
    out: Path,
    *,
    exact: bool,
    seen: Callable[[str], None],
) -> Exported:
    """Write every stored image of a dataset as a file, and the lists that name the folders.

    A video's folder appears whole; what an interrupted run has finished is kept.

    Args:
        shards: What to export.
        out: Folder to write.
        exact: Whether to write PNG where JPEG would lose something.
        seen: Told the name of every video that is through.

    Raises:
        SettingsError: Something else is in the folder.
        InputError: Two modalities would have images of the same names.
        ShardError: A shard is damaged.
        OutputError: The folder cannot be written.
    """
    check_apart(shards.modalities)
    run = {"shards": shards.digest, "lossless": exact}
    claim(out, run)
    folders = folder_names([record.name for record in shards.records])
    exported = {
        name: ExportedModality(
            index.modality,
            SnippetPlan(**index.sampling),
            shards.cuts.get(name, 1),
            {entry.file: shards.names(name, entry.file) for entry in index.shards},
            {entry.file: entry.fingerprint for entry in index.shards},
            shards.failures[name],
        )
        for name, index in shards.indices.items()
    }
    frames = out / FRAMES_FOLDER
    written = 0
    recoded: set[str] = set()
    used = {}
    for record in shards.records:
        found = {name: shards.video(name, record.name) for name in shards.indices}
        videos = {name: video for name, video in found.items() if video is not None}
        if not videos:
            continue
        used[record.name] = folders[record.name]
        target = frames / folders[record.name]
        if not target.exists():
            again = _write_video(target, videos, exact)
            written += 1
        else:
            again = any(_coded_anew(video, exact) for video in videos.values())
        if again:
            recoded.add(record.name)
        for name, video in videos.items():
            exported[name].videos[record.name] = ExportedVideo.of(video, _ending(target, video))
        seen(record.name)
    lists = _write_lists(shards, out, used, exported)
    Sidecar(shards.manifest, used, exported).write(out / SIDECAR_NAME, {**run, "complete": True})
    return Exported(len(used), written, len(recoded), lists)


def _coded_anew(video: StoredVideo, exact: bool) -> bool:
    """Return whether something of a video that an earlier run wrote was coded anew."""
    return any(unit_images(video, data, exact)[2] for data in video.images())


def _write_video(target: Path, videos: dict[str, StoredVideo], exact: bool) -> bool:
    """Write the folder of one video; return whether something of it was coded anew."""
    recoded = False
    temporary = temporary_path(target)
    try:
        temporary.mkdir(parents=True)
        for video in videos.values():
            names = prefixes(video.modality.kind)
            for place, data in enumerate(video.images()):
                ending, images, again = unit_images(video, data, exact)
                recoded |= again
                for prefix, image in zip(names, images):
                    (temporary / image_name(prefix, place, ending)).write_bytes(image)
        temporary.replace(target)
    except OSError as error:
        if error.errno is None:
            raise
        raise unwritable(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return recoded


def _ending(target: Path, video: StoredVideo) -> str:
    first = image_name(prefixes(video.modality.kind)[0], 0, "png")
    return "png" if (target / first).exists() else "jpg"


def _write_lists(
    shards: StoredShards,
    out: Path,
    folders: dict[str, str],
    exported: dict[str, ExportedModality],
) -> tuple[str, ...]:
    """Write the list files of every split, subset and modality; return their names."""
    texts: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for one in exported.values():
        name = one.modality.name
        theirs = MODALITY_LISTS.get(name, f"rawframes_{name}")
        for record in shards.records:
            video = one.videos.get(record.name)
            if video is None:
                continue
            folder, label = folders[record.name], record.label
            for split, subset in sorted(record.splits.items()):
                stem = f"{shards.dataset}_{{}}{subset}_split_{split}"
                row = (f"{FRAMES_FOLDER}/{folder}", video.num_images, label)
                texts["tsn-pytorch/" + stem.format(f"{name}_") + ".txt"].append(row)
                theirs_row = (folder, video.num_images, label)
                texts["mmaction2/" + stem.format("") + f"_{theirs}.txt"].append(theirs_row)
    for path, rows in texts.items():
        write_text(out / path, list_text(rows))
    write_text(out / CLASSES_NAME, "".join(f"{name}\n" for name in shards.class_names))
    return tuple(sorted(texts))
