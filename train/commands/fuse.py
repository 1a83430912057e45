"""``tsn-train fuse``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from train.commands.options import PATH
from tsn_core.errors import InputError

if TYPE_CHECKING:
    from train.scores import Scores


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
@click.option(
    "--search",
    is_flag=True,
    help="Take the weights that are best on val videos: on the scores-val.npz of each input, "
    "which tsn-train evaluate RUN --subset val writes.",
)
@click.option("--out", type=PATH, required=True, help="Folder of the result.")
def fuse(inputs: tuple[Path, ...], weights: tuple[float, ...], search: bool, out: Path) -> None:
    """Fuse the scores of evaluated runs.

    Writes what evaluate does, and what each class gains by every input over the first and by the
    fusion over the best, into gain.csv and gain.png.

    Example: tsn-train fuse runs/rgb runs/flow --weights 1 1.5 --out runs/fused
    """
    from train import fuse as fusion
    from train.results import GAIN_FILES, RESULT_FILES, fusion_text, write_fusion
    from train.scores import read_scores
    from train.weight_search import search_on_val

    if search and weights:
        raise InputError("--search finds the weights; leave out --weights")
    if len(set(inputs)) < len(inputs):
        raise InputError("an input is given twice; give every run once")
    if out.resolve() in {(path if path.is_dir() else path.parent).resolve() for path in inputs}:
        raise InputError(f"--out {out}: holds one of the inputs; choose another folder")
    parts = _aligned([read_scores(path) for path in inputs], "videos")
    how: dict[str, Any] = {"weights": "given" if weights else "usual"}
    if search:
        val = _aligned([read_scores(path, "val") for path in inputs], "val videos")
        chosen, how = search_on_val(val, parts)
        click.echo(
            f"weights from {how['val_videos']} val videos: top-1 there {100 * how['val_top1']:.1f}%"
            f" (usual weights {100 * how['usual_val_top1']:.1f}%)\n"
        )
    else:
        chosen = list(weights) or [fusion.default_weight(part.name) for part in parts]
        remark = "" if weights else fusion.spread_remark(parts)
        if remark:
            click.echo(remark, err=True)
    named = dict(zip(fusion.different_names(parts, inputs), parts))
    folders = [path if path.is_dir() else path.parent for path in inputs]
    how["folders"] = {name: _relative(path, out) for name, path in zip(named, folders)}
    metrics = write_fusion(named, chosen, out, how)
    click.echo(fusion_text(read_scores(out), metrics))
    files = RESULT_FILES + (GAIN_FILES if len(parts) > 1 else ())
    click.echo(f"\n{out}: {', '.join(files)}")


def _relative(path: Path, folder: Path) -> str:
    """Return a path as seen from a folder, so that both may move; absolute on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def _aligned(parts: list[Scores], what: str) -> list[Scores]:
    """Return the scores of the videos that all have, and say how many others there are."""
    from train.fuse import align

    total = {name for part in parts for name in part.names.tolist()}
    parts = align(parts)
    left_out = len(total) - len(parts[0].names)
    if left_out:
        click.echo(f"{left_out} {what} are left out: not every input has them", err=True)
    return parts
