"""What an extraction counts and shows while it runs: lines in a log, a display on a terminal."""

import io
import threading

import pytest
from rich.console import Console
from rich.text import Text

from preprocess.job import JobReport, VideoReport
from preprocess.progress import _display, _lines, _picture, progress_line, summary_line, watch
from preprocess.tally import Counts, ModalityCounts, Pace, Tally
from tsn_core.index import ShardEntry

DONE, FAILED = VideoReport("a.avi"), VideoReport("b.avi", "decode", "no frame")
COPIED = VideoReport("copied.avi", tries=0)
RETRIED = VideoReport("c.avi", tries=2, lost=("the decoding process was killed by SIGSEGV",))


class Clock:
    """Tells the time that the test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Rounds:
    """An event that is waited for a given number of times, with something done in between."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def wait(self, timeout):
        if not self.steps:
            return True
        self.steps.pop(0)()
        return False


def add(tally, *videos):
    for video in videos:
        tally.video(video)


def shard(number, num_bytes, failures=0, folders=("rgb",)):
    entry = ShardEntry(f"shard-{number:05d}.h5", "f" * 64, num_bytes, 2, 6, 6, failures)
    return JobReport(number, dict.fromkeys(folders, entry), (), {}, 1.0)


def counts(**changes):
    """Numbers in the middle of an extraction; ``changes`` replace single ones."""
    fields = {
        "to_extract": 6766,
        "extracted": 1200,
        "failed": 3,
        "copied": 0,
        "retried": 1,
        "noted": 2,
        "stages": {"crash": 1, "open": 2},
        "modalities": {
            "rgb": ModalityCounts(12, 106, 340_200_000),
            "flow-tvl1": ModalityCounts(11, 106, 1_204_700_000, 2),
        },
        "seconds": 97.0,
        "rate": 12.34,
        "seconds_left": 452.0,
    }
    return Counts(**{**fields, **changes})


BEGINNING = counts(
    extracted=0, failed=0, retried=0, stages={}, modalities={}, rate=0.0, seconds_left=None
)


# --- counting ---


def test_videos_are_counted_by_what_became_of_them():
    tally = Tally(9, {"rgb": 3})
    odd = VideoReport("odd.avi", note="header says 9 frames, 3 could be decoded")
    add(tally, DONE, DONE, FAILED, RETRIED, COPIED, odd, VideoReport("d.avi", "open", "empty"))
    found = tally.counts
    assert (found.to_extract, found.through) == (9, 6)
    assert (found.extracted, found.failed, found.copied) == (4, 2, 1)
    assert (found.retried, found.noted) == (1, 1)
    assert found.stages == {"decode": 1, "open": 1}


def test_shards_are_counted_by_modality():
    tally = Tally(9, {"rgb": 2, "rgbdiff": 1, "flow-tvl1": 0})
    tally.shard(shard(0, 1000, failures=1, folders=("rgb", "rgbdiff")))
    tally.shard(shard(1, 500))
    assert tally.counts.modalities == {
        "rgb": ModalityCounts(2, 2, 1500, 1),
        "rgbdiff": ModalityCounts(1, 1, 1000, 1),
    }


def test_more_videos_than_were_expected_are_no_negative_rest():
    """As when a shard to copy from turns out to be damaged."""
    tally = Tally(1, {"rgb": 1})
    add(tally, DONE, DONE)
    assert (tally.counts.to_extract, tally.counts.seconds_left) == (2, 0.0)


def test_threads_may_share_a_tally():
    tally = Tally(400, {"rgb": 1})
    threads = [threading.Thread(target=add, args=(tally, *[DONE] * 100)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tally.counts.extracted, tally.counts.seconds_left) == (400, 0.0)


# --- rate and remaining time ---


def through(pace, clock, times):
    """Let a video be through at each of these seconds, and stay at the last one."""
    for second in times:
        clock.now = 1000.0 + second
        pace.add()


def test_nothing_through_is_no_rate():
    clock = Clock()
    pace = Pace(clock)
    assert (pace.rate, pace.seconds_left(5), pace.seconds_left(0)) == (0.0, None, 0.0)
    clock.now += 30
    assert (pace.rate, pace.seconds_left(5)) == (0.0, None)


def test_a_steady_rate():
    clock = Clock()
    pace = Pace(clock)
    through(pace, clock, range(2, 401, 2))
    assert pace.seconds == 400.0
    assert pace.rate == 0.5
    assert pace.seconds_left(100) == 200.0


def test_few_videos_are_taken_since_the_beginning():
    clock = Clock()
    pace = Pace(clock)
    through(pace, clock, [100, 200, 400])
    assert pace.rate == 3 / 400
    assert pace.seconds_left(3) == 400.0


def test_the_rate_is_of_late_and_the_rest_of_the_second_half():
    clock = Clock()
    pace = Pace(clock)
    slow, fast = range(10, 501, 10), range(501, 1001)
    through(pace, clock, [*slow, *fast])
    assert pace.rate == 1.0, "though 550 videos took 1000 s"
    assert pace.seconds_left(50) == 50.0
    clock.now += 60
    assert pace.rate == pytest.approx(10 / 70), "nothing came for a minute"
    assert pace.seconds_left(47) == pytest.approx(53.0)  # 470 videos in 530 s


def test_slow_videos_have_a_rate_though_none_came_in_the_last_minute():
    clock = Clock()
    pace = Pace(clock)
    through(pace, clock, range(600, 12_001, 600))
    clock.now += 120
    assert pace.rate == pytest.approx(10 / 6120)


def test_videos_that_come_shard_by_shard_have_a_steady_rate():
    """As from a cluster: 64 at once, every five minutes."""
    clock = Clock()
    pace = Pace(clock)
    through(pace, clock, [300 * (n // 64 + 1) for n in range(20 * 64)])
    assert pace.rate == pytest.approx(64 / 300)
    assert pace.seconds_left(640) == pytest.approx(3000.0)


def test_copied_videos_do_not_disturb_the_rate():
    clock = Clock()
    tally = Tally(10, {"rgb": 1}, clock)
    add(tally, *[COPIED] * 500)
    clock.now += 8
    add(tally, DONE, DONE)
    found = tally.counts
    assert (found.rate, found.seconds_left, found.copied) == (0.25, 32.0, 500)


# --- lines ---


def test_a_line_before_anything_is_through():
    assert progress_line("d", BEGINNING) == "d: 0/6766 videos, 0.0 videos/s, ? left, 0 failed"


def test_a_line_tells_of_every_modality():
    assert progress_line("hmdb51", counts()) == (
        "hmdb51: 1203/6766 videos, 12.3 videos/s, 0:07:32 left, 3 failed, 1 retried; "
        "rgb 12/106 shards, 340.2 MB; flow-tvl1 11/106 shards, 1.20 GB, 2 failed"
    )


def test_lines_come_when_there_is_news():
    tally = Tally(10, {"rgb": 5})
    console = Console(file=io.StringIO(), width=20)
    news = Rounds(
        lambda: None,
        lambda: add(tally, DONE, DONE, COPIED),
        lambda: tally.shard(shard(0, 2_500_000)),
        lambda: add(tally, FAILED),
    )
    _lines(tally, "a [dataset] with a long name", console, news)
    lines = console.file.getvalue().splitlines()
    assert [line.partition(" videos,")[0] for line in lines] == [
        "a [dataset] with a long name: 2/10",
        "a [dataset] with a long name: 3/10",
    ]
    assert lines[0].endswith(" left, 0 failed; rgb 0/5 shards, 0.0 MB")
    assert lines[1].endswith(" left, 1 failed; rgb 1/5 shards, 2.5 MB")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            "this run: 1203 videos in 0:01:37, 12.4 videos/s, 3 failed (crash 1, open 2), "
            "1 retried",
        ),
        (
            {"extracted": 1, "failed": 0, "retried": 0},
            "this run: 1 video in 0:01:37, 37.1 videos/h",
        ),
        (
            {"extracted": 0, "failed": 0, "retried": 0, "copied": 12},
            "this run: 0 videos in 0:01:37, 12 copied from older shards",
        ),
    ],
)
def test_the_line_at_the_end(changes, line):
    assert summary_line(counts(**changes)) == line


# --- the display ---


def shown(label, found, width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard")
    console.print(_picture(label, found))
    text = Text.from_ansi(console.file.getvalue()).plain
    return [line.rstrip() for line in text.splitlines()]


def bar(label, right, width):
    """The first line, whose bar fills what is left."""
    return f"{label} {'━' * (width - len(label) - len(right) - 2)} {right}"


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_display(width):
    first, *lines = shown("hmdb51", counts(), width)
    assert first.replace("╺", "━").replace("╸", "━") == bar(
        "hmdb51", " 18%  1203/6766 videos", width
    )
    assert lines == [
        "  12.3 videos/s · 0:07:32 left · 3 failed · 1 retried",
        "  rgb        12/106 shards  340.2 MB",
        "  flow-tvl1  11/106 shards   1.20 GB  2 failed",
    ]


def test_the_display_at_the_beginning():
    assert shown("[d]", BEGINNING, 80) == [
        bar("[d]", "  0%  0/6766 videos", 80),
        "  0.0 videos/s · ? left · 0 failed",
    ]


def test_the_display_of_a_narrow_terminal_keeps_its_lines():
    lines = shown("a dataset with a very long name", counts(), 40)
    assert len(lines) == 4 and max(map(len, lines)) <= 40
    assert lines[0].startswith("a dataset") and lines[1].endswith("…")


@pytest.mark.parametrize("found", [counts(), BEGINNING])
def test_the_display_leaves_room_for_what_the_terminal_echoes(found):
    """Else ^C would move the cursor to the next line, and the first one would not go away."""
    console = Console(width=80)
    lines = console.render_lines(_picture("hmdb51", found), pad=False)
    assert sum(segment.cell_length for segment in lines[-1]) < 60


def test_the_display_goes_away():
    tally = Tally(10, {"rgb": 5})
    add(tally, DONE, DONE, DONE, FAILED)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    _display(tally, "hmdb51", console, Rounds(lambda: None))
    text = console.file.getvalue()
    assert "hmdb51" in text and "4/10 videos" in text and "1 failed" in text
    assert text.endswith("\x1b[2K"), "the last thing is to erase it"


def test_watching_ends_with_the_block():
    console = Console(file=io.StringIO())
    with watch(Tally(3, {"rgb": 1}), "d", console):
        pass
    assert console.file.getvalue() == ""
