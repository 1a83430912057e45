"""``verify``: a line for every defect, and no defect without a line."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import add_video, header_of, stored

from tsn_core.check import folder_defects, modality_folders
from tsn_core.errors import InputError, ShardError
from tsn_core.index import Index, ShardEntry, read_index, write_index
from tsn_core.shard_reader import Shard
from tsn_core.shard_writer import ShardWriter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sound shards of two videos each, the second with a failure, and their index."""
    folder = tmp_path / "tiny" / "rgb"
    folder.mkdir(parents=True)
    modality = stored("rgb", height=2, width=3)
    generator = np.random.default_rng(0)
    entries = []
    for number in range(2):
        path = folder / f"shard-{number:05d}.h5"
        with ShardWriter(path, header_of(modality, fingerprint=f"{number}" * 64)) as writer:
            for video in ("a", "b"):
                units = generator.integers(0, 256, (3, 2, 3, 3), dtype=np.uint8)
                add_video(writer, modality, units, name=f"{video}{number}.avi", starts=(0, 2))
            if number:
                writer.drop_video("c.avi", "open", "no such file")
            tables = writer.finish()
        entries.append(
            ShardEntry(
                file=path.name,
                fingerprint=f"{number}" * 64,
                num_bytes=path.stat().st_size,
                num_videos=2,
                num_images=tables.num_images,
                num_snippets=tables.num_snippets,
                num_failures=number,
            )
        )
    index = Index("tiny", modality, {"snippets": 3}, ("walk", "run"), tuple(entries))
    write_index(index, folder)
    return folder


@pytest.fixture
def verify(program, folder):
    """Run verify; return (exit code, lines of defects without the folder, last line of output)."""

    def run():
        result = program("verify", folder.parent)
        lines = [line.removeprefix(f"{folder}/") for line in result.stderr.splitlines()]
        return result.exit_code, lines, result.stdout.splitlines()[-1].removeprefix(f"{folder}: ")

    return run


def flip(path: Path, place: int, mask: int = 0xFF) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= mask
    path.write_bytes(data)


def test_sound(verify, folder, program):
    assert verify() == (0, [], "sound")
    assert program("verify", folder).stdout == f"{folder}: sound\n"


def test_a_flipped_byte_of_an_image(verify, folder):
    path = folder / "shard-00001.h5"
    with h5py.File(path, "r") as file:
        offset = file["images"].id.get_offset()
    for place, name in ((0, "a1"), (53, "a1"), (54, "b1"), (107, "b1")):
        flip(path, offset + place, 0x01)
        assert verify() == (
            1,
            [f"shard-00001.h5: the images of {name}.avi do not match their checksum"],
            "1 defect",
        )
        flip(path, offset + place, 0x01)
    assert verify() == (0, [], "sound")


def test_a_changed_table(verify, folder):
    with h5py.File(folder / "shard-00000.h5", "r+", libver=("v110", "v110")) as file:
        file["video_frames"][0] = 99
    assert verify() == (
        1,
        ["shard-00000.h5: the tables do not match their checksum"],
        "1 defect",
    )


def test_every_defect_is_a_line(verify, folder):
    entry = json.loads((folder / "index.json").read_text())
    entry["shards"][0]["num_images"] = 7
    entry["shards"][1]["fingerprint"] = "x"
    (folder / "index.json").write_text(json.dumps(entry))
    with h5py.File(folder / "shard-00000.h5", "r") as file:
        offset = file["images"].id.get_offset()
    flip(folder / "shard-00000.h5", offset)
    flip(folder / "shard-00000.h5", offset + 54)
    (folder / "shard-00002.h5").write_bytes(b"")
    assert verify() == (
        1,
        [
            "shard-00002.h5: not in the index; run extract again, or delete the file",
            "shard-00000.h5: the index says num_images=7, got 6",
            "shard-00000.h5: the images of a0.avi do not match their checksum",
            "shard-00000.h5: the images of b0.avi do not match their checksum",
            f"shard-00001.h5: the index says fingerprint=x, got {'1' * 64}",
        ],
        "5 defects",
    )


def test_a_missing_shard(verify, folder):
    (folder / "shard-00000.h5").unlink()
    assert verify() == (
        1,
        ["shard-00000.h5: no such shard; extract it, or check the path"],
        "1 defect",
    )


def test_a_truncated_shard(verify, folder):
    path = folder / "shard-00000.h5"
    path.write_bytes(path.read_bytes()[:-10])
    code, lines, last = verify()
    assert (code, len(lines), last) == (1, 1, "1 defect")
    assert lines[0].startswith("shard-00000.h5: damaged: ")
    assert lines[0].endswith("; delete the file and extract again")


def test_wrong_offsets(verify, folder):
    with h5py.File(folder / "shard-00000.h5", "r+", libver=("v110", "v110")) as file:
        file["image_start"][2] = 1000
    assert verify() == (
        1,
        [
            "shard-00000.h5: damaged: image_start: offsets rising from 0 to 108 bytes expected; "
            "delete the file and extract again"
        ],
        "1 defect",
    )


def test_another_version(verify, folder):
    with h5py.File(folder / "shard-00000.h5", "r+", libver=("v110", "v110")) as file:
        file.attrs["version"] = 2
    assert verify() == (
        1,
        [
            "shard-00000.h5: format version 1 expected, got 2; delete the folder and extract "
            "again, or update this package"
        ],
        "1 defect",
    )


def test_attributes_that_are_not_the_index_s(verify, folder):
    with h5py.File(folder / "shard-00001.h5", "r+", libver=("v110", "v110")) as file:
        file.attrs["dataset"] = np.bytes_("huge")
        file.attrs["sampling"] = np.bytes_('{"snippets": 4}')
        file.attrs["class_names"] = np.array([b"walk", b"rum"])
        file.attrs["modality"] = np.bytes_(stored("rgb", height=2, width=3, zero=1.0).to_json())
        file.attrs["padding_so_that_the_size_is_another"] = np.bytes_("x" * 5000)
    code, lines, last = verify()
    assert (code, last) == (1, "5 defects")
    assert lines[:4] == [
        "shard-00001.h5: dataset is not the index's",
        "shard-00001.h5: modality is not the index's",
        "shard-00001.h5: sampling is not the index's",
        "shard-00001.h5: class_names is not the index's",
    ]
    assert lines[4].startswith("shard-00001.h5: the index says num_bytes=")


def test_a_video_in_two_shards(verify, folder):
    data = json.loads((folder / "index.json").read_text())
    data["shards"][1] = {**data["shards"][0], "file": "shard-00001.h5"}
    (folder / "index.json").write_text(json.dumps(data))
    (folder / "shard-00001.h5").write_bytes((folder / "shard-00000.h5").read_bytes())
    assert verify() == (
        1,
        [
            "shard-00001.h5: a0.avi also stands in shard-00000.h5",
            "shard-00001.h5: b0.avi also stands in shard-00000.h5",
        ],
        "2 defects",
    )


def test_no_index(verify, folder):
    (folder / "index.json").unlink()
    assert verify() == (
        1,
        ["index.json: not there; extract that modality, or let an unfinished extraction finish"],
        "1 defect",
    )


def test_defects_are_told_by_shard_and_by_folder(folder):
    first, second = folder / "shard-00000.h5", folder / "shard-00001.h5"
    with h5py.File(first, "r+", libver=("v110", "v110")) as file:
        file["video_frames"][0] = 99
    second.unlink()
    extra = folder / "shard-00002.h5"
    extra.write_bytes(b"")
    defects = folder_defects(folder)
    assert defects.folder == (f"{extra}: not in the index; run extract again, or delete the file",)
    assert defects.shards == {
        first: [f"{first}: the tables do not match their checksum"],
        second: [f"{second}: no such shard; extract it, or check the path"],
    }
    assert defects.lines == [*defects.folder, *defects.shards[first], *defects.shards[second]]


def test_without_an_index_shards_are_checked_by_themselves(folder):
    first, second = folder / "shard-00000.h5", folder / "shard-00001.h5"
    (folder / "index.json").write_text("{}")
    with h5py.File(second, "r+", libver=("v110", "v110")) as file:
        file["video_frames"][0] = 99
    defects = folder_defects(folder)
    assert defects.folder == (f"{folder / 'index.json'}: damaged: 'format'; run extract again",)
    assert defects.shards == {second: [f"{second}: the tables do not match their checksum"]}
    second.write_bytes(first.read_bytes())
    assert folder_defects(folder).shards == {
        second: [
            f"{second}: a0.avi also stands in shard-00000.h5",
            f"{second}: b0.avi also stands in shard-00000.h5",
        ]
    }


def test_a_shard_that_the_index_names_twice(folder):
    data = json.loads((folder / "index.json").read_text())
    data["shards"].append(data["shards"][0])
    (folder / "index.json").write_text(json.dumps(data))
    assert folder_defects(folder).lines == [
        f"{folder / 'index.json'}: a shard stands there twice; run extract again"
    ]


def test_nothing_there(program, tmp_path):
    result = program("verify", tmp_path / "none")
    assert (result.exit_code, result.stdout, result.stderr) == (
        1,
        "",
        f"error: {tmp_path / 'none'}: no shards there; extract some, or check the path\n",
    )


def content(folder: Path) -> list[object]:
    """Return everything that a reader can see of the first shard."""
    shard = Shard(folder / "shard-00000.h5")
    tables = [
        table if isinstance(table, tuple) else (table.dtype, table.shape, table.tobytes())
        for table in vars(shard.tables).values()
    ]
    images = [
        shard.read_snippets(video, range(shard.num_snippets(video))).tobytes()
        for video in range(shard.tables.num_videos)
    ]
    return [shard.header, tables, images]


@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x80])
def test_a_flipped_byte_anywhere_is_a_defect_or_changes_nothing(folder, mask):
    path = folder / "shard-00000.h5"
    before = content(folder)
    original = path.read_bytes()
    harmful = 0
    for place in range(mask % 61, len(original), 61):
        flip(path, place, mask)
        defects = folder_defects(folder).lines
        harmful += bool(defects)
        assert all("\n" not in defect and str(path) in defect for defect in defects)
        if not defects:
            assert content(folder) == before, f"byte {place}"
        path.write_bytes(original)
    assert harmful > 20


def test_an_index_reads_back(folder):
    index = read_index(folder)
    write_index(index, folder)
    assert read_index(folder) == index
    with pytest.raises(ShardError):
        read_index(folder.parent)


def test_a_folder_that_must_not_be_read_is_not_passed_over(folder, monkeypatch):
    def walk(root, onerror):
        onerror(FileNotFoundError(2, "No such file or directory", "gone"))
        onerror(PermissionError(13, "Permission denied", str(folder)))
        yield

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(InputError, match=f"{folder}: Permission denied; allow that, or give"):
        modality_folders(folder.parent)
