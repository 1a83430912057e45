"""What an extraction shows while it runs: lines in a log, a bar on a terminal."""

import io

from rich.console import Console

from preprocess.job import DONE, FAILED
from preprocess.progress import _bar, _lines, progress_line, read_ticks, watch


class Rounds:
    """An event that is waited for a given number of times, with something done in between."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def wait(self, timeout):
        if not self.steps:
            return True
        self.steps.pop(0)()
        return False


def test_ticks_are_counted(tmp_path):
    ticks = tmp_path / "ticks"
    assert read_ticks(ticks) == (0, 0)
    ticks.write_bytes(DONE * 3 + FAILED + DONE)
    assert read_ticks(ticks) == (5, 1)


def test_a_line_before_anything_is_through():
    assert progress_line("d", 0, 0, 9, 0.0) == "d: 0/9 videos, 0.0 videos/s, ? left, 0 failed"
    assert progress_line("d", 1, 1, 7201, 1.0) == (
        "d: 1/7201 videos, 1.0 videos/s, 2:00:00 left, 1 failed"
    )


def test_lines_come_when_there_is_news(tmp_path):
    ticks = tmp_path / "ticks"
    console = Console(file=io.StringIO(), width=20)
    news = Rounds(
        lambda: None,
        lambda: ticks.write_bytes(DONE * 2),
        lambda: None,
        lambda: ticks.write_bytes(DONE * 2 + FAILED),
    )
    _lines(ticks, 10, "a dataset with a long name", console, news)
    lines = console.file.getvalue().splitlines()
    assert [line.partition(" videos,")[0] for line in lines] == [
        "a dataset with a long name: 2/10",
        "a dataset with a long name: 3/10",
    ]
    assert lines[1].endswith(" left, 1 failed")


def test_the_bar_shows_counts_and_goes_away(tmp_path):
    ticks = tmp_path / "ticks"
    ticks.write_bytes(DONE * 3 + FAILED)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    _bar(ticks, 10, "hmdb51", console, Rounds(lambda: None))
    shown = console.file.getvalue()
    assert "hmdb51" in shown and "4/10" in shown and "1 failed" in shown


def test_watching_ends_with_the_block(tmp_path):
    console = Console(file=io.StringIO())
    with watch(tmp_path / "ticks", 3, "d", console):
        pass
    assert console.file.getvalue() == ""
