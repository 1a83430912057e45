"""``tsn-train report``."""

from __future__ import annotations

from pathlib import Path

import click

from train.commands.options import PATH
from tsn_core.errors import InputError

REPORT_NAME = "report.html"
_MOST_MISTAKES = 500


@click.command()
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--subset",
    type=click.Choice(["test", "val", "train"]),
    default="test",
    help="Whose test to show, of those that tsn-train evaluate --subset made.",
)
@click.option(
    "--mistakes",
    type=int,
    default=24,
    metavar="N",
    help="How many of the worst mistakes to show with a picture.",
)
@click.option(
    "--out",
    type=PATH,
    metavar="FILE.html",
    help="Page to write.  [default: report.html in the fused folder, or else in the first run's]",
)
def report(runs: tuple[Path, ...], subset: str, mistakes: int, out: Path | None) -> None:
    """Make one page of trained and tested runs: accuracies, mistakes, settings, sources.

    RUN is a folder that fit and evaluate, head or fuse made. Several modalities without a fused
    folder are fused by the usual weights. A fused folder alone finds the runs that it was made of.
    The page needs no network and no other file: send it, archive it, print it.

    Example: tsn-train report runs/rgb runs/flow --out report.html
    """
    from train.report.content import gather
    from train.report.page import render
    from tsn_core.atomic import write_text

    if not 0 <= mistakes <= _MOST_MISTAKES:
        raise InputError(f"--mistakes must be 0 to {_MOST_MISTAKES}, got {mistakes}")
    content = gather(runs, subset=subset, num_mistakes=mistakes)
    path = (content["fused"] or runs[0]) / REPORT_NAME if out is None else out
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; name a file such as {path / REPORT_NAME}")
    html = render(content)
    write_text(path, html)
    for remark in content["remarks"]:
        click.echo(remark, err=True)
    click.echo(f"{path}: {len(html.encode()) / 1e6:.1f} MB; open it in any browser")
