"""Progress of an extraction: a live display on a terminal, plain lines otherwise."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from functools import partial

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from preprocess.background import in_background
from preprocess.tally import Counts, ModalityCounts, Tally
from tsn_core.listing import count

_DISPLAY_SECONDS = 0.25
_LINE_SECONDS = 10.0


def watch(tally: Tally, label: str, console: Console) -> AbstractContextManager[None]:
    """Return a context manager that shows what a tally counts until its block ends.

    Args:
        tally: Of the videos that are through.
        label: What is being extracted.
        console: Where to show it.
    """
    show = _display if console.is_terminal else _lines
    return in_background(partial(show, tally, label, console))


def progress_line(label: str, counts: Counts) -> str:
    """Return one plain line of progress.

    ``hmdb51: 30/120 videos, 2.0 videos/s, 0:00:45 left, 2 failed; rgb 3/8 shards, 1.2 MB``
    """
    facts = [f"{counts.through}/{counts.to_extract} videos", *_facts(counts)]
    shards = [
        "; " + ", ".join([f"{folder} {_shards(modality)}", *_more(modality)])
        for folder, modality in counts.modalities.items()
    ]
    return f"{label}: {', '.join(facts)}{''.join(shards)}"


def summary_line(counts: Counts) -> str:
    """Return one line that tells at the end what was done.

    ``this run: 118 videos in 0:01:02, 1.9 videos/s, 2 failed (decode 1, open 1), 1 retried``
    """
    facts = [f"{count(counts.through, 'video')} in {clock_text(counts.seconds)}"]
    if counts.through:
        facts.append(rate_text(counts.through / counts.seconds))
    if counts.failed:
        stages = ", ".join(f"{stage} {number}" for stage, number in counts.stages.items())
        facts.append(f"{counts.failed} failed ({stages})")
    facts += [f"{counts.retried} retried"] * bool(counts.retried)
    facts += [f"{counts.copied} copied from older shards"] * bool(counts.copied)
    return f"this run: {', '.join(facts)}"


def rate_text(rate: float) -> str:
    """Return a rate in a unit that suits it.

    Examples:
        >>> rate_text(12.34), rate_text(0.1), rate_text(0.01), rate_text(0.0)
        ('12.3 videos/s', '6.0 videos/min', '36.0 videos/h', '0.0 videos/s')
    """
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 1 or rate == 0:
            return f"{rate * seconds:.1f} videos/{unit}"
    return f"{rate * 3600:.1f} videos/h"


def clock_text(seconds: float) -> str:
    """Return a time as on a clock.

    Examples:
        >>> clock_text(7201.4)
        '2:00:01'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def size_text(num_bytes: int) -> str:
    """Return a size in MB or GB.

    Examples:
        >>> size_text(340_200_000), size_text(1_204_700_000)
        ('340.2 MB', '1.20 GB')
    """
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _facts(counts: Counts) -> list[str]:
    left = "?" if counts.seconds_left is None else clock_text(counts.seconds_left)
    facts = [rate_text(counts.rate), f"{left} left", f"{counts.failed} failed"]
    return facts + [f"{counts.retried} retried"] * bool(counts.retried)


def _shards(modality: ModalityCounts) -> str:
    return f"{modality.shards}/{modality.shards_to_make} shards"


def _more(modality: ModalityCounts) -> list[str]:
    return [
        size_text(modality.num_bytes),
        *[f"{modality.failures} failed"] * bool(modality.failures),
    ]


def _lines(tally: Tally, label: str, console: Console, stop: threading.Event) -> None:
    shown = 0
    while not stop.wait(_LINE_SECONDS):
        counts = tally.counts
        if counts.through != shown:
            console.print(
                progress_line(label, counts), highlight=False, markup=False, soft_wrap=True
            )
            shown = counts.through


def _display(tally: Tally, label: str, console: Console, stop: threading.Event) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            done = stop.wait(_DISPLAY_SECONDS)
            live.update(_picture(label, tally.counts), refresh=True)
            if done:
                return


def _picture(label: str, counts: Counts) -> Group:
    """Return the live display: a bar, what is to be said of all, and a row for each modality."""
    head = Table.grid(padding=(0, 1), expand=True)
    head.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    share = counts.through / counts.to_extract if counts.to_extract else 1.0
    head.add_row(
        Text(label, "bold"),
        ProgressBar(total=max(counts.to_extract, 1), completed=counts.through),
        f"{share:4.0%}  {counts.through}/{counts.to_extract} videos",
    )
    facts = Text(" · ").join(_colored(fact) for fact in _facts(counts))
    facts.no_wrap, facts.overflow = True, "ellipsis"
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    for _ in range(2):
        rows.add_column(no_wrap=True, justify="right")
    rows.add_column(no_wrap=True)
    for folder, modality in counts.modalities.items():
        size, *failed = map(_colored, _more(modality))
        rows.add_row(Text(folder, "cyan"), _shards(modality), size, *failed)
    # not filled up with blanks: an echoed ^C in the last column would shift the display
    return Group(head, *(Padding(part, (0, 0, 0, 2), expand=False) for part in (facts, rows)))


def _colored(fact: str) -> Text:
    color = {"failed": "red", "retried": "yellow"}.get(fact.rpartition(" ")[2], "")
    return Text(fact, "" if fact.startswith("0 ") else color)
