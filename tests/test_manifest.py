"""The manifest: round trips, and every message it has for a bad one."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsn_core.errors import InputError, OutputError
from tsn_core.manifest import Manifest, Record, read_manifest, write_manifest

HEAD = '{"format": "tsn-manifest", "version": 1, "dataset": "d", "class_names": ["a", "b"]}'


def is_relative(name):
    parts = name.replace("\\", "/").split("/")
    return parts[0] != "" and ".." not in parts and ":" not in name[:2]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NAMES = TEXT.filter(is_relative)
SPLITS = st.dictionaries(st.integers(1, 5), st.sampled_from(["train", "val", "test"]), max_size=3)


@st.composite
def manifests(draw):
    classes = tuple(draw(st.lists(TEXT, min_size=1, max_size=4)))
    names = draw(st.lists(NAMES, max_size=6, unique=True))
    label = st.integers(0, len(classes) - 1)
    records = tuple(Record(name, draw(label), draw(SPLITS)) for name in names)
    return Manifest(draw(TEXT), classes, records)


@settings(deadline=None)  # every file is synced to the disk
@given(manifest=manifests())
def test_round_trip(manifest, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "manifest.jsonl"
    write_manifest(manifest, path)
    assert read_manifest(path) == manifest
    again = path.with_name("again.jsonl")
    write_manifest(read_manifest(path), again)
    assert again.read_bytes() == path.read_bytes()


def test_it_is_json_lines_that_people_can_read(tmp_path):
    record = Record("é/[a]!+.avi", 1, {2: "test", 1: "train"})
    write_manifest(Manifest("d", ("a", "b"), (record,)), tmp_path / "deep" / "m.jsonl")
    assert (tmp_path / "deep" / "m.jsonl").read_text(encoding="utf-8") == (
        HEAD + '\n{"name": "é/[a]!+.avi", "label": 1, "splits": {"1": "train", "2": "test"}}\n'
    )


def test_subsets():
    manifest = Manifest(
        "d",
        ("a",),
        (
            Record("c", 0, {1: "test", 3: "train"}),
            Record("b", 0, {1: "train"}),
            Record("a", 0, {1: "train"}),
            Record("d", 0),
        ),
    )
    assert manifest.split_numbers == (1, 3)
    assert manifest.subset_names(1, "train") == ("b", "a")
    assert manifest.subset_names(3, "train") == ("c",)
    assert manifest.subset_names(3, "val") == ()
    with pytest.raises(InputError) as caught:
        manifest.subset_names(2, "train")
    assert str(caught.value) == "d: no split 2; it has 1, 3"


def test_a_dataset_without_splits_says_so():
    with pytest.raises(InputError) as caught:
        Manifest("d", ("a",), (Record("a", 0),)).subset_names(1, "train")
    assert str(caught.value) == "d: no split 1; it has none"


@pytest.mark.parametrize(
    "name",
    [
        *("", "/a.avi", "../a.avi", "a/../../b.avi", "c:/a.avi", "a\0"),
        *(
            "..\\a.avi",
            "a\\..\\..\\b.avi",
            "\\a.avi",
            "c:a.avi",
            "\\\\server\\share\\a.avi",
            "a/..\\b",
        ),
    ],
)
def test_names_stay_in_the_folder(name):
    with pytest.raises(InputError) as caught:
        Record(name, 0)
    assert str(caught.value) == f"{name!r}: expected a path inside the dataset folder"


def test_names_are_unicode():
    with pytest.raises(InputError) as caught:
        Record("a\udcff.avi", 0)
    assert str(caught.value) == (
        r"'a\udcff.avi': the name is not valid UTF-8; rename the file"  # as Linux gives it
    )


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_are_class_ids(label):
    with pytest.raises(InputError) as caught:
        Manifest("d", ("a", "b"), (Record("x.avi", label),))
    assert str(caught.value) == f"x.avi: label must be 0 to 1, got {label}"


def test_subsets_are_three():
    with pytest.raises(InputError) as caught:
        Record("x.avi", 0, {1: "valid"})
    assert (
        str(caught.value) == "x.avi: subset of split 1 must be one of train, val, test, got 'valid'"
    )


def test_names_differ():
    with pytest.raises(InputError) as caught:
        Manifest("d", ("a", "b"), (Record("x.avi", 0), Record("y", 0), Record("x.avi", 1)))
    assert str(caught.value) == "d: duplicate video name 'x.avi'; names must differ"


ANEW = "; the same extract or scan writes it anew"
RECORD = '{"name": "x.avi", "label": 0, "splits": {}}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "{path}, line 1: a line with format 'tsn-manifest' expected{anew}"),
        (["[]"], "{path}, line 1: a line with format 'tsn-manifest' expected{anew}"),
        (
            ['{"format": "other"}'],
            "{path}, line 1: a line with format 'tsn-manifest' expected{anew}",
        ),
        (
            [HEAD.replace("1", "2")],
            "{path}, line 1: format version 1 expected, got 2; scan again, or update this package",
        ),
        (
            ['{"format": "tsn-manifest", "version": 1}'],
            "{path}, line 1: not a line of a manifest: KeyError('dataset'){anew}",
        ),
        (
            [HEAD, RECORD, '{"name": "y.avi"}'],
            "{path}, line 3: not a line of a manifest: KeyError('splits'){anew}",
        ),
        (
            [HEAD, RECORD.replace(": 0", ': "0"')],
            "{path}, line 2: label must be a whole number, got '0'",
        ),
        (
            [HEAD, RECORD.replace("}}", '}, "origin": ["a"]}')],
            "{path}, line 2: origin must be two texts, dataset and name, got ['a']",
        ),
        (
            [HEAD, RECORD.replace("}}", '}, "origin": ["a", "\\ud800"]}')],
            "{path}, line 2: origin must be Unicode, got ['a', '\\ud800']",
        ),
        (
            [HEAD, RECORD, RECORD.replace("x", "../x")],
            "{path}, line 3: '../x.avi': expected a path inside the dataset folder",
        ),
        (
            [HEAD, RECORD, RECORD],
            "{path}: d: duplicate video name 'x.avi'; names must differ",
        ),
        (
            [HEAD, RECORD.replace(": 0", ": 7")],
            "{path}: x.avi: label must be 0 to 1, got 7",
        ),
    ],
)
def test_a_bad_manifest_is_named_with_its_line(tmp_path, lines, message):
    path = tmp_path / "m.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert str(caught.value) == message.format(path=path, anew=ANEW)


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(HEAD + "\n" + RECORD[:-5] + "\n")
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}, line 2: cut short or damaged: ")
    assert str(caught.value).endswith(ANEW)


def test_no_manifest(tmp_path):
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path / "m.jsonl")
    assert str(caught.value) == (
        f"{tmp_path / 'm.jsonl'}: no manifest there; give the folder of a "
        "dataset's shards, such as shards/hmdb51, or make one with tsn-preprocess scan "
        "or extract"
    )


def test_a_manifest_that_is_no_text(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert str(caught.value) == (
        f"{path}: cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: "
        f"invalid start byte{ANEW}"
    )


def test_an_unwritable_place_is_named_and_left_clean(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        write_manifest(Manifest("d", ("a",), ()), tmp_path / "file" / "m.jsonl")
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'm.jsonl'}: cannot be written: File exists; "
        "free space or choose another place"
    )
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError) as caught:
        write_manifest(Manifest("d", ("a",), ()), tmp_path / "folder")
    assert str(caught.value) == (
        f"{tmp_path / 'folder'}: cannot be written: Is a directory; "
        "free space or choose another place"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_manifest_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "m.jsonl"
    write_manifest(Manifest("old", ("a",), ()), path)

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)  # the bytes are written, but not yet safe
    with pytest.raises(KeyboardInterrupt):
        write_manifest(Manifest("new", ("a",), ()), path)
    assert json.loads(path.read_text())["dataset"] == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["m.jsonl"]


def test_a_manifest_without_permission(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path / "m.jsonl")
    assert str(caught.value) == (
        f"{tmp_path / 'm.jsonl'}: cannot be read: Permission denied; allow that"
    )
