"""Videos that crash, hang or eat memory take down their own process and nothing else."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Pipe
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import moving_frames, stored, tree_bytes, write_clip
from rich.console import Console

from preprocess import child, isolation, wire
from preprocess.executor import make_executor
from preprocess.extract import extract_dataset
from preprocess.extraction import Extracted, VideoRow
from preprocess.isolation import VideoProcess, end_processes
from preprocess.limits import Limits
from preprocess.task import InProcess, Task
from preprocess.work import Options
from tsn_core.errors import InputError, TSNError, VideoError
from tsn_core.manifest import Manifest, Record
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_set import ShardSet

PLAN = SnippetPlan(dense=True)
RGB = stored("rgb")
GENEROUS = Limits(stall_seconds=60)


@pytest.fixture(autouse=True)
def children(monkeypatch):
    """Let the child processes misbehave where a video's name asks for it, and end them after."""
    monkeypatch.setattr(isolation, "CHILD_MODULE", "misbehaving_child")
    others = set(psutil.Process().children())
    yield lambda: set(psutil.Process().children()) - others
    end_processes()
    assert set(psutil.Process().children()) <= others, "no process is left behind"


def make(folder, *names, num_frames=9):
    for seed, name in enumerate(names):
        write_clip(folder / f"{name}.avi", moving_frames(num_frames, seed=seed))
    return [f"{name}.avi" for name in names]


def extract(data, out, names, jobs=2, limits=GENEROUS, **options):
    manifest = Manifest("d", ("a",), tuple(Record(name, 0) for name in names))
    return extract_dataset(
        manifest,
        data,
        out,
        modalities=[RGB, stored("rgbdiff")],
        plan=PLAN,
        videos_per_shard=options.pop("videos_per_shard", 3),
        executor=make_executor("local", num_workers=jobs, stop=end_processes),
        console=Console(quiet=True),
        options=Options(limits=limits, **options),
    )


def outcomes(summary):
    return {
        name: (line["stage"], line["reason"]) for name, line in sorted(summary.failures.items())
    }


def task(path, **limits):
    return Task(path, PLAN, (RGB,), Limits(**limits))


NO_ROWS = b'{"rows": [], "note": null, "costs": null, "peak_bytes": 0}'
KILLED = "the decoding process was killed by "


def test_what_a_process_extracts_is_what_is_extracted_here(tmp_path):
    names = make(tmp_path, "a", "b", "c", "d")
    (tmp_path / "b.avi").write_text("no video")
    apart = extract(tmp_path, tmp_path / "apart", names)
    here = extract(tmp_path, tmp_path / "here", names, jobs=1, isolated=False)
    assert (
        outcomes(apart)
        == outcomes(here)
        == {"b.avi": ("open", "not a video that FFmpeg can open, or it has no video stream")}
    )
    trees = [tree_bytes(tmp_path / out) for out in ("apart", "here")]
    for tree in trees:
        del tree["d/failures.jsonl"]  # its commands name the folder
    assert trees[0] == trees[1] and len(trees[0]) == 2 * 4 + 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_crash_costs_its_video_only(tmp_path, jobs):
    names = make(tmp_path, "a", "segv", "b", "kill", "abort", "c", "exit", "d")
    summary = extract(tmp_path, tmp_path / "out", names, jobs)
    twice = ", in each of 2 tries"
    assert outcomes(summary) == {
        "abort.avi": ("crash", f"{KILLED}SIGABRT: terminate called: out of \ufffd luck{twice}"),
        "exit.avi": ("crash", f"the decoding process ended with status 3{twice}"),
        "kill.avi": (
            "crash",
            f"{KILLED}SIGKILL, as the kernel does when memory runs out{twice}",
        ),
        "segv.avi": ("crash", f"{KILLED}SIGSEGV{twice}"),
    }
    assert {video.name: video.tries for video in summary.videos} == {
        name: 2 if name[:-4] in ("abort", "exit", "kill", "segv") else 1 for name in names
    }
    for folder in ("rgb", "rgbdiff"):
        assert ShardSet(tmp_path / "out" / "d" / folder).names == tuple(
            f"{name}.avi" for name in "abcd"
        )


def test_a_crash_that_does_not_come_again_costs_nothing(tmp_path):
    names = make(tmp_path, "a", "segv_once", "b")
    summary = extract(tmp_path, tmp_path / "out", names)
    assert summary.failures == {}
    assert [(video.name, video.tries) for video in summary.videos] == [
        ("a.avi", 1),
        ("segv_once.avi", 2),
        ("b.avi", 1),
    ]
    extract(tmp_path, tmp_path / "calm", names, isolated=False)
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "calm")


@pytest.mark.parametrize("name", ["hang", "deaf"])
def test_a_hang_is_ended(tmp_path, name):
    names = make(tmp_path, "a", name, "b")
    summary = extract(tmp_path, tmp_path / "out", names, limits=Limits(stall_seconds=4))
    reason = "no frame for 4 s (--stall-seconds), in each of 2 tries"
    assert outcomes(summary) == {f"{name}.avi": ("timeout", reason)}


def test_a_video_may_take_only_so_long(tmp_path):
    names = make(tmp_path, "a", "slow", num_frames=40)
    summary = extract(tmp_path, tmp_path / "out", names, limits=Limits(max_seconds=5))
    reason = "not done after 5 s (--max-seconds), in each of 2 tries"
    assert outcomes(summary) == {"slow.avi": ("timeout", reason)}


def test_a_memory_bomb_is_ended(tmp_path):
    names = make(tmp_path, "a", "bomb", "b")
    summary = extract(tmp_path, tmp_path / "out", names, limits=Limits(max_memory_mb=600))
    reason = "needed more than 600 MB (--max-memory-mb), in each of 2 tries"
    assert outcomes(summary) == {"bomb.avi": ("memory", reason)}
    assert all(video.peak_bytes < 600e6 for video in summary.videos)


@pytest.mark.parametrize("isolated", [True, False])
def test_frames_are_counted_and_measured(tmp_path, isolated):
    make(tmp_path, "a")
    extractor = VideoProcess() if isolated else InProcess()
    for limits, reason in (
        (
            {"max_frames": 8},
            "more than the 8 frames that --max-frames allows; raise it, or cut the video",
        ),
        (
            {"max_pixels": 48 * 64 - 1},
            "frames of 64x48 are larger than --max-pixels 3071 allows; raise it, or scale the "
            "video down",
        ),
    ):
        with pytest.raises(VideoError) as caught:
            extractor.extract(task(tmp_path / "a.avi", **limits), lambda *_: None)
        assert str(caught.value) == reason
    extracted = extractor.extract(
        task(tmp_path / "a.avi", max_frames=9, max_pixels=48 * 64), lambda *_: None
    )
    assert extracted.rows[0].num_frames == 9
    if isolated:
        extractor.dispose()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_seconds": 0.0}, "--max-seconds must be > 0 and finite, got 0.0"),
        ({"stall_seconds": float("nan")}, "--stall-seconds must be > 0 and finite, got nan"),
        ({"max_memory_mb": -1}, "--max-memory-mb must be > 0 and finite, got -1"),
        ({"max_pixels": 0}, "--max-pixels must be > 0 and finite, got 0"),
        ({"max_frames": 0}, "--max-frames must be > 0 and finite, got 0"),
    ],
)
def test_bad_limits(limits, message):
    with pytest.raises(InputError) as caught:
        Limits(**limits)
    assert str(caught.value) == message


def images_of(extractor, path):
    images = []
    extractor.extract(task(path), lambda *image: images.append(image))
    return images


def test_a_process_serves_many_videos(tmp_path, children):
    make(tmp_path, "a", "b")
    process, pids = VideoProcess(), set()
    for name in ("a.avi", "b.avi", "a.avi"):
        images = images_of(process, tmp_path / name)
        assert [image[:3] for image in images] == [(0, unit, unit) for unit in range(9)]
        assert images == images_of(InProcess(), tmp_path / name)
        pids.update(child.pid for child in children())
    assert len(pids) == 1
    process.dispose()


def test_the_next_video_is_begun_while_the_last_one_is_stored(tmp_path):
    make(tmp_path, "a", "segv", "b")
    process = VideoProcess()
    next_task = iter([task(tmp_path / "segv.avi"), task(tmp_path / "b.avi"), None])
    process.extract(task(tmp_path / "a.avi"), lambda *_: None, lambda: next(next_task))
    while not (tmp_path / "segv.seen").exists():
        time.sleep(0.01)
    with pytest.raises(VideoError, match="SIGSEGV"):
        process.extract(task(tmp_path / "segv.avi"), lambda *_: None, lambda: next(next_task))
    images = []
    process.extract(task(tmp_path / "b.avi"), lambda *image: images.append(image))
    assert images == images_of(InProcess(), tmp_path / "b.avi")
    process.dispose()


def test_a_video_that_was_begun_in_vain_is_forgotten(tmp_path):
    make(tmp_path, "a", "b", "c")
    process = VideoProcess()
    process.extract(task(tmp_path / "a.avi"), lambda *_: None, lambda: task(tmp_path / "b.avi"))
    assert images_of(process, tmp_path / "c.avi") == images_of(InProcess(), tmp_path / "c.avi")
    process.dispose()


def test_a_process_that_went_home_is_replaced(tmp_path, children):
    """One that was idle for long ends itself: that is no crash of the next video."""
    make(tmp_path, "a")
    process = VideoProcess()
    process.extract(task(tmp_path / "a.avi"), lambda *_: None)
    (child,) = children()
    child.kill()
    child.wait()
    assert process.extract(task(tmp_path / "a.avi"), lambda *_: None).rows[0].num_frames == 9
    process.dispose()


def test_no_process_can_be_started(tmp_path, monkeypatch):
    make(tmp_path, "a")
    monkeypatch.setattr(isolation, "CHILD_MODULE", "no_such_module")
    with pytest.raises(TSNError) as caught:
        VideoProcess().extract(task(tmp_path / "a.avi"), lambda *_: None)
    assert str(caught.value) == (
        f"no process for decoding can be started: {sys.executable}: No module named no_such_module"
    )


def test_stopping_ends_processes_in_the_middle_of_a_video(tmp_path):
    make(tmp_path, "hang")
    raised = []

    def run():
        with pytest.raises(TSNError) as caught, isolation.borrowed_process() as process:
            process.extract(task(tmp_path / "hang.avi"), lambda *_: None)
        raised.append(str(caught.value))

    thread = threading.Thread(target=run)
    thread.start()
    while not (tmp_path / "hang.seen").exists():
        assert thread.is_alive()
        time.sleep(0.01)
    end_processes()
    thread.join()
    assert raised == ["the extraction was stopped"]


PARENT = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from preprocess import isolation
from test_isolation import task
isolation.CHILD_MODULE = "misbehaving_child"
isolation.VideoProcess().extract(task(Path({video!r})), lambda *_: None)
"""


def test_children_end_with_their_parent(tmp_path):
    make(tmp_path, "hang")
    code = PARENT.format(path=sys.path, video=str(tmp_path / "hang.avi"))
    parent = subprocess.Popen([sys.executable, "-c", code])
    while not (tmp_path / "hang.seen").exists():
        assert parent.poll() is None
        time.sleep(0.01)
    (child,) = psutil.Process(parent.pid).children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    child.wait(timeout=30)
    assert not child.is_running()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all(tmp_path, number):
    """As Ctrl-C at a terminal does: the run ends soon, with one line, and can be continued."""
    names = make(tmp_path / "data" / "x", "a", "hang_once", "b")
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from preprocess import cli, isolation\n"
        "isolation.CHILD_MODULE = 'misbehaving_child'\n"
        "cli.main()"
    )
    words = ["extract", "--dataset", "folder", "--data", str(tmp_path / "data"), "--jobs", "2"]
    words += ["--out", str(tmp_path / "out"), "--size", "32x24", "--videos-per-shard", "1"]
    command = [sys.executable, "-c", code, *words]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(tmp_path.rglob("*.seen")):
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, number)
    _, told = run.communicate(timeout=30)
    assert run.returncode == 130
    assert told == "interrupted; the same command goes on where this one stopped\n"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(ShardSet(tmp_path / "out" / "data" / "rgb").names) == len(names)


def test_warnings_of_a_process_are_told_here(tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "CHILD_MODULE", "warning_child")
    (tmp_path / "warning_child.py").write_text(
        "import sys, warnings\n"
        "from preprocess import child, task\n"
        "def extract(self, *_):\n"
        "    warnings.warn('the sky is falling')\n"
        "    raise task.VideoError('no video')\n"
        "task.VideoError = __import__('tsn_core.errors').errors.VideoError\n"
        "task.InProcess.extract = extract\n"
        "child.main(int(sys.argv[1]), int(sys.argv[2]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    process = VideoProcess()
    with pytest.warns(UserWarning, match="^the sky is falling$"), pytest.raises(VideoError):
        process.extract(task(Path("a.avi")), lambda *_: None)
    process.dispose()


def test_what_a_child_says_is_not_trusted(tmp_path):
    from preprocess.wire import messages

    with pytest.raises(ValueError, match="a message is cut short"):
        list(messages(b"I" * 10))
    with pytest.raises(ValueError, match="a message is cut short"):
        list(messages(b"I" + bytes(20) + json.dumps(2**60).encode()[:8]))


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense",
        b"Z" + bytes(25),
        b"I\x05" + bytes(24),
        b"D" + bytes(25),
        b"F" + bytes(17) + (2).to_bytes(8, "little") + b"[]",
        b"D" + bytes(17) + (2).to_bytes(8, "little") + b"{}",
        b"F" + bytes(17) + (11).to_bytes(8, "little") + b'{"stage":1}',
        b"D" + bytes(17) + len(NO_ROWS).to_bytes(8, "little") + NO_ROWS,
    ],
)
def test_a_child_out_of_its_senses_is_ended(tmp_path, monkeypatch, sent):
    monkeypatch.setattr(isolation, "CHILD_MODULE", "mad_child")
    (tmp_path / "mad_child.py").write_text(
        "import sys\n"
        "from multiprocessing.connection import Connection\n"
        "from preprocess.wire import STARTED, Outbox\n"
        "requests = Connection(int(sys.argv[1]), writable=False)\n"
        "answers = Connection(int(sys.argv[2]), readable=False)\n"
        "requests.recv_bytes()\n"
        "Outbox(answers).send(STARTED)\n"
        f"answers.send_bytes({sent!r})\n"
        "requests.recv_bytes()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    process = VideoProcess()
    with pytest.raises(isolation.LostProcess) as caught:
        process.extract(task(Path("a.avi")), lambda *_: None)
    assert str(caught.value) == "the decoding process sent what makes no sense"
    assert caught.value.stage == "crash"


def test_finished_images_are_signs_of_life(monkeypatch):
    now, alarms = [1000.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(wire, "time", clock)
    monkeypatch.setattr(child, "time", clock)
    monkeypatch.setattr(child.signal, "alarm", alarms.append)
    row = VideoRow((0, 1, 2), 3, 25.0, (8, 8), (8, 8), 0, 0)

    class Slow:
        """Has decoded everything, as for a few snippets, and takes long for each image."""

        def extract(self, task, emit):
            for unit in range(3):
                now[0] += 100
                emit(0, unit, unit, b"x")
            return Extracted((row,), None)

    answers, writes = Pipe(duplex=False)
    with answers, writes:
        outbox = wire.Outbox(writes)
        heart = child._Heart(outbox)
        heart.start(300.0)
        child._extract(Slow(), task("a.avi"), outbox, heart)
        heard = []
        while answers.poll():
            heard.append([kind for kind, *_ in wire.messages(answers.recv_bytes())])
    assert heard == [[b"I", b"A"], [b"I", b"A"], [b"I", b"A"], [b"D"]]
    assert alarms == [360] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="real-time signals")
def test_a_signal_without_a_name_is_a_crash_like_others(tmp_path):
    (name,) = make(tmp_path, "unnamed")
    summary = extract(tmp_path, tmp_path / "out", [name])
    assert outcomes(summary) == {"unnamed.avi": ("crash", f"{KILLED}signal 40, in each of 2 tries")}
