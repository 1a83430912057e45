"""``tsn-doctor``: what this machine can do for video action recognition, and what to mend."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tsn_app.finding import NOTE, OK, PROBLEM, Finding
from tsn_core.command_line import OneCommand
from tsn_core.version import __version__

if TYPE_CHECKING:
    from tsn_app.probing import Probed

_MARKS = {OK: "✓", NOTE: "•", PROBLEM: "✗"}
_STYLES = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}


@click.command(cls=OneCommand, context_settings={"show_default": True, "max_content_width": 100})
@click.version_option(__version__, prog_name="tsn-doctor")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=".",
    help="Where shards would go: its disk is looked at.",
)
@click.option("--speed/--no-speed", default=True, help="Measure for about five seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, for a bug report.")
def main(folder: Path, speed: bool, as_json: bool) -> None:
    """Check this machine: versions, OpenCV, decoders, torch, disk, speed.

    Each library is looked at in a process of its own, so that one that crashes harms nothing. The
    network is not touched. Exits with status 1 if the main job would not work.

    Example: tsn-doctor --folder /data
    """
    from tsn_app.machine import all_versions

    findings = list(examine(folder, speed, progress=_progress()))
    if as_json:
        content = {
            "version": __version__,
            "findings": [asdict(one) for one in findings],
            "packages": all_versions(),
        }
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        _print(findings)
    if any(one.status == PROBLEM for one in findings):
        sys.exit(1)


def examine(
    folder: Path, speed: bool, progress: Callable[[str], None] = lambda _: None
) -> Iterator[Finding]:
    """Yield everything there is to say.

    Args:
        folder: Whose disk is looked at.
        speed: Whether to measure.
        progress: Told what is being looked at.
    """
    from tsn_app import judgement
    from tsn_app.machine import look
    from tsn_app.probing import run_probe
    from tsn_core.modality import get_modality, modality_names

    machine = look(folder)
    yield from judgement.judge_machine(machine)
    probes: tuple[tuple[str, Callable[[Probed], Iterator[Finding]]], ...] = (
        ("opencv", judgement.judge_opencv),
        ("decoders", judgement.judge_decoders),
        ("numba", judgement.judge_numba),
        ("hdf5", judgement.judge_hdf5),
        ("torch", judgement.judge_torch),
    )
    for name, judge in probes:
        progress(name)
        yield from judge(run_probe(name))
    yield from judgement.judge_modalities(get_modality, modality_names())
    if speed:
        progress("speed")
        words = (str(machine.folder),) if machine.writable else ()
        yield from judgement.judge_speed(run_probe("speed", *words))


def _progress() -> Callable[[str], None]:
    """Return what tells what is being looked at."""
    return lambda name: click.echo(f"looking at {name} …", err=True)


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    groups = list(dict.fromkeys(one.group for one in findings))
    for group in groups:
        console.print(group, style="bold", markup=False)
        table = Table.grid(padding=(0, 1))
        table.add_column(width=3, justify="right")
        table.add_column(min_width=16)
        table.add_column(overflow="fold")
        for one in findings:
            if one.group == group:
                mark = Text(_MARKS[one.status], style=_STYLES[one.status])
                table.add_row(mark, Text(one.name), Text(one.found))
        console.print(table)
    worst_first = sorted(findings, key=lambda one: one.status != PROBLEM)
    todo = [one for one in worst_first if one.status != OK and one.remedy]
    console.print()
    problems = sum(one.status == PROBLEM for one in findings)
    if not todo:
        console.print("Everything is fine.", style="green")
        return
    console.print("What to do" if problems else "Nothing is broken. Worth knowing", style="bold")
    for one in todo:
        console.print(Text(f"  {_MARKS[one.status]} {one.name}: {one.remedy}"), soft_wrap=True)


if __name__ == "__main__":
    main()
