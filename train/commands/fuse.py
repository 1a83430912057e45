"""``tsn-train fuse``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from train.commands.options import PATH
from tsn_core.errors import InputError


class _SpacedWeights(click.Command):
    """Takes ``--weights 1 1.5``, which click knows only as ``--weights 1 --weights 1.5``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before every number that follows it."""
        spread: list[str] = []
        inside = False
        for word in args:
            if inside and _is_number(word) and spread[-1] != "--weights":
                spread.append("--weights")
            elif not _is_number(word):
                inside = word.partition("=")[0] == "--weights"
            spread.append(word)
        return super().parse_args(ctx, spread)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


@click.command(cls=_SpacedWeights)
@click.argument("inputs", type=PATH, nargs=-1, required=True, metavar="RUN_OR_SCORES...")
@click.option(
    "--weights",
    multiple=True,
    type=float,
    metavar="FLOAT...",
    help="One for each input, in their order.  [default: rgb 1, flow 1.5, rgbdiff 1]",
)
@click.option("--out", type=PATH, required=True, help="Folder of the result.")
def fuse(inputs: tuple[Path, ...], weights: tuple[float, ...], out: Path) -> None:
    """Fuse the scores of evaluated runs; writes scores.npz, metrics.json and confusion.png.

    Example: tsn-train fuse runs/rgb runs/flow --weights 1 1.5 --out runs/fused
    """
    from train import fuse as fusion
    from train.metrics import summarize, table
    from train.results import write_results
    from train.scores import read_scores

    parts = [read_scores(path) for path in inputs]
    if out.resolve() in {(path if path.is_dir() else path.parent).resolve() for path in inputs}:
        raise InputError(f"--out {out}: holds one of the inputs; choose another folder")
    total = {name for part in parts for name in part.names.tolist()}
    parts = fusion.align(parts)
    left_out = len(total) - len(parts[0].names)
    if left_out:
        click.echo(f"{left_out} videos are left out: not every input has them", err=True)
    chosen = list(weights) or [fusion.default_weight(part.name) for part in parts]
    fused = fusion.fuse(parts, chosen)
    rows: dict[str, dict[str, Any]] = {}
    for part, weight, path in zip(parts, chosen, inputs):
        name = f"{part.name} ({path})" if part.name in (*rows, fused.name) else part.name
        rows[name] = {**summarize(part.video_scores, part.labels), "weight": weight}
    metrics = write_results(fused, out, {"inputs": rows})
    click.echo(table({**rows, "fusion": metrics}))
    click.echo(f"{out}: scores.npz, metrics.json, confusion.png")
