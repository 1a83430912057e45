"""``tsn-preprocess synth``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from preprocess.commands.options import FOLDER
from tsn_core.command_line import Size


@click.command()
@click.option("--out", type=FOLDER, required=True, help="Folder to write.")
@click.option(
    "--kind",
    type=click.Choice(("motion", "order", "untrimmed")),
    default="motion",
    help="One motion in a video; two, whose order is the class; or several actions in a long "
    "video, at times that annotations.json tells.",
)
@click.option(
    "--videos-per-class",
    type=int,
    help="Every fourth is for testing, and every untrimmed one.  [default: 40, untrimmed 2]",
)
@click.option(
    "--frames",
    type=int,
    help="Length of the shortest video.  [default: motion 32, order 80, untrimmed 750]",
)
@click.option("--size", type=Size(), default="160x120", help="Of the frames.")
@click.option("--seed", type=int, default=0, help="Other numbers make other videos.")
@click.option("--jobs", type=int, help="Worker processes.  [default: one for each core]")
def synth(
    out: Path,
    kind: str,
    videos_per_class: int | None,
    frames: int | None,
    size: tuple[int, int],
    seed: int,
    jobs: int | None,
) -> None:
    """Make a synthetic dataset: videos in which only the motion tells the class.

    Example: tsn-preprocess synth --kind order --out data/order
    """
    from preprocess.executor import default_workers
    from preprocess.synth import synthesize
    from preprocess.synth_kinds import KINDS

    number = synthesize(
        out,
        kind=kind,
        videos_per_class=videos_per_class,
        num_frames=frames,
        size=size,
        seed=seed,
        num_workers=default_workers() if jobs is None else jobs,
    )
    class_names = KINDS[kind].class_names
    click.echo(f"{out}: {number} videos, {len(class_names)} classes: {', '.join(class_names)}")
    dataset = "synthetic" if kind == "motion" else "folder"
    plan = " --fps 5" if kind == "untrimmed" else ""
    click.echo(
        f"next: tsn-preprocess extract --dataset {dataset} --data {shlex.quote(str(out))} "
        f"--out shards --modality flow --flow farneback --bound 8 --size {size[1]}x{size[0]}{plan}"
    )
