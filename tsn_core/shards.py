"""Shards as a library: open a folder, take videos by number, name, slice or subset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np

from tsn_core.errors import InputError, UnknownVideoError
from tsn_core.index import INDEX_NAME
from tsn_core.location import location
from tsn_core.manifest import MANIFEST_NAME, SUBSETS, Manifest, read_manifest
from tsn_core.modality import StoredModality
from tsn_core.shard_folders import find_folder, finished_folders
from tsn_core.shard_set import ShardSet
from tsn_core.stored_video import Video


def open_shards(
    path: str | os.PathLike[str], modality: str | None = None, flow: str | None = None
) -> Shards:
    """Open the shards of one modality of a dataset.

    Tables are read and checked now, images when they are asked for. Subsets come from the
    manifest beside the modalities' folders, if it is there.

    Args:
        path: Folder of a modality's shards (``shards/hmdb51/rgb``), or of the dataset
            (``shards/hmdb51``); also as a URL such as ``s3://bucket/shards/hmdb51``.
        modality: Which one of the dataset's: ``rgb``, ``flow``, …; None where there is only one.
        flow: Which flow, where there are several: ``tvl1``, ``farneback`` or ``dis``.

    Raises:
        InputError: No such shards there, several to choose from, or a damaged manifest.
        ShardError: A shard is missing or damaged.
        StoreError: The object store does not answer.

    Examples:
        >>> shards = open_shards("shards/gestures")  # holds flow-farneback alone
        >>> shards
        <4 videos of 2 classes, flow (farneback): shards/gestures/flow-farneback>
        >>> [video.name for video in shards if video.label == 1]
        ['wave/1.avi', 'wave/3.avi']
        >>> shards[0] == shards["nod/0.avi"], shards[-1].name, len(shards[:3])
        (True, 'wave/3.avi', 3)
        >>> len(shards.subset(split=1, subset="train")), len(shards.select(["wave/1.avi"]))
        (2, 1)
    """
    folder = location(path)
    if (folder / INDEX_NAME).exists():
        shards = ShardSet(folder)
        if modality not in (None, shards.modality.name) or flow not in (
            None,
            shards.modality.algorithm,
        ):
            asked = " ".join(word for word in (modality, flow) if word)
            raise InputError(f"{folder}: holds {_what(shards.modality)}, asked for {asked}")
        root = folder.absolute().parent
    else:
        shards = ShardSet(_only_folder(folder, modality, flow))
        root = folder
    manifest = root / MANIFEST_NAME
    return Shards(shards, manifest=read_manifest(manifest) if manifest.exists() else None)


def _only_folder(root: Path, modality: str | None, flow: str | None) -> Path:
    if modality is None and flow is not None:
        modality = "flow"
    if modality is not None:
        return find_folder(root, modality, flow, option="{}=")
    there = finished_folders(root)
    if not there:
        raise InputError(
            f"{root}: no shards there; expected a folder with {INDEX_NAME}, or one that holds such "
            "folders; make them with tsn-preprocess extract"
        )
    if len(there) > 1:
        raise InputError(f"{root}: has {', '.join(there)}; choose one with modality=")
    return root / there[0]


def _what(modality: StoredModality) -> str:
    return modality.name + (f" ({modality.algorithm})" if modality.algorithm else "")


class Shards:
    """Videos of one modality, in a fixed order; see ``open_shards``.

    Safe to hand to worker processes, forked or spawned: every process opens the files for itself.

    Attributes:
        shard_set: All videos of the modality, which these are some of.
        numbers: Where each of these stands in it, (n,) int64.
    """

    def __init__(
        self,
        shard_set: ShardSet,
        numbers: np.ndarray | None = None,
        *,
        manifest: Manifest | None = None,
    ) -> None:
        self.shard_set = shard_set
        self.numbers = np.arange(len(shard_set)) if numbers is None else numbers
        self._manifest = manifest
        records = () if manifest is None else manifest.records
        self._splits: Mapping[str, Mapping[int, str]] = {r.name: r.splits for r in records}
        self._chosen = frozenset(self.numbers.tolist())

    @property
    def folder(self) -> Path:
        """Folder of the shards."""
        return self.shard_set.folder

    @property
    def modality(self) -> StoredModality:
        """How the units are stored: channels, snippet length, scale and zero of the codes, …."""
        return self.shard_set.modality

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by class id."""
        return self.shard_set.class_names

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the videos, in their order."""
        return tuple(self.shard_set.names[number] for number in self.numbers)

    @property
    def labels(self) -> np.ndarray:
        """Class ids, (n,) int64."""
        return self.shard_set.labels[self.numbers]

    @property
    def dense(self) -> bool:
        """Whether every unit of the videos is stored."""
        return bool(self.shard_set.sampling.get("dense"))

    def __repr__(self) -> str:
        return (
            f"<{len(self)} videos of {len(self.class_names)} classes, {_what(self.modality)}: "
            f"{self.folder}>"
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Video]:
        return map(self._video, self.numbers.tolist())

    def __contains__(self, name: object) -> bool:
        return name in self.shard_set and self.shard_set.number(str(name)) in self._chosen

    @overload
    def __getitem__(self, which: int | str) -> Video: ...

    @overload
    def __getitem__(self, which: slice) -> Shards: ...

    def __getitem__(self, which: Any) -> Video | Shards:
        """Return a video by its place or name, or some of the videos.

        Raises:
            IndexError: There is no such place.
            UnknownVideoError: There is no video of that name; a ``KeyError``.
        """
        if isinstance(which, slice):
            return self._part(self.numbers[which])
        if isinstance(which, str):
            return self._video(self._number(which))
        if not -len(self) <= which < len(self):
            raise IndexError(f"{self.folder}: {len(self)} videos, asked for number {which}")
        return self._video(int(self.numbers[which]))

    def select(self, names: Iterable[str]) -> Shards:
        """Return the videos of these names, in this order.

        Raises:
            UnknownVideoError: There is none of some name.
        """
        return self._part(np.array([self._number(name) for name in names], np.int64))

    def subset(self, split: int, subset: str) -> Shards:
        """Return the videos of a subset of a split, in the manifest's order.

        Videos that could not be extracted are not among them: ``missing`` names those.

        Args:
            split: Number of the split.
            subset: ``train``, ``val`` or ``test``.

        Raises:
            InputError: There is no manifest, split or subset of that name.
        """
        return self.select(name for name in self._subset_names(split, subset) if name in self)

    def missing(self, split: int, subset: str) -> tuple[str, ...]:
        """Return the names of a subset's videos that are not here, as ``subset`` takes them."""
        return tuple(name for name in self._subset_names(split, subset) if name not in self)

    def _subset_names(self, split: int, subset: str) -> tuple[str, ...]:
        if self._manifest is None:
            raise InputError(
                f"{self.folder}: no {MANIFEST_NAME} beside it, so that subsets are not known; "
                "copy it there, or choose videos with select()"
            )
        if subset not in SUBSETS:
            raise InputError(f"unknown subset {subset!r}; choose from {', '.join(SUBSETS)}")
        return self._manifest.subset_names(split, subset)

    def _number(self, name: str) -> int:
        if name not in self:
            raise UnknownVideoError(
                f"{self.folder}: no video {name!r} among these {len(self)}; names are paths below "
                f"the dataset's folder{f', such as {self.names[0]}' if len(self) else ''}"
            )
        return self.shard_set.number(name)

    def _video(self, number: int) -> Video:
        shards, name = self.shard_set, self.shard_set.names[number]
        label = int(shards.labels[number])
        return Video(
            name,
            label,
            shards.class_names[label],
            int(shards.num_frames[number]),
            float(shards.fps[number]),
            int(shards.num_snippets[number]),
            self._splits.get(name, {}),
            shards,
            number,
        )

    def _part(self, numbers: np.ndarray) -> Shards:
        return Shards(self.shard_set, numbers, manifest=self._manifest)
