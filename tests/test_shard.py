"""Writing and reading shards: round trips, many processes, and what a damaged file says."""

import json
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from conftest import FPS, add_video, header_of, stored
from hypothesis import given, settings
from hypothesis import strategies as st

from tsn_core.codec import decode_image, encode_image
from tsn_core.errors import InputError, OutputError, ShardError
from tsn_core.index import Index, ShardEntry, write_index
from tsn_core.modality import StoredModality, modality_names
from tsn_core.shard_format import fingerprint
from tsn_core.shard_reader import Shard, read_header
from tsn_core.shard_set import ShardSet
from tsn_core.shard_writer import ShardWriter


def message_of(function, *arguments, error=ShardError):
    with pytest.raises(error) as caught:
        function(*arguments)
    return str(caught.value)


# --- round trips ---


@st.composite
def shards(draw):
    """A modality and videos of it: (name, label, images of the units, first units)."""
    name = draw(st.sampled_from(["rgb", "flow", "rgbdiff"]))
    length = draw(st.integers(1, 3))
    modality = stored(name, snippet_length=length, short_side=2, height=None, width=None)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    videos = []
    for number in range(draw(st.integers(0, 4))):
        num_units = draw(st.integers(length, 8))
        height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        shape = modality.kind.image_shape(height, width)
        starts = draw(st.lists(st.integers(0, num_units - length), min_size=1, max_size=5))
        units = generator.integers(0, 256, (num_units, *shape), dtype=np.uint8)
        videos.append((f"{number} é.avi", draw(st.integers(0, 1)), units, sorted(starts)))
    return modality, videos


def naive_snippet(modality, units, start):
    """(L, H, W, C) from the stored images, channel by channel."""
    snippet = []
    for image in units[start : start + modality.snippet_length]:
        if modality.name == "flow":
            height = image.shape[0] // 2
            image = np.dstack([image[:height], image[height:]])
        snippet.append(image)
    return np.stack(snippet)


@settings(deadline=None)
@given(shard=shards(), spool=st.sampled_from([1, 16 << 20]))
def test_round_trip(shard, spool, tmp_path_factory):
    modality, videos = shard
    path = tmp_path_factory.mktemp("shard") / "shard-00000.h5"
    header = header_of(modality)
    with pytest.MonkeyPatch.context() as patch, ShardWriter(path, header) as writer:
        patch.setattr(writer._spool, "_max_size", spool)
        for name, label, units, starts in videos:
            writer.add_image(0, 0, b"of a video that fails")
            writer.drop_video(f"not {name}", "decode", "it was said so")
            add_video(writer, modality, units, name=name, label=label, starts=starts)
        writer.finish()
    opened = Shard(path)
    assert opened.header == header
    assert opened.tables.video_name == tuple(video[0] for video in videos)
    assert opened.tables.video_label.tolist() == [video[1] for video in videos]
    assert opened.tables.failed_name == tuple(f"not {video[0]}" for video in videos)
    assert opened.tables.failed_reason == ("it was said so",) * len(videos)
    assert opened.checksum_defects() == []
    for number, (_, _, units, starts) in enumerate(videos):
        assert opened.num_snippets(number) == len(starts)
        chosen = list(range(len(starts)))[::-1]
        snippets = opened.read_snippets(number, chosen)
        assert snippets.dtype == np.uint8
        expected = [naive_snippet(modality, units, starts[k]) for k in chosen]
        assert np.array_equal(snippets, np.stack(expected))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_tables_say_what_was_told(tiny_shard):
    tables = Shard(tiny_shard).tables
    assert tables.image_start.tolist() == list(range(0, 9 * 18, 18))
    assert tables.image_frame.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert tables.snippet_image.tolist() == [0, 2, 3, 4, 6, 7]
    assert tables.video_snippet.tolist() == [0, 3, 6]
    assert tables.video_image.tolist() == [0, 4, 8]
    assert tables.video_frames.tolist() == [4, 4]
    assert tables.video_fps.tolist() == [FPS, FPS]
    assert tables.video_size.tolist() == [[48, 64], [48, 64]]
    assert tables.video_unit_size.tolist() == [[2, 3], [2, 3]]
    assert tables.video_padding.tolist() == [0, 0]
    assert (tables.num_videos, tables.num_images, tables.num_snippets) == (2, 8, 6)


def test_images_lie_in_one_piece_where_the_file_says(tiny_shard):
    with h5py.File(tiny_shard, "r") as file:
        offset, images = file["images"].id.get_offset(), file["images"][:]
    assert tiny_shard.read_bytes()[offset : offset + images.size] == images.tobytes()


def test_the_same_videos_give_the_same_bytes(tiny_shard, tmp_path):
    modality = stored("rgb", height=2, width=3)
    generator = np.random.default_rng(0)
    with ShardWriter(tmp_path / "again.h5", header_of(modality)) as writer:
        for label, name in enumerate(("walk/a.avi", "run/b.avi")):
            units = generator.integers(0, 256, (4, 2, 3, 3), dtype=np.uint8)
            add_video(writer, modality, units, name=name, label=label, starts=(0, 2, 3))
        writer.drop_video("run/c.avi", "open", "no such file")
        writer.finish()
    assert (tmp_path / "again.h5").read_bytes() == tiny_shard.read_bytes()


def test_texts_are_read_with_plain_h5py(tiny_shard):
    with h5py.File(tiny_shard, "r") as file:
        assert json.loads(file.attrs["modality"])["name"] == "rgb"
        assert file.attrs["format"].decode() == "tsn-shard"
        assert file["video_name"].asstr()[:].tolist() == ["walk/a.avi", "run/b.avi"]


def test_very_many_classes(tmp_path):
    names = tuple(f"class number {number}" for number in range(20_000))
    header = header_of(stored("rgb"), class_names=names)
    with ShardWriter(tmp_path / "shard-00000.h5", header) as writer:
        writer.finish()
    assert Shard(tmp_path / "shard-00000.h5").header.class_names == names


def test_an_unfinished_shard_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tsn_core.shard_writer._SPOOL_BYTES", 8)
    modality = stored("rgb", height=2, width=3)
    with (
        pytest.raises(RuntimeError, match="out"),
        ShardWriter(tmp_path / "s.h5", header_of(modality)) as writer,
    ):
        add_video(writer, modality, np.zeros((3, 2, 3, 3), np.uint8))
        raise RuntimeError("out")
    assert list(tmp_path.iterdir()) == []


def test_an_image_of_several_snippets_is_decoded_once(tmp_path, monkeypatch):
    modality = stored("rgbdiff", snippet_length=3, height=2, width=3)
    path = tmp_path / "shard-00000.h5"
    units = np.random.default_rng(0).integers(0, 256, (6, 2, 3, 3), dtype=np.uint8)
    with ShardWriter(path, header_of(modality)) as writer:
        add_video(writer, modality, units, starts=(0, 1, 2, 3))
        writer.finish()
    decoded = []

    def decode(*arguments):
        decoded.append(arguments)
        return decode_image(*arguments)

    monkeypatch.setattr("tsn_core.shard_reader.decode_image", decode)
    snippets = Shard(path).read_snippets(0, [3, 0, 1, 0])
    expected = [units[start : start + 3] for start in (3, 0, 1, 0)]
    assert np.array_equal(snippets, expected)
    assert len(decoded) == 6


def test_snippets_out_of_range(tiny_shard):
    shard = Shard(tiny_shard)
    for chosen in ([3], [-1], [0, 3]):
        assert message_of(shard.read_snippets, 0, chosen, error=IndexError) == (
            f"{tiny_shard}: video 0 has 3 snippets"
        )
    assert shard.read_snippets(0, []).shape == (0, 1, 2, 3, 3)


# --- codecs ---


@pytest.mark.parametrize("shape", [(24, 32, 3), (24, 32)])
def test_jpeg_is_opencv_s_with_red_first(shape):
    smooth = np.add.outer(np.arange(24) * 4, np.arange(32) * 4).astype(np.uint8)
    image = smooth if len(shape) == 2 else np.dstack([smooth, smooth // 2, 255 - smooth])
    data = encode_image(image, "jpeg", 90)
    swapped = image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1])
    assert data == cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    assert encode_image(swapped, "jpeg", 90, blue_first=True) == data
    back = decode_image(np.frombuffer(data, np.uint8), "jpeg", shape)
    assert np.abs(back.astype(int) - image).mean() < 3
    assert len(encode_image(image, "jpeg", 10)) < len(data)


def test_raw_is_the_bytes():
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert encode_image(image, "raw", None) == bytes(range(18))
    assert encode_image(image[..., ::-1], "raw", None, blue_first=True) == bytes(range(18))
    assert np.array_equal(decode_image(np.arange(18, dtype=np.uint8), "raw", (2, 3, 3)), image)


def test_codecs_name_what_is_wrong():
    image = np.zeros((2, 3, 3), np.uint8)
    data = np.frombuffer(encode_image(image, "jpeg", 95), np.uint8)
    assert message_of(encode_image, image, "png", None, error=InputError) == (
        "unknown codec 'png'; choose from jpeg, raw"
    )
    tall = np.zeros((70_000, 1), np.uint8)
    assert message_of(encode_image, tall, "jpeg", 95, error=InputError) == (
        "JPEG cannot hold a 1x70000 image; choose --codec raw"
    )
    assert message_of(decode_image, data[:4], "raw", (2, 3, 3)) == (
        "raw image of shape (2, 3, 3) expected, got 4 bytes"
    )
    assert message_of(decode_image, data, "jpeg", (3, 3, 3)) == (
        "JPEG of shape (3, 3, 3) expected, got shape (2, 3, 3)"
    )
    for broken in (data[:0], data[:9], data[::-1]):
        assert message_of(decode_image, broken, "jpeg", (2, 3, 3)) == (
            "JPEG of shape (2, 3, 3) expected, got no JPEG"
        )


# --- headers ---


def test_fingerprint_follows_every_setting():
    modality = stored("flow")
    base = (modality, '{"snippets": 3}', ("a", "b"), [("x", 0), ("y", 1)])
    variants = [
        base,
        (stored("flow", parameters={"bound": 15.0}), *base[1:]),
        (stored("flow", snippet_length=6), *base[1:]),
        (base[0], '{"dense": true}', *base[2:]),
        (*base[:2], ("b", "a"), base[3]),
        (*base[:3], [("x", 1), ("y", 1)]),
        (*base[:3], [("y", 1), ("x", 0)]),
        (*base[:3], [("x", 0)]),
    ]
    assert len({fingerprint(*variant) for variant in variants}) == len(variants)
    assert fingerprint(*base) == fingerprint(*base[:3], iter(base[3]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "depth"},
            f"unknown modality 'depth'; choose from {', '.join(modality_names())}, or install the "
            "package that brings it",
        ),
        ({"snippet_length": 0}, "snippet_length must be > 0, got 0"),
        ({"channels": 2}, "rgb has 3 channels, got 2"),
        ({"codec": "png"}, "unknown codec 'png'; choose from jpeg, raw"),
        ({"codec": "jpeg", "quality": None}, "quality must be 1 to 100, got None"),
        ({"codec": "jpeg", "quality": 101}, "quality must be 1 to 100, got 101"),
        ({"height": 0}, "height must be 1 to 65536, got 0"),
        ({"width": 65537}, "width must be 1 to 65536, got 65537"),
        (
            {"height": None},
            "either height and width or short_side must be given, got "
            "height=None, width=32, short_side=None",
        ),
        (
            {"short_side": 8},
            "either height and width or short_side must be given, got "
            "height=24, width=32, short_side=8",
        ),
    ],
)
def test_a_stored_modality_checks_itself(changes, message):
    fields = {**json.loads(stored("rgb").to_json()), **changes}
    with pytest.raises(InputError) as caught:
        StoredModality(**fields)
    assert str(caught.value) == message


def test_read_header_answers_for_shards_only(tiny_shard, tmp_path):
    assert read_header(tiny_shard) == Shard(tiny_shard).header
    assert read_header(tmp_path / "none.h5") is None
    (tmp_path / "text.h5").write_text("no shard")
    assert read_header(tmp_path / "text.h5") is None
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["version"] = 2
    assert read_header(tmp_path / "other.h5") is None
    edit(tiny_shard, attribute("version", 2))
    assert message_of(read_header, tiny_shard) == (
        f"{tiny_shard}: format version 1 expected, got 2; delete the folder and extract again, or "
        "update this package"
    )


# --- damage ---


def test_no_shard(tmp_path):
    assert message_of(Shard, tmp_path / "s.h5") == (
        f"{tmp_path / 's.h5'}: no such shard; extract it, or check the path"
    )


def test_truncated(tiny_shard):
    data = tiny_shard.read_bytes()
    tiny_shard.write_bytes(data[:-1])
    for size, reason in (
        (0, "not an HDF5 file"),
        (1, "not an HDF5 file"),
        (8, "48 bytes expected at least, got 8"),
        (100, f"truncated: {len(data)} bytes expected, got 100"),
        (len(data) - 1, f"truncated: {len(data)} bytes expected, got {len(data) - 1}"),
    ):
        tiny_shard.write_bytes(data[:size])
        assert message_of(Shard, tiny_shard) == (
            f"{tiny_shard}: damaged: {reason}; delete the file and extract again"
        )


def edit(path, change):
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        change(file)


def replace(name, data, **options):
    def change(file):
        del file[name]
        file.create_dataset(name, data=data, **options)

    return change


def assign(name, place, value):
    def change(file):
        table = file[name][:]
        table[place] = value
        file[name][...] = table

    return change


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (attribute("format", np.bytes_("zip")), "format 'tsn-shard' expected, got 'zip'"),
        (lambda file: file.attrs.__delitem__("format"), "format 'tsn-shard' expected, got None"),
        (
            attribute("version", 2),
            "format version 1 expected, got 2; delete the folder and extract again, or update "
            "this package",
        ),
        (
            lambda file: file.__delitem__("image_frame"),
            "image_frame: a dataset in the file expected, got none or a link",
        ),
        (
            lambda file: (file.__delitem__("images"), file.create_group("images")),
            "images: a dataset expected, got a group",
        ),
        (
            replace("video_label", np.int64([0, 1])),
            "video_label: int32 expected, got int64",
        ),
        (
            replace("video_name", ["a", "b"], dtype=h5py.string_dtype()),
            "video_name: strings of one length expected",
        ),
        (
            attribute("format", "tsn-shard"),  # of varying length, which is not looked at
            "format 'tsn-shard' expected, got None",
        ),
        (
            replace("images", np.zeros((12, 12), np.uint8)),
            "images: (B,) uint8 expected, got (12, 12) uint8",
        ),
        (
            replace("images", np.zeros(144, np.int16)),
            "images: (B,) uint8 expected, got (144,) int16",
        ),
        (
            replace("images", np.zeros(144, np.uint8), chunks=(12,)),
            "images: contiguous storage in the file expected",
        ),
        (
            replace("image_frame", np.zeros(8, np.int32), chunks=(4,), compression="gzip"),
            "image_frame: contiguous storage in the file expected",
        ),
    ],
)
def test_another_layout_is_refused(tiny_shard, change, message):
    edit(tiny_shard, change)
    assert message_of(Shard, tiny_shard) == f"{tiny_shard}: {message}"


@pytest.mark.parametrize(
    ("change", "defect"),
    [
        (assign("image_start", 3, 200), "image_start: offsets rising from 0 to 144 bytes expected"),
        (assign("image_start", 8, 143), "image_start: offsets rising from 0 to 144 bytes expected"),
        (assign("image_start", 0, -1), "image_start: offsets rising from 0 to 144 bytes expected"),
        (assign("video_image", 2, 9), "video_image: offsets rising from 0 to 8 images expected"),
        (
            assign("video_snippet", 1, -3),
            "video_snippet: offsets rising from 0 to 6 snippets expected",
        ),
        (assign("snippet_image", 2, 4), "snippet_image: a snippet leaves the images of its video"),
        (assign("snippet_image", 5, 8), "snippet_image: a snippet leaves the images of its video"),
        (assign("snippet_image", 0, -1), "snippet_image: a snippet leaves the images of its video"),
        (assign("video_label", 1, 2), "video_label: 0 to 1 expected"),
        (assign("video_label", 1, -1), "video_label: 0 to 1 expected"),
        (assign("video_unit_size", (0, 0), 0), "video_unit_size: 1 to 65536 expected"),
        (assign("video_unit_size", (0, 1), 65537), "video_unit_size: 1 to 65536 expected"),
        (replace("video_fps", np.zeros(3)), "video_fps: shape (2,) expected, got (3,)"),
        (
            replace("video_size", np.zeros((2, 3), np.int32)),
            "video_size: shape (2, 2) expected, got (2, 3)",
        ),
        (
            replace("video_name", [b"same"] * 2, dtype=h5py.string_dtype("utf-8", 4)),
            "video_name: a name stands there twice",
        ),
        (
            replace("failed_reason", [b"a", b"b"], dtype=h5py.string_dtype("utf-8", 1)),
            "failed_reason: 1 entries expected, got 2",
        ),
    ],
)
def test_tables_that_contradict_each_other_are_refused(tiny_shard, change, defect):
    edit(tiny_shard, change)
    assert message_of(Shard, tiny_shard) == (
        f"{tiny_shard}: damaged: {defect}; delete the file and extract again"
    )


def test_nothing_outside_the_file_is_read(tiny_shard, tmp_path):
    """Links, virtual datasets and external storage could show any file that the reader may read."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["images"] = np.zeros(144, np.uint8)
        file["video_label"] = np.zeros(2, np.int32)
    raw = tmp_path / "secret.bin"
    raw.write_bytes(bytes(144))
    original = tiny_shard.read_bytes()

    def link(file):
        del file["images"]
        file["images"] = h5py.ExternalLink(str(secret), "/images")

    def soft(file):
        file["other"] = file["images"][:]
        del file["images"]
        file["images"] = h5py.SoftLink("/other")

    def external(file):
        del file["images"]
        file.create_dataset("images", (144,), np.uint8, external=[(str(raw), 0, 144)])

    def external_table(file):
        del file["video_label"]
        file.create_dataset("video_label", (2,), np.int32, external=[(str(raw), 0, 8)])

    def virtual(file):
        del file["video_label"]
        layout = h5py.VirtualLayout((2,), np.int32)
        layout[:] = h5py.VirtualSource(str(secret), "video_label", (2,), np.int32)
        file.create_virtual_dataset("video_label", layout)

    for change, message in (
        (link, "images: a dataset in the file expected, got none or a link"),
        (soft, "images: a dataset in the file expected, got none or a link"),
        (external, "images: contiguous storage in the file expected"),
        (external_table, "video_label: contiguous storage in the file expected"),
        (virtual, "video_label: contiguous storage in the file expected"),
    ):
        tiny_shard.write_bytes(original)
        edit(tiny_shard, change)
        assert message_of(Shard, tiny_shard) == f"{tiny_shard}: {message}"


def test_a_table_that_claims_more_than_the_file_is_not_loaded(tiny_shard):
    def change(file):
        del file["image_frame"]
        file.create_dataset("image_frame", (10**12,), np.int32)  # never written, so not stored

    edit(tiny_shard, change)
    assert message_of(Shard, tiny_shard) == f"{tiny_shard}: image_frame: larger than the file"


def test_an_image_that_does_not_decode_names_its_video(tmp_path):
    modality = stored("rgb", codec="jpeg", quality=95, height=2, width=3)
    path = tmp_path / "shard-00000.h5"
    with ShardWriter(path, header_of(modality)) as writer:
        add_video(writer, modality, np.zeros((2, 2, 3, 3), np.uint8), starts=(0, 1))
        writer.finish()
    start = Shard(path).tables.image_start[1]
    edit(
        path,
        lambda file: file["images"].write_direct(
            np.zeros(9, np.uint8), dest_sel=np.s_[start : start + 9]
        ),
    )
    shard = Shard(path)
    assert shard.read_snippets(0, [0]).shape == (1, 1, 2, 3, 3)
    assert message_of(shard.read_snippets, 0, [1]) == (
        f"{path}: a.avi, image 1: JPEG of shape (2, 3, 3) expected, got no JPEG; "
        "delete the file and extract again"
    )


# --- unwritable ---


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "shard-00000.h5"
    modality = stored("rgb", height=2, width=3)
    with ShardWriter(path, header_of(modality)) as writer:
        add_video(writer, modality, np.zeros((1, 2, 3, 3), np.uint8))
        assert message_of(writer.finish, error=OutputError) == (
            f"{path}: cannot be written: File exists; free space or choose another place"
        )


FILL = """
import resource, signal, sys
sys.path[:0] = {path!r}
import numpy as np
from conftest import add_video, header_of, stored
from tsn_core.errors import OutputError
from tsn_core.shard_writer import ShardWriter

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
modality = stored("rgb", height=40, width=40)
try:
    with ShardWriter({target!r}, header_of(modality)) as writer:
        writer._spool._max_size = {spool}
        add_video(writer, modality, np.zeros((10, 40, 40, 3), np.uint8))
        writer.finish()
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("limit", "spool"), [(100, 10**9), (9_000, 10**9), (40_000, 10**9), (40_000, 1)]
)
def test_a_full_disk_is_one_clear_line(tmp_path, limit, spool):
    """A limit on the size of files stands for the full disk; HDF5 alone crashes on one."""
    path = tmp_path / "shard-00000.h5"
    code = FILL.format(path=sys.path, limit=limit, spool=spool, target=str(path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == (
        f"{path}: cannot be written: File too large; free space or choose another place\n"
    )
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


# --- all shards of a folder ---


def make_set(folder: Path, num_shards: int = 3) -> np.ndarray:
    """Write a folder of shards of two videos each; return the images, (V, units, H, W, C)."""
    folder.mkdir(parents=True, exist_ok=True)
    modality = stored("rgb", height=2, width=3)
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (2 * num_shards, 3, 2, 3, 3), dtype=np.uint8)
    entries = []
    for number in range(num_shards):
        path = folder / f"shard-{number:05d}.h5"
        with ShardWriter(path, header_of(modality, fingerprint=str(number))) as writer:
            for video in (2 * number, 2 * number + 1):
                add_video(
                    writer,
                    modality,
                    images[video],
                    name=f"{video}.avi",
                    label=video % 2,
                    starts=range(1 + video % 3),
                )
            tables = writer.finish()
        entries.append(
            ShardEntry(
                file=path.name,
                fingerprint=str(number),
                num_bytes=path.stat().st_size,
                num_videos=2,
                num_images=tables.num_images,
                num_snippets=tables.num_snippets,
                num_failures=0,
            )
        )
    write_index(Index("tiny", modality, {"snippets": 3}, ("walk", "run"), tuple(entries)), folder)
    return images


def test_a_set_is_one_sequence_of_videos(tmp_path):
    images = make_set(tmp_path)
    shards = ShardSet(tmp_path)
    assert len(shards) == 6
    assert shards.dataset == "tiny"
    assert shards.class_names == ("walk", "run")
    assert shards.names == tuple(f"{video}.avi" for video in range(6))
    assert shards.labels.tolist() == [0, 1] * 3
    assert shards.labels.dtype == np.int64
    assert shards.num_snippets.tolist() == [1, 2, 3, 1, 2, 3]
    assert shards.num_frames.tolist() == [3] * 6
    assert shards.fps.tolist() == [FPS] * 6
    assert shards.sampling == {"snippets": 3}
    assert "4.avi" in shards and "6.avi" not in shards
    for video in range(6):
        assert shards.number(f"{video}.avi") == video
        chosen = range(1 + video % 3)
        assert np.array_equal(shards.read(video, chosen), images[video, chosen][:, None])
    with pytest.raises(KeyError):
        shards.number("6.avi")


def test_a_set_tells_when_snippets_begin(tmp_path):
    modality = stored("rgbdiff", height=2, width=3, snippet_length=2)
    units = np.zeros((6, 2, 3, 3), np.uint8)
    with ShardWriter(tmp_path / "shard-00000.h5", header_of(modality)) as writer:
        for name, frames in (("a.avi", (0, 1, 5, 6, 7, 30)), ("b.avi", (3, 4, 9, 10, 40, 41))):
            starts = (0, 5, 6) if name == "a.avi" else (3, 3, 40)
            add_video(writer, modality, units, name=name, frames=frames, starts=starts, fps=12.5)
        writer.finish()
    entry = ShardEntry("shard-00000.h5", "f" * 64, 0, 2, 12, 6, 0)
    write_index(Index("tiny", modality, {"fps": 2.0}, ("walk", "run"), (entry,)), tmp_path)
    shards = ShardSet(tmp_path)
    assert [shards.snippet_frames(video).tolist() for video in (0, 1)] == [[0, 5, 6], [3, 3, 40]]
    assert (shards.fps.tolist(), shards.sampling) == ([12.5, 12.5], {"fps": 2.0})


def _read_all(shards: ShardSet) -> list[bytes]:
    return [shards.read(video, [0]).tobytes() for video in range(len(shards))]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_set_travels_to_other_processes(tmp_path, method):
    images = make_set(tmp_path)
    shards = ShardSet(tmp_path)
    expected = [images[video, 0].tobytes() for video in range(6)]
    assert _read_all(shards) == expected  # its files are open when it travels
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_read_all, [shards] * 2) == [expected] * 2


def test_a_pickled_set_holds_no_images(tmp_path):
    make_set(tmp_path)
    shards = ShardSet(tmp_path)
    _read_all(shards)
    small = len(pickle.dumps(shards))
    assert small < 4000
    assert _read_all(pickle.loads(pickle.dumps(shards))) == _read_all(shards)


def test_a_set_of_failures_only(tmp_path):
    modality = stored("rgb", height=2, width=3)
    with ShardWriter(tmp_path / "shard-00000.h5", header_of(modality)) as writer:
        writer.drop_video("a.avi", "open", "no such file")
        writer.finish()
    entry = ShardEntry("shard-00000.h5", "f" * 64, 0, 0, 0, 0, 1)
    write_index(Index("tiny", modality, {"snippets": 3}, ("walk", "run"), (entry,)), tmp_path)
    shards = ShardSet(tmp_path)
    assert (len(shards), shards.names, shards.labels.tolist()) == (0, (), [])


def test_a_set_names_what_is_wrong_with_it(tmp_path):
    index = tmp_path / "index.json"
    assert message_of(ShardSet, tmp_path) == (
        f"{index}: not there; extract that modality, or let an unfinished extraction finish"
    )
    make_set(tmp_path)
    good = index.read_text()

    def message_for(text):
        index.write_text(text)
        return message_of(ShardSet, tmp_path)

    assert message_for("{") == (
        f"{index}: cannot be read: Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1); run extract again"
    )
    assert message_for("{}") == f"{index}: damaged: 'format'; run extract again"
    assert message_for(good.replace('"version": 1', '"version": 2')) == (
        f"{index}: damaged: format 'tsn-index' version 1 expected, got 'tsn-index' version 2; "
        "run extract again"
    )
    assert message_for(good.replace("shard-00000.h5", "../shard-00000.h5")) == (
        f"{index}: damaged: '../shard-00000.h5': a plain file name expected; run extract again"
    )
    assert message_for(good.replace('"fingerprint": "0"', '"fingerprint": "x"')) == (
        f"{tmp_path / 'shard-00000.h5'}: not the shard that {index} names; run extract again"
    )
    assert message_for(good.replace("shard-00002.h5", "shard-00003.h5")) == (
        f"{tmp_path / 'shard-00003.h5'}: no such shard; extract it, or check the path"
    )
    twice = json.loads(good)
    twice["shards"][1] = twice["shards"][0]
    assert message_for(json.dumps(twice)) == (
        f"{tmp_path}: a video stands in two shards; run extract again"
    )


def test_a_set_opens_no_more_files_than_the_system_allows(tmp_path):
    make_set(tmp_path, num_shards=170)
    code = (
        "import resource, sys\n"
        "from tsn_core.shard_set import ShardSet\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))\n"
        "shards = ShardSet(sys.argv[1])\n"
        "twice = [*range(len(shards)), *range(len(shards))]\n"
        "print(sum(shards.read(video, [0]).size for video in twice))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("12240\n", "")
