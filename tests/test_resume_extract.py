"""Runs that are killed, run twice at once, or meet other sources than the last time."""

import json
import os
import random
import subprocess
import sys
import time

import psutil
import pytest
from conftest import moving_frames, tree_bytes, write_clip
from killed_runs import (
    BOTH,
    defects,
    kill,
    leftovers,
    make_videos,
    members,
    start,
    timed,
    wait_for_steps,
)
from test_extract import ALL, extract, opened, reasons_of

from preprocess.sources import SOURCES_NAME, Journal, Stamp
from tsn_core.check import folder_defects
from tsn_core.errors import InputError, OutputError
from tsn_core.manifest import read_manifest

RGB, DIFF = ALL[0], ALL[2]
KILLS = 50


def finish(run):
    out, told = run.communicate(timeout=120)
    assert (run.returncode, told) == (0, ""), out


@pytest.mark.slow(reason="runs the program fifty times and more")
def test_fifty_kills_cost_nothing(tmp_path):
    """Whoever is killed, and whenever: the shards are those of an undisturbed run."""
    generator = random.Random(5)
    data = make_videos(tmp_path / "data", 12)
    words = [*BOTH, "--videos-per-shard", "2"]
    duration = timed(lambda: finish(start(data, tmp_path / "whole", *words)))
    whole = tree_bytes(tmp_path / "whole" / "data")
    assert len(whole) == 2 * (6 + 2) + 1
    root = tmp_path / "out" / "data"
    completed, died, groups = 0, 0, []
    for _ in range(KILLS):
        run = start(data, tmp_path / "out", *words)
        groups.append(run.pid)
        victim = generator.choice(["parent", "child", "all"])
        if generator.random() < 0.4:
            moment = time.monotonic() + generator.uniform(0, duration)
            while time.monotonic() < moment and run.poll() is None:
                time.sleep(0.001)
        else:
            wait_for_steps(run, root, generator.randint(1, 30))
        kill(run, victim, generator)
        _, told = run.communicate(timeout=120)
        assert run.returncode in ((0,) if victim == "child" else (0, -9)), told
        if root.is_dir():
            assert defects(root) == []
        if run.returncode == 0:
            assert told == "", "no video has failed"
            assert tree_bytes(root) == whole
            assert leftovers(root) == []
            completed += 1
            (tmp_path / "out").rename(tmp_path / f"done{completed}")
        else:
            died += 1
    finish(start(data, tmp_path / "out", *words))
    assert tree_bytes(root) == whole
    assert leftovers(root) == []
    assert died >= 15 and completed >= 5, (died, completed)
    left = [process for group in groups for process in members(group)]
    assert psutil.wait_procs(left, timeout=60)[1] == [], "orphans end by themselves"


DYING = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from disk_faults import Steps
from killed_runs import defects, leftovers
from conftest import tree_bytes
from test_extract import ALL, extract

os.fsync = lambda fd: None  # of no use against kills, and slow
data, base = Path({data!r}), Path({base!r})
kinds = [ALL[0], ALL[2]]

def run(out):
    return extract(data, out, kinds, videos_per_shard=2)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

run(base / "whole")
whole = tree_bytes(base / "whole")
number = 0
while True:
    number += 1
    out = base / str(number)
    pid = os.fork()
    if pid == 0:
        Steps(out, number, die).count()
        run(out)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if status == 0:
        break
    assert status == signal.SIGKILL, status
    root = out / "d"
    if root.is_dir():
        assert defects(root) == [], number
    summary = run(out)
    assert summary.failures == {{}} and summary.changed == (), (number, summary)
    assert tree_bytes(out) == whole, number
    assert leftovers(root) == [], number
    assert run(out).num_jobs == 0, number
print(number)
"""


@pytest.mark.slow(reason="kills a run at each of its steps")
def test_a_kill_at_every_step_costs_nothing(tmp_path):
    """Before every file is opened, written to, synced, renamed or removed."""
    data = make_videos(tmp_path / "data", 4)
    code = DYING.format(path=sys.path, data=str(data), base=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 60, "steps"


# --- two runs at once ---

REFUSED = "another extraction is writing there; wait for it, or use --wait"


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``out [a]/data`` until it is killed."""
    code = (
        "import sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from preprocess.folder_lock import locked\n"
        f"with locked(Path({str(tmp_path / 'out [a]' / 'data')!r}), wait=False, tell=print):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused(tmp_path, holder):
    data = make_videos(tmp_path / "data", 2)
    run = start(data, tmp_path / "out [a]")
    assert run.communicate(timeout=120) == ("", f"error: {tmp_path / 'out [a]/data'}: {REFUSED}\n")
    assert run.returncode == 1
    assert sorted(path.name for path in (tmp_path / "out [a]/data").iterdir()) == [".lock"]


@pytest.mark.parametrize("ending", ["kill", "exit"])
def test_a_second_run_waits_if_asked_to(tmp_path, holder, ending):
    data = make_videos(tmp_path / "data", 2)
    run = start(data, tmp_path / "out [a]", "--wait")
    line = f"{tmp_path / 'out [a]/data'}: another extraction is writing there; waiting for it\n"
    assert run.stderr.readline() == line
    assert not (tmp_path / "out [a]/data/rgb").exists()
    if ending == "kill":
        holder.kill()
    else:
        holder.stdin.close()
    finish(run)
    assert folder_defects(tmp_path / "out [a]/data/rgb").lines == []


def test_of_runs_at_once_one_does_the_work(tmp_path):
    data = make_videos(tmp_path / "data", 6)
    runs = [start(data, tmp_path / "out", "--wait", jobs=1) for _ in range(3)]
    told = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], told
    idle = ["nothing to do" in out for out, _ in told]
    assert sorted(idle) == [False, True, True]
    assert folder_defects(tmp_path / "out/data/rgb").lines == []
    assert leftovers(tmp_path / "out") == []


def test_the_lock_is_let_go_of_while_an_error_is_looked_at(tmp_path):
    data = make_videos(tmp_path / "data", 2)
    place = tmp_path / "d" / "rgb" / "shard-00001.h5"
    place.mkdir(parents=True)
    try:
        extract(data, tmp_path, [RGB], videos_per_shard=1)
    except OutputError:
        place.rmdir()
        extract(data, tmp_path, [RGB], videos_per_shard=1)
    assert folder_defects(tmp_path / "d" / "rgb").lines == []


# --- sources that are not those of the last run ---


def test_modalities_made_from_the_same_sources_share_a_line(tmp_path):
    then, now = {"a.avi": Stamp(1, 2)}, {"a.avi": Stamp(1, 3)}
    journal = Journal(tmp_path)
    for folder, stamps in (("rgb", then), ("flow-dis", now), ("rgbdiff", then)):
        journal.expect(folder, 0, stamps, is_there=False)
    journal.start(tmp_path)
    lines = map(json.loads, (tmp_path / ".sources.jsonl").read_text().splitlines())
    assert [line.get("folders") for line in lines] == [None, ["rgb", "rgbdiff"], ["flow-dis"]]
    journal = Journal(tmp_path)
    changed = {
        folder: journal.changed(folder, 0, ["a.avi"], now, check_hash=False)
        for folder in ("rgb", "flow-dis", "rgbdiff")
    }
    assert changed == {"rgb": {"a.avi"}, "flow-dis": set(), "rgbdiff": {"a.avi"}}


@pytest.fixture
def data(tmp_path):
    """Seven videos, 0.avi to 6.avi."""
    for number in range(7):
        put(tmp_path / "data", f"{number}.avi", number)
    return tmp_path / "data"


def put(data, name, seed, time_ns=None, num_frames=8):
    frames = moving_frames(num_frames, (24, 32), seed=seed)
    path = write_clip(data / name, frames, codec="I420")  # of the same size whatever is in it
    if time_ns is not None:
        os.utime(path, ns=(time_ns, time_ns))
    return path


def identities(out):
    return {
        path.relative_to(out / "d").as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in out.rglob("*.h5")
    }


def made_anew(out, before):
    """Names of the shards that are not the files that they were."""
    now = identities(out)
    return sorted(name for name in now if before.get(name) != now[name])


def tries(summary):
    return {video.name: video.tries for video in summary.videos}


def run(data, out, kinds=(RGB, DIFF), **options):
    summary = extract(data, out, list(kinds), **{"videos_per_shard": 3, **options})
    for kind in kinds:
        assert folder_defects(out / "d" / kind.folder).lines == []
    assert leftovers(out) == []
    return summary


def assert_fresh(data, out, kinds=(RGB, DIFF), **options):
    """Where the cut is the same, the folder is that of a first extraction, byte for byte."""
    run(data, out.with_name("fresh"), kinds, **options)
    assert tree_bytes(out) == tree_bytes(out.with_name("fresh"))


def both(number):
    return [f"rgb/shard-{number:05d}.h5", f"rgbdiff/shard-{number:05d}.h5"]


@pytest.mark.parametrize("how", ["size", "time", "appears shorter"])
def test_a_changed_source_is_noticed(data, tmp_path, how):
    out = tmp_path / "out"
    run(data, out)
    before = identities(out)
    old = (data / "4.avi").stat()
    if how == "size":  # at the same time as before
        put(data, "4.avi", 40, old.st_mtime_ns, num_frames=9)
    elif how == "time":
        put(data, "4.avi", 40, old.st_mtime_ns + 1)
        assert (data / "4.avi").stat().st_size == old.st_size
    else:
        put(data, "4.avi", 4, num_frames=2)
    summary = run(data, out)
    assert summary.changed == ("4.avi",)
    assert tries(summary) == {"3.avi": 0, "4.avi": 1, "5.avi": 0}
    assert made_anew(out, before) == both(1)
    assert_fresh(data, out)
    assert run(data, out).num_jobs == 0


def test_only_the_content_counts_if_asked_to(data, tmp_path):
    out = tmp_path / "out"
    run(data, out)
    before = identities(out)
    for number in range(7):
        os.utime(data / f"{number}.avi", ns=(5, 5))
    summary = run(data, out, check_hash=True)
    assert (summary.num_jobs, summary.changed) == (0, ())
    put(data, "6.avi", 60, 5)
    summary = run(data, out, check_hash=True)
    assert summary.changed == ("6.avi",)
    assert tries(summary) == {"6.avi": 1}
    assert made_anew(out, before) == both(2)
    assert_fresh(data, out)


def test_a_hash_finds_what_time_and_size_hide(data, tmp_path):
    out = tmp_path / "out"
    put(data, "1.avi", 1, 7)
    run(data, out)
    put(data, "1.avi", 10, 7)
    assert run(data, out).num_jobs == 0
    assert run(data, out, check_hash=True).changed == ("1.avi",)
    assert_fresh(data, out)


@pytest.mark.parametrize("name", ["00.avi", "35.avi", "7.avi"])
@pytest.mark.parametrize("number", [6, 7], ids=["full", "not full"])
def test_an_added_source_goes_to_the_last_shard(data, tmp_path, name, number):
    out = tmp_path / "out"
    if number == 6:
        (data / "6.avi").unlink()
    run(data, out)
    before = identities(out)
    put(data, name, 70)
    summary = run(data, out)
    assert summary.changed == ()
    expected = {name: 1} if number == 6 else {"6.avi": 0, name: 1}
    assert tries(summary) == expected
    assert made_anew(out, before) == both(2)
    records = read_manifest(out / "d/manifest.jsonl").records
    shards = {record.name: record.shard for record in records}
    assert shards == {**{f"{n}.avi": n // 3 for n in range(number)}, name: 2}
    if name == "7.avi":
        assert_fresh(data, out)
    assert run(data, out).num_jobs == 0


def test_removed_sources_are_forgotten(data, tmp_path):
    out = tmp_path / "out"
    run(data, out)
    before = identities(out)
    (data / "1.avi").unlink()
    assert tries(run(data, out)) == {"0.avi": 0, "2.avi": 0}
    assert made_anew(out, before) == both(0)
    for number in (3, 4, 5):
        (data / f"{number}.avi").unlink()
    before = identities(out)
    summary = run(data, out)
    assert (summary.num_jobs, made_anew(out, before)) == (0, [])
    assert set(before) - set(identities(out)) == set(both(1))
    assert opened(out, RGB).names == ("0.avi", "2.avi", "6.avi")
    put(data, "5.avi", 50)  # comes back as another one
    assert tries(run(data, out)) == {"6.avi": 0, "5.avi": 1}
    extract(data, tmp_path / "other", [RGB], names=["5.avi"])
    crcs = [
        opened(folder, RGB).read(opened(folder, RGB).number("5.avi"), [0]).tolist()
        for folder in (out, tmp_path / "other")
    ]
    assert crcs[0] == crcs[1]


def test_a_renamed_source_is_a_new_one(data, tmp_path):
    out = tmp_path / "out"
    run(data, out)
    before = identities(out)
    (data / "1.avi").rename(data / "9.avi")
    assert tries(run(data, out)) == {"0.avi": 0, "2.avi": 0, "6.avi": 0, "9.avi": 1}
    assert made_anew(out, before) == [*both(0)[:1], *both(2)[:1], *both(0)[1:], *both(2)[1:]]


def test_another_label_costs_no_decoding(data, tmp_path):
    import test_extract

    out = tmp_path / "out"
    run(data, out)
    before = identities(out)
    record = test_extract.Record
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_extract, "Record", lambda name, _: record(name, int(name != "2.avi")))
        summary = run(data, out)
        assert_fresh(data, out)
    assert tries(summary) == {"0.avi": 0, "1.avi": 0, "2.avi": 0}
    assert made_anew(out, before) == both(0)
    assert opened(out, RGB).labels.tolist() == [1, 1, 0, 1, 1, 1, 1]


NAMES = [f"{number}.avi" for number in range(7)]


def test_a_failed_video_that_is_mended_is_noticed(data, tmp_path):
    out = tmp_path / "out"
    (data / "4.avi").write_text("no video")
    (data / "5.avi").unlink()
    summary = run(data, out, names=NAMES)
    assert reasons_of(summary) == {
        "4.avi": "not a video that FFmpeg can open, or it has no video stream",
        "5.avi": "no such file",
    }
    before = identities(out)
    assert run(data, out, names=NAMES).num_jobs == 0
    put(data, "4.avi", 4)
    summary = run(data, out, names=NAMES)
    assert summary.changed == ("4.avi",)
    assert tries(summary) == {"3.avi": 0, "4.avi": 1, "5.avi": 0}
    assert reasons_of(summary) == {"5.avi": "no such file"}
    put(data, "5.avi", 5)
    summary = run(data, out, names=NAMES)
    assert tries(summary) == {"3.avi": 0, "4.avi": 0, "5.avi": 1}
    assert summary.failures == {}
    assert made_anew(out, before) == both(1)
    assert_fresh(data, out)


def test_what_cannot_be_read_is_not_changed_at_every_run(data, tmp_path):
    (data / "4.avi").unlink()
    (data / "4.avi").mkdir()
    assert reasons_of(run(data, tmp_path / "out", names=NAMES)) == {"4.avi": "no such file"}
    summary = run(data, tmp_path / "out", names=NAMES)
    assert (summary.num_jobs, summary.changed) == (0, ())


def test_a_folder_that_is_not_mounted_costs_nothing(data, tmp_path):
    out = tmp_path / "out"
    run(data, out, names=NAMES)
    before = identities(out)
    data.rename(tmp_path / "elsewhere")
    data.mkdir()
    with pytest.raises(InputError) as caught:
        run(data, out, names=NAMES)
    assert str(caught.value) == (
        f"{data}: not one of the 7 videos is there any more; mount that folder or check --data"
    )
    assert identities(out) == before
    data.rmdir()
    (tmp_path / "elsewhere").rename(data)
    assert run(data, out, names=NAMES).num_jobs == 0
    assert_fresh(data, out)


def test_a_source_that_changes_while_it_is_read(data, tmp_path, monkeypatch):
    from preprocess.video import Video

    out = tmp_path / "out"
    frames = Video.frames

    def change(self, *arguments):
        yield from frames(self, *arguments)
        if self.path.name == "4.avi":
            put(data, "4.avi", 40, num_frames=9)

    with monkeypatch.context() as patch:
        patch.setattr(Video, "frames", change)
        summary = run(data, out)
    assert reasons_of(summary) == {
        "4.avi": "the file was changed while it was read; run the command again"
    }
    before = identities(out)
    summary = run(data, out)
    assert (summary.changed, summary.failures) == (("4.avi",), {})
    assert tries(summary) == {"3.avi": 0, "4.avi": 1, "5.avi": 0}
    assert made_anew(out, before) == both(1)
    assert_fresh(data, out)


@pytest.mark.parametrize("how", ["changes", "vanishes"])
def test_a_source_that_is_another_when_its_copy_is_due(data, tmp_path, monkeypatch, how):
    """It was unchanged when the run decided to copy it, hours ago."""
    from preprocess import extract as extract_module

    out = tmp_path / "out"
    run(data, out)
    put(data, "3.avi", 30)
    plan = extract_module.plan_work

    def planned(*arguments, **named):
        work = plan(*arguments, **named)
        if how == "changes":
            put(data, "4.avi", 40)
        else:
            (data / "4.avi").rename(tmp_path / "4.avi")
        return work

    with monkeypatch.context() as patch:
        patch.setattr(extract_module, "plan_work", planned)
        summary = run(data, out)
    assert summary.failures == {}
    copied = 0 if how == "vanishes" else 1
    assert tries(summary) == {"3.avi": 1, "4.avi": copied, "5.avi": 0}
    if how == "vanishes":
        (tmp_path / "4.avi").rename(data / "4.avi")
    assert run(data, out).num_jobs == 0
    assert_fresh(data, out)


def test_other_modalities_catch_up(data, tmp_path):
    out = tmp_path / "out"
    run(data, out)
    put(data, "1.avi", 10)
    put(data, "7.avi", 7)
    (data / "3.avi").unlink()
    before = identities(out)
    assert tries(run(data, out, [RGB])) == {
        "0.avi": 0, "1.avi": 1, "2.avi": 0, "4.avi": 0, "5.avi": 0, "6.avi": 0, "7.avi": 1,
    }  # fmt: skip
    rgb = [f"rgb/shard-0000{n}.h5" for n in range(3)]
    assert made_anew(out, before) == rgb
    before = identities(out)
    summary = run(data, out, [DIFF])
    assert summary.changed == ("1.avi",)
    assert tries(summary)["0.avi"] == tries(summary)["4.avi"] == 0
    assert made_anew(out, before) == [name.replace("rgb", "rgbdiff") for name in rgb]
    before = identities(out)
    assert run(data, out).num_jobs == 0
    assert opened(out, RGB).names == opened(out, DIFF).names
    assert identities(out) == before


def interrupt_after(monkeypatch, shards):
    """Let a run end when it has put that many shards in place, before that is recorded."""
    from tsn_core import atomic

    publish, made = atomic.publish, []

    def limited(temporary, path):
        publish(temporary, path)
        made.append(path)
        if len([path for path in made if path.suffix == ".h5"]) == shards:
            raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "publish", limited)


def test_a_change_after_a_killed_run_is_noticed(data, tmp_path, monkeypatch):
    """The shard was there, what it was made from was not recorded yet."""
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run(data, out, [RGB])
    assert "rgb/shard-00000.h5" in identities(out)
    put(data, "1.avi", 10)
    assert run(data, out, [RGB]).changed == ("1.avi",)
    assert_fresh(data, out, [RGB])


def test_a_killed_run_between_changes(data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(data, out)
    put(data, "1.avi", 10)
    put(data, "7.avi", 7)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)  # one shard of both modalities, another of one
        with pytest.raises(KeyboardInterrupt):
            run(data, out)
    put(data, "7.avi", 70)
    put(data, "8.avi", 8)
    summary = run(data, out)
    assert set(summary.changed) >= {"7.avi"} and summary.failures == {}
    assert_fresh(data, out)
    assert run(data, out).num_jobs == 0


@pytest.mark.parametrize("name", [SOURCES_NAME, "manifest.jsonl", "rgb/index.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: text[:-9],
        lambda text: b"\xff\xfe" + text,
        lambda text: text.replace(b'"', b"\xff", 7),
        lambda text: text.replace(b"0", b"1e999"),
        lambda text: text.replace(b"[", b"{"),
        lambda text: b"\0" * len(text),
        lambda text: b"5\n" + text,
    ],
)
def test_damaged_lists_cost_nothing(data, tmp_path, name, damage):
    out = tmp_path / "out"
    run(data, out)
    put(data, "00.avi", 70)  # stands first, and is in the last shard
    run(data, out)
    complete, before = tree_bytes(out), identities(out)
    path = out / "d" / name
    path.write_bytes(damage(path.read_bytes()))
    run(data, out)
    if name != SOURCES_NAME:  # which may then tell of other sizes
        assert made_anew(out, before) == []
    assert tree_bytes(out) == complete


def test_lines_of_the_journal_that_make_no_sense_are_left_out(data, tmp_path):
    out = tmp_path / "out"
    run(data, out)
    path = out / "d" / SOURCES_NAME
    good = path.read_text()
    path.write_text(
        good
        + json.dumps({"folders": ["rgb"], "shard": 0, "videos": {"0.avi": [1, 2, 3, 4]}})
        + '\n{"data": 5}\n{"folders": 5, "shard": 0, "videos": {}}\n[]\nnull\n'
        + "[" * 100_000
    )
    assert run(data, out).num_jobs == 0
    put(data, "4.avi", 40)
    assert run(data, out).changed == ("4.avi",)
