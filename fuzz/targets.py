"""What is fuzzed: every reader of files that others may have made.

A target is given bytes and a folder of its own. It may return, or raise a ``TSNError`` of one line;
anything else is a bug.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from fuzz import seeds
from fuzz.pickle_mutations import mutate_pickle
from fuzz.shard_mutations import mutate_catalog, mutate_shard
from fuzz.text_mutations import mutate_json, mutate_text
from preprocess.datasets import scan_dataset
from train.annotations import read_annotations
from train.foreign_scores import to_scores
from train.score_formats import read_results
from train.scores import SCORES_NAME, read_scores, write_scores
from tsn_core.catalog import CATALOG_NAME
from tsn_core.check import folder_defects
from tsn_core.codec import MOST_PIXELS_PER_BYTE, decode_image, jpeg_shape
from tsn_core.errors import TSNError
from tsn_core.index import INDEX_NAME
from tsn_core.manifest import read_manifest, write_manifest
from tsn_core.shard_reader import Shard, read_header
from tsn_core.shard_set import ShardSet

_MOST_READ = 4  # videos, and snippets of each


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        check: Reads the input, in an empty folder.
        sound: Returns the inputs that mutations start from.
        mutate: Makes a hostile input of another one.
    """

    check: Callable[[bytes, Path], None]
    sound: Callable[[], list[bytes]]
    mutate: Callable[[bytes, Random], bytes]


def run(name: str, data: bytes, folder: Path) -> str:
    """Give an input to a target.

    Returns:
        The message of the error that refused it; empty if it was read.

    Raises:
        AssertionError: The message is not one line of UTF-8.
    """
    try:
        TARGETS[name].check(data, folder)
    except TSNError as error:
        message = str(error)
        message.encode()
        assert len(error.args) == 1 and len(message.splitlines()) == 1 and len(message) < 2100
        return message
    return ""


def _shard(data: bytes, folder: Path) -> None:
    path = folder / seeds.SHARD_NAME
    path.write_bytes(data)
    defects = folder_defects(folder).lines
    assert all(len(line.splitlines()) == 1 for line in defects)
    header = read_header(path)
    shard = Shard(path)
    assert header == shard.header
    for video in range(min(shard.tables.num_videos, _MOST_READ)):
        chosen = range(min(shard.num_snippets(video), _MOST_READ))
        assert len(shard.snippet_frames(video)) == shard.num_snippets(video)
        shard.read_snippets(video, chosen)


def _index(data: bytes, folder: Path) -> None:
    (folder / seeds.SHARD_NAME).write_bytes(seeds.shards()[0])
    (folder / INDEX_NAME).write_bytes(data)
    defects = folder_defects(folder).lines
    assert all(len(line.splitlines()) == 1 for line in defects)
    shards = ShardSet(folder)
    for video in range(min(len(shards), _MOST_READ)):
        shards.read(video, [0])


def _catalog(data: bytes, folder: Path) -> None:
    (folder / seeds.SHARD_NAME).write_bytes(seeds.shards()[0])
    (folder / INDEX_NAME).write_bytes(seeds.indices()[0])
    (folder / CATALOG_NAME).write_bytes(data)
    defects = folder_defects(folder).lines
    assert all(len(line.splitlines()) == 1 for line in defects)
    shards = ShardSet(folder)
    assert tuple(shards.names) == shards.names
    assert shards.find(tuple(shards.names)).tolist() == list(range(len(shards)))
    for video in range(min(len(shards), _MOST_READ)):
        shards.read(video, [0])


def _manifest(data: bytes, folder: Path) -> None:
    path = folder / "manifest.jsonl"
    path.write_bytes(data)
    manifest = read_manifest(path)
    for split in manifest.split_numbers[:_MOST_READ]:
        manifest.subset_names(split, "train")
    write_manifest(manifest, path)
    assert read_manifest(path) == manifest


def _annotations(data: bytes, folder: Path) -> None:
    path = folder / "annotations.json"
    path.write_bytes(data)
    read_annotations(path, seeds.CLASSES)


def _dataset(kind: str, names: tuple[str, ...]) -> Callable[[bytes, Path], None]:
    """Return the target of a dataset whose lists are the parts of the input."""

    def check(data: bytes, folder: Path) -> None:
        for video in seeds.NAMES:
            (folder / "videos" / video).parent.mkdir(parents=True, exist_ok=True)
            (folder / "videos" / video).touch()
        for name, part in zip(names, data.split(seeds.SEPARATOR)):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(part)
        lists = [folder / names[0]] if kind == "list" else []
        manifest = scan_dataset(kind, folder, lists)
        write_manifest(manifest, folder / "manifest.jsonl")
        assert read_manifest(folder / "manifest.jsonl") == manifest

    return check


def _results(kind: str, suffix: str) -> Callable[[bytes, Path], None]:
    """Return the target of a file of scores."""

    def check(data: bytes, folder: Path) -> None:
        path = folder / f"result.{suffix}"
        path.write_bytes(data)
        results = read_results(
            path,
            kind,
            num_videos=len(seeds.NAMES),
            num_classes=len(seeds.CLASSES),
            allow_pickle=True,
        )
        scores = to_scores(
            results,
            name="theirs",
            source=path,
            listed=(list(seeds.NAMES), np.array([0, 1, 1])),
            class_names=None if results.class_names else seeds.CLASSES,
            like=None,
            probabilities=False,
        )
        write_scores(scores, folder / SCORES_NAME)
        assert read_scores(folder).names.tolist() == scores.names.tolist()

    return check


def _jpeg(data: bytes, folder: Path) -> None:
    array = np.frombuffer(data, np.uint8)
    shape = jpeg_shape(array)
    if shape is None or shape[0] * shape[1] > MOST_PIXELS_PER_BYTE * len(data):
        shape = (16, 24, 3)  # as a shard does not ask for more pixels than that
    assert decode_image(array, "jpeg", shape).shape == shape


def _mutated_shard(data: bytes, random: Random) -> bytes:
    return mutate_shard(data, random, sound=data in seeds.shards())


def _mutated_catalog(data: bytes, random: Random) -> bytes:
    return mutate_catalog(data, random, sound=data in seeds.catalogs())


def _mutated_jpeg(data: bytes, random: Random) -> bytes:
    out = bytearray(data or b"\xff\xd8\xff")
    for _ in range(random.choice((1, 2, 8))):
        out[random.randrange(len(out))] = random.randrange(256)
    frame = out.find(b"\xff\xc0")
    if random.random() < 0.4 and 0 <= frame < len(out) - 9:
        size = random.choice((0, 1, 15, 25, 1000, 32767, 65500, 65535))
        struct.pack_into(">HH", out, frame + 5, size, random.choice((size, 24)))
    return bytes(out)


TARGETS = {
    "shard": Target(_shard, seeds.shards, _mutated_shard),
    "index": Target(_index, seeds.indices, mutate_json),
    "catalog": Target(_catalog, seeds.catalogs, _mutated_catalog),
    "manifest": Target(_manifest, seeds.manifests, mutate_json),
    "annotations": Target(_annotations, seeds.annotations, mutate_json),
    "list": Target(_dataset("list", ("train.txt", "classes.txt")), seeds.lists, mutate_text),
    "ucf101": Target(
        _dataset(
            "ucf101",
            ("splits/classInd.txt", "splits/trainlist01.txt", "splits/testlist01.txt"),
        ),
        seeds.ucf101_lists,
        mutate_text,
    ),
    "hmdb51": Target(
        _dataset("hmdb51", ("splits/nod_test_split1.txt", "splits/wave_test_split1.txt")),
        seeds.hmdb51_lists,
        mutate_text,
    ),
    "folder": Target(
        _dataset("folder", ("splits/train_split_1.txt", "classes.txt")),
        seeds.folder_lists,
        mutate_text,
    ),
    "result-pickle": Target(_results("mmaction2", "pkl"), seeds.result_pickles, mutate_pickle),
    "result-json": Target(_results("json", "json"), seeds.result_texts, mutate_json),
    "result-csv": Target(_results("csv", "csv"), seeds.result_tables, mutate_text),
    "jpeg": Target(_jpeg, seeds.jpegs, _mutated_jpeg),
}
