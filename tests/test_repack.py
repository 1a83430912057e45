"""Shards made from shards: copied byte for byte, coded anew, resized, cut, chosen, merged."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import moving_frames, stored, tree_bytes, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from killed_runs import defects, leftovers
from train_helpers import failure, fit_arguments, run_program, write_shards

from preprocess.cli import main
from preprocess.exchange.stored import StoredShards
from preprocess.resizing import resized_image
from preprocess.video import resize
from tsn_core.codec import decode_image
from tsn_core.manifest import Manifest, Record, read_manifest, write_manifest
from tsn_core.modality import get_modality
from tsn_core.sampling import center_offsets
from tsn_core.shard_reader import Shard
from tsn_core.shard_set import ShardSet

KINDS = ("rgb", "flow-farneback", "rgbdiff")
LENGTHS = (9, 10, 3, 12, 13)


def run(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def repack(*words, status=0):
    result = run("repack", *words)
    assert result.exit_code == status, result.output
    return result.output


def refused(*words):
    return repack(*words, status=1)


def extract(data, out, *more):
    result = run(
        *("extract", "--dataset", "folder", "--data", data, "--out", out, "--jobs", 1),
        *("--no-isolation", "--flow", "farneback", "--videos-per-shard", 2, "--allow-failures"),
        *(word for name in ("rgb", "flow", "rgbdiff") for word in ("--modality", name)),
        *more,
    )
    assert result.exit_code == 0, result.output
    return out / data.name


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Five videos of two classes, one of them shorter than a snippet, and one that is none."""
    folder = tmp_path_factory.mktemp("repack") / "gestures"
    for number, length in enumerate(LENGTHS):
        name = ("nod", "wave")[number % 2]
        frames = moving_frames(length, (36, 48), seed=number)
        write_clip(folder / name / f"{name}_{number}.avi", frames)
    (folder / "wave" / "broken.avi").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="session")
def source(data):
    """JPEG shards of four snippets of each video; nobody writes there."""
    return extract(data, data.parent / "jpeg", "--size", "48x32", "--snippets", 4)


@pytest.fixture(scope="session")
def raw_source(data):
    """The same, raw."""
    out = data.parent / "raw"
    return extract(data, out, "--size", "48x32", "--snippets", 4, "--codec", "raw")


@pytest.fixture
def own_source(source, tmp_path):
    """A copy of the JPEG shards that a test may damage."""
    return shutil.copytree(source, tmp_path / "own" / source.name)


def images(root, folder):
    """Return the stored images of every video in a modality's folder."""
    shards = StoredShards(root / folder)
    found = {name: shards.video(folder, name) for name in shards.labels}
    return {name: list(video.images()) for name, video in found.items()}


def pixels(root, folder):
    """Return the decoded images of every video in a modality's folder."""
    shards = StoredShards(root / folder)
    found = {name: shards.video(folder, name) for name in shards.labels}
    return {name: [video.decoded(data) for data in video.images()] for name, video in found.items()}


def rows(root, folder):
    """Return all that the tables say of every video, but where it lies and how long images are."""
    found = {}
    for path in sorted((root / folder).glob("*.h5")):
        shard = Shard(path)
        tables = shard.tables
        for place, name in enumerate(tables.video_name):
            first, last = tables.video_image[place : place + 2]
            found[name] = {
                "frames": tables.image_frame[first:last].tolist(),
                "snippets": (shard.video_snippets(place) - first).tolist(),
                **{
                    column: getattr(tables, f"video_{column}")[place].tolist()
                    for column in ("label", "frames", "fps", "size", "padding", "warped")
                },
            }
    return found


def same_images(first, second):
    return first.keys() == second.keys() and all(
        len(first[name]) == len(second[name])
        and all(np.array_equal(a, b) for a, b in zip(first[name], second[name]))
        for name in first
    )


def sound(root):
    result = run("verify", root)
    assert result.exit_code == 0, result.output


# --- copying and coding ---


def test_what_is_merely_cut_anew_keeps_every_byte(source, tmp_path):
    output = repack(source, "--out", tmp_path, "--videos-per-shard", 4, status=1)
    root = tmp_path / "gestures"
    assert f"{root / 'rgb'}: 5 videos in 2 shards, " in output
    assert "coded anew" not in output
    for folder in KINDS:
        assert images(root, folder) == images(source, folder)
        assert rows(root, folder) == rows(source, folder)
    sound(root)
    assert [one.name for one in read_manifest(root / "manifest.jsonl").records] == [
        one.name for one in read_manifest(source / "manifest.jsonl").records
    ]


def test_versions_stay_where_bytes_do(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "__version__", "3.2.1")
        one = small_set(tmp_path / "one", ["a/1"], ("a",), codec="jpeg", quality=90)

    def versions(*words):
        repack(one, "--out", tmp_path, *words)
        return Shard(tmp_path / words[1] / "rgb" / "shard-00000.h5").versions

    assert versions("--name", "copied")["opencv"] == "3.2.1"
    assert versions("--name", "decoded", "--codec", "raw")["opencv"] == cv2.__version__


def test_failures_stay_failures_and_the_status_tells(source, tmp_path):
    output = repack(source, "--out", tmp_path, status=1)
    root = tmp_path / "gestures"
    lines = [json.loads(line) for line in (root / "failures.jsonl").read_text().splitlines()]
    theirs = [json.loads(line) for line in (source / "failures.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["wave/broken.avi"]
    assert [(line["stage"], line["reason"]) for line in lines] == [
        (line["stage"], line["reason"]) for line in theirs
    ]
    assert f"1 of 6 videos failed, see {root / 'failures.jsonl'}:\n" in output
    before = tree_bytes(root)
    again = repack(source, "--out", tmp_path, "--allow-failures")
    assert "everything was there already; nothing to do\n" in again
    assert tree_bytes(root) == before


def test_jpeg_to_raw_keeps_the_pixels_that_the_jpegs_show(source, tmp_path):
    output = repack(source, "--out", tmp_path, "--codec", "raw", "--allow-failures")
    root = tmp_path / "gestures"
    assert "rgb: 0.1 MB of raw images to write\n" in output
    assert "coded anew" not in output, "nothing is lost"
    for folder in KINDS:
        index = ShardSet(root / folder).modality
        assert (index.codec, index.quality) == ("raw", None)
        assert same_images(pixels(root, folder), pixels(source, folder))
        assert rows(root, folder) == rows(source, folder)
    sound(root)


def test_raw_to_jpeg_is_what_extraction_writes(raw_source, source, tmp_path):
    output = repack(raw_source, "--out", tmp_path, "--codec", "jpeg", "--allow-failures")
    assert (
        "15 videos resized or coded anew; where codec, quality and size stay, images keep their "
        "bytes\n"
    ) in output
    for folder in KINDS:
        assert images(tmp_path / "gestures", folder) == images(source, folder)


def test_another_quality_codes_anew(source, tmp_path):
    repack(source, "--out", tmp_path, "--modality", "rgb", "--quality", 50, "--allow-failures")
    root = tmp_path / "gestures"
    assert ShardSet(root / "rgb").modality.quality == 50
    wanted = {
        name: [
            cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1].tobytes()
            for image in video
        ]
        for name, video in pixels(source, "rgb").items()
    }
    assert images(root, "rgb") == wanted
    assert refused(source, "--out", tmp_path, "--codec", "raw", "--quality", 50) == (
        "error: --quality is that of JPEGs, and the result is raw; leave it out\n"
    )


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(["rgb", "flow", "rgbdiff"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    quality=st.integers(1, 100),
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    cut=st.integers(1, 4),
)
def test_any_jpegs_become_sound_raw_shards(
    tmp_path_factory, kind, height, width, quality, counts, cut
):
    folder = tmp_path_factory.mktemp("any")
    modality = stored(kind, codec="jpeg", quality=quality, height=height, width=width)
    generator = np.random.default_rng(len(counts))
    videos = []
    for number, count in enumerate(counts):
        shape = (count + modality.snippet_length - 1, *modality.kind.image_shape(height, width))
        units = generator.integers(0, 256, shape, dtype=np.uint8)
        videos.append((f"{number}.avi", number % 2, units, range(count)))
    write_shards(folder / "tiny" / modality.folder, modality, videos, sampling={"snippets": 1})
    words = ("--out", folder / "out", "--codec", "raw", "--videos-per-shard", cut)
    repack(folder / "tiny", *words)
    sound(folder / "out" / "tiny")
    before = pixels(folder / "tiny", modality.folder)
    assert same_images(pixels(folder / "out" / "tiny", modality.folder), before)


# --- sizes ---


def test_frames_are_resized_as_extraction_resizes_them(raw_source, tmp_path):
    words = ("--size", "24x20", "--allow-failures")
    repack(raw_source, "--out", tmp_path, "--modality", "rgb", "--modality", "rgbdiff", *words)
    root = tmp_path / "gestures"
    for folder in ("rgb", "rgbdiff"):
        before, after = pixels(raw_source, folder), pixels(root, folder)
        wanted = {name: [resize(image, (20, 24)) for image in before[name]] for name in before}
        assert same_images(after, wanted)
        modality = ShardSet(root / folder).modality
        assert (modality.height, modality.width, modality.short_side) == (20, 24, None)
    sound(root)


def test_resized_flow_is_in_pixels_of_its_new_size(tmp_path):
    modality = stored("flow", height=8, width=16)
    units = np.concatenate(
        [np.full((5, 8, 16), 227, np.uint8), np.full((5, 8, 16), 28, np.uint8)], axis=1
    )
    root = tmp_path / "tiny"
    write_shards(root / modality.folder, modality, [("a", 0, units, [0])], sampling={"snippets": 1})
    repack(root, "--out", tmp_path / "out", "--size", "8x12")
    shards = ShardSet(tmp_path / "out/tiny" / modality.folder)
    after = shards.read(0, [0])
    assert after.shape == (1, 5, 12, 8, 2)
    assert set(np.unique(after[..., 0])) == {177}  # 127.5 + (227 - 127.5) / 2 = 177.25
    assert set(np.unique(after[..., 1])) == {0}  # 127.5 + (28 - 127.5) * 1.5 < 0: at the bound
    assert shards.modality.parameters["bound"] == modality.parameters["bound"]


def test_codes_of_flow_are_rounded_once(tmp_path):
    modality = stored("flow", height=4, width=6)
    image = np.random.default_rng(0).integers(0, 256, (8, 6), dtype=np.uint8)
    for height, width in ((2, 3), (8, 9), (4, 3)):
        parts = []
        for part, ratio in ((image[:4], width / 6), (image[4:], height / 4)):
            displacement = resize(part.astype(np.float32), (height, width)) - 127.5
            codes = np.rint(127.5 + displacement * ratio)
            parts.append(np.clip(codes, 0, 255).astype(np.uint8))
        wanted = np.concatenate(parts)
        assert np.array_equal(resized_image(modality, image, (height, width)), wanted)


def test_channels_that_are_no_displacements_are_just_resized(monkeypatch):
    modality = stored("flow", height=4, width=6)
    image = np.random.default_rng(0).integers(0, 256, (8, 6), dtype=np.uint8)
    from tsn_core import modality_registry

    kind = replace(get_modality("flow"), displacements=((0, 1),))
    monkeypatch.setitem(modality_registry._TABLE, "flow", kind)
    assert np.array_equal(resized_image(modality, image, (4, 3))[4:], resize(image[4:], (4, 3)))


def test_a_short_side_gives_the_sizes_that_extraction_gives(data, tmp_path):
    big = extract(data, tmp_path / "big", "--short-side", 33, "--snippets", 1)
    small = extract(data, tmp_path / "small", "--short-side", 11, "--snippets", 1)
    repack(big, "--out", tmp_path / "out", "--short-side", 11, "--allow-failures")
    root = tmp_path / "out" / "gestures"
    for folder in KINDS:
        shapes = {name: [i.shape for i in video] for name, video in pixels(root, folder).items()}
        assert shapes == {n: [i.shape for i in v] for n, v in pixels(small, folder).items()}
        assert ShardSet(root / folder).modality.short_side == 11
    sound(root)


def test_modalities_that_do_not_say_how_they_are_resized_keep_their_size(tmp_path):
    modality = stored("flowhsv", zero=0.0, parameters={"bound": 20.0})
    units = np.zeros((2, 24, 32, 3), np.uint8)
    root = tmp_path / "tiny"
    write_shards(root / "flowhsv", modality, [("a", 0, units, [0, 1])], sampling={"snippets": 2})
    assert refused(root, "--out", tmp_path / "out", "--size", "16x12") == (
        "error: flowhsv: nobody says how its images are resized (displacements of the modality is "
        "None); leave the size out, or choose others with --modality\n"
    )
    assert not (tmp_path / "out").exists()
    repack(root, "--out", tmp_path / "out", "--size", "32x24", "--codec", "jpeg")
    sound(tmp_path / "out" / "tiny")


# --- choosing ---


def names_in(root, folder="rgb"):
    shards = ShardSet(root / folder)
    return dict(zip(shards.names, shards.labels.tolist()))


def test_videos_are_chosen_by_subset_list_and_class(source, tmp_path):
    manifest = read_manifest(source / "manifest.jsonl")
    test = manifest.subset_names(1, "test")
    train = manifest.subset_names(1, "train")
    repack(source, "--out", tmp_path, "--name", "test", "--subset", "1:test", "--allow-failures")
    assert set(names_in(tmp_path / "test")) == set(test) - {"wave/broken.avi"}
    both = ("--subset", "1:test", "--subset", "1:train", "--allow-failures")
    repack(source, "--out", tmp_path, "--name", "both", *both)
    assert set(names_in(tmp_path / "both")) == {*test, *train} - {"wave/broken.avi"}
    listed = tmp_path / "kept.txt"
    listed.write_text("nod/nod_2.avi\n\nwave/wave_3.avi\n")
    repack(source, "--out", tmp_path, "--name", "list", "--list", listed)
    assert names_in(tmp_path / "list") == {"nod/nod_2.avi": 0, "wave/wave_3.avi": 1}
    kept = read_manifest(tmp_path / "list" / "manifest.jsonl")
    splits = {one.name: dict(one.splits) for one in manifest.records}
    assert {one.name: dict(one.splits) for one in kept.records} == {
        name: splits[name] for name in ("nod/nod_2.avi", "wave/wave_3.avi")
    }
    more = ("--class", "wave", "--list", listed)
    repack(source, "--out", tmp_path, "--name", "class", *more)
    assert names_in(tmp_path / "class") == {"wave/wave_3.avi": 0}
    assert ShardSet(tmp_path / "class" / "rgb").class_names == ("wave",)
    sound(tmp_path / "class")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--subset", "7:train"), "--subset: no split 7 in the shards; there are 1"),
        (("--class", "jump"), "--class: no class jump in the shards; there are nod, wave"),
        (("--list", "{list}"), "--list: no video gone.avi in the shards"),
        (
            ("--subset", "1:val"),
            "no video is left; choose others with --subset, --list and --class",
        ),
        (("--name", "a/b"), "--name must be a name without /, got 'a/b'"),
        (
            ("--size", "8x8", "--short-side", "8"),
            "choose one of --size and --short-side",
        ),
        (
            ("--modality", "warpedflow"),
            "{source}: no warpedflow shards there; choose another --modality",
        ),
        (
            ("--snippets", "5"),
            "--snippets 5: of nod/nod_0.avi only 4 are stored in {source}/{folder}; extract again "
            "for more",
        ),
        (("--jobs", "0"), "--jobs must be > 0, got 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(source, tmp_path, words, message):
    listed = tmp_path / "list.txt"
    listed.write_text("gone.avi\n")
    words = [word.format(list=listed) for word in words]
    message = message.format(source=source, folder="flow-farneback")
    assert refused(source, "--out", tmp_path / "out", *words) == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_usage_errors_name_what_is_expected(source, tmp_path):
    output = repack(source, "--out", tmp_path, "--subset", "train", status=2)
    assert "a split and train, val or test such as 1:train expected, got 'train'\n" in output
    listed = tmp_path / "list.txt"
    listed.write_text("\n")
    assert refused(source, "--out", tmp_path, "--list", listed) == (
        f"error: {listed}: names of videos expected, one a line; it is empty\n"
    )


# --- fewer snippets ---


def test_fewer_snippets_of_dense_shards_are_those_that_extraction_takes(data, tmp_path):
    dense = extract(data, tmp_path / "dense", "--size", "48x32", "--dense")
    sparse = extract(data, tmp_path / "sparse", "--size", "48x32", "--snippets", 3)
    repack(dense, "--out", tmp_path / "out", "--snippets", 3, "--allow-failures")
    root = tmp_path / "out" / "gestures"
    for folder in KINDS:
        assert images(root, folder) == images(sparse, folder)
        assert rows(root, folder) == rows(sparse, folder)
        assert ShardSet(root / folder).sampling == {"snippets": 3}
    sound(root)


def test_fewer_snippets_are_those_at_the_centres(source, tmp_path):
    words = ("--snippets", 3, "--codec", "raw", "--allow-failures")
    output = repack(source, "--out", tmp_path, "--modality", "flow", *words)
    assert "flow-farneback: 0.1 MB of raw images to write\n" in output
    before = ShardSet(source / "flow-farneback")
    after = ShardSet(tmp_path / "gestures" / "flow-farneback")
    chosen = center_offsets(4, 3, 1)
    assert chosen.tolist() == [0, 2, 3]
    for name in before.names:
        kept = after.read(after.number(name), [0, 1, 2])
        assert np.array_equal(kept, before.read(before.number(name), chosen))
        frames = before.snippet_frames(before.number(name))[chosen]
        assert np.array_equal(after.snippet_frames(after.number(name)), frames)


# --- merging ---


def small_set(root, names, classes, *, splits=None, **changes):
    """Write raw rgb shards of one-snippet videos called CLASS/…, with a manifest."""
    modality = stored("rgb", **{"height": 4, "width": 6, **changes})
    generator = np.random.default_rng(sum(map(ord, "".join(names))))
    videos = []
    for name in names:
        shape = (1, modality.height, modality.width, 3)
        units = generator.integers(0, 256, shape, dtype=np.uint8)
        videos.append((name, classes.index(name.split("/")[0]), units, [0]))
    plan = {"snippets": 1}
    write_shards(root / "rgb", modality, videos, class_names=classes, sampling=plan, per_shard=2)
    records = tuple(
        Record(name, label, splits or {1: "train"}, place // 2)
        for place, (name, label, *_) in enumerate(videos)
    )
    write_manifest(Manifest("tiny", classes, records), root / "manifest.jsonl")
    return root


def test_merged_sets_unite_classes_by_name_and_keep_splits(tmp_path):
    one = small_set(tmp_path / "one", ["b/1", "a/2", "b/3"], ("a", "b"), splits={1: "train"})
    two = small_set(tmp_path / "two", ["c/4", "b/5"], ("b", "c"), splits={1: "test", 2: "val"})
    repack(one, two, "--out", tmp_path, "--name", "both")
    root = tmp_path / "both"
    shards = ShardSet(root / "rgb")
    assert shards.class_names == ("a", "b", "c")
    assert names_in(root) == {"b/1": 1, "a/2": 0, "b/3": 1, "c/4": 2, "b/5": 1}
    assert images(root, "rgb") == {**images(one, "rgb"), **images(two, "rgb")}
    records = read_manifest(root / "manifest.jsonl").records
    assert [dict(one.splits) for one in records] == [{1: "train"}] * 3 + [{1: "test", 2: "val"}] * 2
    sound(root)


def test_merged_sets_are_cut_like_that_of_the_largest_shards(tmp_path):
    one = small_set(tmp_path / "one", ["a/1", "a/2"], ("a",))
    two = small_set(tmp_path / "two", ["a/3", "a/4"], ("a",))
    repack(one, "--out", tmp_path, "--name", "fine", "--videos-per-shard", 1)
    repack(tmp_path / "fine", two, "--out", tmp_path, "--name", "both")
    header = Shard(tmp_path / "both" / "rgb" / "shard-00000.h5").header
    assert header.videos_per_shard == 4
    assert len(list((tmp_path / "both" / "rgb").glob("*.h5"))) == 1


def test_names_that_stand_in_two_sets_are_refused_or_prefixed(tmp_path):
    one = small_set(tmp_path / "one", ["a/1"], ("a",))
    two = small_set(tmp_path / "two", ["a/1"], ("a",))
    words = ("--out", tmp_path, "--name", "both")
    assert refused(one, two, *words) == (
        f"error: a/1 stands in {one} and in {two}; --prefix puts the name of its set before each\n"
    )
    assert refused(one, two, *words, "--prefix") == (
        "error: two sets are named tiny; --prefix cannot tell their videos apart\n"
    )
    repack(two, "--out", tmp_path, "--name", "other")
    repack(one, tmp_path / "other", *words, "--prefix")
    assert names_in(tmp_path / "both") == {"tiny/a/1": 0, "other/a/1": 0}
    sound(tmp_path / "both")


@pytest.mark.parametrize(
    ("changes", "words", "found"),
    [
        ({"scale": 2.0}, (), "has scale=2.0, {one} has scale=1.0; such sets cannot be merged"),
        (
            {"snippet_length": 1, "height": 8},
            (),
            "has height=8, {one} has height=4; choose one --size for all",
        ),
        (
            {"codec": "jpeg", "quality": 90},
            (),
            "has codec=jpeg, {one} has codec=raw; choose one --codec for all",
        ),
        (
            {"codec": "jpeg", "quality": 90},
            ("--codec", "jpeg"),
            "has quality=90, {one} has quality=None; choose one --quality for all",
        ),
    ],
)
def test_sets_with_other_settings_are_refused_by_name(tmp_path, changes, words, found):
    one = small_set(tmp_path / "one", ["a/1"], ("a",))
    two = small_set(tmp_path / "two", ["a/2"], ("a",), **changes)
    output = refused(one, two, "--out", tmp_path, "--name", "both", *words)
    assert output == f"error: {two / 'rgb'}: {found.format(one=one / 'rgb')}\n"


def test_settings_that_are_made_the_same_may_differ(tmp_path):
    one = small_set(tmp_path / "one", ["a/1"], ("a",))
    two = small_set(tmp_path / "two", ["a/2"], ("a",), codec="jpeg", quality=90, height=8)
    words = ("--codec", "raw", "--size", "6x4")
    repack(one, two, "--out", tmp_path, "--name", "both", *words)
    assert images(tmp_path / "both", "rgb")["a/1"] == images(one, "rgb")["a/1"]
    sound(tmp_path / "both")


def test_sampling_must_be_the_same(tmp_path):
    modality = stored("rgb")
    units = np.zeros((2, 24, 32, 3), np.uint8)
    one, two = tmp_path / "one/rgb", tmp_path / "two/rgb"
    write_shards(one, modality, [("a", 0, units, [0, 1])], sampling={"snippets": 2})
    write_shards(two, modality, [("b", 0, units, [0, 1])], sampling={"dense": True})
    assert refused(one, two, "--out", tmp_path, "--name", "both") == (
        f"error: {two}: has dense=True, {one} has dense=None; choose one --snippets for all\n"
    )
    repack(one, two, "--out", tmp_path, "--name", "both", "--snippets", 1)
    assert ShardSet(tmp_path / "both" / "rgb").sampling == {"snippets": 1}
    assert ShardSet(tmp_path / "both" / "rgb").num_snippets.tolist() == [1, 1]


def test_sets_must_have_the_same_modalities(source, tmp_path):
    other = small_set(tmp_path / "other", ["a/1"], ("a",))
    output = refused(source, other, "--out", tmp_path / "out", "--name", "both")
    assert output == (
        f"error: {other}: has no flow-farneback shards, {source} has; choose what both have with "
        "--modality\n"
    )


def test_folders_of_one_set_are_one_set(source, tmp_path):
    words = ("--out", tmp_path, "--allow-failures")
    repack(source / "rgb", source / "rgbdiff", *words)
    root = tmp_path / "gestures"
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["rgb", "rgbdiff"]
    assert images(root, "rgbdiff") == images(source, "rgbdiff")


# --- damage and change ---


def spoil(root, folder, name):
    """Flip a byte of a video's images; return what mends it."""
    video = StoredShards(root / folder).video(folder, name)
    path = video.shard.path
    content = path.read_bytes()
    place = content.index(next(iter(video.images())))
    path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    return lambda: path.write_bytes(content)


def test_a_damaged_image_costs_its_video_until_it_is_mended(own_source, source, tmp_path):
    mend = spoil(own_source, "rgb", "wave/wave_1.avi")
    words = (own_source, "--out", tmp_path / "out", "--codec", "raw")
    output = repack(*words, status=1)
    root = tmp_path / "out" / "gestures"
    path = own_source / "rgb" / "shard-00002.h5"
    failed = {
        line["name"]: line
        for line in map(json.loads, (root / "failures.jsonl").read_text().splitlines())
    }
    reason = (
        f"{path}: the images of wave/wave_1.avi do not match their checksum; "
        "delete the file and extract again"
    )
    line = failed["wave/wave_1.avi"]
    assert (line["stage"], line["modalities"]) == ("repack", ["rgb"])
    assert line["reason"].endswith("do not match their checksum; delete the file and extract again")
    assert reason.rpartition(": ")[2] in output
    assert "wave/wave_1.avi" in ShardSet(root / "rgbdiff")
    sound(root)
    mend()
    assert "nothing to do" not in repack(*words, status=1)
    assert "wave/wave_1.avi" in ShardSet(root / "rgb")
    repack(source, "--out", tmp_path / "whole", "--codec", "raw", status=1)
    assert tree_bytes(root) == tree_bytes(tmp_path / "whole" / "gestures")


def test_an_image_that_is_no_image_costs_its_video(tmp_path, monkeypatch):
    one = small_set(tmp_path / "one", ["a/1", "a/2", "a/3"], ("a",), codec="jpeg", quality=90)
    from preprocess.repack import recoding

    real, calls = recoding.resized_image, []

    def breaks(*given):
        calls.append(1)
        if len(calls) == 2:
            decode_image(np.zeros(4, np.uint8), "jpeg", (4, 6, 3))
        return real(*given)

    monkeypatch.setattr(recoding, "resized_image", breaks)
    output = repack(one, "--out", tmp_path / "o", "--codec", "raw", "--jobs", 1, status=1)
    assert "  a/2: JPEG of shape (4, 6, 3) expected, got no JPEG\n" in output
    assert sorted(names_in(tmp_path / "o" / "tiny")) == ["a/1", "a/3"]


def test_a_damaged_shard_costs_its_videos(own_source, tmp_path):
    path = own_source / "rgb" / "shard-00000.h5"
    path.write_bytes(path.read_bytes()[:200])
    repack(own_source, "--out", tmp_path / "out", status=1)
    root = tmp_path / "out" / "gestures"
    failed = [json.loads(line) for line in (root / "failures.jsonl").read_text().splitlines()]
    assert [line["name"] for line in failed if line["stage"] == "repack"] == [
        "nod/nod_0.avi",
        "nod/nod_2.avi",
    ]
    assert len(ShardSet(root / "rgb")) == 3
    assert len(ShardSet(root / "rgbdiff")) == 5
    (own_source / "manifest.jsonl").unlink()
    output = refused(own_source / "rgb", "--out", tmp_path / "other")
    assert output.startswith(f"error: {path}: damaged: ")


def test_only_what_changed_in_the_source_is_made_anew(data, tmp_path):
    videos = shutil.copytree(data, tmp_path / "gestures")
    words = ("--size", "24x16", "--snippets", 2)
    root = extract(videos, tmp_path / "shards", *words)
    again = (root, "--out", tmp_path / "out", "--codec", "raw", "--allow-failures")
    repack(*again)
    made = tmp_path / "out" / "gestures"
    times = {path: path.stat().st_mtime_ns for path in made.rglob("shard-*.h5")}
    write_clip(videos / "wave" / "wave_3.avi", moving_frames(12, (36, 48), seed=77))
    extract(videos, tmp_path / "shards", *words)
    repack(*again)
    changed = {path.name for path in times if path.stat().st_mtime_ns != times[path]}
    assert changed == {"shard-00002.h5"}
    repack(root, "--out", tmp_path / "anew", "--codec", "raw", "--allow-failures")
    assert tree_bytes(made) == tree_bytes(tmp_path / "anew" / "gestures")
    assert "nothing to do" in repack(*again)


def test_videos_that_are_gone_from_the_source_go_from_the_result(tmp_path):
    one = small_set(tmp_path / "one", [f"a/{n}" for n in range(5)], ("a",))
    repack(one, "--out", tmp_path / "out")
    shutil.rmtree(one)
    small_set(one, ["a/0", "a/1"], ("a",))
    repack(one, "--out", tmp_path / "out")
    assert sorted(names_in(tmp_path / "out" / "tiny")) == ["a/0", "a/1"]
    sound(tmp_path / "out" / "tiny")


def test_a_source_that_changes_under_the_run_ends_it(tmp_path, monkeypatch):
    one = small_set(tmp_path / "one", ["a/1", "a/2"], ("a",))
    from preprocess.repack import recoding

    real = recoding._put

    def changes(*given):
        shutil.rmtree(one)
        small_set(one, ["a/8", "a/9"], ("a",))
        monkeypatch.setattr(recoding, "_put", real)
        raise recoding.ShardError("cut short")

    monkeypatch.setattr(recoding, "_put", changes)
    assert refused(one, "--out", tmp_path / "out", "--jobs", 1) == (
        "rgb: 0.0 MB of raw images to write\n"
        f"error: {one / 'rgb' / 'shard-00000.h5'}: changed since this program opened it; run the "
        "same command again\n"
    )
    assert not list((tmp_path / "out").rglob("*.h5"))


def test_a_manifest_with_other_labels_is_refused(tmp_path):
    one = small_set(tmp_path / "one", ["a/1", "b/2"], ("a", "b"))
    records = (Record("a/1", 1), Record("b/2", 1))
    write_manifest(Manifest("tiny", ("a", "b"), records), one / "manifest.jsonl")
    assert refused(one, "--out", tmp_path / "out") == (
        f"error: {one}: a/1 has label 0 in its shards, 1 in the manifest; extract again\n"
    )
    write_manifest(Manifest("tiny", ("b", "a"), records), one / "manifest.jsonl")
    assert refused(one, "--out", tmp_path / "out") == (
        f"error: {one / 'rgb'}: of another dataset or other classes than the folders or the "
        "manifest beside it; give the folder of one dataset\n"
    )


def test_a_shard_that_the_index_does_not_name_is_refused(own_source, tmp_path):
    folder = own_source / "rgb"
    shutil.copy(folder / "shard-00001.h5", folder / "shard-00000.h5")
    assert refused(own_source, "--out", tmp_path / "out") == (
        f"error: {folder / 'shard-00000.h5'}: not the shard that {folder / 'index.json'} names; "
        "run extract again\n"
    )


# --- folders and space ---


def test_other_settings_into_the_same_folder_are_refused(source, tmp_path):
    repack(source / "rgb", "--out", tmp_path, "--allow-failures")
    folder = tmp_path / "gestures" / "rgb"
    assert refused(source / "rgb", "--out", tmp_path, "--codec", "raw") == (
        f"error: {folder}: written with codec=jpeg, this run has codec=raw; choose another --out "
        "or delete the folder\n"
    )


def test_shards_beside_the_result_keep_their_manifest(source, tmp_path):
    repack(source / "rgb", "--out", tmp_path, "--allow-failures")
    manifest = tmp_path / "gestures" / "manifest.jsonl"
    assert refused(source / "rgbdiff", "--out", tmp_path, "--class", "nod") == (
        f"error: {manifest}: names other videos, classes or shards than this run, and rgb beside "
        "it belongs to it; repack all modalities at once, or choose another --name\n"
    )
    repack(source / "rgbdiff", "--out", tmp_path, "--allow-failures")


@pytest.mark.parametrize("out", ["..", "."])
def test_the_result_does_not_lie_in_the_source(own_source, out):
    folder = own_source / out
    assert refused(own_source, "--out", folder) == (
        f"error: {folder / 'gestures'}: lies in the shards to repack; choose another --out or "
        "--name\n"
    )


def test_one_run_at_a_time(source, tmp_path):
    from preprocess.folder_lock import locked

    with locked(tmp_path / "gestures", wait=False, tell=print):
        assert refused(source, "--out", tmp_path) == (
            f"error: {tmp_path / 'gestures'}: another extraction is writing there; wait for it, or "
            "use --wait\n"
        )


@pytest.mark.parametrize("command", ["repack", "import"])
def test_a_run_may_wait_for_another(tmp_path, command):
    from preprocess.folder_lock import locked

    source = small_set(tmp_path / "one", ["a/1"], ("a",))
    if command == "import":
        run("export", source, "--to", "frames", "--out", tmp_path / "frames")
        source = tmp_path / "frames"
    words = [sys.executable, "-m", "preprocess", command, source, "--out", tmp_path / "out"]
    with locked(tmp_path / "out" / "tiny", wait=False, tell=print):
        process = subprocess.Popen([*words, "--wait"], stderr=subprocess.PIPE, text=True)
        told = process.stderr.readline()
        assert told.endswith("another extraction is writing there; waiting for it\n")
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    sound(tmp_path / "out" / "tiny")


def test_too_little_room_is_said_before(source, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9_000, 8_000, 1_000))
    words = ("--modality", "rgb", "--codec", "raw", "--allow-failures")
    assert (
        f"{tmp_path}: only 0.0 MB are free there; when it is full the run ends, and goes on with "
        "the same command\n"
    ) in repack(source, "--out", tmp_path, *words)


def test_shards_go_to_and_from_a_store(store, source, tmp_path):
    words = ("--codec", "raw", "--allow-failures")
    repack(source, "--out", store.path("out"), *words)
    repack(source, "--out", tmp_path / "here", *words)
    assert store.tree("out/gestures") == tree_bytes(tmp_path / "here" / "gestures")
    assert "nothing to do" in repack(source, "--out", store.path("out"), *words)
    repack(store.path("out/gestures"), "--out", tmp_path / "back", "--allow-failures")
    for folder in KINDS:
        assert images(tmp_path / "back/gestures", folder) == images(
            tmp_path / "here/gestures", folder
        )


# --- whole, or not at all ---


def start(source, out, jobs=2):
    command = [sys.executable, "-m", "preprocess", "repack", str(source), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--codec", "raw", "--jobs", str(jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def many(tmp_path):
    """Return shards of twelve videos in six shards."""
    names = [f"{'ab'[n % 2]}/{n}" for n in range(12)]
    changes = {"codec": "jpeg", "quality": 90, "height": 240, "width": 320}
    return small_set(tmp_path / "many", names, ("a", "b"), **changes)


def test_any_number_of_jobs_gives_the_same_bytes(tmp_path):
    source = many(tmp_path)
    for jobs in (1, 3):
        repack(source, "--out", tmp_path / str(jobs), "--codec", "raw", "--jobs", jobs)
    assert tree_bytes(tmp_path / "1") == tree_bytes(tmp_path / "3")


def test_kills_cost_nothing(tmp_path):
    """Killed when it has made so many shards, or none: the result is that of an undisturbed run."""
    source = many(tmp_path)
    repack(source, "--out", tmp_path / "whole", "--codec", "raw")
    whole = tree_bytes(tmp_path / "whole" / "tiny")
    root, generator = tmp_path / "out" / "tiny", random.Random(1)
    killed = 0
    for _ in range(4):
        process = start(source, tmp_path / "out")
        there = len(list(root.rglob("shard-*.h5")))
        wanted = there + generator.randint(0, 2)
        while process.poll() is None:
            hidden = list(root.rglob(".shard-*"))
            if root.is_dir() and len(list(root.rglob("shard-*.h5"))) >= wanted and hidden:
                break
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
        if root.is_dir():
            assert defects(root) == []
    assert killed
    process = start(source, tmp_path / "out")
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert tree_bytes(root) == whole
    assert leftovers(root) == []


DYING = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from conftest import tree_bytes
from disk_faults import Steps
from killed_runs import defects, leftovers
from test_repack import repack, small_set

os.fsync = lambda fd: None  # of no use against kills, and slow
base = Path({base!r})
names = [f"{{'ab'[n % 2]}}/{{n}}" for n in range(4)]
source = small_set(base / "source", names, ("a", "b"), codec="jpeg", quality=90)

def make(out):
    return repack(source, "--out", out, "--codec", "raw", "--jobs", 1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

make(base / "whole")
whole = tree_bytes(base / "whole")
number = 0
while True:
    number += 1
    out = base / str(number)
    pid = os.fork()
    if pid == 0:
        Steps(out, number, die).count()
        make(out)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if status == 0:
        break
    assert status == signal.SIGKILL, status
    root = out / "tiny"
    if root.is_dir():
        assert defects(root) == [], number
    make(out)
    assert tree_bytes(out) == whole, number
    assert leftovers(root) == [], number
    assert "nothing to do" in make(out), number
print(number)
"""


@pytest.mark.slow(reason="kills a run at each of its steps")
def test_a_kill_at_every_step_costs_nothing(tmp_path):
    """Before every file is opened, written to, synced, renamed or removed."""
    code = DYING.format(path=sys.path, base=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 30, "steps"


# --- what others make of it ---


def test_what_was_trained_on_is_known_under_its_new_name(source, tmp_path):
    kinds = ("--modality", "rgb", "--allow-failures")
    repack(source, "--out", tmp_path, "--name", "renamed", *kinds)
    records = read_manifest(tmp_path / "renamed" / "manifest.jsonl").records
    assert {one.origin for one in records} == {("gestures", one.name) for one in records}
    run("export", tmp_path / "renamed", "--to", "frames", "--out", tmp_path / "frames")
    run("import", tmp_path / "frames", "--out", tmp_path / "imported")
    assert read_manifest(tmp_path / "imported" / "renamed" / "manifest.jsonl").records == records
    out = tmp_path / "run"
    done = run_program(*fit_arguments(source, out, "--epochs", 1, "--num-segments", 3))
    assert done.exit_code == 0, done.output
    words = ("--num-snippets", 3, "--crops", 1, "--device", "cpu", "--subset", "train")
    message = failure("evaluate", out, "--shards", tmp_path / "renamed", *words)
    assert "4 of 4 train videos are among those that it was trained on" in message
    repack(tmp_path / "renamed", "--out", tmp_path, "--name", "again", "--prefix", *kinds)
    names = read_manifest(tmp_path / "again" / "manifest.jsonl").origins
    assert names["renamed/nod/nod_0.avi"] == ("gestures", "nod/nod_0.avi")
    repack(tmp_path / "again", "--out", tmp_path / "x", "--name", "gestures", *kinds)
    message = failure("evaluate", out, "--shards", tmp_path / "x" / "gestures", *words)
    assert "4 of 4 train videos are among those that it was trained on" in message
    back = ("--out", tmp_path / "y", "--name", "gestures", *kinds)
    repack(tmp_path / "renamed", *back)
    assert read_manifest(tmp_path / "y" / "gestures" / "manifest.jsonl").origins == {}


def test_a_network_is_trained_and_tested_on_repacked_shards(source, tmp_path):
    repack(source, "--out", tmp_path, "--codec", "raw", "--snippets", 3, "--allow-failures")
    root, out = tmp_path / "gestures", tmp_path / "run"
    done = run_program(*fit_arguments(root, out, "--epochs", 1, "--num-segments", 3))
    assert done.exit_code == 0, done.output
    done = run_program("evaluate", out, "--num-snippets", 3, "--crops", 1, "--device", "cpu")
    assert done.exit_code == 0, done.output
    inspected = run("inspect", root, "--out", tmp_path / "pictures", "--no-preview")
    assert inspected.exit_code == 0, inspected.output
    exported = run("export", root / "rgb", "--to", "frames", "--out", tmp_path / "frames")
    assert exported.exit_code == 0, exported.output
