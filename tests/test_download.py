"""From published archives to a folder that ``extract`` reads."""

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from archive_writers import rar4, rar5, zip_archive
from file_server import Served, serving

import preprocess.download.unpack as unpack_module
from preprocess.datasets import scan_dataset
from preprocess.download import dataset as dataset_module
from preprocess.download.archive import have_libarchive, safe_path
from preprocess.download.dataset import Options, download_dataset, is_there
from preprocess.download.display import Display
from preprocess.download.programs import INSTALL
from preprocess.download.published import HMDB51, PUBLISHED, UCF101, Archive, Source
from preprocess.download.unpack import Unpacking
from tsn_core.errors import ArchiveError, DownloadError, InputError, OutputError, TSNError

CLASSES = {"chew": ["#a_(x)[y]!.avi", "b.avi"], "wave": ["c.avi"]}
SPLITS = zip_archive(
    {
        f"testTrainMulti_7030_splits/{name}_test_split1.txt": "".join(
            f"{file} {1 + (file == 'b.avi')} \r\n" for file in files
        ).encode()
        for name, files in CLASSES.items()
    }
)


def hmdb51_archive(classes=CLASSES, inner=rar4, outer=rar5):
    """Return an archive of archives, one for each class."""
    return outer(
        {
            f"{name}.rar": inner({f"{name}/{file}": f"{name} {file}".encode() for file in files})
            for name, files in classes.items()
        }
    )


VIDEOS = hmdb51_archive()


class Console:
    """Keeps what is printed."""

    is_terminal = False

    def __init__(self):
        self.lines = []

    def print(self, text, **_):
        self.lines.append(text)


def tiny(url="", videos_hash=None, splits_hash=None, **changes):
    """Return HMDB51 with three videos, at another place."""
    archives = (
        Archive("videos", 1000, (Source(f"{url}/hmdb51_org.rar", videos_hash),)),
        Archive("splits", 100, (Source(f"{url}/test_train_splits.rar", splits_hash),)),
    )
    return replace(HMDB51, archives=archives, num_videos=3, num_classes=2, **changes)


def given(folder, videos=VIDEOS, splits=SPLITS):
    """Write both archives and return the options that name them."""
    (folder / "hmdb51_org.rar").write_bytes(videos)
    (folder / "test_train_splits.rar").write_bytes(splits)
    return Options([folder / "hmdb51_org.rar", folder / "test_train_splits.rar"])


def download(out, options=None, published=None):
    console = Console()
    download_dataset(published or tiny(), out, options or Options(), Display(console))
    return console.lines


def failure(out, options, published=None, kind=TSNError):
    with pytest.raises(kind) as caught:
        download(out, options, published)
    return str(caught.value)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def expected_tree():
    return {f"{c}/{f}": f"{c} {f}".encode() for c, files in CLASSES.items() for f in files}


@pytest.mark.parametrize("inner", [rar4, rar5])
@pytest.mark.parametrize("outer", [rar4, rar5, zip_archive])
def test_from_a_server_to_the_manifest(tmp_path, inner, outer):
    files = {
        "/hmdb51_org.rar": Served(hmdb51_archive(inner=inner, outer=outer)),
        "/test_train_splits.rar": Served(SPLITS),
    }
    out = tmp_path / "hmdb51"
    with serving(files) as (url, _):
        lines = download(out, published=tiny(url("")))
    assert tree(out / "videos") == expected_tree()
    assert names(out) == ["download.json", "splits", "videos"]
    manifest = scan_dataset("hmdb51", out)
    assert [(r.name, r.splits) for r in manifest.records] == [
        ("videos/chew/#a_(x)[y]!.avi", {1: "train"}),
        ("videos/chew/b.avi", {1: "test"}),
        ("videos/wave/c.avi", {1: "train"}),
    ]
    sha256 = hashlib.sha256(files["/hmdb51_org.rar"].data).hexdigest()
    assert lines[1] == (
        f"hmdb51_org.rar: nobody has published a checksum of it; its sha256 {sha256} is now in "
        f"{out / 'download.json'} and compared from now on"
    )
    receipt = json.loads((out / "download.json").read_text())
    assert receipt["num_videos"] == 3
    assert receipt["citation"] == HMDB51.citation
    assert [entry["sha256"] for entry in receipt["archives"]] == [
        hashlib.sha256(SPLITS).hexdigest(),
        sha256,
    ]
    assert is_there(tiny(), out)


def test_published_checksums_are_compared(tmp_path):
    files = {
        "/hmdb51_org.rar": Served(VIDEOS),
        "/test_train_splits.rar": Served(SPLITS),
        "/other.rar": Served(rar4({})),
    }
    md5 = "md5:" + hashlib.md5(VIDEOS).hexdigest()
    with serving(files) as (url, asked):
        wrong = tiny(url(""), videos_hash="md5:12")
        message = failure(tmp_path / "a", Options(), wrong, DownloadError)
        assert message == (
            f"hmdb51_org.rar: no source has it ({url('/hmdb51_org.rar')}: md5:12 expected, got "
            f"{md5[4:]}; the file there is another or was damaged on its way); name another with "
            "--mirror URL, or give the file itself with --archive FILE"
        )
        right = tiny(url(""), md5, "sha256:" + hashlib.sha256(SPLITS).hexdigest())
        options = Options(mirrors=[url("/none/")], keep_archives=True)
        download(tmp_path / "a", options, right)
        assert names(tmp_path / "a/archives") == ["hmdb51_org.rar", "test_train_splits.rar"]
        assert ("/none/hmdb51_org.rar", None) in asked
        override = Options(sha256=["0" * 64])
        assert "sha256:" + "0" * 64 in failure(tmp_path / "b", override, right, DownloadError)


def test_local_archives_need_no_network(tmp_path):
    out = tmp_path / "out"
    download(out, given(tmp_path))
    assert tree(out / "videos") == expected_tree()
    assert (tmp_path / "hmdb51_org.rar").read_bytes() == VIDEOS  # stays where it is


def test_local_archives_are_compared_too(tmp_path):
    options = given(tmp_path)
    path, sha256 = tmp_path / "hmdb51_org.rar", hashlib.sha256(VIDEOS).hexdigest()
    published = tiny(videos_hash="sha256:" + "1" * 64)
    assert failure(tmp_path / "out", options, published) == (
        f"{path}: sha256:{'1' * 64} expected, got {sha256}; it is another file, or damaged; where "
        "you trust it, give its --sha256"
    )
    download(tmp_path / "out", replace(options, sha256=[f"hmdb51_org.rar={sha256}"]), published)
    assert failure(tmp_path / "o", replace(options, sha256=["x"])) == (
        "--sha256 x: 64 hexadecimal digits expected, or NAME=DIGITS of an archive"
    )
    assert failure(tmp_path / "o", replace(options, sha256=[f"hmdb.rar={sha256}"])) == (
        f"--sha256 hmdb.rar={sha256}: no archive is called hmdb.rar; choose from hmdb51_org.rar, "
        "test_train_splits.rar"
    )
    assert failure(tmp_path / "o", Options([tmp_path / "no.rar"])) == (
        f"{tmp_path / 'no.rar'}: cannot be read: No such file or directory"
    )
    (tmp_path / "x.tar").write_bytes(b"hello")
    assert failure(tmp_path / "o", Options([tmp_path / "x.tar"])) == (
        f"{tmp_path / 'x.tar'}: a RAR or ZIP archive expected, got a file that is neither"
    )


def test_what_was_seen_first_is_trusted_later(tmp_path):
    out = tmp_path / "out"
    options = given(tmp_path)
    download(out, options)
    for role in ("videos", "splits"):
        for path in sorted((out / role).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (out / role).rmdir()
    options = given(tmp_path, videos=hmdb51_archive(outer=zip_archive))
    old = hashlib.sha256(VIDEOS).hexdigest()
    new = hashlib.sha256((tmp_path / "hmdb51_org.rar").read_bytes()).hexdigest()
    assert failure(out, options, kind=DownloadError) == (
        f"hmdb51_org.rar: it had sha256 {old} when it was first downloaded, now {new}; if you know "
        f"why it has changed, remove {out / 'download.json'} and run again"
    )


def test_a_second_run_keeps_the_origin_of_what_is_there(tmp_path):
    files = {"/b/test_train_splits.rar": Served(SPLITS)}
    with serving(files) as (url, _):
        published = tiny(url("/a"))
        options = Options(mirrors=[url("/b/")])
        failure(tmp_path, options, published, DownloadError)  # no videos yet
        files["/a/hmdb51_org.rar"] = Served(VIDEOS)
        lines = download(tmp_path, published=published)
    receipt = json.loads((tmp_path / "download.json").read_text())
    origins = [entry["origin"] for entry in receipt["archives"]]
    assert origins == [url("/b/test_train_splits.rar"), url("/a/hmdb51_org.rar")]
    assert [line.partition(":")[0] for line in lines] == ["hmdb51_org.rar"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be understood: "),
        ('{"archives": [{"name": "x"}]}', "cannot be understood: "),
        ('{"dataset": "ucf101", "archives": []}', "belongs to 'ucf101', not hmdb51; choose"),
    ],
)
def test_a_receipt_that_is_none(tmp_path, text, message):
    (tmp_path / "download.json").write_text(text)
    assert failure(tmp_path, Options()).startswith(f"{tmp_path / 'download.json'}: {message}")


def test_missing_videos_are_named(tmp_path):
    out = tmp_path / "out"
    options = given(tmp_path, videos=hmdb51_archive({"chew": CLASSES["chew"]}))
    message = "3 videos of 2 classes expected, 2 of 1 found; missing: wave/c.avi"
    assert failure(out, options, kind=InputError) == (
        f"hmdb51: {message}; try another archive (--archive, --mirror), or put it into place as it "
        "is with --allow-incomplete"
    )
    assert not (out / "videos").exists()
    (out / "download.json").unlink()  # the other archive has another checksum
    download(out, given(tmp_path))
    other = tmp_path / "other"
    options = given(tmp_path, videos=hmdb51_archive({"chew": CLASSES["chew"]}))
    display = Display(Console())
    assert download_dataset(tiny(), other, replace(options, allow_incomplete=True), display) == (
        message
    )
    assert failure(other, options) == (
        f"{other}: videos/ and splits/ are there already, but {message}; move them away and run "
        "again"
    )


def test_an_interrupted_unpacking_goes_on(tmp_path, monkeypatch):
    """Inner archives that are through are not unpacked again."""
    out, options = tmp_path / "out", given(tmp_path)
    original = Unpacking._inner
    seen = []

    def interrupted(self, member, label, root, budget):
        if seen:
            raise KeyboardInterrupt
        seen.append(label)
        original(self, member, label, root, budget)

    monkeypatch.setattr(Unpacking, "_inner", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(out, options)
    assert not (out / "videos").exists()
    written = []
    monkeypatch.setattr(Unpacking, "_inner", original)
    write = Unpacking._write

    def noted(self, member, path, budget, **count):
        written.append(path.name)
        write(self, member, path, budget, **count)

    monkeypatch.setattr(Unpacking, "_write", noted)
    download(out, options)
    assert "b.avi" not in written and "c.avi" in written
    assert tree(out / "videos") == expected_tree()


def test_no_room_and_a_full_disk(tmp_path, monkeypatch):
    options = given(tmp_path)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(dataset_module.shutil, "disk_usage", lambda _: usage)
    assert failure(tmp_path / "out", options, kind=OutputError) == (
        f"{tmp_path / 'out'}: about 0.0 MB are needed there, 0.0 MB are free; free space or choose "
        "another --out"
    )
    monkeypatch.undo()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Unpacking, "_write", full)
    message = failure(tmp_path / "out", options, kind=OutputError)
    assert message.startswith(f"{tmp_path / 'out' / '.download' / 'unpacked-'}")
    assert message.endswith(
        ": cannot be written: No space left on device; free space and run the same command again"
    )


# --- hostile and broken archives ---


def unpack(tmp_path, data, name="a.rar"):
    """Unpack an archive; everything in it is wanted."""
    (tmp_path / name).write_bytes(data)
    root = tmp_path / "root"
    Unpacking(root, lambda path, stem: path, lambda _: None, tmp_path / "work").run(tmp_path / name)
    return tree(root)


def refusal(tmp_path, data):
    with pytest.raises(ArchiveError) as caught:
        unpack(tmp_path, data)
    assert not (tmp_path / "evil").exists()
    return str(caught.value)


TRUST = "nothing was unpacked from here on, do not trust this archive"
NAMES = [
    ("../evil", "climbs out of the folder"),
    ("a/../../evil", "climbs out of the folder"),
    ("/evil", "is absolute, or names a drive or stream"),
    ("C:/evil", "is absolute, or names a drive or stream"),
    ("a.avi:stream", "is absolute, or names a drive or stream"),
    ("a\u2215..\uff0fevil", "has backslashes, or letters that look like slashes"),
    ("a\uff3cevil", "has backslashes, or letters that look like slashes"),
    ("evil\u202eiva.exe", "has control or invisible characters"),
    ("a\u200b.avi", "has control or invisible characters"),
    ("a\n.avi", "has control or invisible characters"),
    ("a./b", "is one that Windows reserves or changes"),
    ("NUL.avi", "is one that Windows reserves or changes"),
    ("x" * 300, "is too long or too deep"),
    ("a/" * 40 + "b", "is too long or too deep"),
    ("\uff0e\uff0e/evil", "climbs out of the folder"),
]


@pytest.mark.parametrize(("name", "why"), NAMES)
@pytest.mark.parametrize("write", [rar5, zip_archive])
def test_names_that_lead_elsewhere(tmp_path, write, name, why):
    expected = f"a.rar: the name {name[:200]!r} {why}; {TRUST}"
    assert refusal(tmp_path, write({"good.avi": b"1", name: b"2"})) == str(ArchiveError(expected))


@pytest.mark.parametrize("name", ["", ".", "a\\b", "\0", "a/\ud800"])
def test_names_that_no_archive_writer_makes(name):
    with pytest.raises(ArchiveError):
        safe_path("a.rar", name)


@pytest.mark.parametrize("write", [rar5, zip_archive])
def test_links(tmp_path, write):
    assert refusal(tmp_path, write({}, {"link": "/etc"})) == (
        "a.rar: 'link' is a symbolic link; only files and folders are unpacked, do not trust this "
        "archive"
    )


@pytest.mark.parametrize("second", ["A/B.avi", "a/b.AVI", "a/\uff42.avi"])
def test_names_that_are_one_file_elsewhere(tmp_path, second):
    message = f"a.rar: 'a/b.avi' and {second!r} would be one file; {TRUST}"
    assert refusal(tmp_path, rar5({"a/b.avi": b"1", second: b"2"})) == message


def test_two_places_in_an_archive_for_one_file(tmp_path):
    options = given(tmp_path, videos=rar5({"a/x/c.avi": b"1", "b/x/c.avi": b"2"}))
    assert failure(tmp_path / "out", options) == (
        f"hmdb51_org.rar: 'videos/x/c.avi' and 'videos/x/c.avi' would be one file; {TRUST}"
    )


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_module, "_LEAST_ALLOWANCE", 1000)
    far = f"a.rar: far more comes out of it than such an archive holds; {TRUST}"
    assert refusal(tmp_path, zip_archive({"a.avi": bytes(1_000_000)})) == far
    inner = zip_archive({"b.avi": bytes(1_000_000)})
    assert refusal(tmp_path, rar4({"inner.rar": inner})) == far
    monkeypatch.setattr(unpack_module, "_MOST_FILES", 3)
    assert refusal(tmp_path, rar4({f"{n}.avi": b"1" for n in range(5)})) == far


def test_archives_are_not_unpacked_without_end(tmp_path):
    inner = rar4({"deep.rar": rar4({"a.avi": b"1"})})
    assert set(unpack(tmp_path, rar4({"x.rar": inner}))) == {"deep.rar"}


@pytest.mark.parametrize(
    "data",
    [
        VIDEOS[:-40],
        SPLITS[:-30],
        zip_archive({"a.avi": b"hello" * 99}).replace(b"\x4b\x4c", b"\x4b\x4d", 1)[:-1],
        b"Rar!\x1a\x07\x00" + bytes(100),
        b"Rar!\x1a\x07\x01\x00" + b"\xff" * 100,
        b"PK\x03\x04" + b"\xff" * 100,
    ],
)
def test_broken_archives(tmp_path, monkeypatch, data):
    monkeypatch.setenv("PATH", "")
    message = refusal(tmp_path, data)
    assert message.startswith("a.rar") and "damaged, cut short or protected (" in message
    assert message.endswith(f"); remove {tmp_path / 'a.rar'} and fetch it again")


def test_an_archive_that_a_password_protects(tmp_path, monkeypatch):
    data = bytearray(zip_archive({"a.avi": b"1"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert refusal(tmp_path, bytes(data)).startswith(
        "a.rar: damaged, cut short or protected (zipfile: it is encrypted"
    )


def test_random_damage_never_leaves_the_folder(tmp_path):
    """Whatever a changed byte does, it ends in files below the folder or in one line."""
    generator = __import__("random").Random(0)
    for number in range(60):
        data = bytearray(generator.choice([VIDEOS, SPLITS, rar5({"a/b.avi": b"x" * 50})]))
        for _ in range(generator.choice((1, 3, 9))):
            data[generator.randrange(8, len(data))] = generator.randrange(256)
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            unpack(folder, bytes(data))
        except TSNError as error:
            assert len(str(error).splitlines()) == 1
        assert set(names(folder)) <= {"a.rar", "root", "work"}


# --- where libarchive is missing ---

FAKE = """#!{python}
import sys, pathlib, zipfile, os
folder = sys.argv[sys.argv.index("-output-directory") + 1]
if {status}:
    print("some words")
    print("cannot do it")
    sys.exit({status})
with open(sys.argv[-1], "rb") as file:
    data = file.read()
path = pathlib.Path(folder, "chew", "b.avi")
path.parent.mkdir(parents=True)
path.write_bytes(data[:4])
if {link}:
    os.symlink("/etc/passwd", pathlib.Path(folder, "link"))
"""


@pytest.fixture
def unar(tmp_path, monkeypatch):
    """Return a function that puts a program named unar where it is found, and libarchive away."""
    monkeypatch.setattr(unpack_module, "have_libarchive", lambda: False)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(status=0, link=0):
        path = folder / "unar"
        path.write_text(FAKE.format(python=sys.executable, status=status, link=link))
        path.chmod(0o755)

    return install


@pytest.mark.skipif(os.name == "nt", reason="programs are scripts here")
def test_a_program_unpacks_instead(tmp_path, unar):
    unar()
    assert unpack(tmp_path, VIDEOS) == {"chew/b.avi": b"Rar!"}
    unar(link=1)
    assert "'link' is a symbolic link" in refusal(tmp_path, VIDEOS)
    unar(status=2)
    assert refusal(tmp_path, VIDEOS) == (
        "a.rar: damaged, cut short or protected (unar: cannot do it); remove "
        f"{tmp_path / 'a.rar'} and fetch it again"
    )


def test_nothing_unpacks(tmp_path, unar):
    with pytest.raises(TSNError) as caught:
        unpack(tmp_path, VIDEOS)
    assert str(caught.value) == f"a.rar: nothing here unpacks RAR; {INSTALL}"
    assert unpack(tmp_path, SPLITS)  # ZIP needs nothing
    with serving({"/hmdb51_org.rar": Served(VIDEOS)}) as (url, asked):
        message = failure(tmp_path / "out", Options(), tiny(url("")))
    assert message == f"hmdb51_org.rar: nothing here unpacks RAR; {INSTALL}"
    assert asked == []  # it says so before it downloads


def test_libarchive_is_tried_for_real():
    assert have_libarchive(), "the tests of RAR need libarchive-c and libarchive"


# --- what is published ---


def test_ucf101(tmp_path):
    """A flat archive of videos, and a class that the dataset itself spells in two ways."""
    videos = zip_archive(
        {
            "UCF101/v_HandStandPushups_g01_c01.avi": b"1",
            "UCF101/v_YoYo_g01_c01.avi": b"2",
            "UCF101/.DS_Store": b"",
        }
    )
    lists = {
        "classInd.txt": b"1 HandstandPushups\r\n2 YoYo\r\n",
        "trainlist01.txt": b"HandstandPushups/v_HandStandPushups_g01_c01.avi 1\r\n",
        "testlist01.txt": b"YoYo/v_YoYo_g01_c01.avi\r\n",
    }
    splits = zip_archive({f"ucfTrainTestlist/{name}": data for name, data in lists.items()})
    (tmp_path / "v.zip").write_bytes(videos)
    (tmp_path / "TrainTestSplits.zip").write_bytes(splits)
    options = Options([tmp_path / "v.zip", tmp_path / "TrainTestSplits.zip"])
    published = replace(UCF101, archives=tiny().archives, num_videos=2, num_classes=2)
    download(tmp_path / "ucf101", options, published)
    manifest = scan_dataset("ucf101", tmp_path / "ucf101")
    assert [(r.name, r.label, r.splits) for r in manifest.records] == [
        ("videos/HandstandPushups/v_HandStandPushups_g01_c01.avi", 0, {1: "train"}),
        ("videos/YoYo/v_YoYo_g01_c01.avi", 1, {1: "test"}),
    ]


@pytest.mark.clips
@pytest.mark.parametrize("published", [HMDB51, UCF101])
def test_real_names_have_their_places(clips, published):
    """Every name in the official lists, as the archives have it, goes where the lists say."""
    from preprocess.download.layout import listed_videos

    listed = listed_videos(clips / published.name / "splits")
    assert len(listed) == published.num_videos
    for name in sorted(listed)[::5]:
        path = safe_path("a.rar", name)
        assert published.place(path, "") == PurePosixPath("videos", name)


def test_what_is_published_is_written_well():
    for published in PUBLISHED.values():
        for archive in published.archives:
            for source in archive.sources:
                assert source.url.startswith("https://")
                if source.known_hash is not None:
                    algorithm, _, digest = source.known_hash.partition(":")
                    assert len(digest) == {"md5": 32, "sha256": 64}[algorithm]
                    assert source.vouched_by


# --- the command ---


def test_the_command(tmp_path, monkeypatch, program):
    given(tmp_path)
    monkeypatch.setitem(PUBLISHED, "hmdb51", tiny())
    monkeypatch.chdir(tmp_path)
    command = ["download", "hmdb51", "--archive", "hmdb51_org.rar"]
    result = program(*command, "--archive", "test_train_splits.rar", "--out", "my data")
    assert result.exit_code == 0
    assert result.stdout == (
        "my data: 3 videos of 2 classes, split lists\n"
        "next: tsn-preprocess extract --dataset hmdb51 --data 'my data' --out shards --modality "
        "rgb --modality flow\n"
    )
    assert "terms:   Creative Commons" in result.stderr
    again = program("download", "hmdb51", "--out", "my data")
    assert again.stdout == "my data: everything was there already; nothing to do\n"
    failed = program("download", "hmdb51", "--archive", "none.rar")
    assert (failed.exit_code, failed.stderr.splitlines()[-1]) == (
        1,
        "error: none.rar: cannot be read: No such file or directory",
    )
    assert Path("data/hmdb51").is_dir()
