"""``tsn-export.json``: what folders of images cannot say of the shards that they come from.

With it, an import makes the same shards again, byte for byte.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from preprocess.exchange.layout import from_runs, to_runs
from preprocess.exchange.stored import StoredVideo
from tsn_core.atomic import TEMPORARY_SUFFIX, unwritable, write_text
from tsn_core.errors import InputError, OutputError, SettingsError, TSNError
from tsn_core.manifest import Manifest, Record, check_relative, parse_origin
from tsn_core.modality import MOST_PIXELS, StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader

SIDECAR_NAME = "tsn-export.json"
_FORMAT, _VERSION = "tsn-export", 1
_MOST_IMAGES = 1 << 27  # of one video
_SETTINGS = ("lossless", "samples", "split", "max_mb")  # of an export to frames or to tars


@dataclass(frozen=True)
class ExportedVideo:
    """What a shard's tables say of one video; see ``ShardTables``.

    Attributes:
        num_images: Stored images, which are numbered from 1 on without gaps.
        frames: Source frame of every image, as runs of ``[first, count]``.
        snippets: First image of every snippet, 0-based, as runs.
        num_frames: Frames decoded.
        fps: Frame rate in Hz.
        size: (height, width) of the source.
        unit_size: (height, width) of the units.
        padding: Units made by repeating the last frame.
        warped: Units from which the camera's motion was taken out.
        crc32: Of the stored bytes of all images.
        ending: Of the images' names: jpg or png.
    """

    num_images: int
    frames: list[list[int]]
    snippets: list[list[int]]
    num_frames: int
    fps: float
    size: list[int]
    unit_size: list[int]
    padding: int
    warped: int
    crc32: int
    ending: str

    def __post_init__(self) -> None:
        for name in ("num_images", "num_frames", "padding", "warped", "crc32"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 1 << 32:
                raise InputError(f"{name} must be a whole number >= 0, got {value!r}")
        if type(self.fps) not in (int, float) or not 0 <= self.fps < float("inf"):
            raise InputError(f"fps must be a number >= 0, got {self.fps!r}")
        for name in ("size", "unit_size"):
            value = getattr(self, name)
            if len(value) != 2 or not all(type(n) is int and 0 < n <= MOST_PIXELS for n in value):
                raise InputError(f"{name} must be [height, width], got {value!r}")
        if self.num_images > _MOST_IMAGES or len(self.image_frames) != self.num_images:
            raise InputError(f"frames of {self.num_images} images expected")
        if not all(0 <= first < self.num_images for first in self.first_images):
            raise InputError(f"snippets of {self.num_images} images expected")
        if self.ending not in ("jpg", "png"):
            raise InputError(f"ending must be jpg or png, got {self.ending!r}")

    @property
    def image_frames(self) -> list[int]:
        """Source frame of every image."""
        return from_runs(self.frames, self.num_images)

    @property
    def first_images(self) -> list[int]:
        """First image of every snippet."""
        return from_runs(self.snippets, _MOST_IMAGES)

    @classmethod
    def of(cls, video: StoredVideo, ending: str) -> ExportedVideo:
        """Return what is to be kept of a stored video."""
        tables, place = video.shard.tables, video.place
        return cls(
            num_images=video.num_images,
            frames=to_runs(video.frames),
            snippets=to_runs(video.snippets),
            num_frames=int(tables.video_frames[place]),
            fps=float(tables.video_fps[place]),
            size=tables.video_size[place].tolist(),
            unit_size=tables.video_unit_size[place].tolist(),
            padding=int(tables.video_padding[place]),
            warped=int(tables.video_warped[place]),
            crc32=int(tables.video_crc32[place]),
            ending=ending,
        )


@dataclass(frozen=True)
class ExportedModality:
    """All shards of one modality.

    Attributes:
        modality: How units are stored.
        sampling: Which snippets are stored.
        videos_per_shard: How the dataset was cut.
        shards: Names of the videos of every shard, by its file name.
        fingerprints: Of the shards, likewise.
        failures: (name, stage, reason) of the videos that could not be extracted, likewise.
        videos: By name.
    """

    modality: StoredModality
    sampling: SnippetPlan
    videos_per_shard: int
    shards: dict[str, list[str]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    failures: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)
    videos: dict[str, ExportedVideo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.videos_per_shard) is not int or self.videos_per_shard < 1:
            raise InputError(f"videos_per_shard must be > 0, got {self.videos_per_shard!r}")
        if set(self.fingerprints) != set(self.shards):
            raise InputError("a fingerprint of each shard expected")
        texts = [
            *self.fingerprints.values(),
            *(name for names in self.shards.values() for name in names),
        ]
        texts += [text for rows in self.failures.values() for row in rows for text in row]
        if not all(isinstance(text, str) for text in texts):
            raise InputError("names, reasons and fingerprints must be texts")
        if not all(len(row) == 3 for rows in self.failures.values() for row in rows):
            raise InputError("failures of [name, stage, reason] expected")

    def header(self, file: str, manifest: Manifest) -> ShardHeader:
        """Return the root attributes of one of its shards."""
        return ShardHeader(
            dataset=manifest.dataset,
            modality=self.modality,
            sampling=self.sampling.to_json(),
            class_names=manifest.class_names,
            videos_per_shard=self.videos_per_shard,
            fingerprint=self.fingerprints[file],
        )


@dataclass(frozen=True)
class Sidecar:
    """All of an export.

    Attributes:
        manifest: Videos, labels and splits.
        folders: Of every video's images, by its name.
        modalities: By name of the shards' folder.
    """

    manifest: Manifest
    folders: Mapping[str, str]
    modalities: Mapping[str, ExportedModality]

    def write(self, path: Path, run: Mapping[str, Any]) -> None:
        """Write it atomically; ``run`` tells what the export was made of."""
        records = [
            {**asdict(record), "folder": self.folders.get(record.name)}
            for record in self.manifest.records
        ]
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            **run,
            "dataset": self.manifest.dataset,
            "class_names": self.manifest.class_names,
            "records": records,
            "modalities": {
                name: {**asdict(one), "sampling": one.sampling.to_dict()}
                for name, one in self.modalities.items()
            },
        }
        write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def parse_sidecar(text: str, source: object) -> Sidecar:
    """Return what ``tsn-export.json`` says.

    Args:
        text: Of the file, from anybody.
        source: What messages call it.

    Raises:
        InputError: It is none, or of an export that was not finished.
    """
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise InputError(
                f"format {_FORMAT!r} version {_VERSION} expected, got {content['format']!r} "
                f"version {content['version']!r}"
            )
        if not content["complete"]:
            raise InputError("the export was not finished; run it again")
        if "records" not in content:
            raise InputError("an export to tars, which is not imported; export --to frames")
        folders, records = {}, []
        for entry in content["records"]:
            splits = {int(split): subset for split, subset in entry["splits"].items()}
            origin = parse_origin(entry.get("origin"))
            records.append(Record(entry["name"], entry["label"], splits, entry["shard"], origin))
            if entry["folder"] is not None:
                folders[entry["name"]] = check_relative(entry["folder"])
        manifest = Manifest(content["dataset"], tuple(content["class_names"]), tuple(records))
        if check_relative(manifest.dataset) != Path(manifest.dataset).name:
            raise InputError(f"dataset: a name without / expected, got {manifest.dataset!r}")
        modalities = {}
        for one in content["modalities"].values():
            modality = StoredModality(**one["modality"])
            if modality.folder in modalities:
                raise InputError(f"{modality.folder} stands there twice")
            failures = {
                file: [tuple(row) for row in rows] for file, rows in one["failures"].items()
            }
            modalities[modality.folder] = ExportedModality(
                modality,
                SnippetPlan(**one["sampling"]),
                one["videos_per_shard"],
                one["shards"],
                one["fingerprints"],
                failures,
                {name: ExportedVideo(**fields) for name, fields in one["videos"].items()},
            )
        return Sidecar(manifest, folders, modalities)
    except TSNError as error:
        raise InputError(f"{source}: {error}") from None
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{source}: damaged: {error!r}; export again") from None


def read_run(path: Path) -> dict[str, Any] | None:
    """Return what an export that is there was made of, or None if there is no such file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {name: content[name] for name in ("complete", "shards")}
        return {**found, **{name: content[name] for name in _SETTINGS if name in content}}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error!r}; delete the folder") from None


def claim(out: Path, run: Mapping[str, Any]) -> None:
    """Begin an export, or go on with the one that is there; leftovers of that are removed.

    Args:
        out: Its folder.
        run: The shards that it is made of, and its settings.

    Raises:
        SettingsError: Something else is in the folder.
        OutputError: It cannot be written.
    """
    path = out / SIDECAR_NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = read_run(path)
        if there is None and any(out.iterdir()):
            raise SettingsError(f"{out}: not empty, and no export; choose another --out")
        if there is not None and {**there, "complete": True} != {**run, "complete": True}:
            raise SettingsError(
                f"{out}: holds an export of other shards, or with other settings; choose another "
                "--out or delete the folder"
            )
        if there is None:
            mark(path, run, complete=False)
        elif not there["complete"]:
            for leftover in list(out.rglob(f".*{TEMPORARY_SUFFIX}")):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise unwritable(out, error, "choose another --out") from error


def mark(path: Path, run: Mapping[str, Any], *, complete: bool) -> None:
    """Write that an export has begun, or that one which keeps nothing more is there."""
    content = {"format": _FORMAT, "version": _VERSION, **run, "complete": complete}
    write_text(path, json.dumps(content) + "\n")
