"""``tsn-preprocess inspect``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preprocess.commands.options import FOLDER, stderr_console
from tsn_core.command_line import Location, cache_options
from tsn_core.errors import InputError
from tsn_core.listing import count
from tsn_core.seed import check_seed

if TYPE_CHECKING:
    from rich.console import Console

_MOST_CLASSES = 40  # in the table on the terminal
_BAR = 24  # letters


@click.command()
@click.argument("shards", type=Location())
@click.option("--videos", type=int, default=4, help="Random videos to make a sheet of.")
@click.option("--video", "asked", multiple=True, help="This one instead; may be repeated.")
@click.option(
    "--modality",
    "modalities",
    multiple=True,
    help="Such as flow or flow-tvl1; may be repeated.  [default: all there are]",
)
@click.option("--snippets", type=int, default=6, help="Of each video on its sheet.")
@click.option("--sample", type=int, default=200, help="Random videos behind the statistics.")
@click.option("--seed", type=int, default=0, help="Of what is chosen at random.")
@click.option(
    "--out",
    type=FOLDER,
    help="Folder for the pictures.  [default: inspect/ and the dataset's name]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the statistics as JSON instead.")
@click.option(
    "--preview/--no-preview",
    default=True,
    help="Show the first sheet in the terminal, where it can show pictures.",
)
@cache_options
def inspect(
    shards: Path,
    videos: int,
    asked: tuple[str, ...],
    modalities: tuple[str, ...],
    snippets: int,
    sample: int,
    seed: int,
    out: Path | None,
    as_json: bool,
    preview: bool,
) -> None:
    """Look at shards: pictures of some videos, and statistics that tell bad flow from good.

    SHARDS is the folder of a dataset's shards, or of one modality's. Each video gets a contact
    sheet: its snippets in every modality, flow in colours and as x and y. What is suspicious about
    a modality is said in plain words, with the likely cause and the remedy.

    Example: tsn-preprocess inspect shards/hmdb51 --video wave/clip.avi
    """
    import numpy as np

    from preprocess import inspection as looks
    from preprocess.stages import Stages
    from tsn_core.atomic import atomic_path

    for name, value in (("videos", videos), ("snippets", snippets), ("sample", sample)):
        if value < 1:
            raise InputError(f"--{name} must be > 0, got {value}")
    check_seed(**{"--seed": seed})
    seen = looks.open_inspection(shards, modalities)
    chosen = looks.choose_videos(seen.names(), asked, videos, np.random.default_rng(seed))
    stages = Stages(stderr_console())
    found: dict[str, Any] = {
        "classes": looks.class_balance(seen),
        "failures": dict(looks.failures_by_stage(seen.root)),
        "modalities": {},
        "sheets": {},
    }
    for folder, shard_set in seen.shard_sets.items():
        with stages.stage(f"looking at {folder}", min(sample, len(shard_set))) as step:
            statistics = looks.measure(
                shard_set,
                num_videos=sample,
                num_snippets=snippets,
                generator=np.random.default_rng(seed),
                step=step,
            )
        found["modalities"][folder] = looks.facts(statistics, shard_set)
    out = Path("inspect", seen.root.absolute().name) if out is None else out
    first = None
    with stages.stage("drawing", len(chosen)) as step:
        for number, name in enumerate(chosen):
            sheet = looks.sheet_of(seen, name, snippets)
            path = out / looks.sheet_name(number, name)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                sheet.save(file, "PNG", optimize=True)
            first = sheet if first is None else first
            found["sheets"][name] = str(path)
            step()
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    console = _stdout_console()
    if preview and first is not None:
        from preprocess.preview import show

        show(first, console, os.environ)
    _print(found, console)


def _stdout_console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _print(found: dict[str, Any], console: Console) -> None:
    _print_classes(found["classes"], console)
    failures = found["failures"]
    if failures:
        stages = ", ".join(f"{stage} {number}" for stage, number in failures.items())
        console.print(f"{count(sum(failures.values()), 'video')} failed: {stages}", markup=False)
    for folder, facts in found["modalities"].items():
        console.print()
        for line in modality_lines(folder, facts):
            console.print(line, markup=False, style="yellow" if line.startswith("  !") else None)
    console.print()
    for path in found["sheets"].values():
        console.print(path, markup=False)


def _print_classes(classes: dict[str, dict[str, int]], console: Console) -> None:
    most = max((max(counts.values()) for counts in classes.values()), default=1) or 1
    shown = sorted(classes.items(), key=lambda item: -item[1]["stored"])
    left = len(shown) - _MOST_CLASSES
    width = max((len(name) for name, _ in shown[:_MOST_CLASSES]), default=0)
    for name, counts in shown[:_MOST_CLASSES]:
        bar = "█" * max(round(_BAR * counts["stored"] / most), bool(counts["stored"]))
        lost = counts.get("listed", counts["stored"]) - counts["stored"]
        more = f"  ({lost} of {counts['listed']} not stored)" if lost > 0 else ""
        console.print(f"{name:{width}}  {counts['stored']:6}  {bar}{more}", markup=False)
    if left > 0:
        console.print(f"… and {count(left, 'class')[:-1]}es more", markup=False)


def modality_lines(folder: str, facts: dict[str, Any]) -> list[str]:
    """Return what is printed of one modality, the suspicious last."""
    lines = [
        f"{folder}: {count(facts['videos'], 'video')}, {count(facts['snippets'], 'snippet')}; "
        f"{count(facts['units_looked_at'], 'image')} looked at"
    ]
    if "mean_code" in facts:
        means = "  ".join(f"{name} {value:.1f}" for name, value in facts["mean_code"].items())
        line = f"  mean code {means}   deviation {facts['deviation']:.1f}"
        line += f"   clipped {100 * facts['clipped_share']:.2f} %"
        if "still_share" in facts:
            line += f"   still {100 * facts['still_share']:.0f} %"
        lines.append(line)
    if "speed_px" in facts:
        speed = facts["speed_px"]
        lines.append(
            f"  speed in px a frame: half below {speed['p50']:.2f}, 95 % below {speed['p95']:.2f}, "
            f"99 % below {speed['p99']:.2f}"
        )
        widest = max(part["share"] for part in facts["speed_histogram"]) or 1
        for part in facts["speed_histogram"]:
            bar = "█" * round(_BAR * part["share"] / widest)
            lines.append(f"  {part['from_px']:>6g} px  {100 * part['share']:5.1f} %  {bar}")
    lines += [f"  ! {line}" for line in facts["verdicts"]] or ["  nothing suspicious"]
    return lines
