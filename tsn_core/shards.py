"""Shards as a library: open a folder, take videos by number, name, slice or subset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
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

    The index and its catalogue are read and checked now, the tables and images of a shard when a
    video of it is asked for; without a catalogue all tables are read now. Subsets come from the
    manifest beside the modalities' folders, if it is there, and it is read when they, or the splits
    of a video, are asked for.

    Args:
        path: Folder of a modality's shards (``shards/hmdb51/rgb``), or of the dataset
            (``shards/hmdb51``); also as a URL such as ``s3://bucket/shards/hmdb51``.
        modality: Which one of the dataset's: ``rgb``, ``flow``, …; None where there is only one.
        flow: Which flow, where there are several: ``tvl1``, ``farneback``, ``dis`` or ``raft``.

    Raises:
        InputError: No such shards there, or several to choose from.
        ShardError: The index, the catalogue or, without one, a shard is missing or damaged.
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
    return Shards(shards, manifest=ManifestFile(root / MANIFEST_NAME))


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


class ManifestFile:
    """A manifest that is read when it is asked for first, by every process for itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def manifest(self) -> Manifest | None:
        """The manifest; None if there is none.

        Raises:
            InputError: It is damaged.
        """
        return read_manifest(self._path) if self._path.exists() else None

    @cached_property
    def splits(self) -> Mapping[str, Mapping[int, str]]:
        """Subset by number of the split, by name of the video; empty if there is no manifest."""
        records = () if self.manifest is None else self.manifest.records
        return {record.name: record.splits for record in records}

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path}


class _Splits(Mapping[int, str]):
    """Subset of one video by number of the split, from a manifest that may still be unread."""

    def __init__(self, manifest: ManifestFile, name: str) -> None:
        self._manifest = manifest
        self._name = name

    def _found(self) -> Mapping[int, str]:
        return self._manifest.splits.get(self._name, {})

    def __getitem__(self, split: int) -> str:
        return self._found()[split]

    def __iter__(self) -> Iterator[int]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    def __repr__(self) -> str:
        return repr(dict(self))


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
        manifest: ManifestFile,
    ) -> None:
        self.shard_set = shard_set
        self.numbers = np.arange(len(shard_set)) if numbers is None else numbers
        self._manifest = manifest

    @cached_property
    def _is_chosen(self) -> np.ndarray:
        """Whether each video of the modality is one of these, (V,) bool."""
        chosen = np.zeros(len(self.shard_set), bool)
        chosen[self.numbers] = True
        return chosen

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
        return self.shard_set.names.take(self.numbers)

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
        return isinstance(name, str) and bool(self._find([name])[0] >= 0)

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
        names = list(names)
        numbers = self._find(names)
        if (numbers < 0).any():
            raise self._unknown(names[int(np.argmax(numbers < 0))])
        return self._part(numbers)

    def subset(self, split: int, subset: str) -> Shards:
        """Return the videos of a subset of a split, in the manifest's order.

        Videos that could not be extracted are not among them: ``missing`` names those.

        Args:
            split: Number of the split.
            subset: ``train``, ``val`` or ``test``.

        Raises:
            InputError: There is no manifest, split or subset of that name.
        """
        numbers = self._find(self._subset_names(split, subset))
        return self._part(numbers[numbers >= 0])

    def missing(self, split: int, subset: str) -> tuple[str, ...]:
        """Return the names of a subset's videos that are not here, as ``subset`` takes them."""
        names = self._subset_names(split, subset)
        return tuple(name for name, n in zip(names, self._find(names).tolist()) if n < 0)

    def _subset_names(self, split: int, subset: str) -> tuple[str, ...]:
        manifest = self._manifest.manifest
        if manifest is None:
            raise InputError(
                f"{self.folder}: no {MANIFEST_NAME} beside it, so that subsets are not known; "
                "copy it there, or choose videos with select()"
            )
        if subset not in SUBSETS:
            raise InputError(f"unknown subset {subset!r}; choose from {', '.join(SUBSETS)}")
        return manifest.subset_names(split, subset)

    def _find(self, names: Sequence[str]) -> np.ndarray:
        """Return where videos of these names stand in the set, -1 for those not among these."""
        numbers = self.shard_set.find(names)
        there = numbers >= 0
        there[there] = self._is_chosen[numbers[there]]
        return np.where(there, numbers, -1)

    def _number(self, name: str) -> int:
        number = int(self._find([name])[0])
        if number < 0:
            raise self._unknown(name)
        return number

    def _unknown(self, name: str) -> UnknownVideoError:
        first = f", such as {self.shard_set.names[int(self.numbers[0])]}" if len(self) else ""
        return UnknownVideoError(
            f"{self.folder}: no video {name!r} among these {len(self)}; names are paths below "
            f"the dataset's folder{first}"
        )

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
            _Splits(self._manifest, name),
            shards,
            number,
        )

    def _part(self, numbers: np.ndarray) -> Shards:
        return Shards(self.shard_set, numbers, manifest=self._manifest)
