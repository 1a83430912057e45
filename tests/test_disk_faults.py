"""Disks that are full, read-only or broken: one clear line, nothing half-written, resumable."""

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import tree_bytes
from disk_faults import Steps
from killed_runs import defects, leftovers, make_videos, start
from test_extract import ALL, extract, reasons_of

from preprocess import isolation
from preprocess.isolation import VideoProcess, end_processes
from preprocess.task import Task
from preprocess.video import Video
from tsn_core.errors import TSNError
from tsn_core.sampling import SnippetPlan

KINDS = [ALL[0], ALL[2]]
PLACE = "choose another place"
REMEDIES = {
    errno.ENOSPC: f"free space or {PLACE}",
    errno.EDQUOT: f"free space or {PLACE}",
    errno.EACCES: f"allow that or {PLACE}",
    errno.EROFS: f"allow that or {PLACE}",
    errno.EIO: f"check the disk or {PLACE}",
    errno.EMFILE: "allow more open files (ulimit -n)",
}
DISK_FAILS = (errno.EIO, errno.ENOSPC, errno.EDQUOT)  # others: folders cannot be synced there
OTHER_REMEDIES = (
    "give the folder of a dataset's shards, such as shards/hmdb51",
    "allow that, or give the folder of a dataset's shards, such as shards/hmdb51",
    "choose another --out",
    "mend that or choose another --out",
    "check the file",
    "check the file, or delete it: then no source counts as changed",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos") / "data", 4)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("whole")
    run(data, out)
    return tree_bytes(out)


def run(data, out, **options):
    return extract(data, out, KINDS, videos_per_shard=2, **options)


def assert_goes_on(data, out, whole):
    """What was left is sound, and the next run completes it."""
    if (out / "d").is_dir():
        assert defects(out / "d") == []
    assert run(data, out).failures == {}
    assert tree_bytes(out) == whole
    assert leftovers(out) == []


def fault(number, out):
    def fail():
        raise OSError(number, os.strerror(number), str(out / "d" / "x"))

    return fail


@pytest.mark.slow(reason="lets each step of a run fail")
@pytest.mark.parametrize("begun", [False, True], ids=["anew", "resumed"])
def test_a_fault_at_every_step_costs_nothing(data, whole, tmp_path, monkeypatch, begun):
    """Whatever fails, and why: the run ends with one line; no video counts as failed."""
    monkeypatch.setattr("tsn_core.shard_writer._SPOOL_BYTES", 100)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    numbers = list(REMEDIES)
    told, place, number = set(), 0, 0
    prepared = tmp_path / "prepared"
    if begun:
        run(data, prepared)
        (prepared / "d/rgb/shard-00001.h5").unlink()
        (prepared / "d/rgb/index.json").unlink()
        (prepared / "d/rgbdiff/index.json").unlink()
    while True:
        place += 1
        number = numbers[place % len(numbers)]
        out = tmp_path / str(place)
        if begun:
            shutil.copytree(prepared, out)
        steps = Steps(out, place, fault(number, out))
        steps.count()
        try:
            run(data, out)
        except TSNError as error:
            line = str(error)
        else:
            line = None
        finally:
            steps.rest()
        if len(steps.seen) < place:
            break
        what = (place, steps.seen[-1], line)
        if line is None:
            folder_only = f"fsync {out}" in steps.seen[place - 1] and number not in DISK_FAILS
            assert "fsync" not in steps.seen[place - 1] or folder_only, what
        else:
            how = r"(written|read|looked through: \S+)"
            pattern = rf"{re.escape(str(out))}\S*: cannot be {how}: ([^;]+); (.+)"
            match = re.fullmatch(pattern, line)
            assert match, what
            assert match[2] == os.strerror(number), what
            assert match[3] in (REMEDIES[number], *OTHER_REMEDIES), what
            told.add(number)
        assert_goes_on(data, out, whole)
    assert place > 50 and told == set(REMEDIES)


# --- a real file system that is too small, or read-only ---


@pytest.fixture
def disk(tmp_path):
    """``disk(options)`` mounts a tmpfs, or mounts it again with other options."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = []

    def mount(options):
        options = f"remount,{options}" if mounted else options
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no mount here")
        if done.returncode and not mounted:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted.append(options)
        return path

    yield mount
    if mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("kilobytes", [4, 8, 12, 16, *range(24, 160, 16), 800])
def test_a_full_disk(data, whole, disk, kilobytes):
    out = disk(f"size={kilobytes}k") / "out"
    line = None
    try:
        run(data, out)
    except TSNError as error:
        line = str(error)
    if line is None:
        assert tree_bytes(out) == whole
    else:
        assert re.fullmatch(
            rf"{out}/\S+: cannot be written: No space left on device; "
            "(free space or choose another place|choose another --out|"
            "mend that or choose another --out)",
            line,
        )
    assert line is not None or kilobytes > 64
    assert line is None or kilobytes < 800
    disk("size=4m")
    assert_goes_on(data, out, whole)


def test_a_full_disk_is_one_line_of_the_program(data, disk):
    out = disk("size=64k") / "out"
    run = start(data, out, "--modality", "rgb", "--videos-per-shard", "2")
    _, told = run.communicate(timeout=120)
    assert run.returncode == 1
    assert re.fullmatch(
        rf"error: {out}/data/\S+: cannot be written: No space left on device; "
        "free space or choose another place\n",
        told,
    )
    disk("size=4m")
    run = start(data, out, "--modality", "rgb")
    assert (run.communicate(timeout=120)[1], run.returncode) == ("", 0)
    assert leftovers(out) == []


def test_a_read_only_folder(data, whole, disk):
    path = disk("size=4m")
    out = path / "out"
    disk("ro,size=4m")
    reason = "cannot be written: Read-only file system; allow that or choose another place"
    with pytest.raises(TSNError) as caught:
        run(data, out)
    assert str(caught.value) == f"{out / 'd'}: {reason}"
    disk("rw,size=4m")
    run(data, out)
    disk("ro,size=4m")
    with pytest.raises(TSNError) as caught:
        run(data, out)
    assert str(caught.value) == f"{out / 'd'}: {reason}"
    disk("rw,size=4m")
    assert_goes_on(data, out, whole)


# --- the source, and what a run needs besides ---


def test_a_source_folder_that_vanishes_costs_only_what_is_not_done(tmp_path, whole, monkeypatch):
    data = make_videos(tmp_path / "data", 4)
    out, frames = tmp_path / "out", Video.frames

    def vanish(self, *arguments):
        if self.path.name == "2.avi" and data.is_dir():  # the second of a, b comes after
            data.rename(tmp_path / "elsewhere")
        yield from frames(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Video, "frames", vanish)
        summary = run(data, out)
    reasons = reasons_of(summary)
    assert set(reasons) == {"a/2.avi", "b/1.avi", "b/3.avi"}
    assert reasons["b/1.avi"] == reasons["b/3.avi"] == "no such file"
    (tmp_path / "elsewhere").rename(data)
    assert_goes_on(data, out, whole)


def isolated(data, out):
    try:
        return run(data, out, isolated=True)
    finally:
        end_processes()


def test_no_room_for_what_a_child_complains_of(data, whole, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(isolation.tempfile, "TemporaryFile", full)
    isolated(data, tmp_path)
    assert tree_bytes(tmp_path) == whole


NO_PROCESS = (
    "no process for decoding can be started: {}; allow more open files and processes "
    "(ulimit -n, ulimit -u), or use fewer --jobs"
)


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("subprocess.Popen", errno.EAGAIN),
        ("subprocess.Popen", errno.ENOMEM),
        ("tempfile.TemporaryFile", errno.EMFILE),
        ("Pipe", errno.EMFILE),
    ],
)
def test_no_process_can_be_had(data, whole, tmp_path, monkeypatch, place, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(f"preprocess.isolation.{place}", refuse)
        with pytest.raises(TSNError) as caught:
            isolated(data, tmp_path)
        assert str(caught.value) == NO_PROCESS.format(os.strerror(number))
    assert open_files() == before
    isolated(data, tmp_path)
    assert tree_bytes(tmp_path) == whole


def test_no_thread_can_be_had(data, whole, tmp_path, monkeypatch):
    begin = threading.Thread.start

    for allowed in range(20):
        left = [allowed]

        def start_some(self, left=left):
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
            begin(self)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start_some)
            try:
                run(data, tmp_path)
            except TSNError as error:
                assert str(error) == (
                    "no thread can be started; allow more processes (ulimit -u), or use fewer "
                    "--jobs"
                )
            else:
                break
    assert 1 < allowed < 19
    assert_goes_on(data, tmp_path, whole)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_processes_that_are_lost_leave_nothing_open(data, monkeypatch):
    task = Task(data / "a" / "0.avi", SnippetPlan(dense=True), (ALL[0],))
    monkeypatch.setattr(isolation, "CHILD_MODULE", "no_such_module")
    before, children = open_files(), set(isolation.psutil.Process().children())
    process = VideoProcess()
    for _ in range(5):
        with pytest.raises(TSNError, match="No module named no_such_module"):
            process.extract(task, lambda *_: None)
        assert open_files() == before
    assert set(isolation.psutil.Process().children()) <= children  # of other tests


FEW_FILES = """
import os, resource, sys
sys.path[:0] = {path!r}
from pathlib import Path
from preprocess import isolation
from tsn_core.errors import TSNError
from test_disk_faults import isolated
data, out = Path({data!r}), Path({out!r})
used = max(map(int, os.listdir("/proc/self/fd"))) + 1
for more in range(1, 40):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, 4096))
    try:
        isolated(data, out)
    except TSNError as error:
        print(error)
    else:
        break
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_too_few_open_files(data, whole, tmp_path):
    """However few are allowed, it is one line; no video counts as failed."""
    code = FEW_FILES.format(path=sys.path, data=str(data), out=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) > 5
    for line in lines:
        assert "Too many open files" in line or "can be started" in line, line
    assert tree_bytes(tmp_path) == whole
    assert leftovers(tmp_path) == []
