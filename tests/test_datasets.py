"""Reading datasets as they lie on disk; the files need not be videos for this."""

import os
from pathlib import Path

import pytest

from preprocess.datasets import scan_dataset
from preprocess.datasets.files import automatic_splits, split_of
from tsn_core.errors import InputError
from tsn_core.manifest import Record

ENDINGS = ".3gp .avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv"


def make(data: Path, files: dict[str, str]) -> Path:
    """Write text files below a folder, with the line ends that are given."""
    for name, text in files.items():
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return data


def failure(kind, data, lists=()):
    """Return the message of a scan that fails."""
    with pytest.raises(InputError) as caught:
        scan_dataset(kind, data, lists)
    return str(caught.value)


def videos(manifest):
    return {record.name: (record.label, dict(record.splits)) for record in manifest.records}


# --- folder ---


def test_folder_with_lists_by_name_and_number(tmp_path):
    data = make(
        tmp_path / "own",
        {
            "walk/b.avi": "",
            "walk/A.MP4": "",
            "run/c d.mkv": "",
            "run/notes.txt": "",
            "run/.hidden.avi": "",
            "run/unlisted.webm": "",
            ".cache/x.avi": "",
            "splits/train_split_1.txt": "walk/b.avi walk\r\nrun/c d.mkv 0  \r\n\r\n",
            "splits/test_split_1.txt": "./walk/A.MP4 1\n",
            "splits/val_split_2.txt": "\ufeffwalk\\b.avi\twalk",
            "splits/readme.txt": "not a list\n",
        },
    )
    manifest = scan_dataset("folder", data)
    assert manifest.dataset == "own"
    assert manifest.class_names == ("run", "walk")
    assert videos(manifest) == {
        "run/c d.mkv": (0, {1: "train"}),
        "run/unlisted.webm": (0, {}),
        "walk/A.MP4": (1, {1: "test"}),
        "walk/b.avi": (1, {1: "train", 2: "val"}),
    }


def test_folder_with_a_videos_folder_and_an_order_of_classes(tmp_path):
    data = make(
        tmp_path,
        {
            "videos/walk/a.avi": "",
            "videos/run/b.avi": "",
            "classes.txt": "walk\r\nstand\r\nrun\r\n",
            "train_split_1.txt": "walk/a.avi 0\nrun/b.avi 2\n",
        },
    )
    manifest = scan_dataset("folder", data)
    assert manifest.class_names == ("walk", "stand", "run")
    assert videos(manifest) == {
        "videos/run/b.avi": (2, {1: "train"}),
        "videos/walk/a.avi": (0, {1: "train"}),
    }


def test_folder_without_lists_tests_every_fifth_of_each_class(tmp_path):
    names = [
        f"{name}/{n}.avi" for name, count in (("a", 10), ("b", 3), ("c", 1)) for n in range(count)
    ]
    manifest = scan_dataset("folder", make(tmp_path, dict.fromkeys(names, "")))
    tested = [record.name[0] for record in manifest.records if record.splits == {1: "test"}]
    trained = [record.name[0] for record in manifest.records if record.splits == {1: "train"}]
    assert sorted(tested) == ["a", "a", "b"]
    assert len(tested) + len(trained) == 14


def test_automatic_splits_depend_on_names_only():
    videos = [(f"{n}.avi", n % 2) for n in range(40)]
    assert automatic_splits(videos) == automatic_splits(videos[::-1])


def test_missing_folder(tmp_path):
    data = tmp_path / "none"
    assert failure("folder", data) == (
        f"{data}: no such folder; give the folder that holds one folder of videos for each class "
        "with --data DIR"
    )
    assert failure("synthetic", data) == (
        f"{data}: no such folder; make the synthetic videos with: tsn-preprocess synth --out {data}"
    )
    assert failure("list", data, [data]) == (
        f"{data}: no such folder; give the folder that the listed paths are relative to with "
        "--data DIR"
    )
    assert failure("hmdb51", data) == (
        f"{data}: no such folder; get HMDB51 with: tsn-preprocess download hmdb51 --out DIR; or "
        "put the class folders into its videos/ and the *_test_splitN.txt files into its splits/ "
        "yourself, from the archives at https://serre.lab.brown.edu/hmdb51.html"
    )
    assert failure("ucf101", data) == (
        f"{data}: no such folder; get UCF101 with: tsn-preprocess download ucf101 --out DIR; or "
        "put the class folders into its videos/ and classInd.txt, trainlist0N.txt and "
        "testlist0N.txt into its splits/ yourself, from the archives at https://www.crcv.ucf.edu/data/UCF101.php"
    )


@pytest.mark.parametrize("kind", ["folder", "hmdb51", "ucf101"])
def test_class_folder_without_videos(tmp_path, kind):
    data = make(tmp_path, {"videos/walk/a.avi": "", "videos/run/readme.txt": ""})
    assert failure(kind, data) == (
        f"{data / 'videos' / 'run'}: class folder without videos; put some there or remove it "
        f"(known endings: {ENDINGS})"
    )


def test_split_lists_that_are_empty(tmp_path):
    data = make(tmp_path, {"walk/a.avi": "", "splits/train_split_1.txt": "\n"})
    assert failure("folder", data) == (
        f"{data / 'splits' / 'train_split_1.txt'}: no videos listed, nor in other split lists; "
        "'path label' lines expected, or no lists, for every fifth video to be for testing"
    )


def test_a_split_list_of_another_name_is_not_passed_over_in_silence(tmp_path):
    data = make(tmp_path, {"walk/a.avi": "", "splits/train_split_one.txt": "walk/a.avi 0\n"})
    with pytest.warns(UserWarning, match=r"train_split_one\.txt: not read; names of split lists"):
        scan_dataset("folder", data)


def test_names_among_numbers_are_pointed_out(tmp_path):
    data = make(tmp_path, {"l.txt": "# list\na.avi 0\nb.avi 1\n"})
    with pytest.warns(UserWarning, match=r"l\.txt, line 1: label 'list' is a name, 0 elsewhere"):
        assert scan_dataset("list", data, [data / "l.txt"]).class_names == ("0", "1", "list")


def test_class_folder_without_permission(tmp_path, monkeypatch):
    data = make(tmp_path, {"walk/a.avi": "", "run/b.avi": ""})
    iterdir = Path.iterdir

    def refuse(folder):
        if folder.name == "run":
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert failure("folder", data) == (
        f"{data / 'run'}: class folder cannot be read: Permission denied; allow that, or take it "
        "out of there"
    )


def test_no_class_folders(tmp_path):
    data = make(tmp_path, {"a.avi": ""})
    assert failure("folder", data) == (
        f"{data}: no class folders; one folder for each class expected"
    )


FOLDER = {"walk/a.avi": "", "run/b.avi": ""}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "walk/a.avi walk\n\nrun/b.avi jump \r\n",
            3,
            "unknown class 'jump'; a class folder's name or 0 to 1 expected",
        ),
        ("walk/a.avi 2\n", 1, "unknown class '2'; a class folder's name or 0 to 1 expected"),
        ("walk/a.avi -1\n", 1, "unknown class '-1'; a class folder's name or 0 to 1 expected"),
        ("walk/x.avi walk\n", 1, "walk/x.avi: no such video under {data}"),
        ("../walk/a.avi walk\n", 1, "../walk/a.avi: no such video under {data}"),
        (
            "walk/a.avi run\n",
            1,
            "walk/a.avi lies in the folder of walk, the list says run",
        ),
        ("walk/a.avi\n", 1, "'path label' expected, got 'walk/a.avi'"),
    ],
)
def test_a_bad_line_of_a_split_list(tmp_path, text, line, message):
    data = make(tmp_path, {**FOLDER, "train_split_1.txt": text})
    expected = f"{data / 'train_split_1.txt'}, line {line}: {message.format(data=data)}"
    assert failure("folder", data) == expected


def test_a_video_in_two_subsets_of_a_split(tmp_path):
    lists = {"train_split_1.txt": "walk/a.avi walk\n", "test_split_1.txt": "walk/a.avi walk\n"}
    data = make(tmp_path, {**FOLDER, **lists})
    assert failure("folder", data) == (
        f"{data / 'train_split_1.txt'}, line 1: walk/a.avi is for test in split 1 already"
    )


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_classes_are_named_once(tmp_path, kind):
    data = make(tmp_path, {**FOLDER, "classes.txt": "walk\nrun\nwalk\n", "l.txt": "walk/a.avi 0"})
    assert failure(kind, data, [data / "l.txt"] if kind == "list" else ()) == (
        f"{data / 'classes.txt'}, line 3: duplicate class name 'walk'; it stands in line 1"
    )


def test_a_class_folder_that_the_order_forgets(tmp_path):
    data = make(tmp_path, {**FOLDER, "classes.txt": "walk\n"})
    assert failure("folder", data) == (
        f"{data / 'run'}: {data / 'classes.txt'} does not name this class"
    )


def test_a_file_name_that_is_not_unicode(tmp_path):
    data = make(tmp_path, FOLDER)
    name = os.fsencode(data / "walk") + b"/\xff.avi"
    try:
        Path(os.fsdecode(name)).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has Unicode names only")
    assert failure("folder", data) == (
        r"'walk/\udcff.avi': the name is not valid UTF-8; rename the file"
    )


# --- list ---


def test_list_of_names_becomes_sorted_classes(tmp_path):
    data = make(
        tmp_path / "k",
        {
            "train.txt": "\ufeffa b/[x]!+.mp4 walk \r\n  ./c.mp4 run\r\n\r\n",
            "val_list_1.txt": "deep//d.mp4\twalk",
        },
    )
    manifest = scan_dataset("list", data, [data / "train.txt", data / "val_list_1.txt"])
    assert manifest.dataset == "k"
    assert manifest.class_names == ("run", "walk")
    assert videos(manifest) == {
        "a b/[x]!+.mp4": (1, {1: "train"}),
        "c.mp4": (0, {1: "train"}),
        "deep/d.mp4": (1, {1: "val"}),
    }


def test_list_of_numbers_names_classes_by_number(tmp_path):
    data = make(tmp_path, {"l.txt": "a.mp4 0\nb.mp4 3\nc.mp4 3\n"})
    manifest = scan_dataset("list", data, [data / "l.txt"])
    assert manifest.class_names == ("0", "1", "2", "3")
    assert [record.label for record in manifest.records] == [0, 3, 3]
    assert manifest.split_numbers == (1,)  # every fifth video of a class for testing


def test_list_with_names_in_classes_txt(tmp_path):
    data = make(tmp_path, {"l.txt": "a.mp4 1\nb.mp4 walk\n", "classes.txt": "walk\nrun\n"})
    manifest = scan_dataset("list", data, [data / "l.txt"])
    assert manifest.class_names == ("walk", "run")
    assert [record.label for record in manifest.records] == [1, 0]


def test_list_with_absolute_paths(tmp_path):
    data = make(tmp_path / "data", {"l.txt": f"{tmp_path / 'data' / 'x' / 'a.mp4'} 0\n"})
    manifest = scan_dataset("list", data, [data / "l.txt"])
    assert [record.name for record in manifest.records] == ["x/a.mp4"]


def test_a_video_may_be_in_several_splits(tmp_path):
    data = make(tmp_path, {"train_1.txt": "a.mp4 0\n", "test_2.txt": "a.mp4 0\n"})
    manifest = scan_dataset("list", data, [data / "train_1.txt", data / "test_2.txt"])
    assert manifest.records == (Record("a.mp4", 0, {1: "train", 2: "test"}),)


@pytest.mark.parametrize(
    ("text", "classes", "line", "message"),
    [
        ("a.mp4 0\nb.mp4 2\n", "x\ny\n", 2, "label 2 is none of the 2 classes, 0 to 1"),
        ("a.mp4 -1\n", "x\ny\n", 1, "label -1 is none of the 2 classes, 0 to 1"),
        ("a.mp4 z\n", "x\ny\n", 1, "class z is none of the 2 classes, 0 to 1"),
        ("a.mp4 0\nb.mp4 -1\n", None, 2, "label must be 0 to 99999, got -1"),
        ("a.mp4 0\nb.mp4 100000\n", None, 2, "label must be 0 to 99999, got 100000"),
        ("a.mp4 0\nb.mp4 1\na.mp4 1\n", None, 3, "a.mp4 had label 0 before, now 1"),
        (
            "a.mp4 0\nb.mp4 1\n./a.mp4 0\n",
            None,
            3,
            "duplicate video name 'a.mp4'; it stands in {list}, line 1",
        ),
        (
            "../a.mp4 0\n",
            None,
            1,
            "../a.mp4 lies outside {data}; give a folder above it with --data",
        ),
        (
            "x/../../a.mp4 0\n",
            None,
            1,
            "x/../../a.mp4 lies outside {data}; give a folder above it with --data",
        ),
        (
            "/else/a.mp4 0\n",
            None,
            1,
            "/else/a.mp4 lies outside {data}; give a folder above it with --data",
        ),
        ("a.mp4\n", None, 1, "'path label' expected, got 'a.mp4'"),
    ],
)
def test_a_bad_line_of_a_list(tmp_path, text, classes, line, message):
    data = make(tmp_path / "data", {"l.txt": text})
    if classes:
        make(data, {"classes.txt": classes})
    expected = message.format(data=data, list=data / "l.txt")
    assert failure("list", data, [data / "l.txt"]) == f"{data / 'l.txt'}, line {line}: {expected}"


def test_lists_that_are_not_there_or_no_text_or_empty(tmp_path):
    data = make(tmp_path, {"empty.txt": "\n \r\n"})
    (data / "binary.txt").write_bytes(b"a\xff")
    assert failure("list", data, [data / "no.txt"]) == f"{data / 'no.txt'}: no such list file"
    assert failure("list", data, [data / "empty.txt"]) == (
        f"{data / 'empty.txt'}: no videos listed; 'path label' lines, or CSV or JSON, expected"
    )
    assert failure("list", data, [data / "binary.txt"]) == (
        f"{data / 'binary.txt'}: a text file in UTF-8 expected: 'utf-8' codec can't decode byte "
        "0xff in position 1: invalid start byte"
    )


def test_lists_go_with_the_list_dataset(tmp_path):
    assert failure("list", tmp_path) == "--dataset list needs at least one --list FILE"
    assert failure("folder", tmp_path, [tmp_path]) == (
        "--list goes with --dataset list, got --dataset folder"
    )
    assert failure("kinetics", tmp_path) == (
        "unknown dataset 'kinetics'; choose from hmdb51, ucf101, folder, list, synthetic"
    )


# --- HMDB51 ---

HMDB51 = {
    "videos/chew/#2_Gum_(a)[b]!+_chew.avi": "",
    "videos/chew/b.avi": "",
    "videos/wave/c.avi": "",
    "splits/chew_test_split1.txt": "#2_Gum_(a)[b]!+_chew.avi 1 \nb.avi 2 \nabsent.avi 1 \n",
    "splits/chew_test_split2.txt": "#2_Gum_(a)[b]!+_chew.avi 0 \r\nb.avi 1 \r\n",
    "splits/wave_test_split1.txt": "c.avi 1 \n",
    "splits/climb_stairs_test_split1.txt": "d.avi 1 \n",
}


def test_hmdb51(tmp_path):
    manifest = scan_dataset("hmdb51", make(tmp_path, HMDB51))
    assert manifest.dataset == "hmdb51"
    assert manifest.class_names == ("chew", "climb_stairs", "wave")  # ids of the whole dataset
    assert videos(manifest) == {
        "videos/chew/#2_Gum_(a)[b]!+_chew.avi": (0, {1: "train"}),
        "videos/chew/b.avi": (0, {1: "test", 2: "train"}),
        "videos/wave/c.avi": (2, {1: "train"}),
    }


@pytest.mark.parametrize(
    "folders", [("hmdb51_org", "testTrainMulti_7030_splits"), ("hmdb51_org", "."), (".", "splits")]
)
def test_hmdb51_as_its_archives_unpack(tmp_path, folders):
    files = {
        name.replace("videos", folders[0]).replace("splits/", f"{folders[1]}/"): text
        for name, text in HMDB51.items()
    }
    manifest = scan_dataset("hmdb51", make(tmp_path, files))
    assert [record.splits for record in manifest.records] == [
        {1: "train"},
        {1: "test", 2: "train"},
        {1: "train"},
    ]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("c.avi 1 \nd.avi 3 \n", 2, "0, 1 or 2 expected after the name, got '3'"),
        ("c.avi \n", 1, "'path label' expected, got 'c.avi'"),
        ("c.avi 1 \nc.avi 2 \n", 2, "c.avi is for train in split 1 already"),
    ],
)
def test_a_bad_line_of_hmdb51(tmp_path, text, line, message):
    data = make(tmp_path, {**HMDB51, "splits/wave_test_split1.txt": text})
    path = data / "splits" / "wave_test_split1.txt"
    assert failure("hmdb51", data) == f"{path}, line {line}: {message}"


def test_hmdb51_classes_need_lists(tmp_path):
    data = make(tmp_path / "a", {**HMDB51, "videos/jump/e.avi": ""})
    assert failure("hmdb51", data) == (
        f"{data / 'videos' / 'jump'}: no split list of HMDB51 names this class"
    )
    data = make(tmp_path / "b", {"videos/jump/e.avi": "", "splits/readme.txt": ""})
    assert failure("hmdb51", data) == (
        f"{data / 'splits'}: no *_test_splitN.txt files; get HMDB51 with: tsn-preprocess download "
        "hmdb51 --out DIR; or put the class folders into its videos/ and the *_test_splitN.txt "
        "files into its splits/ yourself, from the archives at "
        "https://serre.lab.brown.edu/hmdb51.html"
    )


# --- UCF101 ---

UCF101 = {
    "videos/Bowling/v_1.avi": "",
    "videos/Archery/v_2.avi": "",
    "videos/Archery/v_3.avi": "",
    "splits/classInd.txt": "1 Archery\r\n2 Bowling\r\n",
    "splits/trainlist01.txt": "Bowling/v_1.avi 2\r\nArchery/v_2.avi 1\r\nArchery/gone.avi 1\r\n",
    "splits/testlist01.txt": "Archery/v_3.avi\r\n",
    "splits/testlist02.txt": "Bowling/v_1.avi 2\r\n",  # some copies have class ids here, too
}


def test_ucf101(tmp_path):
    manifest = scan_dataset("ucf101", make(tmp_path, UCF101))
    assert manifest.dataset == "ucf101"
    assert manifest.class_names == ("Archery", "Bowling")
    assert videos(manifest) == {
        "videos/Archery/v_2.avi": (0, {1: "train"}),
        "videos/Archery/v_3.avi": (0, {1: "test"}),
        "videos/Bowling/v_1.avi": (1, {1: "train", 2: "test"}),
    }


@pytest.mark.parametrize("folders", [("UCF-101", "ucfTrainTestlist"), (".", "splits")])
def test_ucf101_as_its_archives_unpack(tmp_path, folders):
    files = {
        name.replace("videos", folders[0]).replace("splits", folders[1]): text
        for name, text in UCF101.items()
    }
    manifest = scan_dataset("ucf101", make(tmp_path, files))
    assert [record.label for record in manifest.records] == [0, 0, 1]
    assert manifest.split_numbers == (1, 2)


@pytest.mark.parametrize(
    ("file", "text", "line", "message"),
    [
        (
            "trainlist01.txt",
            "Diving/v.avi 3\n",
            1,
            "unknown class 'Diving'; classInd.txt does not name it",
        ),
        (
            "testlist01.txt",
            "\nDiving/v.avi\n",
            2,
            "unknown class 'Diving'; classInd.txt does not name it",
        ),
        ("trainlist01.txt", "Archery/v_2.avi 2\n", 1, "class id 1 of Archery expected, got 2"),
        ("trainlist01.txt", "Archery/v_2.avi 0\n", 1, "class id 1 of Archery expected, got 0"),
        ("trainlist01.txt", "Archery/v_2.avi\n", 1, "'path label' expected, got 'Archery/v_2.avi'"),
        (
            "trainlist01.txt",
            "Archery/v_3.avi 1\n",
            1,
            "Archery/v_3.avi is for test in split 1 already",
        ),
        ("classInd.txt", "1 Archery\n3 Bowling\n", 2, "'2 CLASS' expected, got '3 Bowling'"),
        ("classInd.txt", "1 Archery\nBowling\n", 2, "'2 CLASS' expected, got 'Bowling'"),
    ],
)
def test_a_bad_line_of_ucf101(tmp_path, file, text, line, message):
    data = make(tmp_path, {**UCF101, f"splits/{file}": text})
    assert failure("ucf101", data) == f"{data / 'splits' / file}, line {line}: {message}"


def test_ucf101_needs_its_lists(tmp_path):
    remedy = (
        "get UCF101 with: tsn-preprocess download ucf101 --out DIR; or put the class folders into "
        "its videos/ and classInd.txt, trainlist0N.txt and testlist0N.txt into its splits/ "
        "yourself, from the archives at https://www.crcv.ucf.edu/data/UCF101.php"
    )
    data = make(tmp_path, {"videos/Diving/v.avi": "", "splits/readme.txt": ""})
    assert failure("ucf101", data) == f"{data / 'splits' / 'classInd.txt'}: no such file; {remedy}"
    make(data, {"splits/classInd.txt": "1 Archery\n"})
    assert failure("ucf101", data) == (
        f"{data / 'splits'}: no trainlist0N.txt and testlist0N.txt; {remedy}"
    )
    make(data, {"splits/trainlist01.txt": "Archery/v.avi 1\n"})
    assert failure("ucf101", data) == (
        f"{data / 'videos' / 'Diving'}: classInd.txt does not name this class"
    )


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("train.txt", ("train", 1)),
        ("TRAIN_split_3.txt", ("train", 3)),
        ("testlist02.txt", ("test", 2)),
        ("val-2.txt", ("val", 2)),
        ("train_split_10.txt", ("train", 10)),
        ("training.txt", None),
        ("mytrain.txt", None),
        ("classes.txt", None),
    ],
)
def test_names_of_lists_tell_their_subset(name, place):
    assert split_of(Path(name)) == place


# --- real datasets ---


@pytest.mark.clips
def test_real_hmdb51(clips):
    manifest = scan_dataset("hmdb51", clips / "hmdb51")
    assert len(manifest.class_names) == 51
    assert manifest.split_numbers == (1, 2, 3)
    assert len(manifest.records) == 6
    for record in manifest.records:
        file = Path(record.name)
        assert manifest.class_names[record.label] == file.parent.name
        for split in (1, 2, 3):
            path = clips / "hmdb51" / "splits" / f"{file.parent.name}_test_split{split}.txt"
            words = dict(line.split() for line in path.read_text().splitlines())
            expected = {"0": None, "1": "train", "2": "test"}[words[file.name]]
            assert record.splits.get(split) == expected


@pytest.mark.clips
def test_real_ucf101(clips):
    manifest = scan_dataset("ucf101", clips / "ucf101")
    assert len(manifest.class_names) == 101
    assert manifest.class_names[0] == "ApplyEyeMakeup"
    assert len(manifest.records) == 4
    for record in manifest.records:
        name = record.name.removeprefix("videos/")
        for split in (1, 2, 3):
            for subset in ("train", "test"):
                path = clips / "ucf101" / "splits" / f"{subset}list0{split}.txt"
                listed = name in path.read_text()
                assert (record.splits.get(split) == subset) == listed


@pytest.mark.clips
def test_real_aerobics(clips):
    manifest = scan_dataset("folder", clips / "aerobics")
    assert manifest.class_names == tuple((clips / "aerobics" / "classes.txt").read_text().split())
    assert len(manifest.records) == 27
    assert manifest.split_numbers == (1, 2, 3)
    for split in (1, 2, 3):
        tested = manifest.subset_names(split, "test")
        assert len(tested) == 9
        assert all(f"P{split}T" in name for name in tested)  # one person is left out
        assert len(manifest.subset_names(split, "train")) == 18
