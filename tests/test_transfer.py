"""One URL into one file, over connections of all kinds."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest
from archive_writers import rar4
from file_server import Served, serving

from preprocess.download.display import Display, progress_line
from preprocess.download.fetch import fetch, with_mirrors
from preprocess.download.published import Archive, Source
from preprocess.download.transfer import Transfer
from tsn_core.errors import DownloadError, OutputError

DATA = rar4({"a.avi": os.urandom(200_000)})
MD5 = "md5:" + hashlib.md5(DATA).hexdigest()


def get(folder, url, *, trusted=False):
    """Return the bytes that a transfer brings, and how often it slept."""
    slept = []
    transfer = Transfer(folder / "f.rar.part", trusted, lambda *_: None, slept.append)
    transfer(url, folder / "f.rar", None)
    return (folder / "f.rar").read_bytes(), len(slept)


def failure(folder, url, **options):
    with pytest.raises(DownloadError) as caught:
        get(folder, url, **options)
    return str(caught.value)


def test_a_whole_file(tmp_path):
    with serving({"/f.rar": Served(DATA)}) as (url, asked):
        assert get(tmp_path, url("/f.rar")) == (DATA, 0)
    assert asked == [("/f.rar", None)]


def test_a_redirect_and_no_length(tmp_path):
    files = {"/f.rar": Served(DATA, content_length=False, etag="")}
    with serving(files) as (url, _):
        files["/"] = Served(b"", location=url("/f.rar"))
        assert get(tmp_path, url("/")) == (DATA, 0)


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', ""])
def test_cut_connections_are_taken_up_where_they_broke(tmp_path, etag):
    """Without a strong validator only a file that a checksum will prove is gone on with."""
    with serving({"/f.rar": Served(DATA, etag=etag, cuts=[70_000, 70_000])}) as (url, asked):
        assert get(tmp_path, url("/f.rar"), trusted=True) == (DATA, 2)
    assert [start for _, start in asked] == [None, "bytes=65536-", "bytes=131072-"]
    with serving({"/g.rar": Served(DATA, etag=etag, cuts=[70_000])}) as (url, asked):
        (tmp_path / "f.rar.part").unlink(missing_ok=True)
        assert get(tmp_path, url("/g.rar")) == (DATA, 1)
    assert asked[-1][1] == ("bytes=65536-" if etag == '"1"' else None)


def test_a_server_that_ignores_ranges_is_read_anew(tmp_path):
    with serving({"/f.rar": Served(DATA, ranges=False, cuts=[70_000])}) as (url, _):
        assert get(tmp_path, url("/f.rar")) == (DATA, 1)


def test_a_range_that_nobody_asked_for_is_no_file(tmp_path):
    files = {
        "/f.rar": Served(DATA, unasked_range=True),
        "/empty.rar": Served(b"", unasked_range=True),
    }
    with serving(files) as (url, _):
        for path in files:
            assert failure(tmp_path, url(path)) == f"{url(path)}: the file has changed, 4 times"


@pytest.mark.parametrize("trusted", [False, True])
def test_a_file_that_changed_is_read_anew(tmp_path, trusted):
    files = {"/f.rar": Served(DATA, cuts=[70_000])}
    other = rar4({"b.avi": bytes(60_000)})
    with serving(files) as (url, _):

        def change(_):
            files["/f.rar"] = Served(other, etag='"2"')

        transfer = Transfer(tmp_path / "f.rar.part", trusted, lambda *_: None, change)
        transfer(url("/f.rar"), tmp_path / "f.rar", None)
    assert (tmp_path / "f.rar").read_bytes() == other


def test_another_server_completes_what_a_checksum_will_prove(tmp_path):
    files = {"/f.rar": Served(DATA, cuts=[70_000] + [0] * 9), "/g.rar": Served(DATA, etag='"9"')}
    with serving(files) as (url, asked):
        assert failure(tmp_path, url("/f.rar"), trusted=True).startswith(url("/f.rar"))
        assert get(tmp_path, url("/g.rar"), trusted=True) == (DATA, 0)
    assert asked[-1] == ("/g.rar", "bytes=65536-")


def test_a_complete_part_is_not_read_again(tmp_path):
    """As after kill -9 while the checksum was computed."""
    with serving({"/f.rar": Served(DATA)}) as (url, asked):
        get(tmp_path, url("/f.rar"))
        assert (tmp_path / "f.rar.part").read_bytes() == DATA
        assert get(tmp_path, url("/f.rar")) == (DATA, 0)
    assert asked[-1] == ("/f.rar", f"bytes={len(DATA)}-")


def test_kill_minus_nine(tmp_path):
    """A process that dies in the middle of a file leaves what the next one goes on with."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from preprocess.download.transfer import Transfer\n"
        "show = lambda done, total: os.kill(os.getpid(), 9) if done else None\n"
        "Transfer(Path(sys.argv[2]), False, show)(sys.argv[1], sys.argv[2] + '.x', None)\n"
    )
    data = rar4({"a.avi": bytes(400_000)})
    with serving({"/f.rar": Served(data)}) as (url, asked):
        command = [sys.executable, "-c", code, url("/f.rar"), str(tmp_path / "f.rar.part")]
        assert subprocess.run(command, check=False).returncode == -9
        state = json.loads((tmp_path / "f.rar.part.json").read_text())
        assert state == {"url": url("/f.rar"), "validator": '"1"', "length": len(data)}
        have = (tmp_path / "f.rar.part").stat().st_size
        assert get(tmp_path, url("/f.rar")) == (data, 0)
    assert asked[-1][1] == (f"bytes={have}-" if have else None)


def test_a_kill_between_note_and_file_leaves_no_false_note(tmp_path, monkeypatch):
    """The bytes of an older file are gone before anything is noted about the new one."""
    import preprocess.download.transfer as module

    (tmp_path / "f.rar.part").write_bytes(b"older")
    there = []

    def killed(path, text):
        there.append((tmp_path / "f.rar.part").exists())
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_text", killed)
    with serving({"/f.rar": Served(DATA)}) as (url, _), pytest.raises(KeyboardInterrupt):
        get(tmp_path, url("/f.rar"))
    assert there == [False]


def test_a_part_without_or_with_a_broken_note_is_read_anew(tmp_path):
    with serving({"/f.rar": Served(DATA)}) as (url, asked):
        for note in (None, b"{", b"[]", b'{"url": 1, "length": "x"}'):
            (tmp_path / "f.rar.part").write_bytes(b"rubbish")
            (tmp_path / "f.rar.part.json").unlink(missing_ok=True)
            if note is not None:
                (tmp_path / "f.rar.part.json").write_bytes(note)
            assert get(tmp_path, url("/f.rar"), trusted=True)[0] == DATA
    assert {start for _, start in asked} == {None}


def test_what_servers_say_when_they_do_not_have_it(tmp_path):
    page = b"<!DOCTYPE html>\n<html><head><title>Log\n in</title></head></html>"
    files = {
        "/page": Served(page),
        "/untitled": Served(b"<p>"),
        "/text": Served(b"hello"),
        "/empty": Served(b""),
        "/busy": Served(b"", status=503),
        "/cut": Served(DATA, cuts=[0] * 9),
    }
    with serving(files) as (url, _):
        assert failure(tmp_path, url("/none")) == f"{url('/none')}: 404 Not Found"
        expected = "a RAR or ZIP archive expected, got"
        assert failure(tmp_path, url("/page")) == (
            f"{url('/page')}: {expected} a web page titled 'Log in'"
        )
        assert failure(tmp_path, url("/untitled")) == f"{url('/untitled')}: {expected} a web page"
        assert failure(tmp_path, url("/text")) == (
            f"{url('/text')}: {expected} something else that begins with b'hello'"
        )
        assert failure(tmp_path, url("/empty")) == f"{url('/empty')}: an empty file"
        assert failure(tmp_path, url("/busy")) == (
            f"{url('/busy')}: 503 Service Unavailable, 4 times"
        )
        assert failure(tmp_path, url("/cut")).endswith(", 4 times")
    assert failure(tmp_path, url("/gone")) == f"{url('/gone')}: Connection refused, 4 times"
    assert failure(tmp_path, "ftp:/x").startswith("ftp:/x: ")


def test_a_certificate_that_cannot_be_verified(tmp_path, monkeypatch):
    import ssl

    import requests

    def get_(*_, **__):
        inner = ssl.SSLCertVerificationError(
            1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired (_ssl.c:1006)"
        )
        raise requests.exceptions.SSLError(inner)

    monkeypatch.setattr(requests, "get", get_)
    assert failure(tmp_path, "https://a.b/f.rar") == (
        "https://a.b/f.rar: the certificate of a.b cannot be verified (certificate verify "
        "failed: expired); get the file with a browser and give it with --archive, or name a file "
        "with the missing certificates in REQUESTS_CA_BUNDLE"
    )


def test_a_full_disk(tmp_path):
    def show(done, _):
        if done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with serving({"/f.rar": Served(DATA)}) as (url, _), pytest.raises(OutputError) as caught:
        Transfer(tmp_path / "f.rar.part", False, show)(url("/f.rar"), tmp_path / "f.rar", None)
    assert str(caught.value) == (
        f"{tmp_path / 'f.rar.part'}: cannot be written: No space left on device; free space and "
        "run the same command again, which goes on from here"
    )
    assert not (tmp_path / "f.rar").exists()


# --- several sources ---


class Lines:
    """A console that keeps its lines."""

    is_terminal = False

    def __init__(self):
        self.lines = []

    def print(self, text, **_):
        self.lines.append(text)


def test_sources_are_tried_in_their_order(tmp_path):
    files = {"/b/f.rar": Served(DATA[:-9]), "/c/f.rar": Served(DATA)}
    console = Lines()
    with serving(files) as (url, asked):
        sources = [Source(url(f"/{name}/f.rar"), MD5, "somebody") for name in "abcd"]
        got = fetch(Archive("videos", 1, tuple(sources)), tmp_path, Display(console))
        assert got.path.read_bytes() == DATA
        assert got.role == "videos"
        assert got.entry.origin == url("/c/f.rar")
        assert got.entry.vouched_by == "somebody"
        assert got.entry.sha256 == hashlib.sha256(DATA).hexdigest()
        wrong = "md5:" + hashlib.md5(DATA[:-9]).hexdigest()
        assert console.lines == [
            f"{url('/a/f.rar')}: 404 Not Found",
            f"{url('/b/f.rar')}: {MD5} expected, got {wrong.partition(':')[2]}; the file there is "
            "another or was damaged on its way",
        ]
        number = len(asked)
        fetch(Archive("videos", 1, tuple(sources)), tmp_path, Display(Lines()))  # is there
        assert len(asked) == number
    assert [path.name for path in tmp_path.iterdir()] == ["f.rar"]


def test_no_source_has_it(tmp_path):
    with serving({}) as (url, _), pytest.raises(DownloadError) as caught:
        sources = (Source(url("/a/f.rar")), Source(url("/b/f.rar")))
        fetch(Archive("videos", 1, sources), tmp_path, Display(Lines()))
    assert str(caught.value) == (
        f"f.rar: no source has it ({url('/a/f.rar')}: 404 Not Found; {url('/b/f.rar')}: 404 Not "
        "Found); name another with --mirror URL, or give the file itself with --archive FILE"
    )


def test_mirrors_keep_the_published_checksum_of_the_same_file():
    archive = Archive("videos", 1, (Source("https://a/v.rar", "md5:1"), Source("https://a/v.zip")))
    mirrored = with_mirrors(archive, ["http://m/", "http://n/v.zip?x=1", "http://o/w.rar"])
    assert [(source.url, source.known_hash) for source in mirrored.sources] == [
        ("http://m/v.rar", "md5:1"),
        ("http://n/v.zip?x=1", None),
        ("http://o/w.rar", None),
        ("https://a/v.rar", "md5:1"),
        ("https://a/v.zip", None),
    ]


def test_lines_of_progress_come_every_ten_seconds():
    times = iter([0.0, 1.0, 10.0, 12.0, 25.0])
    console = Lines()
    with Display(console, lambda: next(times)).step("a.rar") as show:
        for done in (0, 10, 12, 25):
            show(done * 1_000_000, 50_000_000)
    assert console.lines == [
        progress_line("a.rar", 10_000_000, 50_000_000, 1e6),
        progress_line("a.rar", 25_000_000, 50_000_000, 1e6),
    ]
    assert console.lines[-1] == "a.rar: 25.0 MB of 50.0 MB, 1.0 MB/s, 0:00:25 left"


def test_a_terminal_sees_a_bar():
    import io

    from rich.console import Console

    screen = io.StringIO()
    display = Display(Console(file=screen, force_terminal=True, width=100))
    with display.step("a[b].rar") as show:
        show(25_000_000, 50_000_000)
        show(50_000_000, 50_000_000)
    assert "a[b].rar" in screen.getvalue()
    assert "50.0/50.0 MB" in screen.getvalue()
