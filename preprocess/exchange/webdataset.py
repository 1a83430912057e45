"""Shards to WebDataset tars: the files of a sample stand one after the other, under one key.

A sample is one video or one snippet: ``KEY.000.jpg``, ``KEY.001.jpg``, … (stored images as they
are; ``png`` where they are raw), ``KEY.cls`` (class id) and ``KEY.json`` (name, label, class,
splits, frames, frame rate, how to read the images). A key ends at the first dot of its last part
(webdataset, ``tariterators.py``, ``base_plus_ext``), so there are no dots in it. The same shards
give the same bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocess.exchange.layout import folder_names
from preprocess.exchange.sidecar import SIDECAR_NAME, claim, mark
from preprocess.exchange.stored import StoredShards, StoredVideo, lossless
from tsn_core.atomic import atomic_path
from tsn_core.errors import InputError
from tsn_core.manifest import Record

SAMPLES = ("video", "snippet")
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class _Sample:
    key: str
    files: list[tuple[str, bytes]]

    @property
    def num_bytes(self) -> int:
        return sum(512 + -(-len(data) // 512) * 512 for _, data in self.files)


def export_webdataset(
    shards: StoredShards,
    out: Path,
    *,
    samples: str,
    split: int | None,
    most_megabytes: int,
    seen: Callable[[str], None],
) -> tuple[list[Path], int]:
    """Write tars of every modality, each at most so large, unless one sample is larger.

    A tar appears whole; what an interrupted run has finished is kept.

    Args:
        shards: What to export.
        out: Folder to write.
        samples: ``video``, or ``snippet`` for those one by one.
        split: Whose subsets get tars of their own; None puts all videos into the same.
        most_megabytes: Of one tar.
        seen: Told the name of every video that is through.

    Returns:
        (the tars: ``DATASET-MODALITY[-split1-train]-000000.tar``, how many this run wrote).

    Raises:
        InputError: There is no such split, or no room in a tar.
        SettingsError: Something else is in the folder.
        ShardError: A shard is damaged.
        OutputError: A tar cannot be written.
    """
    if most_megabytes < 1:
        raise InputError(f"--max-mb must be > 0, got {most_megabytes}")
    keys = folder_names([record.name for record in shards.records], dots=False)
    groups: list[tuple[str, Sequence[Record]]] = [("", shards.records)]
    if split is not None:
        subsets = {
            record.splits[split]: None for record in shards.records if split in record.splits
        }
        if not subsets:
            shards.manifest.subset_names(split, "train")  # says which splits there are
        groups = [
            (
                f"-split{split}-{subset}",
                [r for r in shards.records if r.splits.get(split) == subset],
            )
            for subset in sorted(subsets)
        ]
    run = {
        "shards": shards.digest,
        "samples": samples,
        "split": split,
        "max_mb": most_megabytes,
    }
    claim(out, run)
    paths: list[Path] = []
    written = 0
    for folder in shards.indices:
        for suffix, records in groups:
            stem = f"{shards.dataset}-{folder}{suffix}"
            found = _samples(shards, folder, records, keys, samples, seen)
            for path, tar in _cut(found, out, stem, most_megabytes * _MEGABYTE):
                paths.append(path)
                written += _write_tar(path, tar)
    mark(out / SIDECAR_NAME, run, complete=True)
    return paths, written


def _cut(
    found: Iterator[_Sample], out: Path, stem: str, most: int
) -> Iterator[tuple[Path, Iterator[_Sample]]]:
    """Yield the path and the samples of every tar; the latter must be used up before the next."""
    waiting = next(found, None)

    def of_one_tar() -> Iterator[_Sample]:
        nonlocal waiting
        size = 0
        while waiting is not None and (not size or size + waiting.num_bytes <= most):
            size += waiting.num_bytes
            yield waiting
            waiting = next(found, None)

    number = 0
    while waiting is not None:
        yield out / f"{stem}-{number:06d}.tar", of_one_tar()
        number += 1


def _write_tar(path: Path, samples: Iterator[_Sample]) -> bool:
    """Write a tar unless it is there; return whether it was not."""
    if path.exists():
        for _ in samples:  # the next tar begins behind them
            pass
        return False
    with (
        atomic_path(path) as temporary,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for sample in samples:
            for ending, data in sample.files:
                info = tarfile.TarInfo(f"{sample.key}.{ending}")
                info.size, info.mode = len(data), 0o644  # no times and no owners
                tar.addfile(info, io.BytesIO(data))
    return True


def _samples(
    shards: StoredShards,
    folder: str,
    records: Sequence[Record],
    keys: dict[str, str],
    samples: str,
    seen: Callable[[str], None],
) -> Iterator[_Sample]:
    length = shards.indices[folder].modality.snippet_length
    for record in records:
        video = shards.video(folder, record.name)
        if video is None:
            continue
        images, frames = list(video.images()), video.frames
        facts = _facts(shards, video, record)
        key = keys[record.name]
        if samples == "video":
            snippets = {"frames": frames, "snippets": video.snippets}
            yield _sample(key, video, images, {**facts, **snippets})
        else:
            for number, first in enumerate(video.snippets):
                chosen = slice(first, first + length)
                more = {"frames": frames[chosen], "snippet": number}
                yield _sample(f"{key}-{number:05d}", video, images[chosen], {**facts, **more})
        seen(record.name)


def _facts(shards: StoredShards, video: StoredVideo, record: Record) -> dict[str, Any]:
    tables = video.shard.tables
    return {
        "name": record.name,
        "dataset": shards.dataset,
        "label": record.label,
        "class": shards.class_names[record.label],
        "splits": {str(split): subset for split, subset in sorted(record.splits.items())},
        "num_frames": int(tables.video_frames[video.place]),
        "fps": float(tables.video_fps[video.place]),
        "unit_size": list(video.unit_size),
        "modality": asdict(video.modality),
    }


def _sample(key: str, video: StoredVideo, images: list[bytes], facts: dict[str, Any]) -> _Sample:
    raw = video.modality.codec == "raw"
    ending = "png" if raw else "jpg"
    digits = max(3, len(str(len(images) - 1)))
    files = [
        (f"{number:0{digits}d}.{ending}", lossless(video.decoded(data)) if raw else data)
        for number, data in enumerate(images)
    ]
    files.append(("cls", str(facts["label"]).encode()))
    files.append(("json", json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()))
    return _Sample(key, files)
