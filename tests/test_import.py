"""Folders and archives of images to shards, and back to the shards that they came from."""

import json
import zipfile
from itertools import pairwise

import cv2
import numpy as np
import pytest
from archive_writers import zip_archive
from conftest import tree_bytes

from preprocess.exchange.images import image_size, jpeg_quality
from tsn_core.codec import encode_image
from tsn_core.shard_set import ShardSet

H, W = 24, 32
NAMES = ("nod/a", "nod/b", "wave/c", "wave/d")


def picture(seed, channels=3):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return cv2.resize(coarse, (W, H))


def jpeg(image):
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def files_of(names=NAMES, base=1, frames=8, flows=7):
    """Return the files of a dataset by path, each image with pixels of its own."""
    found = {}
    for video, name in enumerate(names):
        for n in range(frames):
            found[f"{name}/img_{n + base:05d}.jpg"] = jpeg(picture(1000 * video + n))
        for n in range(flows):
            for axis, seed in (("x", 300), ("y", 600)):
                image = picture(1000 * video + seed + n, 1)
                found[f"{name}/flow_{axis}_{n + base:05d}.jpg"] = jpeg(image)
    return found


def write(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def stored_bytes(shards, name):
    """Return the images of a video as its shard stores them."""
    shard, place = shards._find(shards.number(name))
    first, last = shard.tables.video_image[place : place + 2]
    bounds = shard.tables.image_start[first : last + 1] - shard.tables.image_start[first]
    data = shard.video_bytes(place).tobytes()
    return [data[a:b] for a, b in pairwise(bounds)]


@pytest.mark.parametrize("base", [0, 1])
def test_images_of_other_tools_are_stored_as_they_are(program, tmp_path, base):
    files = files_of(base=base)
    source = write(tmp_path / "set", files)
    result = program("import", source, "--dense", "--out", tmp_path / "shards")
    assert result.exit_code == 0, result.output
    assert "coded anew" not in result.output
    root = tmp_path / "shards" / "set"
    rgb, flow = ShardSet(root / "rgb"), ShardSet(root / "flow-tvl1")
    assert rgb.class_names == ("nod", "wave")
    assert rgb.modality.quality == 90
    assert (rgb.names, rgb.labels.tolist()) == (NAMES, [0, 0, 1, 1])
    assert flow.num_frames.tolist() == [8] * 4
    for name in NAMES:
        wanted = [files[f"{name}/img_{n + base:05d}.jpg"] for n in range(8)]
        assert stored_bytes(rgb, name) == wanted
        units = flow.read(flow.number(name), [2])[0]  # (5, H, W, 2)
        for unit in range(5):
            for channel, axis in enumerate("xy"):
                data = files[f"{name}/flow_{axis}_{unit + 2 + base:05d}.jpg"]
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
                assert (units[unit, ..., channel] == pixels).all()
    assert program("verify", root).exit_code == 0
    before = tree_bytes(root)
    again = program("import", source, "--dense", "--out", tmp_path / "shards")
    assert "everything was there already; nothing to do" in again.output
    assert tree_bytes(root) == before


def test_theirs_to_ours_and_back_are_the_same_files(program, tmp_path):
    files = files_of()
    source = write(tmp_path / "set", files)
    program("import", source, "--dense", "--out", tmp_path / "shards")
    program("export", tmp_path / "shards/set", "--to", "frames", "--out", tmp_path / "back")
    assert tree_bytes(tmp_path / "back/rawframes") == files


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ((), "folder"),
        ((), "zip"),
        (("--dense",), "folder"),
        (("--codec", "raw"), "folder"),
        (("--snippets", 2, "--short-side", 32), "folder"),
    ],
)
def test_ours_to_theirs_and_back_are_the_same_shards(
    program, folder_dataset, tmp_path, options, how
):
    program(
        *("extract", "--dataset", "folder", "--data", folder_dataset, "--jobs", 1),
        *("--out", tmp_path / "a", "--flow", "farneback", "--no-isolation"),
        *("--modality", "rgb", "--modality", "flow", "--modality", "rgbdiff"),
        *(() if "--short-side" in options else ("--size", "48x32")),
        *(options if "--dense" in options or "--snippets" in options else ("--snippets", 3)),
        *(options if "--codec" in options else ()),
    )
    ours = tmp_path / "a" / "gestures"
    frames = tmp_path / "frames"
    program("export", ours, "--to", "frames", "--lossless", "--out", frames)
    if how == "zip":
        (tmp_path / "frames.zip").write_bytes(zip_archive(tree_bytes(frames)))
        frames = tmp_path / "frames.zip"
    result = program("import", frames, "--out", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert "byte for byte" not in result.output
    known = {p: b for p, b in tree_bytes(ours).items() if not p.startswith("sources")}
    assert tree_bytes(tmp_path / "b" / "gestures") == known


def test_flow_of_odd_heights_is_coded_anew_and_said_so(program, folder_dataset, tmp_path):
    program(
        *("extract", "--dataset", "folder", "--data", folder_dataset, "--jobs", 1),
        *("--out", tmp_path / "a", "--flow", "farneback", "--no-isolation", "--snippets", 2),
        *("--modality", "flow", "--size", "48x30"),
    )
    frames = tmp_path / "frames"
    result = program("export", tmp_path / "a/gestures", "--to", "frames", "--out", frames)
    remark = "6 videos coded anew, with small losses; --lossless keeps every pixel\n"
    assert remark in result.output
    again = program("export", tmp_path / "a/gestures", "--to", "frames", "--out", frames)
    assert remark in again.output  # they are no better for having been there
    result = program("import", frames, "--out", tmp_path / "b")
    assert result.exit_code == 0
    assert (
        "6 videos not byte for byte what was exported, as images were changed or coded anew since; "
        "export with --lossless keeps pixels\n"
    ) in result.output
    before = ShardSet(tmp_path / "a/gestures/flow-farneback")
    after = ShardSet(tmp_path / "b/gestures/flow-farneback")
    differences = before.read(0, [0, 1]).astype(int) - after.read(0, [0, 1])
    assert 0 < np.abs(differences).mean() < 1


@pytest.mark.parametrize("layout", ["everything", "one-per-video", "one-per-kind"])
def test_archives_are_read_like_folders(program, tmp_path, layout):
    files = files_of()
    source = tmp_path / "zips" / "set"
    if layout == "everything":
        source = write(tmp_path, {"set.zip": zip_archive(files)}) / "set.zip"
    elif layout == "one-per-video":
        for name in NAMES:
            own = {p.rpartition("/")[2]: b for p, b in files.items() if p.startswith(name)}
            write(source, {f"{name}.zip": zip_archive(own)})
    else:
        for name in NAMES:
            for kind in ("img", "flow_x", "flow_y"):
                own = {
                    p.rpartition("/")[2]: b
                    for p, b in files.items()
                    if p.startswith(f"{name}/{kind}_")
                }
                write(source, {f"{name}/{kind}.zip": zip_archive(own)})
    result = program("import", source, "--dense", "--out", tmp_path / "from-zip")
    assert result.exit_code == 0, result.output
    program("import", write(tmp_path / "set", files), "--dense", "--out", tmp_path / "plain")
    assert tree_bytes(tmp_path / "from-zip") == tree_bytes(tmp_path / "plain")


def test_hostile_archives_are_refused(program, tmp_path):
    def told(data):
        path = tmp_path / "bad.zip"
        path.write_bytes(data)
        result = program("import", path, "--out", tmp_path / "shards")
        assert result.exit_code == 1
        assert not (tmp_path / "shards").exists()
        return result.output

    assert told(zip_archive({"../a/img_00001.jpg": b"x"})) == (
        "error: bad.zip: the name '../a/img_00001.jpg' climbs out of the folder; nothing was "
        "unpacked from here on, do not trust this archive\n"
    )
    path = tmp_path / "bad.zip"
    assert told(zip_archive({}, {"k/a/img_00001.jpg": "/etc/passwd"})) == (
        f"error: {path}: k/a/img_00001.jpg is a symbolic link; do not trust this archive\n"
    )
    bomb = zip_archive({"k/a/img_00001.jpg": bytes(8 << 20)})
    packed = zipfile.ZipFile(write(tmp_path, {"b.zip": bomb}) / "b.zip").infolist()[0].compress_size
    assert told(bomb) == (
        f"error: {path}: k/a/img_00001.jpg unpacks to {8 << 20} bytes from {packed}; "
        "do not trust this archive\n"
    )
    assert told(zip_archive(files_of())[:-30]).startswith(f"error: {path}: damaged or cut short: ")


def test_links_in_folders_are_named(program, tmp_path):
    source = write(tmp_path / "set", files_of())
    (source / "wave" / "e").symlink_to(source / "wave" / "d")
    result = program("import", source, "--out", tmp_path / "shards")
    assert result.output == (
        f"error: {source / 'wave' / 'e'}: a link; give what it leads to as a source of its own, "
        "or copy it\n"
    )


def broken(files):
    """Return the dataset with something wrong in each video but the last, and what."""
    del files["nod/a/img_00003.jpg"]
    del files["nod/b/flow_y_00007.jpg"]
    files["wave/c/img_00004.jpg"] = files["wave/c/img_00004.jpg"][:-200]
    return {
        "nod/a": "img_00003.jpg is missing; 7 images from img_00001.jpg to img_00008.jpg",
        "nod/b": "7 flow_x and 6 flow_y images",
        "wave/c": "img_00004.jpg: not a sound JPEG or PNG",
    }


def test_bad_videos_are_recorded_and_the_rest_goes_on(program, tmp_path):
    files = files_of()
    reasons = broken(files)
    source = write(tmp_path / "set", files)
    result = program("import", source, "--dense", "--out", tmp_path / "shards")
    assert result.exit_code == 1
    root = tmp_path / "shards" / "set"
    failures = [json.loads(line) for line in (root / "failures.jsonl").read_text().splitlines()]
    assert {line["name"]: line["reason"] for line in failures} == reasons
    assert f"3 of 4 videos failed, see {root / 'failures.jsonl'}:" in result.output
    assert "wave/d" in ShardSet(root / "rgb")
    assert program("verify", root).exit_code == 0


def test_sizes_within_a_video_must_agree(program, tmp_path):
    files = files_of()
    files["nod/a/img_00002.jpg"] = jpeg(np.zeros((8, 16, 3), np.uint8))
    result = program(
        *("import", write(tmp_path / "set", files), "--dense", "--modality", "rgb"),
        *("--out", tmp_path / "shards"),
    )
    assert "  nod/a: img_00002.jpg: 16x8 pixels, the first image has 32x24\n" in result.output


@pytest.mark.parametrize(
    ("files", "lines", "found"),
    [
        ({}, "nod/a 9 0", "nod/a: the list says 9 frames, found 8 images"),
        ({}, "gone/z 9 0", "gone/z: a list names it, but it has no images"),
    ],
)
def test_counts_are_checked_against_lists(program, tmp_path, files, lines, found):
    source = write(tmp_path / "set", files_of(flows=0))
    listed = tmp_path / "train_split_1.txt"
    listed.write_text(f"{lines}\nnod/b 8 0\nwave/c 8 1\n")
    result = program("import", source, "--list", listed, "--out", tmp_path / "shards")
    assert result.exit_code == 1
    assert f"  {found}\n" in result.output


def test_lists_tell_labels_and_splits(program, tmp_path):
    source = write(tmp_path / "x", {f"rawframes/{p}": b for p, b in files_of().items()})
    train, val = tmp_path / "x_rgb_train_split_2.txt", tmp_path / "x_val_split_2_rawframes.txt"
    train.write_text("/data/rawframes/nod/a 8 1\nwave/c 7 0\n")
    val.write_text("rawframes/nod/b 8 1\n")
    program("import", source, "--list", train, "--list", val, "--out", tmp_path / "shards")
    shards = ShardSet(tmp_path / "shards/x/flow-tvl1")
    assert shards.class_names == ("wave", "nod")
    assert dict(zip(shards.names, shards.labels.tolist())) == {"nod/a": 1, "nod/b": 1, "wave/c": 0}
    lines = (tmp_path / "shards/x/manifest.jsonl").read_text().splitlines()[1:]
    splits = {json.loads(line)["name"]: json.loads(line)["splits"] for line in lines}
    assert splits == {"nod/a": {"2": "train"}, "nod/b": {"2": "test"}, "wave/c": {"2": "train"}}


@pytest.mark.parametrize(
    "renamed",
    [
        lambda p: p.replace("img_", "frame").replace("flow_x_", "x_").replace("flow_y_", "y_"),
        lambda p: p.replace("img_000", "0000"),
        lambda p: p.replace("flow_x_", "flow_x_p2_").replace("flow_y_", "flow_y_p2_"),
        lambda p: (
            f"jpegs_256/{p}".replace("img_", "frame_")
            if "img_" in p
            else f"tvl1_flow/{'u' if 'flow_x' in p else 'v'}/{p}".replace(
                "flow_x_", "frame"
            ).replace("flow_y_", "frame")
        ),
    ],
)
def test_other_namings_mean_the_same(program, tmp_path, renamed):
    files = files_of()
    other = write(tmp_path / "other" / "set", {renamed(p): b for p, b in files.items()})
    result = program("import", other, "--dense", "--out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    program("import", write(tmp_path / "set", files), "--dense", "--out", tmp_path / "b")
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")


def test_resized_flow_is_in_pixels_of_its_new_size(program, tmp_path):
    files = {}
    for name in NAMES:
        for n in range(1, 7):
            for axis, code in (("x", 227), ("y", 28)):
                files[f"{name}/flow_{axis}_{n:05d}.png"] = cv2.imencode(
                    ".png", np.full((H, W), code, np.uint8)
                )[1].tobytes()
    result = program(
        *("import", write(tmp_path / "set", files), "--size", f"{W}x{H // 2}"),
        *("--codec", "raw", "--out", tmp_path / "shards"),
    )
    assert result.exit_code == 0, result.output
    units = ShardSet(tmp_path / "shards/set/flow-tvl1").read(0, [0])
    assert units.shape == (1, 5, H // 2, W, 2)
    assert (units[..., 0] == 227).all()  # as wide as before
    assert set(np.unique(units[..., 1])) == {78}  # 127.5 + (28 - 127.5) / 2, rounded to even


def test_an_interrupted_import_goes_on(program, tmp_path, monkeypatch):
    source = write(tmp_path / "set", files_of())
    arguments = ("import", source, "--dense", "--videos-per-shard", 1, "--jobs", 1)
    program(*arguments, "--out", tmp_path / "whole")
    from preprocess.exchange import importing

    original, calls = importing._import_video, []

    def stops(*given):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(importing, "_import_video", stops)
    assert program(*arguments, "--out", tmp_path / "shards").exit_code == 130
    assert len(list((tmp_path / "shards").rglob("shard-*.h5"))) == 3
    assert not list((tmp_path / "shards").rglob("index.json"))
    monkeypatch.setattr(importing, "_import_video", original)
    program(*arguments, "--out", tmp_path / "shards")
    assert tree_bytes(tmp_path / "shards") == tree_bytes(tmp_path / "whole")


def test_other_settings_are_refused(program, tmp_path):
    source = write(tmp_path / "set", files_of())
    program("import", source, "--out", tmp_path / "shards")
    result = program("import", source, "--bound", 15, "--out", tmp_path / "shards")
    folder = tmp_path / "shards/set/flow-tvl1"
    assert result.output == (
        f"error: {folder}: written with bound=20.0, this run has bound=15.0; choose another "
        "--out or delete the folder\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"videos_per_shard": "x"}, "videos_per_shard must be > 0, got 'x'"),
        ({"fingerprints": {}}, "a fingerprint of each shard expected"),
        ({"failures": {"shard-00000.h5": [["a"]]}}, "failures of [name, stage, reason] expected"),
    ],
)
def test_a_sidecar_that_was_tampered_with_is_refused(program, tmp_path, change, message):
    source = write(tmp_path / "set", files_of())
    program("import", source, "--out", tmp_path / "shards")
    frames = tmp_path / "frames"
    program("export", tmp_path / "shards/set/rgb", "--to", "frames", "--out", frames)
    path = frames / "tsn-export.json"
    content = json.loads(path.read_text())
    content["modalities"]["rgb"].update(change)
    path.write_text(json.dumps(content))
    result = program("import", frames, "--out", tmp_path / "out")
    assert result.output == f"error: {path}: {message}\n"
    assert not (tmp_path / "out").exists()


def test_tars_cannot_be_imported_and_it_says_so(program, tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    (folder / "set-rgb-000000.tar").write_bytes(b"")
    result = program("import", folder, "--out", tmp_path / "shards")
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: {folder}: tars cannot be imported; unpack those of other tools, or export the "
        "shards again with --to frames\n",
    )


def test_a_text_file_is_no_archive(program, tmp_path):
    source = tmp_path / "classes.txt"
    source.write_text("walk\n")
    result = program("import", source, "--out", tmp_path / "shards")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {source}: a folder of images, or a ZIP archive of them, expected\n"
    )


def test_an_export_takes_no_settings(program, tmp_path):
    (tmp_path / "tsn-export.json").write_text("{}")
    result = program("import", tmp_path, "--size", "8x8", "--dense", "--out", tmp_path / "shards")
    assert result.output == (
        f"error: {tmp_path}: an export becomes the shards that it came from; leave --dense, "
        f"--size out, or import {tmp_path / 'rawframes'}\n"
    )


def test_videos_in_no_class_need_lists(program, tmp_path):
    source = write(tmp_path / "set", files_of(("a", "b")))
    result = program("import", source, "--out", tmp_path / "shards")
    assert result.output == (
        "error: a: in no folder that names its class; name lists of 'path num_frames label' "
        "lines with --list\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "format 'tsn-export' version 1 expected, got 'tsn-export' version 2"),
        ({"complete": False}, "the export was not finished; run it again"),
        ({"dataset": "../x"}, "'../x': expected a path inside the dataset folder"),
        ({"records": 1}, "damaged: TypeError(\"'int' object is not iterable\"); export again"),
    ],
)
def test_a_hostile_sidecar_is_one_line(program, tmp_path, change, message):
    frames = tmp_path / "frames"
    frames.mkdir()
    path = frames / "tsn-export.json"
    content = {
        "format": "tsn-export",
        "version": 1,
        "complete": True,
        "dataset": "d",
        "class_names": [],
        "records": [],
        "modalities": {},
    }
    path.write_text(json.dumps({**content, **change}))
    result = program("import", frames, "--out", tmp_path / "out")
    assert result.output == f"error: {path}: {message}\n"


def test_the_quality_is_that_of_the_image_not_of_its_thumbnail():
    image = encode_image(np.zeros((16, 16), np.uint8), "jpeg", 87)
    thumbnail = encode_image(np.zeros((8, 8), np.uint8), "jpeg", 40)
    exif = b"Exif\0\0" + thumbnail
    marked = image[:2] + b"\xff\xe1" + (2 + len(exif)).to_bytes(2, "big") + exif + image[2:]
    assert jpeg_quality(marked) == jpeg_quality(image) == 87
    assert image_size(marked) == (16, 16)
    assert jpeg_quality(b"\xff\xd8\xff\xdb") is None
