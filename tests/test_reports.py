"""What an extraction leaves behind of itself: report.json, log.jsonl, and metrics."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import cv2
import pytest
from conftest import moving_frames, stored, write_clip
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from preprocess import isolation, run_log
from preprocess.executor import make_executor
from preprocess.extract import extract_dataset
from preprocess.isolation import end_processes
from preprocess.job import VideoReport, run_job
from preprocess.log_file import LocalLog, LogObject
from preprocess.metrics import MetricsFile
from preprocess.run_log import RunLog
from preprocess.tally import Tally
from preprocess.work import Options
from tsn_core.errors import OutputError, StoreError
from tsn_core.location import location
from tsn_core.manifest import Manifest, Record
from tsn_core.sampling import SnippetPlan
from tsn_core.version import __version__

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("--size", "32x24", "--snippets", "3", "--codec", "raw", "--jobs", "1")
VERSIONS = {
    "package": __version__,
    "python": ".".join(map(str, sys.version_info[:3])),
    "opencv": cv2.__version__,
    "av": av.__version__,
}


def make(folder, *names):
    for seed, name in enumerate(names):
        write_clip(folder / f"{name}.avi", moving_frames(9, seed=seed))
    return [f"{name}.avi" for name in names]


def extract(data, out, names, executor=None, **options):
    manifest = Manifest("d", ("a",), tuple(Record(name, 0) for name in names))
    return extract_dataset(
        manifest,
        data,
        out,
        modalities=[stored("rgb"), stored("rgbdiff")],
        plan=SnippetPlan(snippets=3),
        videos_per_shard=2,
        executor=executor or make_executor("local", num_workers=2, stop=end_processes),
        console=Console(quiet=True),
        options=Options(**{"isolated": False, **options}),
    )


def report_of(root):
    return json.loads((root / "report.json").read_text())


def lines_of(root, event=None):
    lines = [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if event in (None, line["event"])]


class Elsewhere:
    """Runs jobs here, but as if in other processes, as a cluster does."""

    in_this_process = False

    def check(self, guard):
        pass

    def run(self, function, jobs, num_gpus=0.0):
        for job in jobs:
            yield function(job)

    def close(self):
        pass


# --- report.json ---


def test_the_report_of_a_run(program, folder_dataset, tmp_path):
    (folder_dataset / "nod" / "empty.avi").write_bytes(b"")
    where = ("--dataset", "folder", "--data", folder_dataset, "--out", tmp_path / "out")
    result = program("extract", *where, *SMALL, "--allow-failures", "--max-seconds", 60)
    root = tmp_path / "out" / "gestures"
    last = result.stdout.splitlines()[-1]
    time_and_rate = r"0:00:\d\d, \d+\.\d videos/(s|min)"
    assert re.fullmatch(
        f"this run: 7 videos in {time_and_rate}, 1 failed \\(open 1\\); "
        f"see {re.escape(str(root))}/report.json",
        last,
    )
    report = report_of(root)
    assert {name: report[name] for name in ("format", "version", "dataset")} == {
        "format": "tsn-report",
        "version": 1,
        "dataset": "gestures",
    }
    assert (report["status"], report["reason"]) == ("finished", None)
    moment = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ"
    assert re.fullmatch(moment, report["started"]) and re.fullmatch(moment, report["ended"])
    assert report["started"] < report["ended"]
    assert report["videos_per_second"] == pytest.approx(7 / report["seconds"], rel=0.01)
    assert report["videos"] == {
        "in_dataset": 7,
        "to_extract": 7,
        "extracted": 6,
        "failed": 1,
        "copied": 0,
        "retried": 0,
        "noted": 0,
    }
    assert report["failures_by_stage"] == {"open": 1}
    assert report["modalities"] == [
        {
            "folder": "rgb",
            "shards_made": 7,
            "shards_kept": 0,
            "shards_removed": 0,
            "videos": 6,
            "images": 18,
            "bytes": sum(path.stat().st_size for path in root.rglob("*.h5")),
            "failures": 1,
        }
    ]
    slowest = report["slowest_videos"]
    assert len(slowest) == 7
    assert [video["seconds"] for video in slowest] == sorted(
        (video["seconds"] for video in slowest), reverse=True
    )
    assert {video["name"]: video["frames"] for video in slowest}["wave/wave_5.avi"] == 14
    assert 20 < report["peak_memory_mb"] < 4000
    assert report["changed_sources"] == []
    assert report["versions"] == VERSIONS
    settings = report["settings"]
    assert [modality["name"] for modality in settings["modalities"]] == ["rgb"]
    assert settings["modalities"][0]["width"] == 32
    assert settings["plan"] == {"snippets": 3}
    assert settings["limits"]["max_seconds"] == 60.0
    assert settings["isolated"] is True and settings["cores"] >= 1
    command = settings["command"]
    assert (command["--dataset"], command["--jobs"], command["--modality"]) == (
        "folder",
        1,
        ["rgb"],
    )
    assert (command["--out"], command["--size"]) == (str(tmp_path / "out"), [24, 32])


def test_the_report_of_a_run_that_only_mends(tmp_path):
    data, root = tmp_path / "data", tmp_path / "out" / "d"
    names = make(data, "a", "b", "c", "d", "e")
    extract(data, tmp_path / "out", names)
    assert report_of(root)["settings"]["command"] == {}
    write_clip(data / "a.avi", moving_frames(11, seed=9))
    summary = extract(data, tmp_path / "out", names[:4])
    report = report_of(root)
    assert report["changed_sources"] == ["a.avi"]
    assert report["videos"] == {
        "in_dataset": 4,
        "to_extract": 1,
        "extracted": 1,
        "failed": 0,
        "copied": 1,
        "retried": 0,
        "noted": 0,
    }
    assert (summary.counts.extracted, summary.counts.copied) == (1, 1)
    assert [video["name"] for video in report["slowest_videos"]] == ["a.avi"]
    for modality in report["modalities"]:
        kinds = ("made", "kept", "removed")
        assert [modality[f"shards_{kind}"] for kind in kinds] == [1, 1, 1]
        assert modality["videos"] == 4
    assert lines_of(root, "shard-removed")[0]["file"] == "shard-00002.h5"


def test_the_ten_slowest_videos_are_told(tmp_path):
    names = [f"{number}.avi" for number in range(12)]
    seconds = {name: float(place * 7 % 12) for place, name in enumerate(names)}

    class Pretending(Elsewhere):
        def run(self, function, jobs, num_gpus=0.0):
            for report in super().run(function, jobs):
                videos = [
                    VideoReport(video.name, seconds=seconds[video.name], peak_bytes=int(n))
                    for n, video in enumerate(report.videos, start=5_000_000)
                ]
                yield type(report)(**{**vars(report), "videos": tuple(videos)})

    make(tmp_path, *(name.removesuffix(".avi") for name in names))
    extract(tmp_path, tmp_path / "out", names, Pretending())
    report = report_of(tmp_path / "out" / "d")
    assert [video["seconds"] for video in report["slowest_videos"]] == [*range(11, 1, -1)]
    assert report["peak_memory_mb"] == 5.0


def test_a_run_elsewhere_is_reported_as_one_here(tmp_path):
    names = make(tmp_path, "a", "b", "c")
    (tmp_path / "b.avi").write_text("no video")
    found = []
    for out, executor in (("here", None), ("there", Elsewhere())):
        extract(tmp_path, tmp_path / out, names, executor)
        report = report_of(tmp_path / out / "d")
        events = sorted(line["event"] for line in lines_of(tmp_path / out / "d"))
        found.append((report["videos"], report["modalities"], events))
    assert found[0] == found[1]
    assert found[0][2].count("video") == 3 and found[0][2].count("shard") == 2


def failing(error):
    def run(job, seen=None):
        if job.number == 1:
            raise error
        return run_job(job, seen)

    return run


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "interrupted by the user or a signal"),
        (OutputError("x: no room; make some"), "failed", "x: no room; make some"),
        (
            PermissionError(13, "Permission denied", "/shards/x"),
            "failed",
            "/shards/x: cannot be written: Permission denied; allow that or choose another place",
        ),
        (ZeroDivisionError("a\nbug"), "failed", "ZeroDivisionError: a bug"),
    ],
)
def test_a_run_that_does_not_finish_is_reported(tmp_path, monkeypatch, error, status, reason):
    names = make(tmp_path, "a", "b", "c", "d")
    monkeypatch.setattr("preprocess.extract.run_job", failing(error))
    one = make_executor("local", num_workers=1, stop=end_processes)
    with pytest.raises((type(error), OutputError)):
        extract(tmp_path, tmp_path / "out", names, one, metrics=tmp_path / "m.prom")
    root = tmp_path / "out" / "d"
    report = report_of(root)
    assert (report["status"], report["reason"]) == (status, reason)
    assert report["videos"]["extracted"] == 2
    assert report["videos"]["to_extract"] == 4
    assert [modality["shards_made"] for modality in report["modalities"]] == [1, 1]
    last = lines_of(root)[-1]
    assert (last["event"], last["status"], last["reason"]) == ("run-end", status, reason)
    assert last["videos"] == report["videos"]
    numbers = metrics_of(tmp_path / "m.prom")
    assert numbers["tsn_extract_running", "d"] == 0
    assert ("tsn_extract_last_success_timestamp_seconds", "d") not in numbers


def test_a_report_that_cannot_be_written(tmp_path):
    names = make(tmp_path, "a")
    path = tmp_path / "out" / "d" / "report.json"
    path.mkdir(parents=True)
    with pytest.raises(OutputError) as caught:
        extract(tmp_path, tmp_path / "out", names)
    assert str(caught.value) == (
        f"{path}: cannot be written: Is a directory; free space or choose another place"
    )


# --- log.jsonl ---


def test_the_log_of_a_run(tmp_path):
    data, root = tmp_path / "data", tmp_path / "out" / "d"
    names = make(data, "a", "b", "c")
    (data / "b.avi").write_text("no video")
    one = make_executor("local", num_workers=1)
    extract(data, tmp_path / "out", names, one, command={"--out": tmp_path, "--jobs": 1})
    lines = lines_of(root)
    assert [line.pop("event") for line in lines] == [
        *("run-start", "video", "video", "shard", "video", "shard", "run-end"),
    ]
    assert len({line.pop("run") for line in lines}) == 1
    times = [line.pop("time") for line in lines]
    assert times == sorted(times) and re.fullmatch(r"20.{8}T.{12}Z", times[0])
    for line in lines[1:]:
        assert line.pop("seconds") >= 0
    start, first, second, shard, _, _, end = lines
    assert start.pop("host") and start.pop("process") == os.getpid()
    settings = start.pop("settings")
    assert settings["command"] == {"--out": str(tmp_path), "--jobs": 1}
    assert settings["limits"]["max_frames"] == 10_000_000
    assert start == {
        "dataset": "d",
        "videos": 3,
        "videos_to_extract": 3,
        "shards_to_make": 2,
        "changed_sources": 0,
        "modalities": ["rgb", "rgbdiff"],
        "versions": VERSIONS,
    }
    assert first == {"name": "a.avi", "result": "extracted", "tries": 1, "frames": 9}
    assert second == {
        "name": "b.avi",
        "result": "failed",
        "stage": "open",
        "reason": "not a video that FFmpeg can open, or it has no video stream",
        "tries": 1,
        "frames": 0,
    }
    sizes = {kind: (root / kind / "shard-00000.h5").stat().st_size for kind in ("rgb", "rgbdiff")}
    images = {"rgb": 3, "rgbdiff": 8}
    assert shard == {
        "number": 0,
        "modalities": {
            kind: {"bytes": sizes[kind], "videos": 1, "images": images[kind], "failures": 1}
            for kind in sizes
        },
    }
    assert end["status"] == "finished" and "reason" not in end
    assert end["failures_by_stage"] == {"open": 1}


def test_a_lost_process_is_logged(tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "CHILD_MODULE", "misbehaving_child")
    names = make(tmp_path, "segv_once", "kill")
    extract(tmp_path, tmp_path / "out", names, isolated=True)
    end_processes()
    root = tmp_path / "out" / "d"
    retries = {
        line["name"]: (line["tries"], line["reason"]) for line in lines_of(root, "video-retry")
    }
    killed = "the decoding process was killed by"
    assert retries == {
        "segv_once.avi": (1, f"{killed} SIGSEGV"),
        "kill.avi": (1, f"{killed} SIGKILL, as the kernel does when memory runs out"),
    }
    results = {line["name"]: (line["result"], line["tries"]) for line in lines_of(root, "video")}
    assert results == {"segv_once.avi": ("extracted", 2), "kill.avi": ("failed", 2)}
    report = report_of(root)
    assert report["videos"]["retried"] == 2 and report["failures_by_stage"] == {"crash": 1}
    assert report["peak_memory_mb"] > 20


def test_runs_are_appended(tmp_path):
    names = make(tmp_path, "a")
    for _ in range(2):
        extract(tmp_path, tmp_path / "out", names)
    lines = lines_of(tmp_path / "out" / "d")
    assert [line["event"] for line in lines] == [
        *("run-start", "video", "shard", "run-end"),
        *("run-start", "run-end"),
    ]
    assert len({line["run"] for line in lines}) == 2


def test_threads_do_not_mix_their_lines(tmp_path):
    log = RunLog(tmp_path, "r")

    def write(thread):
        for number in range(200):
            log.video(VideoReport(f"{thread}/{number}.avi", note="x" * number))

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    names = [line["name"] for line in lines_of(tmp_path)]
    assert len(names) == 1600 and len(set(names)) == 1600


def test_what_is_logged_after_the_end_is_dropped(tmp_path):
    log = RunLog(tmp_path, "r")
    log.close()
    log.close()
    log.video(VideoReport("a.avi"))
    assert lines_of(tmp_path) == []


def test_any_name_can_be_logged(tmp_path):
    names = ["日本.avi", "bad\udcff.avi", 'quote".avi', "line\nbreak.avi"]
    log = RunLog(tmp_path, "r")
    for name in names:
        log.video(VideoReport(name))
    assert [line["name"] for line in lines_of(tmp_path)] == names
    assert "日本" in (tmp_path / "log.jsonl").read_text()


def test_an_unfinished_line_stays_a_line_of_its_own(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"event": "run-start"}\n{"event": "vid')
    log = RunLog(tmp_path, "r")
    log.write("run-start", process=1)
    log.write("run-end")
    first, torn, *rest = (tmp_path / "log.jsonl").read_text().splitlines()
    assert (first, torn) == ('{"event": "run-start"}', '{"event": "vid')
    assert [json.loads(line)["event"] for line in rest] == ["run-start", "run-end"]


class Tight:
    """A file on a disk that has room for some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room
        self.tell = file.tell

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return self.file.write(part)


def test_a_line_that_did_not_fit_stays_a_line_of_its_own(tmp_path):
    log = RunLog(tmp_path, "r")
    log.write("one")
    tight = log._file._file = Tight(log._file._file, 20)
    for event in ("two", "three"):
        with pytest.raises(OutputError) as caught:
            log.write(event)
    assert str(caught.value) == (
        f"{tmp_path / 'log.jsonl'}: cannot be written: No space left on device; free space or "
        "choose another place"
    )
    tight.room = 1000
    log.write("four")
    one, torn, four = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in (one, four)] == ["one", "four"]
    assert torn.startswith('{"time": "20') and len(torn) == 20


def test_a_log_is_set_aside_when_it_is_large(tmp_path):
    log = RunLog(tmp_path, "r", most_bytes=1000)
    for number in range(50):
        log.write("video", name=f"{number:02d}.avi")
    log.close()
    older = [json.loads(line) for line in (tmp_path / "log.jsonl.1").read_text().splitlines()]
    names = [line["name"] for line in older + lines_of(tmp_path)]
    assert names == [f"{number:02d}.avi" for number in range(50 - len(names), 50)]
    assert 10 < len(names) < 25
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_a_log_that_cannot_be_set_aside_goes_on(tmp_path):
    log = RunLog(tmp_path, "r", most_bytes=200)
    log.write("one", name="x" * 150)
    (tmp_path / "log.jsonl.1").mkdir()
    for _ in range(2):
        with pytest.raises(OutputError) as caught:
            log.write("two")
        assert str(caught.value) == (
            f"{tmp_path / 'log.jsonl'}: cannot be written: Is a directory; free space or choose "
            "another place"
        )
    (tmp_path / "log.jsonl.1").rmdir()
    log.write("three")
    log.close()
    assert [line["event"] for line in lines_of(tmp_path)] == ["three"]


def text_of(path):
    return [json.loads(line)["name"] for line in path.read_text().splitlines()]


def test_a_log_in_an_object_store(monkeypatch):
    """It cannot be appended to: lines are there at the end, or after some minutes."""
    root = location("memory://test-reports/d")
    path = root / "log.jsonl"
    for run in ("one", "two"):
        log = RunLog(root, run)
        log.write("video", name=run)
        log.write("video", name=f"{run} more")
        assert path.exists() == (run == "two")
        log.close()
        log.close()
        log.write("video", name="too late")
    assert text_of(path) == ["one", "one more", "two", "two more"]
    monkeypatch.setattr("preprocess.log_file._UPLOAD_SECONDS", 0.0)
    log = RunLog(root, "three", most_bytes=path.stat().st_size)
    log.write("video", name="three")
    assert text_of(path) == ["three"]
    assert text_of(root / "log.jsonl.1") == ["one", "one more", "two", "two more"]
    path.unlink()
    (root / "log.jsonl.1").unlink()


def test_a_store_that_refuses_the_log_at_the_end(tmp_path, monkeypatch):
    """The report is written nevertheless, and the error is the store's own."""
    names = make(tmp_path, "a")
    remote = location("memory://test-reports/e/log.jsonl")
    monkeypatch.setattr(
        "preprocess.run_log.open_log", lambda path, most_bytes: LogObject(remote, most_bytes)
    )

    def refuse(self, data):
        raise StoreError(f"{self}: Access Denied; check the address")

    monkeypatch.setattr(type(remote), "write_bytes", refuse)
    with pytest.raises(StoreError) as caught:
        extract(tmp_path, tmp_path / "out", names)
    assert str(caught.value) == f"{remote}: Access Denied; check the address"
    assert report_of(tmp_path / "out" / "d")["status"] == "finished"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_one_line(program, folder_dataset, tmp_path):
    root = tmp_path / "out" / "gestures"
    root.mkdir(parents=True)
    (root / "log.jsonl").symlink_to("/dev/full")
    where = ("--dataset", "folder", "--data", folder_dataset, "--out", tmp_path / "out")
    result = program("extract", *where, *SMALL)
    assert (result.exit_code, result.stdout, result.stderr) == (
        1,
        "",
        f"error: {root / 'log.jsonl'}: cannot be written: No space left on device; free space or "
        "choose another place\n",
    )


def test_a_disk_that_is_full_in_the_middle_is_one_line(tmp_path, monkeypatch):
    """The log fails in a thread that extracts, and again at the end; the first error counts."""
    names = make(tmp_path, "a", "b", "c")
    append = LocalLog.append

    def full(self, line):
        if b'"run-start"' not in line:
            raise OSError(28, "No space left on device")
        append(self, line)

    monkeypatch.setattr(LocalLog, "append", full)
    root = tmp_path / "out" / "d"
    with pytest.raises(OutputError) as caught:
        extract(tmp_path, tmp_path / "out", names)
    message = (
        f"{root / 'log.jsonl'}: cannot be written: No space left on device; free space or choose "
        "another place"
    )
    assert str(caught.value) == message
    assert (report_of(root)["status"], report_of(root)["reason"]) == ("failed", message)
    assert not list(root.rglob("*.h5"))


def test_a_log_that_cannot_be_opened(tmp_path):
    names = make(tmp_path, "a")
    path = tmp_path / "out" / "d" / "log.jsonl"
    path.mkdir(parents=True)
    with pytest.raises(OutputError) as caught:
        extract(tmp_path, tmp_path / "out", names)
    assert str(caught.value) == (
        f"{path}: cannot be written: Is a directory; free space or choose another place"
    )


def test_a_killed_run_leaves_its_log(tmp_path):
    """kill -9 while a video hangs: all lines are whole, and the next run's come behind them."""
    make(tmp_path / "data" / "x", "a", "hang_once", "b")
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from preprocess import cli, isolation\n"
        "isolation.CHILD_MODULE = 'misbehaving_child'\n"
        "cli.main()"
    )
    words = ["extract", "--dataset", "folder", "--data", str(tmp_path / "data"), "--jobs", "1"]
    words += ["--out", str(tmp_path / "out"), "--size", "32x24", "--videos-per-shard", "1"]
    command = [sys.executable, "-c", code, *words]
    run = subprocess.Popen(command)
    while not list(tmp_path.rglob("*.seen")):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    root = tmp_path / "out" / "data"
    first = ["run-start", "video", "shard", "video", "shard"]
    assert [line["event"] for line in lines_of(root)] == first
    assert not (root / "report.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    again = ["run-start", "video", "shard", "run-end"]
    assert [line["event"] for line in lines_of(root)] == [*first, *again]
    assert report_of(root)["status"] == "finished"


# --- metrics ---


def metrics_of(path):
    """The numbers of a file by name and the values of their labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_metrics_of_a_run(program, folder_dataset, tmp_path):
    (folder_dataset / "nod" / "empty.avi").write_bytes(b"")
    path = tmp_path / "tsn.prom"
    where = ("--dataset", "folder", "--data", folder_dataset, "--out", tmp_path / "out")
    before = time.time()
    result = program("extract", *where, *SMALL, "--allow-failures", "--metrics", path)
    assert result.exit_code == 0
    numbers = metrics_of(path)
    assert before <= numbers.pop(("tsn_extract_last_success_timestamp_seconds", "gestures"))
    assert numbers.pop(("tsn_extract_videos_per_second", "gestures")) > 0
    rgb = tmp_path / "out" / "gestures" / "rgb"
    num_bytes = sum(shard.stat().st_size for shard in rgb.glob("*.h5"))
    assert numbers == {
        ("tsn_extract_videos_total", "gestures", "extracted"): 6,
        ("tsn_extract_videos_total", "gestures", "failed"): 1,
        ("tsn_extract_videos_total", "gestures", "copied"): 0,
        ("tsn_extract_videos_to_do", "gestures"): 0,
        ("tsn_extract_retries_total", "gestures"): 0,
        ("tsn_extract_failures_total", "gestures", "open"): 1,
        ("tsn_extract_shards_total", "gestures", "rgb"): 7,
        ("tsn_extract_bytes_total", "gestures", "rgb"): num_bytes,
        ("tsn_extract_running", "gestures"): 0,
    }
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "out", "tsn.prom"]


def test_metrics_while_it_runs(tmp_path):
    path = tmp_path / "m.prom"
    tally = Tally(5, {"rgb": 2})
    file = MetricsFile(path, 'with "quotes"', tally)
    file.write()
    assert metrics_of(path)["tsn_extract_running", 'with "quotes"'] == 1
    tally.video(VideoReport("a.avi"))
    file.write()
    numbers = metrics_of(path)
    assert numbers["tsn_extract_videos_total", 'with "quotes"', "extracted"] == 1
    assert numbers["tsn_extract_videos_to_do", 'with "quotes"'] == 4
    assert ("tsn_extract_last_success_timestamp_seconds", 'with "quotes"') not in numbers


def test_the_last_success_is_taken_over(tmp_path):
    path, key = tmp_path / "m.prom", ("tsn_extract_last_success_timestamp_seconds", "d")
    MetricsFile(path, "d", Tally(1, {})).end(success=True)
    then = metrics_of(path)[key]
    MetricsFile(path, "d", Tally(1, {})).end(success=False)
    assert metrics_of(path)[key] == then
    MetricsFile(path, "other", Tally(1, {})).end(success=False)
    assert key not in metrics_of(path)


@pytest.mark.parametrize("text", ["", "}{ 7", "x{dataset=", "\x00\xff", 'a{b="c"} nonsense 1 2 3'])
def test_an_older_file_may_hold_anything(tmp_path, text):
    path = tmp_path / "m.prom"
    path.write_text(text)
    MetricsFile(path, "d", Tally(1, {})).write()
    assert metrics_of(path)["tsn_extract_videos_to_do", "d"] == 1


def test_metrics_that_cannot_be_written_cost_a_warning(tmp_path):
    names = make(tmp_path, "a")
    path = tmp_path / "nowhere" / "m.prom"
    with pytest.warns(UserWarning) as told:
        summary = extract(tmp_path, tmp_path / "out", names, metrics=path)
    assert [str(warning.message) for warning in told] == [
        f"{path}: metrics cannot be written: No such file or directory; the extraction goes on"
    ]
    assert summary.counts.extracted == 1


def test_metrics_need_their_suffix(program, folder_dataset, tmp_path):
    where = ("--dataset", "folder", "--data", folder_dataset, "--out", tmp_path / "out")
    result = program("extract", *where, "--metrics", tmp_path / "tsn.txt")
    assert (result.exit_code, result.stdout, result.stderr) == (
        1,
        "",
        f"error: --metrics {tmp_path / 'tsn.txt'}: a name ending in .prom expected, as "
        "Prometheus's textfile collector reads no other; got 'tsn.txt'\n",
    )
    assert not (tmp_path / "out").exists()


# --- documentation ---


def test_the_documentation_names_everything(program, folder_dataset, tmp_path):
    (folder_dataset / "nod" / "empty.avi").write_bytes(b"")
    where = ("--dataset", "folder", "--data", folder_dataset, "--out", tmp_path / "out")
    path = tmp_path / "m.prom"
    program("extract", *where, *SMALL, "--allow-failures", "--metrics", path)
    root = tmp_path / "out" / "gestures"
    names = {key[0] for key in metrics_of(path)}
    names |= {"video-retry", "shard-removed", *(line["event"] for line in lines_of(root))}
    names |= {name for line in lines_of(root) for name in line}
    report = report_of(root)
    names |= {*report, *report["videos"], *report["modalities"][0], *report["settings"]}
    text = (ROOT / "docs" / "extraction-logs.md").read_text(encoding="utf-8")
    assert sorted(name for name in names if f"`{name}`" not in text) == []
    assert f"{run_log.LOG_BYTES // 1_000_000} MB" in text
