"""Tiny shards to train on, made without any video, and the program as a function."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import add_video, header_of, stored

from train.cli import main
from tsn_core.errors import InputError
from tsn_core.index import Index, ShardEntry, write_index
from tsn_core.manifest import Manifest, Record, write_manifest
from tsn_core.modality import StoredModality
from tsn_core.shard_format import shard_name
from tsn_core.shard_set import ShardSet
from tsn_core.shard_writer import ShardWriter
from tsn_core.tsn import TSN, ModelSettings

CLASSES = ("walk", "run")

torch.set_num_threads(1)  # the networks are tiny: threads would only wait for each other

# (name, label, images of the units, first units of the snippets)
Video = tuple[str, int, np.ndarray, Sequence[int]]


def write_shards(
    folder: Path,
    modality: StoredModality,
    videos: Sequence[Video],
    *,
    per_shard: int = 3,
    class_names: tuple[str, ...] = CLASSES,
    sampling: Mapping[str, Any] | None = None,
) -> ShardSet:
    """Write videos into shards with an index, and open them; the default plan is ``dense``."""
    folder.mkdir(parents=True)
    entries = []
    for number, first in enumerate(range(0, len(videos), per_shard)):
        path = folder / shard_name(number)
        with ShardWriter(path, header_of(modality, class_names=class_names)) as writer:
            for name, label, units, starts in videos[first : first + per_shard]:
                add_video(writer, modality, units, name=name, label=label, starts=starts)
            tables = writer.finish()
        size = path.stat().st_size
        counts = (tables.num_videos, tables.num_images, tables.num_snippets, 0)
        entries.append(ShardEntry(path.name, "f" * 64, size, *counts))
    plan = {"dense": True} if sampling is None else dict(sampling)
    write_index(Index("tiny", modality, plan, class_names, tuple(entries)), folder)
    return ShardSet(folder)


def random_videos(modality: StoredModality, lengths: Sequence[int]) -> list[Video]:
    """Return videos of so many snippets each, of noise; labels alternate."""
    generator = np.random.default_rng(7)
    videos = []
    for number, length in enumerate(lengths):
        shape = modality.kind.image_shape(modality.height or 24, modality.width or 32)
        num_units = length + modality.snippet_length - 1
        units = generator.integers(0, 256, (num_units, *shape), dtype=np.uint8)
        videos.append((f"{CLASSES[number % 2]}/{number}.avi", number % 2, units, range(length)))
    return videos


def bright_or_dark(modality: StoredModality, count: int, num_snippets: int = 3) -> list[Video]:
    """Return videos whose class is plain to see: class 0 is dark, class 1 bright."""
    videos = []
    generator = np.random.default_rng(3)
    for name, label, units, starts in random_videos(modality, [num_snippets] * count):
        noise = generator.integers(0, 60, units.shape, dtype=np.uint8)
        videos.append((name, label, noise + np.uint8((20, 170)[label]), starts))
    return videos


def write_dataset(
    root: Path,
    *,
    modalities: Sequence[StoredModality] = (),
    train: int = 4,
    val: int = 2,
    test: int = 2,
    extra: Sequence[Record] = (),
) -> Path:
    """Write shards of an easy dataset of two classes, and its manifest with split 1.

    Args:
        root: Folder to make.
        modalities: Small RGB if none are given.
        train: Number of training videos.
        val: Number of validation videos.
        test: Number of test videos.
        extra: Further records, of videos that have no snippets.
    """
    for modality in modalities or (stored("rgb"),):
        videos = bright_or_dark(modality, train + val + test)
        write_shards(root / modality.folder, modality, videos)
    subsets = ["train"] * train + ["val"] * val + ["test"] * test
    records = [Record(video[0], video[1], {1: sub}) for video, sub in zip(videos, subsets)]
    write_manifest(Manifest("tiny", CLASSES, (*records, *extra)), root / "manifest.jsonl")
    return root


def model_settings(**changes: Any) -> ModelSettings:
    """Return the settings of a small network; ``changes`` replace single fields."""
    fields: dict[str, Any] = {
        "modality": "rgb",
        "snippet_length": 1,
        "backbone": "resnet18",
        "consensus": "avg",
        "num_segments": 3,
        "num_classes": 2,
        "dropout": 0.5,
        "top": 2,
        "partial_bn": False,
    }
    return ModelSettings(**{**fields, **changes})


def make_tsn(weights: str = "none", **changes: Any) -> TSN:
    """Return a small network, always the same; ``changes`` replace single settings."""
    torch.manual_seed(0)
    return TSN(model_settings(**changes), weights)


def images_of(model: TSN, n: int = 2, k: int = 3, size: int = 32) -> torch.Tensor:
    """Return snippets of noise that a network takes, (n, k, L * C, size, size) uint8."""
    generator = torch.Generator().manual_seed(1)
    shape = (n, k, len(model.mean), size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def message_of(
    function: Callable, *arguments: Any, error: type[Exception] = InputError, **options: Any
) -> str:
    """Return what an error says that a call must raise."""
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    return str(caught.value)


def run_program(*arguments: object) -> Result:
    """Run tsn-train in this process; what is not an error of the user's is raised.

    Without the line that tells off a terminal what begins.
    """
    with patch("train.progress.say"):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def failure(*arguments: object) -> str:
    """Return the one line that tsn-train prints before it exits with status 1."""
    result = run_program(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


def fit_arguments(shards: Path, out: Path, *more: object, modality: str = "rgb") -> list[object]:
    """Return the arguments of a training of seconds; ``more`` override."""
    return [
        *("fit", "--shards", shards, "--modality", modality, "--out", out, "--device", "cpu"),
        *("--backbone", "mobilenet_v3_small", "--weights", "none", "--input-size", 32),
        *("--epochs", 3, "--batch-size", 3, "--lr", 0.01, "--workers", 0, *more),
    ]


def same_tensors(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Return whether two state dicts are equal to the last bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
