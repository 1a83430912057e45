"""The formats of list files that action datasets come with."""

import json
import warnings
from pathlib import Path

import pytest

from preprocess.datasets import scan_dataset
from preprocess.datasets.annotation import given_list, read_annotations
from tsn_core.errors import InputError


def make(folder, files):
    """Write files; of videos only the names matter."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def scan(data, *lists):
    """Return the manifest; every warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return scan_dataset("list", data, [Path(str(path)) for path in lists])


def content(manifest):
    return {
        record.name: (manifest.class_names[record.label], dict(record.splits))
        for record in manifest.records
    }


def failure(data, *lists):
    with pytest.raises(InputError) as caught:
        scan(data, *lists)
    return str(caught.value)


VIDEOS = {
    "train/riding a bike/abc_DEF-12_000010_000020.mp4": "",
    "val/abseiling/-x_y.mkv": "",
    "flat_id_000.webm": "",
}
HEADER = "label,youtube_id,time_start,time_end,split,is_cc"


def test_kinetics_csv(tmp_path):
    """Names with and without times, in class folders and flat, quoted, BOM and CRLF."""
    lines = [
        f"\ufeff{HEADER}",
        '"riding a bike",abc_DEF-12,10,20,train,0',
        "abseiling,-x_y,0,10,validate,0",
        "",
        "abseiling,flat_id_000,5,15,test,0",
    ]
    data = make(tmp_path / "k", {**VIDEOS, "all.csv": "\r\n".join(lines)})
    manifest = scan(data, data / "all.csv")
    assert manifest.class_names == ("abseiling", "riding a bike")
    assert content(manifest) == {
        "train/riding a bike/abc_DEF-12_000010_000020.mp4": ("riding a bike", {1: "train"}),
        "val/abseiling/-x_y.mkv": ("abseiling", {1: "val"}),
        "flat_id_000.webm": ("abseiling", {1: "test"}),
    }


def test_several_files_whose_names_tell_the_subset(tmp_path):
    """Kinetics' columns may be fewer, and in another order."""
    data = make(
        tmp_path,
        {
            **VIDEOS,
            "kinetics-400_train.csv": "youtube_id,label\nabc_DEF-12_000010_000020,bike\n",
            "kinetics-400_val.csv": "youtube_id,label\n-x_y,climb\n",
            "mine.csv": "youtube_id,label\nflat_id_000,climb\n",
        },
    )
    lists = [data / "kinetics-400_train.csv", data / "kinetics-400_val.csv"]
    manifest = scan(data, *lists, f"test2={data / 'mine.csv'}")
    assert [dict(record.splits) for record in manifest.records] == [
        {1: "train"},
        {1: "val"},
        {2: "test"},
    ]


def test_the_file_in_the_folder_of_its_class_is_taken(tmp_path):
    data = make(
        tmp_path,
        {
            "a/x.mp4": "",
            "riding_a_bike/x.mp4": "",
            "z/x.mp4": "",
            "l.csv": "id,label\nx,Riding a bike\n",
        },
    )
    assert list(content(scan(data, data / "l.csv"))) == ["riding_a_bike/x.mp4"]


def kinetics_json(**videos):
    return json.dumps(videos)


def test_kinetics_json(tmp_path):
    text = kinetics_json(
        **{
            "abc_DEF-12": {
                "annotations": {"label": "bike", "segment": [10.0, 20.0]},
                "duration": 10.0,
                "subset": "train",
                "url": "https://example.org",
            },
            "-x_y": {"annotations": [{"label": "climb"}], "subset": "validation"},
        }
    )
    data = make(
        tmp_path, {**VIDEOS, "k.json": text, "d.json": json.dumps({"database": json.loads(text)})}
    )
    for name in ("k.json", "d.json"):
        assert content(scan(data, data / name)) == {
            "train/riding a bike/abc_DEF-12_000010_000020.mp4": ("bike", {1: "train"}),
            "val/abseiling/-x_y.mkv": ("climb", {1: "val"}),
        }


SOMETHING = [
    {
        "id": "78687",
        "label": "holding potato next to vicks bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "vicks bottle"],
    },
    {
        "id": 42326,
        "label": "a",
        "template": "Pretending to poke [something]",
        "placeholders": ["a"],
    },
]
LABELS = {
    "Unused": "0",
    "Pretending to poke something": "1",
    "Holding something next to something": "2",
}


def test_something_something(tmp_path):
    data = make(
        tmp_path,
        {
            "20bn/78687.webm": "",
            "20bn/42326.webm": "",
            "something-something-v2-train.json": json.dumps(SOMETHING[:1]),
            "something-something-v2-validation.json": json.dumps(SOMETHING[1:]),
            "something-something-v2-labels.json": json.dumps(LABELS),
        },
    )
    manifest = scan(data, *sorted(data.glob("*.json")))
    assert manifest.class_names == tuple(LABELS)
    assert content(manifest) == {
        "20bn/78687.webm": ("Holding something next to something", {1: "train"}),
        "20bn/42326.webm": ("Pretending to poke something", {1: "val"}),
    }
    without = scan(data, data / "something-something-v2-train.json")
    assert without.class_names == ("Holding something next to something",)


def test_moments_in_time(tmp_path):
    text = 'ski/a b.mp4,ski,3,0\n"ski/c, d.mp4",ski,3,0\n.\\clap\\e.mp4,clap,2,1\n'
    data = make(tmp_path, {"trainingSet.csv": text})
    assert content(scan(data, data / "trainingSet.csv")) == {
        "ski/a b.mp4": ("ski", {1: "train"}),
        "ski/c, d.mp4": ("ski", {1: "train"}),
        "clap/e.mp4": ("clap", {1: "train"}),
    }


def test_a_comma_in_a_path_of_a_plain_list(tmp_path):
    data = make(tmp_path, {"hmdb51_train_split_2_videos.txt": "x,y/a, b.mp4 0\nc.mp4 0\n"})
    assert content(scan(data, data / "hmdb51_train_split_2_videos.txt")) == {
        "x,y/a, b.mp4": ("0", {2: "train"}),
        "c.mp4": ("0", {2: "train"}),
    }


def test_videos_that_are_not_there_are_left_out_and_told(tmp_path):
    rows = [f"climb,no{number},0,10,train,0" for number in range(5)]
    text = "\n".join([HEADER, *rows, "climb,flat_id_000,0,10,train,0"])
    data = make(tmp_path / "k", {**VIDEOS, "l.csv": text})
    with pytest.warns(UserWarning) as told:
        manifest = scan_dataset("list", data, [data / "l.csv"])
    assert [str(warning.message) for warning in told] == [
        f"5 of 6 listed videos are not under {data} and left out: no0_000000_000010, "
        "no1_000000_000010, no2_000000_000010, …"
    ]
    assert list(content(manifest)) == ["flat_id_000.webm"]
    make(data, {"none.csv": "\n".join([HEADER, *rows])})
    assert failure(data, data / "none.csv") == (
        f"{data}: none of the 5 listed videos is there (no0_000000_000010, no1_000000_000010, "
        "no2_000000_000010, …, with any ending, in any folder); give the folder that holds them "
        "with --data"
    )


def test_several_parts_of_one_file(tmp_path):
    text = f"{HEADER}\nclimb,flat_id_000,0,10,train,0\nclimb,flat_id_000,20,30,train,0\n"
    data = make(tmp_path, {**VIDEOS, "l.csv": text})
    assert failure(data, data / "l.csv") == (
        f"{data / 'l.csv'}, line 3: flat_id_000.webm is listed with other times in "
        f"{data / 'l.csv'}, line 2; whole files are extracted, so cut the parts out first "
        "(docs/datasets.md)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{HEADER}\nclimb,a,0,10,train\n",
            ", line 2: 6 columns expected, got 5: 'climb,a,0,10,train'",
        ),
        (
            f"{HEADER}\n,a,0,10,train,0\n",
            ", line 2: 'youtube_id' and 'label' expected, got ',a,0,10,train,0'",
        ),
        (f"{HEADER}\n\nclimb,a,0,10,some,0\n", ", line 3: train, val or test expected, got 'some'"),
        (
            f"{HEADER}\nclimb,a,9,3,train,0\n",
            ", line 2: start and end in seconds expected, got '9' and '3'",
        ),
        (
            f"{HEADER}\nclimb,a,x,,train,0\n",
            ", line 2: start and end in seconds expected, got 'x' and ''",
        ),
        (
            "label,who\nclimb,a\n",
            ": a column named youtube_id, video_id, id, path, video, video_path, file expected "
            "beside 'label', got label, who",
        ),
        (
            "youtube_id,time_start\na,1\n",
            ", line 1: no column 'label'; videos without labels are of no use here",
        ),
        ("a.mp4,ski\nb.mp4\n", ", line 2: 'path,label' expected, got 'b.mp4'"),
        ("a.mp4 1 2\n", ", line 1: one label expected, got 'a.mp4 1 2'"),
        ("[1]", ", entry 1: an object with 'id' expected"),
        (
            '[{"id": "1"}]',
            ", entry 1: 'template' or 'label' expected; videos without labels are of no use here",
        ),
        ('{"a": {"annotations": {}}}', ", entry 1: 'a': 'annotations' with a 'label' expected"),
        ('{"a": 1, "b": {}}', ", entry 1: 'a': 'annotations' with a 'label' expected"),
        (
            '{"a": {"annotations": {"label": "x", "segment": 3}}}',
            ", entry 1: 'a': 'segment' of a start and an end expected",
        ),
        (
            '{"a": {"annotations": {"label": "x"}, "subset": 3}}',
            ", entry 1: train, val or test expected, got 3",
        ),
        (
            '{"a": {"annotations": [{"label": "x"}, {"label": "y"}]}}',
            ", entry 1: 'a' has 2 actions; one for each video expected (for long videos "
            "with several see docs/untrimmed.md)",
        ),
        ('{"a": {}, "a": {}}', ": 'a' stands there twice"),
        ('{"x": "0", "y": "2"}', ": class names with numbers from 0 to 1 expected"),
        ('{"database": 3, "a": {}}', ": 'database' is no object of videos by id"),
        ('{"x": "0"}', ": no videos listed; 'path label' lines, or CSV or JSON, expected"),
        ("{}", ": no videos listed; 'path label' lines, or CSV or JSON, expected"),
    ],
)
def test_bad_entries_are_named(tmp_path, text, message):
    data = make(tmp_path, {**VIDEOS, "l.csv": text})
    assert failure(data, data / "l.csv") == f"{data / 'l.csv'}{message}"


def test_what_is_no_json_or_csv_or_text(tmp_path):
    data = make(tmp_path, {"a": "[1", "b": "[" * 100_000, "c": 'label,id\n"x\n' + "y" * 140_000})
    assert failure(data, data / "a").startswith(f"{data / 'a'}: no JSON: ")
    assert failure(data, data / "b").startswith(f"{data / 'b'}: no JSON: ")
    assert failure(data, data / "c") == (
        f"{data / 'c'}, line 3: no CSV: field larger than field limit (131072)"
    )


def test_labels_that_contradict_and_ids_that_stand_there_twice(tmp_path):
    data = make(
        tmp_path,
        {
            **VIDEOS,
            "train.csv": "id,label\n-x_y,climb\n-x_y,climb\n",
            "val.csv": "id,label\n-x_y,walk\n",
        },
    )
    assert failure(data, data / "train.csv") == (
        f"{data / 'train.csv'}, line 3: duplicate video name 'val/abseiling/-x_y.mkv'; it stands "
        f"in {data / 'train.csv'}, line 2"
    )
    make(data, {"train.csv": "id,label\n-x_y,climb\n"})
    assert failure(data, data / "train.csv", data / "val.csv") == (
        f"{data / 'val.csv'}, line 2: val/abseiling/-x_y.mkv had label climb before, now walk"
    )


def test_names_in_other_alphabets(tmp_path):
    data = make(tmp_path, {"видео/日本.mp4": "", "l.csv": "id,label\n日本,прыжок\n"})
    assert list(content(scan(data, data / "l.csv"))) == ["видео/日本.mp4"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("kinetics700_2020_train.csv", ("train", 1)),
        ("validationSet.csv", ("val", 1)),
        ("ucf101_test_split_03_rawframes.txt", ("test", 3)),
        ("trainlist01.txt", ("train", 1)),
        ("mytrain.csv", None),
        ("latest.csv", None),
        ("k.csv", None),
    ],
)
def test_subsets_in_names(name, place):
    assert given_list(Path(name)) == (Path(name), place)


def test_every_format_of_the_page_is_read(tmp_path):
    """The examples in docs/datasets.md, as they stand there."""
    page = (Path(__file__).parent.parent / "docs" / "datasets.md").read_text(encoding="utf-8")
    examples = page.partition("## Annotations")[2].split("```")[1::2]
    examples = [
        text.partition("\n")[2]
        for text in examples
        if text.partition("\n")[0] in ("csv", "json", "text")
    ]
    assert len(examples) == 7
    read = [
        read_annotations(make(tmp_path, {f"{number}": text}) / f"{number}")
        for number, text in enumerate(examples)
    ]
    assert [len(annotations.entries) or len(annotations.classes) for annotations in read] == [2] * 7
