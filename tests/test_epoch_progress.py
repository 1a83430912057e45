"""What a training shows while it runs: a line for every epoch, a bar on a terminal."""

import io

from rich.console import Console

from train.learner import Sums
from train.progress import EpochProgress, track

ROW = {
    "epoch": 3,
    "train_loss": 0.5,
    "train_top1": 0.75,
    "val_loss": 0.25,
    "val_top1": 1.0,
    "duration_seconds": 12.34,
}
LINE = "epoch 3/9: loss 0.500, top-1 75.0% | test loss 0.250, top-1 100.0% | 12.3 s, "


def shown(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with EpochProgress(console, 9, done=2, val_subset="test") as show:
        for number in range(1, 4):
            show.batch(2, "train", number, 3, Sums(4.0, 1.0, 8.0))
        show.batch(2, "val", 1, 2, Sums(2.0, 1.0, 8.0))
        show.epoch_done(ROW)
    return console.file.getvalue()


def test_a_log_gets_one_line_an_epoch():
    (line,) = shown(False).splitlines()
    assert line.startswith(LINE) and line.endswith(" min left")


def test_a_terminal_gets_a_bar_and_the_lines():
    text = shown(True)
    assert LINE in text
    for part in ("epoch 3/9 train", "loss 0.500", "epoch 3/9 test", "1/2", "loss 0.250"):
        assert part in text


def test_a_quiet_console_shows_nothing():
    console = Console(file=io.StringIO(), force_terminal=True, quiet=True)
    with EpochProgress(console, 9) as show:
        show.batch(0, "train", 1, 3, Sums(4.0, 1.0, 8.0))
        show.epoch_done({**ROW, "epoch": 1})
    assert console.file.getvalue() == ""


def test_a_log_is_told_what_begins(capsys):
    console = Console(file=io.StringIO(), force_terminal=False)
    assert list(track(iter("ab"), 2, "testing rgb", console)) == ["a", "b"]
    assert capsys.readouterr() == ("", "testing rgb: 2 videos\n")
