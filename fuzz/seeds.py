"""Sound inputs that mutations start from, made when they are needed."""

from __future__ import annotations

import json
import pickle
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from tsn_core.catalog import CATALOG_NAME, write_catalog
from tsn_core.codec import encode_image
from tsn_core.index import INDEX_NAME, Index, read_index, shard_entry, write_index
from tsn_core.manifest import Manifest, Record, write_manifest
from tsn_core.modality import StoredModality, get_modality
from tsn_core.shard_format import ShardHeader
from tsn_core.shard_reader import Shard
from tsn_core.shard_writer import ShardWriter

CLASSES = ("nod", "wave")
NAMES = ("nod/v_nod_1.avi", "wave/v_wave_1.avi", "wave/v_wave_2.avi")
SEPARATOR = b"\n%%\n"  # between the files of an input that is several
SHARD_NAME = "shard-00000.h5"

_HEIGHT, _WIDTH, _IMAGES = 16, 24, 4


def _modality(name: str, codec: str) -> StoredModality:
    kind = get_modality(name)
    return StoredModality(
        name=name,
        snippet_length=2 if kind.stacked else 1,
        channels=kind.unit_channels,
        codec=codec,
        quality=90 if codec == "jpeg" else None,
        scale=1.0,
        zero=0.0,
        height=_HEIGHT,
        width=_WIDTH,
        algorithm="farneback" if kind.stacked else None,
        parameters={"bound": 20.0} if kind.stacked else {},
    )


@cache
def _shard(name: str, codec: str, classes: tuple[str, ...] = CLASSES) -> bytes:
    """Return a shard of three videos and a failure."""
    generator = np.random.default_rng(0)
    modality = _modality(name, codec)
    shape = modality.kind.image_shape(_HEIGHT, _WIDTH)
    header = ShardHeader("tiny", modality, '{"snippets": 3}', classes, 4, "f" * 64)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SHARD_NAME
        with ShardWriter(path, header) as writer:
            for video in NAMES:
                for unit in range(_IMAGES):
                    image = generator.integers(0, 256, shape, dtype=np.uint8)
                    data = encode_image(image, codec, modality.quality)
                    writer.add_image(unit, unit, data)
                writer.end_video(
                    video,
                    CLASSES.index(video.partition("/")[0]),
                    starts=np.array([0, 1, 2]),
                    num_frames=_IMAGES,
                    fps=25.0,
                    size=(2 * _HEIGHT, 2 * _WIDTH),
                    unit_size=(_HEIGHT, _WIDTH),
                    padding=0,
                )
            writer.drop_video("wave/v_wave_3.avi", "open", "no such file")
            writer.finish()
        return path.read_bytes()


def shards() -> list[bytes]:
    """Return shards of all codecs and layouts, one with attributes too large for a heap's block."""
    many = (*CLASSES, *(f"class {number}" for number in range(800)))
    kinds = (("rgb", "jpeg"), ("rgb", "raw"), ("flow", "jpeg"))
    return [*(_shard(name, codec) for name, codec in kinds), _shard("rgb", "jpeg", many)]


@cache
def indices() -> list[bytes]:
    """Return the index of the first of the shards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SHARD_NAME).write_bytes(shards()[0])
        opened = Shard(folder / SHARD_NAME)
        header = opened.header
        entry = shard_entry(opened.path, header, opened.tables)
        sampling = json.loads(header.sampling)
        write_index(Index("tiny", header.modality, sampling, CLASSES, (entry,)), folder)
        return [(folder / "index.json").read_bytes()]


@cache
def catalogs() -> list[bytes]:
    """Return the catalogue that belongs to the index."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SHARD_NAME).write_bytes(shards()[0])
        data = indices()[0]
        (folder / INDEX_NAME).write_bytes(data)
        write_catalog(read_index(folder), data, folder)
        return [(folder / CATALOG_NAME).read_bytes()]


def manifests() -> list[bytes]:
    """Return a manifest."""
    splits = ({1: "train"}, {1: "train", 2: "test"}, {1: "test"})
    records = [
        Record(name, CLASSES.index(name.partition("/")[0]), split)
        for name, split in zip(NAMES, splits)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.jsonl"
        write_manifest(Manifest("tiny", CLASSES, tuple(records)), path)
        return [path.read_bytes()]


def annotations() -> list[bytes]:
    """Return annotated times of actions."""
    action = {"label": "nod", "start_seconds": 1.0, "end_seconds": 2.5}
    video = {"duration_seconds": 60, "fps": 12.5, "actions": [action, {**action, "label": "wave"}]}
    return [json.dumps({"videos": dict.fromkeys(NAMES, video)}).encode()]


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def lists() -> list[bytes]:
    """Return list files in all formats that there are."""
    numbers = _lines(f"{NAMES[0]} 0", f"{NAMES[1]} 1", f"./{NAMES[2]} 1")
    return [
        numbers,
        SEPARATOR.join([_lines(f"{NAMES[0]} nod", f"{NAMES[1]} wave"), b"nod\nwave\n"]),
        _lines(f"{NAMES[0]},nod", f'"{NAMES[1]}","wave"'),
        _lines(
            "label,youtube_id,time_start,time_end,split,is_cc",
            "nod,v_nod_1,0,10,train,0",
            '"wave",v_wave_1,5,15,validate,0',
        ),
        json.dumps(
            {
                "v_nod_1": {
                    "annotations": {"label": "nod", "segment": [0.0, 10.0]},
                    "subset": "train",
                },
                "v_wave_1": {"annotations": [{"label": "wave"}], "subset": "testing"},
            }
        ).encode(),
        json.dumps(
            [
                {"id": "v_nod_1", "label": "nod the head", "template": "nod [something]"},
                {"id": "v_wave_2", "template": "wave", "placeholders": []},
            ]
        ).encode(),
    ]


def ucf101_lists() -> list[bytes]:
    """Return classInd.txt, a list of training videos and one of testing videos."""
    train = _lines(f"{NAMES[0]} 1", f"{NAMES[1]} 2")
    return [SEPARATOR.join([b"1 nod\n2 wave\n", train, _lines(NAMES[2])])]


def hmdb51_lists() -> list[bytes]:
    """Return the split lists of two classes."""
    return [SEPARATOR.join([b"v_nod_1.avi 1 \n", b"v_wave_1.avi 1 \nv_wave_2.avi 2 \n"])]


def folder_lists() -> list[bytes]:
    """Return a split list and classes.txt."""
    train = _lines(f"{NAMES[0]} nod", f"{NAMES[1]} wave", f"{NAMES[2]} 1")
    return [SEPARATOR.join([train, b"nod\nwave\n"])]


def result_pickles() -> list[bytes]:
    """Return scores as mmaction2 has written them, with torch's tensors and NumPy's arrays."""
    import torch

    rows = np.random.default_rng(0).normal(size=(len(NAMES), len(CLASSES)))
    arrays = list(rows.astype(np.float32))
    tensors = [
        {"pred_score": torch.from_numpy(row), "gt_label": torch.tensor([label])}
        for row, label in zip(rows, (0, 1, 1))
    ]
    nested = [{"pred_scores": {"item": sample["pred_score"]}} for sample in tensors]
    return [
        *(pickle.dumps(arrays, protocol) for protocol in (0, 2, 5)),
        *(pickle.dumps(tensors, protocol) for protocol in (2, 4)),
        pickle.dumps(nested, 4),
        pickle.dumps(rows.tolist(), 4),
    ]


def result_texts() -> list[bytes]:
    """Return scores as our JSON, and as mmaction2's."""
    videos = [
        {"name": name, "label": label, "scores": [0.5, -1.25]}
        for name, label in zip(NAMES, (0, 1, 1))
    ]
    named = {"class_names": list(CLASSES), "videos": videos}
    return [json.dumps(named).encode(), json.dumps([[0.5, -1.25]] * len(NAMES)).encode()]


def result_tables() -> list[bytes]:
    """Return scores as CSV."""
    rows = [f"{name},{label},0.5,-1.25" for name, label in zip(NAMES, ("nod", "wave", "1"))]
    return [_lines("name,label,nod,wave", *rows)]


def jpegs() -> list[bytes]:
    """Return a colour and a gray image."""
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return [encode_image(image, "jpeg", 90), encode_image(image[..., 0].copy(), "jpeg", 90)]
