"""Pooled features of videos in one HDF5 file, for heads that are trained without the backbone.

Root attributes tell where the features come from; the datasets are

| dataset | shape, dtype | meaning |
|---|---|---|
| ``features`` | (V, S, crops, F) float32 or float16 | of every view of every video |
| ``video_name``, ``video_label`` | (V,) | name, class id |
| ``video_snippets`` | (V,) int64 | snippets stored in the shards, of which S were taken |
| ``video_crc32`` | (V,) uint32 | checksum of the video's bytes in ``features`` |
| ``trained_on`` | (T,) int64 | videos that the backbone was trained on, see ``train.leakage`` |
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tsn_core.errors import InputError, ShardError
from tsn_core.hdf5_blocks import StructureError
from tsn_core.hdf5_file import fixed_texts, written_hdf5
from tsn_core.hdf5_reader import Hdf5Reader, decoded
from tsn_core.modality import StoredModality
from tsn_core.version import __version__

FEATURE_DTYPES = ("float32", "float16")
_FORMAT, _VERSION = "tsn-features", 1
_TABLES: dict[str, np.dtype | None] = {
    "video_name": None,
    "video_label": np.dtype("<i8"),
    "video_snippets": np.dtype("<i8"),
    "video_crc32": np.dtype("<u4"),
    "trained_on": np.dtype("<i8"),
}
_REMEDY = "make it again with tsn-train features"


@dataclass(frozen=True)
class FeatureSource:
    """Where features come from: the root attributes of their file.

    Attributes:
        dataset: Name of the dataset.
        shards: Folder of its shards.
        modality: Of the snippets, as stored in the shards.
        class_names: By class id.
        backbone: Name of the network.
        weights: ``none``, ``imagenet``, or the path of the weights or the checkpoint.
        weights_sha256: Of that file, in hexadecimal; empty where there is none.
        split: That the backbone was trained on; 0 where none is known.
        input_size: Side of the crops in px.
    """

    dataset: str
    shards: str
    modality: StoredModality
    class_names: tuple[str, ...]
    backbone: str
    weights: str
    weights_sha256: str
    split: int
    input_size: int


@dataclass(frozen=True)
class Features:
    """The features of V videos.

    Attributes:
        source: Where they come from.
        names: Of the videos, unique.
        labels: Class ids, (V,) int64.
        num_snippets: In the shards, (V,) int64.
        trained_on: Hashes of the videos that the backbone was trained on, (T,) int64.
        values: (V, S, crops, F), float32 or float16; S snippets in time.
    """

    source: FeatureSource
    names: tuple[str, ...]
    labels: np.ndarray
    num_snippets: np.ndarray
    trained_on: np.ndarray
    values: np.ndarray

    @property
    def name(self) -> str:
        """What they are called beside others: the modality's folder."""
        return self.source.modality.folder

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id."""
        return self.source.class_names


def write_features(
    path: Path,
    source: FeatureSource,
    *,
    names: tuple[str, ...],
    labels: np.ndarray,
    num_snippets: np.ndarray,
    trained_on: np.ndarray,
    values: Iterable[np.ndarray],
    dtype: str = "float32",
) -> None:
    """Write features atomically, one video after the other; none but one is held in memory.

    Args:
        path: File to write.
        source: Where they come from.
        names: Of the videos, (V,).
        labels: Class ids, (V,).
        num_snippets: In the shards, (V,).
        trained_on: See ``Features``.
        values: Of each video in turn, (S, crops, F).
        dtype: That they are stored in.

    Raises:
        InputError: A feature is no finite number in that type.
        OutputError: The file cannot be written.
    """
    checksums = []
    with written_hdf5(path) as file:
        for key, value in _attributes(source).items():
            file.attrs[key] = value
        features: h5py.Dataset | None = None
        for place, (name, video) in enumerate(zip(names, values, strict=True)):
            with np.errstate(over="ignore"):
                stored = np.ascontiguousarray(video, dtype)
            if not np.isfinite(stored).all():
                raise InputError(_not_finite(name, np.asarray(video), dtype))
            if features is None:
                shape = (len(names), *stored.shape)
                features = file.create_dataset("features", shape, stored.dtype)
            features[place] = stored
            checksums.append(zlib.crc32(stored.data))
        tables = {
            "video_label": labels,
            "video_snippets": num_snippets,
            "video_crc32": checksums,
            "trained_on": trained_on,
        }
        file.create_dataset("video_name", data=fixed_texts(names))
        for key, table in tables.items():
            file.create_dataset(key, data=np.asarray(table, _TABLES[key]))


def _attributes(source: FeatureSource) -> dict[str, Any]:
    values = {**asdict(source), "format": _FORMAT, "package_version": __version__}
    values["modality"] = source.modality.to_json()
    values["modality_folder"] = source.modality.folder
    attributes = {
        key: fixed_texts([value])[0] if isinstance(value, str) else value
        for key, value in values.items()
    }
    return {**attributes, "class_names": fixed_texts(source.class_names), "version": _VERSION}


def _not_finite(name: str, video: np.ndarray, dtype: str) -> str:
    if np.isfinite(video).all():
        return f"{name}: features up to {np.abs(video).max():g} do not fit {dtype}; use float32"
    return f"{name}: the backbone gives features that are not finite; check its weights"


def read_features(path: Path) -> Features:
    """Read a file of features, all of it into memory.

    Raises:
        InputError: There is none, or it is damaged, or of another format or version.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of features; make it with tsn-train features")
    try:
        with path.open("rb") as stream:
            file = Hdf5Reader(stream, path.stat().st_size)
            source = _read_source(file)
            tables: dict[str, Any] = {
                name: file.texts(name) if kind is None else file.array(name, kind)
                for name, kind in _TABLES.items()
            }
            kind = file.stored("features").dtype
            if kind is None or kind.name not in FEATURE_DTYPES:
                found = "another type" if kind is None else kind.name
                raise ShardError(f"features: float32 or float16 expected, got {found}")
            values = file.array("features", kind)
    except StructureError as error:
        raise InputError(f"{path}: damaged: {error}; {_REMEDY}") from None
    except ShardError as error:
        raise InputError(f"{path}: {error}; {_REMEDY}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: damaged: {reason}; {_REMEDY}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read: {reason}; check the file") from None
    defect = _defect(tables, values, source)
    if defect:
        raise InputError(f"{path}: damaged: {defect}; {_REMEDY}")
    return Features(
        source=source,
        names=tables["video_name"],
        labels=tables["video_label"],
        num_snippets=tables["video_snippets"],
        trained_on=tables["trained_on"],
        values=values,
    )


def _read_source(file: Hdf5Reader) -> FeatureSource:
    attributes = file.attributes
    if attributes.get("format") != _FORMAT:
        raise ShardError(f"format {_FORMAT!r} expected, got {attributes.get('format')!r}")
    if attributes["version"] != _VERSION:
        raise ShardError(f"format version {_VERSION} expected, got {attributes['version']}")
    texts = {
        key: str(attributes[key])
        for key in ("dataset", "shards", "backbone", "weights", "weights_sha256")
    }
    return FeatureSource(
        **texts,
        modality=StoredModality.from_json(attributes["modality"]),
        class_names=decoded("class_names", list(attributes["class_names"])),
        split=int(attributes["split"]),
        input_size=int(attributes["input_size"]),
    )


def _defect(tables: dict[str, Any], values: np.ndarray, source: FeatureSource) -> str | None:
    """Return what does not hold between the tables, if anything."""
    names, labels = tables["video_name"], tables["video_label"]
    if values.ndim != 4 or not values.size:
        return f"features: shape (V, S, crops, F) expected, got {values.shape}"
    for name in _TABLES:
        shape = np.shape(tables[name])
        expected = (len(tables[name]),) if name == "trained_on" else values.shape[:1]
        if shape != expected:
            return f"{name}: shape {expected} expected, got {shape}"
    if len(set(names)) != len(names):
        return "video_name: a name stands there twice"
    if ((labels < 0) | (labels >= len(source.class_names))).any():
        return f"video_label: 0 to {len(source.class_names) - 1} expected"
    for name, video, expected in zip(names, values, tables["video_crc32"].tolist()):
        if zlib.crc32(np.ascontiguousarray(video).data) != expected:
            return f"the features of {name} do not match their checksum"
        if not np.isfinite(video).all():
            return f"the features of {name} are not finite"
    return None
