"""Looking at a folder of shards: which videos, what their units tell, and a sheet of each."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from preprocess.contact_sheet import Strip, contact_sheet
from preprocess.failures import FAILURES_NAME
from preprocess.unit_statistics import UnitStatistics, channel_names
from preprocess.unit_verdicts import verdicts
from tsn_core.check import modality_folders
from tsn_core.errors import InputError
from tsn_core.listing import few
from tsn_core.manifest import MANIFEST_NAME, read_manifest
from tsn_core.sampling import center_offsets
from tsn_core.shard_set import ShardSet

_SPEED_EDGES = (0.25, 0.5, 1, 2, 4, 8, 16)  # px


@dataclass(frozen=True)
class Inspection:
    """The opened modalities of a dataset.

    Attributes:
        root: Folder of the dataset's shards.
        shard_sets: By name of their folder.
        class_names: By class id.
    """

    root: Path
    shard_sets: dict[str, ShardSet]
    class_names: tuple[str, ...]

    def names(self) -> list[str]:
        """Return the videos that any modality holds, in storage order."""
        return list(dict.fromkeys(name for each in self.shard_sets.values() for name in each.names))

    def class_of(self, name: str) -> str:
        """Return the class of a video."""
        shards = next(each for each in self.shard_sets.values() if name in each)
        return self.class_names[int(shards.labels[shards.number(name)])]


def open_inspection(path: Path, modalities: Sequence[str] = ()) -> Inspection:
    """Open the shards of a dataset, or of one modality of it.

    Args:
        path: Folder of the dataset's shards, or of one modality's.
        modalities: Names of modalities or of their folders; none takes all.

    Raises:
        InputError: There are no such shards.
        ShardError: They are damaged.
    """
    folders = [folder for folder in modality_folders(path) if folder in (path, path / folder.name)]
    there = [folder.name for folder in folders]
    for name in modalities:
        if not any(_is_of(folder, name) for folder in there):
            raise InputError(f"{path}: no {name} shards, only {', '.join(there) or 'nothing'}")
    chosen = [
        folder
        for folder in folders
        if not modalities or any(_is_of(folder.name, name) for name in modalities)
    ]
    if not chosen:
        raise InputError(
            f"{path}: no shards there; give the folder of a dataset's shards, such as shards/hmdb51"
        )
    order = sorted(chosen, key=lambda folder: (folder.name != "rgb", folder.name))
    opened = {folder.name: ShardSet(folder) for folder in order}
    root = path.parent if folders[0] == path else path
    return Inspection(root, opened, next(iter(opened.values())).class_names)


def _is_of(folder: str, modality: str) -> bool:
    return folder == modality or folder.startswith(f"{modality}-")


def choose_videos(
    names: Sequence[str], asked: Sequence[str], number: int, generator: np.random.Generator
) -> list[str]:
    """Return the videos to show: those asked for, or else so many at random, in storage order.

    Raises:
        InputError: There is no video of some name.
    """
    known = set(names)
    for name in asked:
        if name not in known:
            close = [other for other in names if name in other]
            hint = f"; did you mean {few(close)}?" if close else f"; there are {few(names)}"
            raise InputError(f"no video {name!r} in these shards{hint}")
    if asked:
        return list(asked)
    places = generator.choice(len(names), min(number, len(names)), replace=False)
    return [names[place] for place in sorted(places)]


def measure(
    shards: ShardSet,
    *,
    num_videos: int,
    num_snippets: int,
    generator: np.random.Generator,
    step: Callable[[], None] = lambda: None,
) -> UnitStatistics:
    """Return statistics of a random sample of the stored units.

    Args:
        shards: Of one modality.
        num_videos: To look at, at most.
        num_snippets: Of each, at the centres of equal parts of the stored ones.
        generator: Source of all randomness.
        step: Called after every video.
    """
    statistics = UnitStatistics(shards.modality)
    chosen = generator.choice(len(shards), min(num_videos, len(shards)), replace=False)
    for video in sorted(chosen.tolist()):
        count = int(shards.num_snippets[video])
        if count:
            statistics.add(shards.names[video], shards.read(video, _spread(count, num_snippets)))
        step()
    return statistics


def _spread(stored: int, number: int) -> list[int]:
    """Return the centres of so many parts of the stored snippets, each once."""
    return np.unique(center_offsets(stored, number, 1)).tolist()


def facts(statistics: UnitStatistics, shards: ShardSet) -> dict[str, Any]:
    """Return what the statistics come to, as plain values."""
    modality = statistics.modality
    found: dict[str, Any] = {
        "videos": len(shards),
        "snippets": int(shards.num_snippets.sum()),
        "units_looked_at": statistics.num_units,
        "verdicts": verdicts(statistics),
    }
    if not statistics.num_units:
        return found
    found |= {
        "mean_code": {
            channel: round(float(mean), 2)
            for channel, mean in zip(channel_names(modality), statistics.means)
        },
        "deviation": round(statistics.deviation, 2),
        "clipped_share": round(statistics.clipped_share, 6),
        "flat_share": round(statistics.flat / statistics.num_units, 6),
    }
    if statistics.num_pairs:
        found["equal_pairs_share"] = round(statistics.same_pairs / statistics.num_pairs, 6)
    if modality.kind.frames_per_unit > 1:
        found["still_share"] = round(statistics.still_share, 6)
    if modality.kind.has_algorithm:
        counts = statistics.speeds
        speed = (np.arange(256) + 0.5) * modality.scale
        edges = [0.0, *_SPEED_EDGES, np.inf]
        found["speed_px"] = {f"p{p}": round(statistics.speed_px(p / 100), 3) for p in (50, 95, 99)}
        found["speed_histogram"] = [
            {"from_px": low, "share": round(float(counts[inside].sum() / counts.sum()), 6)}
            for low, high in pairwise(edges)
            for inside in [(speed >= low) & (speed < high)]
        ]
    for name in ("smoothness", "steadiness"):
        value = getattr(statistics, f"mean_{name}")
        if value is not None:
            found[name] = round(value, 4)
    return found


def sheet_of(inspection: Inspection, name: str, num_snippets: int) -> Image.Image:
    """Return the contact sheet of one video."""
    strips, remarks, fps, frames = [], [], 0.0, 0
    for folder, shards in inspection.shard_sets.items():
        if name not in shards:
            remarks.append(f"{folder}: this video is not there; see {FAILURES_NAME}")
            continue
        video = shards.number(name)
        chosen = _spread(int(shards.num_snippets[video]), num_snippets)
        snippets = shards.read(video, chosen)
        fps, frames = float(shards.fps[video]), int(shards.num_frames[video])
        shown = shards.snippet_frames(video)[chosen]
        strips.append(Strip(shards.modality, folder, snippets[:, 0], shown))
        statistics = UnitStatistics(shards.modality)
        statistics.add(name, snippets)
        remarks += [f"{folder}: {line}" for line in verdicts(statistics)]
    about = [inspection.class_of(name), f"{frames} frames"]
    if fps:
        about += [f"{fps:.4g} frames/s", f"{frames / fps:.1f} s"]
    return contact_sheet(name, " · ".join(about), strips, fps, remarks)


def sheet_name(number: int, name: str) -> str:
    """Return the file name of a sheet, of letters that every system takes.

    Examples:
        >>> sheet_name(3, "jump/a b?.avi")
        '03-jump-a-b-.avi.png'
    """
    return f"{number:02d}-{re.sub(r'[^A-Za-z0-9._]+', '-', name)[-80:]}.png"


def failures_by_stage(root: Path) -> Counter[str]:
    """Return how many videos failed at each stage, from the file beside the shards."""
    found: Counter[str] = Counter()
    try:
        lines = (root / FAILURES_NAME).read_text(encoding="utf-8").splitlines()
    except OSError:
        return found
    try:
        found.update(str(json.loads(line)["stage"]) for line in lines)
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{root / FAILURES_NAME}: a line is not that of a failed video; extract again"
        ) from None
    return found


def class_balance(inspection: Inspection) -> dict[str, dict[str, int]]:
    """Return how many videos each class has: ``stored``, and ``listed`` where a manifest is."""
    labels: Counter[str] = Counter(inspection.class_of(name) for name in inspection.names())
    found = {name: {"stored": labels[name]} for name in inspection.class_names}
    if (inspection.root / MANIFEST_NAME).is_file():
        manifest = read_manifest(inspection.root / MANIFEST_NAME)
        listed = Counter(manifest.class_names[record.label] for record in manifest.records)
        for name, counts in found.items():
            counts["listed"] = listed[name]
    return found
