"""What an extraction shows while it runs: lines in a log, a bar on a terminal."""

import io

from rich.console import Console

from preprocess.job import VideoReport
from preprocess.progress import Tally, _bar, _lines, progress_line, watch

DONE, FAILED = VideoReport("a.avi"), VideoReport("b.avi", "decode", "no frame")


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
        tally.add(video)


def test_videos_are_counted():
    tally = Tally()
    assert tally.counts == (0, 0)
    add(tally, DONE, DONE, FAILED, DONE, VideoReport("copied.avi", tries=0))
    assert tally.counts == (4, 1)


def test_a_line_before_anything_is_through():
    assert progress_line("d", 0, 0, 9, 0.0) == "d: 0/9 videos, 0.0 videos/s, ? left, 0 failed"
    assert progress_line("d", 1, 1, 7201, 1.0) == (
        "d: 1/7201 videos, 1.0 videos/s, 2:00:00 left, 1 failed"
    )


def test_lines_come_when_there_is_news():
    tally = Tally()
    console = Console(file=io.StringIO(), width=20)
    news = Rounds(
        lambda: None,
        lambda: add(tally, DONE, DONE),
        lambda: None,
        lambda: add(tally, FAILED),
    )
    _lines(tally, 10, "a dataset with a long name", console, news)
    lines = console.file.getvalue().splitlines()
    assert [line.partition(" videos,")[0] for line in lines] == [
        "a dataset with a long name: 2/10",
        "a dataset with a long name: 3/10",
    ]
    assert lines[1].endswith(" left, 1 failed")


def test_the_bar_shows_counts_and_goes_away():
    tally = Tally()
    add(tally, DONE, DONE, DONE, FAILED)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    _bar(tally, 10, "hmdb51", console, Rounds(lambda: None))
    shown = console.file.getvalue()
    assert "hmdb51" in shown and "4/10" in shown and "1 failed" in shown


def test_watching_ends_with_the_block():
    console = Console(file=io.StringIO())
    with watch(Tally(), 3, "d", console):
        pass
    assert console.file.getvalue() == ""
