"""The catalogue: the same videos with it and without, few files opened, and never trusted."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import stored
from train_helpers import message_of, random_videos, write_dataset, write_shards

from tsn_core import catalog as catalogs
from tsn_core import shard_set, shards
from tsn_core.catalog import CATALOG_NAME, crc32_of
from tsn_core.check import folder_defects
from tsn_core.errors import InputError, ShardError, UnknownVideoError
from tsn_core.index import read_index, update_index, write_index
from tsn_core.manifest import Manifest, Record, check_relative, read_manifest, write_manifest
from tsn_core.shard_pool import ShardPool, memory_of
from tsn_core.shard_reader import Shard
from tsn_core.shard_set import ShardSet
from tsn_core.shards import open_shards
from tsn_core.video_names import VideoNames

LENGTHS = [3, 1, 4, 1, 5, 9, 2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven videos of two classes in four shards."""
    videos = random_videos(stored("rgb"), LENGTHS)
    plan = {"snippets": 3}
    return write_shards(tmp_path / "rgb", stored("rgb"), videos, per_shard=2, sampling=plan).folder


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the shards that a set opens from now on."""
    names: list[str] = []

    class Recorded(Shard):
        def __init__(self, path, cache=None):
            names.append(Path(path).name)
            super().__init__(path, cache)

    monkeypatch.setattr(shard_set, "Shard", Recorded)
    return names


def everything(shards: ShardSet) -> list:
    columns = ("labels", "num_snippets", "num_frames", "fps")
    return [
        list(shards.names),
        *([getattr(shards, name).dtype, getattr(shards, name).tolist()] for name in columns),
        shards.shard_numbers().tolist(),
        shards.digest,
        shards.class_names,
        [shards.snippet_frames(video).tolist() for video in range(len(shards))],
        [shards.read(video, [0]).tobytes() for video in range(len(shards))],
    ]


def edit(folder: Path, sign: bool = True, **columns) -> None:
    """Replace columns of the catalogue, and make its checksum right again."""
    with h5py.File(folder / CATALOG_NAME, "r+", libver=("v110", "v110")) as file:
        for name, column in columns.items():
            del file[name]
            file.create_dataset(name, data=column)
        if sign:
            file.attrs["column_crc32"] = np.uint32(crc32_of({n: file[n][...] for n in file}))


def column(folder: Path, name: str) -> np.ndarray:
    with h5py.File(folder / CATALOG_NAME, "r") as file:
        return file[name][...]


def test_a_set_is_the_same_with_the_catalogue_and_without(folder, opened):
    with_it = ShardSet(folder)
    assert opened == []
    (folder / CATALOG_NAME).unlink()
    without = ShardSet(folder)
    assert len(opened) == 4
    assert everything(with_it) == everything(without)


def test_only_shards_that_are_asked_for_are_opened(folder, opened):
    shards = ShardSet(folder)
    assert (len(shards), shards.names[6], "run/5.avi" in shards) == (7, "walk/6.avi", True)
    assert (shards.number("run/3.avi"), shards.labels[3], shards.num_snippets[3]) == (3, 1, 1)
    assert opened == []
    shards.read(3, [0])
    shards.snippet_frames(2)
    assert opened == ["shard-00001.h5"]
    shards.read(-1, [0])
    assert opened == ["shard-00001.h5", "shard-00003.h5"]
    with pytest.raises(IndexError) as caught:
        shards.read(7, [0])
    assert str(caught.value) == f"{folder}: 7 videos, asked for number 7"


def test_h5py_reads_it(folder):
    shards = ShardSet(folder)
    with h5py.File(folder / CATALOG_NAME) as file:
        assert sorted(file.attrs) == ["column_crc32", "format", "index_sha256", "version"]
        names = file["video_name"].asstr()[:]
        assert tuple(names) == shards.names
        assert sorted(names) == names[file["name_order"][:]].tolist()
        assert file["shard_videos"][:].tolist() == [2, 2, 2, 1]
        for number, checksum in enumerate(file["shard_table_crc32"][:].tolist()):
            assert Shard(folder / f"shard-{number:05d}.h5").table_crc32 == checksum


def test_the_same_index_gives_the_same_bytes(folder):
    before = (folder / CATALOG_NAME).read_bytes()
    write_index(read_index(folder), folder)
    assert (folder / CATALOG_NAME).read_bytes() == before


# --- missing, stale, damaged ---


def test_another_index_makes_it_count_as_missing(folder, opened):
    expected = everything(ShardSet(folder))
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    opened.clear()
    assert everything(ShardSet(folder)) == expected
    assert len(opened) == 4


@pytest.mark.parametrize(("name", "value"), [("format", b"other"), ("version", 2)])
def test_another_version_makes_it_count_as_missing(folder, opened, name, value):
    with h5py.File(folder / CATALOG_NAME, "r+", libver=("v110", "v110")) as file:
        file.attrs[name] = np.bytes_(value) if isinstance(value, bytes) else value
    assert len(ShardSet(folder)) == 7
    assert len(opened) == 4


def test_a_damaged_one_is_refused_and_written_anew(folder):
    path = folder / CATALOG_NAME
    whole = path.read_bytes()
    place = whole.index(b"walk/0.avi")
    flipped = whole[:place] + b"x" + whole[place + 1 :]
    remedy = "delete the file, or run extract again"
    for data, reason in (
        (flipped, "the columns do not match their checksum"),
        (whole[:-1], f"truncated: {len(whole)} bytes expected, got {len(whole) - 1}"),
        (b"", "not an HDF5 file"),
    ):
        path.write_bytes(data)
        line = f"{path}: damaged: {reason}; {remedy}"
        assert message_of(ShardSet, folder, error=ShardError) == line
        assert folder_defects(folder).lines == [line]
        update_index(read_index(folder), folder)
        assert path.read_bytes() == whole
    assert folder_defects(folder).lines == []


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"video_label": np.zeros(6, "i4")}, "video_label: shape (7,) expected, got (6,)"),
        ({"video_label": np.zeros(7, "i8")}, "video_label: int32 expected, got int64"),
        ({"video_label": np.full(7, 2, "i4")}, "video_label: 0 to 1 expected"),
        ({"video_snippets": np.full(7, -1)}, "video_snippets: numbers from 0 on expected"),
        ({"name_order": np.full(7, 7)}, "name_order: 0 to 6 expected"),
        ({"name_order": np.arange(7)}, "name_order: different names in rising order expected"),
        ({"name_order": np.zeros(7, "i8")}, "name_order: different names in rising order expected"),
        ({"shard_videos": np.array([2, 2, 2])}, "shard_videos: shape (4,) expected, got (3,)"),
        ({"shard_videos": np.array([2, 2, 2, 2])}, "shard_videos: 7 videos expected, got 8"),
        ({"shard_videos": np.array([2, 2, -1, 4])}, "shard_videos: 0 to 7 expected"),
        ({"video_name": np.array([b"\xff"] * 7)},
         "video_name: texts in UTF-8 expected, got other bytes"),
        ({"video_name": np.zeros((7, 1), "S1")},
         "video_name: a list of strings of one length expected"),
    ],
)  # fmt: skip
def test_a_hostile_one_is_refused(folder, columns, reason):
    edit(folder, **columns)
    assert message_of(ShardSet, folder, error=ShardError) == (
        f"{folder / CATALOG_NAME}: damaged: {reason}; delete the file, or run extract again"
    )


def test_a_huge_one_costs_nothing(folder):
    with h5py.File(folder / CATALOG_NAME, "r+", libver=("v110", "v110")) as file:
        del file["video_name"]
        file.create_dataset("video_name", (10**12,), "S8")
    assert message_of(ShardSet, folder, error=ShardError) == (
        f"{folder / CATALOG_NAME}: damaged: video_name: larger than the file; delete the file, or "
        "run extract again"
    )


def told_by(folder: Path, number: int) -> str:
    return (
        f"{folder}/shard-{number:05d}.h5: not the shard that {folder / CATALOG_NAME} tells of; "
        "delete that file, or mend it with tsn-preprocess verify --repair"
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"video_frames": np.full(7, 8, "i4")},
        {"video_fps": np.full(7, np.nan)},
        {"video_label": np.zeros(7, "i4")},
        {"video_snippets": np.full(7, 50)},
        {"shard_table_crc32": np.zeros(4, "u4")},
        {"shard_videos": np.array([1, 3, 2, 1])},
        {"video_name": np.array([f"{n}.avi".encode() for n in range(7)]),
         "name_order": np.arange(7)},
    ],
    ids=lambda columns: next(iter(columns)),
)  # fmt: skip
def test_shards_that_it_does_not_tell_of(folder, columns):
    edit(folder, **columns)
    shards = ShardSet(folder)
    assert message_of(shards.read, 0, [0], error=ShardError) == told_by(folder, 0)
    assert told_by(folder, 0) in folder_defects(folder).lines
    assert folder_defects(folder).catalog == folder / CATALOG_NAME


def test_a_shard_that_is_another_one_or_gone(folder):
    shards = ShardSet(folder)
    first, second = folder / "shard-00000.h5", folder / "shard-00001.h5"
    second.unlink()
    assert message_of(shards.read, 2, [0], error=ShardError) == (
        f"{second}: no such shard; extract it, or check the path"
    )
    first.rename(second)
    assert message_of(shards.read, 2, [0], error=ShardError) == told_by(folder, 1)
    (folder / "index.json").unlink()  # an extraction is under way
    assert message_of(shards.read, 2, [0], error=ShardError) == (
        f"{second}: changed since this program opened it; run the same command again"
    )


def test_verify_mends_it(program, folder_dataset, tmp_path):
    extract = (
        "extract",
        "--dataset",
        "folder",
        "--data",
        folder_dataset,
        "--out",
        tmp_path / "out",
    )
    assert program(*extract).exit_code == 0
    folder = tmp_path / "out" / "gestures" / "rgb"
    whole = (folder / CATALOG_NAME).read_bytes()
    edit(folder, video_fps=np.zeros(len(ShardSet(folder))))
    assert (folder / CATALOG_NAME).read_bytes() != whole
    repaired = program("verify", folder.parent, "--repair")
    assert repaired.exit_code == 0
    assert (folder / CATALOG_NAME).read_bytes() == whole
    # and the next extraction makes one for a folder that has none
    (folder / CATALOG_NAME).unlink()
    index = (folder / "index.json").stat()
    assert program(*extract).exit_code == 0
    assert (folder / CATALOG_NAME).read_bytes() == whole
    assert (folder / "index.json").stat().st_mtime_ns == index.st_mtime_ns


def test_a_folder_of_which_there_can_be_none(folder):
    """The index is written all the same; who opens the shard is told."""
    index = read_index(folder)
    before = (folder / "index.json").read_bytes()
    (folder / CATALOG_NAME).unlink()
    path = folder / "shard-00002.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    update_index(index, folder)
    write_index(index, folder)
    assert not (folder / CATALOG_NAME).exists()
    assert (folder / "index.json").read_bytes() == before
    assert message_of(ShardSet, folder, error=ShardError).startswith(f"{path}: damaged: truncated")


KILLED = """
import os, sys
from pathlib import Path
from tsn_core import atomic
from tsn_core.index import read_index, write_index
folder = Path(sys.argv[1])
index = read_index(folder)
(folder / "index.json").unlink()
calls = []
publish = atomic.publish
def killed(temporary, path):
    calls.append(path)
    if len(calls) > int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    publish(temporary, path)
atomic.publish = killed
write_index(index, folder)
"""


@pytest.mark.parametrize("number", [0, 1, 2])
def test_killed_between_the_files(folder, number):
    expected = everything(ShardSet(folder))
    index, whole = read_index(folder), (folder / CATALOG_NAME).read_bytes()
    (folder / CATALOG_NAME).write_bytes(b"of an older index")
    done = subprocess.run([sys.executable, "-c", KILLED, folder, str(number)], cwd=Path.cwd())
    assert done.returncode == (0 if number == 2 else -9)
    assert (folder / "index.json").exists() == (number == 2), "it is written last"
    assert ((folder / CATALOG_NAME).read_bytes() == whole) == (number > 0)
    update_index(index, folder)  # what the next extraction does
    assert (folder / CATALOG_NAME).read_bytes() == whole
    assert everything(ShardSet(folder)) == expected


# --- names ---


def test_names_are_a_sequence_of_texts():
    texts = ("walk/b.avi", "walk/ü.avi", "a", "walk/a.avi", "")
    names = VideoNames.of([text.encode() for text in texts])
    assert (len(names), names[1], names[-2], names[1:3]) == (5, texts[1], texts[3], texts[1:3])
    assert names == texts and texts == names and names == VideoNames.of([t.encode() for t in texts])
    assert names != texts[:4] and names != (*texts[:4], "x") and names != list(texts)
    assert list(names) == list(texts) and list(reversed(names)) == list(reversed(texts))
    assert names.find(texts).tolist() == [0, 1, 2, 3, 4]
    others = ["walk/c.avi", "a\0", "walk/ü.avi" + "x" * 50, "\ud800", "b", "A"]
    assert names.find(others).tolist() == [-1] * 6
    assert "a" in names and "b" not in names and 5 not in names
    assert names.take(np.array([3, 0])) == ("walk/a.avi", "walk/b.avi")
    assert repr(names) == "<5 names: 'walk/b.avi', 'walk/ü.avi', 'a', …>"
    assert names.differ and not VideoNames.of([b"a", b"b", b"a"]).differ
    with pytest.raises(IndexError):
        names[5]
    empty = VideoNames.of([])
    assert (len(empty), empty == (), empty.find(["a"]).tolist(), empty.differ) == (
        0, True, [-1], True,
    )  # fmt: skip


def test_many_names_are_found():
    texts = [f"{number * 7919 % 10007}.avi" for number in range(10007)]
    names = VideoNames.of([text.encode() for text in texts])
    assert names.find(texts).tolist() == list(range(10007))
    assert names.differ
    names.order[[5000, 5001]] = names.order[[5001, 5000]]
    assert not names.differ


# --- memory, other processes ---


def test_tables_are_kept_within_limits(folder, opened):
    shards = ShardSet(folder)
    one = memory_of(Shard(folder / "shard-00000.h5"))
    shards._pool = ShardPool(most_bytes=int(2.5 * one), most_open=1)
    for video in (0, 2, 1, 4, 0, 6, 2):
        shards.read(video, [0])
        assert len(shards._pool) <= 2
        files = [shard._file._bytes is not None for shard in shards._pool._shards.values()]
        assert sum(files) == 1
    assert [int(name[6:11]) for name in opened] == [0, 1, 2, 3, 1]
    shards._pool = ShardPool(most_bytes=1)
    assert everything(shards) == everything(ShardSet(folder))
    assert len(shards._pool) == 1


def test_opening_without_it_keeps_few_tables(folder, monkeypatch):
    (folder / CATALOG_NAME).unlink()
    monkeypatch.setattr(shard_set, "ShardPool", lambda: ShardPool(most_bytes=1))
    assert len(ShardSet(folder)._pool) == 1


def test_making_it_keeps_few_tables(folder, monkeypatch):
    monkeypatch.setattr(catalogs, "_AT_ONCE", 3)
    before = (folder / CATALOG_NAME).read_bytes()
    write_index(read_index(folder), folder)
    assert (folder / CATALOG_NAME).read_bytes() == before


def test_it_travels_without_tables(folder):
    shards = ShardSet(folder)
    small = len(pickle.dumps(shards))
    expected = everything(shards)
    assert len(pickle.dumps(shards)) == small < 4000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(everything, (shards,)) == expected


def test_memory_for_a_video_is_a_few_times_its_name(tmp_path):
    """Neither tuples nor dictionaries of names."""
    names = [f"brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_{n:06d}.avi" for n in range(50_000)]
    columns = VideoNames.of([name.encode() for name in names])
    assert columns.data.nbytes + columns.order.nbytes <= 50_000 * (len(names[0]) + 8)
    assert set(vars(columns)) == {"data", "order"}


# --- the manifest, when it is asked for ---


def test_the_manifest_is_read_when_it_is_asked_for(tmp_path, monkeypatch):
    root = write_dataset(tmp_path / "tiny", train=3, val=1, test=2)
    read = []
    monkeypatch.setattr(shards, "read_manifest", lambda p: read.append(p) or read_manifest(p))
    opened = open_shards(root)
    assert opened.names == opened.shard_set.names
    video = opened[0]
    assert opened["run/1.avi"].label == 1 and "run/1.avi" in opened
    video.read()
    assert read == []
    assert video.splits == {1: "train"} and repr(video.splits) == "{1: 'train'}"
    assert len(opened.subset(1, "train")) == 3
    assert len(opened[2:].subset(1, "train")) == 1
    assert opened[2:].missing(1, "train") == ("walk/0.avi", "run/1.avi")
    assert read == [root / "manifest.jsonl"]
    again = pickle.loads(pickle.dumps(opened[:2]))
    assert again[1].splits == {1: "train"} and again[1] == opened[1]
    with pytest.raises(UnknownVideoError) as caught:
        opened[1:].select(["run/1.avi", "walk/0.avi"])
    assert str(caught.value) == (
        f"{root / 'rgb'}: no video 'walk/0.avi' among these 5; names are paths below the dataset's "
        "folder, such as run/1.avi"
    )
    (root / "manifest.jsonl").write_text("x")
    damaged = open_shards(root)
    assert len(damaged[0].name) == 10
    with pytest.raises(InputError) as error:
        damaged.subset(1, "train")
    assert str(error.value).startswith(f"{root / 'manifest.jsonl'}, line 1: cut short or damaged")


def test_equal_splits_are_one_object(tmp_path):
    records = [Record(f"{n}.avi", 0, {1: "train", 2: ("test", "val")[n % 2]}) for n in range(6)]
    write_manifest(Manifest("tiny", ("a",), tuple(records)), tmp_path / "manifest.jsonl")
    found = read_manifest(tmp_path / "manifest.jsonl").records
    assert found == tuple(records)
    assert len({id(record.splits) for record in found}) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"name": "a", "label": 0, "splits": {}} x', "cut short or damaged: Extra data; "),
        ("", "cut short or damaged: Expecting value; "),
        ('{"name": "a", "label": 0, "splits": {"x": "train"}}', "ValueError(\"invalid literal"),
        ('{"name": "a", "label": 0, "splits": {"1": ["train"]}}', "a: subset of split 1 must be"),
        ('{"name": "a", "label": 0, "splits": []}', "AttributeError("),
    ],
)  # fmt: skip
def test_lines_that_are_none(tmp_path, line, reason):
    path = tmp_path / "manifest.jsonl"
    write_manifest(Manifest("tiny", ("a",), (Record("b", 0),)), path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}, line 3: ") and reason in str(caught.value)


def test_lines_with_spaces_around_are_read(tmp_path):
    path = tmp_path / "manifest.jsonl"
    write_manifest(Manifest("tiny", ("a",), (Record("b", 0),)), path)
    path.write_text(path.read_text() + ' {"name": "c", "label": 0, "splits": {}} \n')
    assert [record.name for record in read_manifest(path).records] == ["b", "c"]


@pytest.mark.parametrize("name", ["a..b/c", "ab:c", "..a", "a\\b", "é/a"])
def test_names_with_something_odd_that_stay_inside(name):
    assert check_relative(name) == name


@pytest.mark.parametrize(
    "name", ["", "/a", "..", "a/../b", "a\\..\\b", "\\a", "c:a", ":a", "a\0b", "//server/a"]
)
def test_names_that_climb_out(name):
    with pytest.raises(InputError) as caught:
        check_relative(name)
    assert str(caught.value) == f"{name!r}: expected a path inside the dataset folder".replace(
        "\0", "\\x00"
    )
