"""``tsn-preprocess export``."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from preprocess.commands.options import FOLDER, stderr_console
from tsn_core.command_line import Location
from tsn_core.errors import InputError
from tsn_core.listing import count

_ONLY = {"frames": ("lossless",), "webdataset": ("samples", "split", "max_mb")}


@click.command()
@click.argument("shards", type=Location())
@click.option(
    "--to",
    "form",
    type=click.Choice(("frames", "webdataset")),
    required=True,
    help="Folders of img_00001.jpg, flow_x_00001.jpg, … with list files of tsn-pytorch and "
    "mmaction2; or tars.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder to write.")
@click.option(
    "--lossless",
    is_flag=True,
    help="For frames: PNG where JPEG would lose something, which is for raw shards and for flow "
    "that is not a multiple of 8 pixels high; all else is exact anyway.",
)
@click.option(
    "--samples",
    type=click.Choice(("video", "snippet")),
    default="video",
    help="For webdataset: what one sample is.",
)
@click.option(
    "--split",
    type=int,
    help="For webdataset: tars of their own for this split's train, val and test.  "
    "[default: all videos together]",
)
@click.option("--max-mb", type=int, default=500, help="For webdataset: size of a tar.")
def export(
    shards: Path,
    form: str,
    out: Path,
    lossless: bool,
    samples: str,
    split: int | None,
    max_mb: int,
) -> None:
    """Write a dataset's shards, or those of one modality, as other tools read them.

    JPEGs are written as they are stored; flow is cut into x and y without being coded anew. Frames
    can be imported again, tars cannot: tsn-preprocess import FOLDER.

    Example: tsn-preprocess export shards/hmdb51 --to frames --out hmdb51_frames
    """
    _refuse_options_of_the_other(form)
    from preprocess.exchange.stored import StoredShards
    from preprocess.job import VideoReport
    from preprocess.progress import watch
    from preprocess.tally import Tally

    stored = StoredShards(shards)
    times = 1 if form == "frames" else len(stored.indices)
    tally = Tally(times * len(stored.labels), {})

    def seen(name: str) -> None:
        tally.video(VideoReport(name))

    if form == "webdataset":
        from preprocess.exchange.webdataset import export_webdataset

        with watch(tally, stored.dataset, stderr_console()):
            tars, written = export_webdataset(
                stored, out, samples=samples, split=split, most_megabytes=max_mb, seen=seen
            )
        size = sum(path.stat().st_size for path in tars) / 1e6
        click.echo(f"{out}: {count(len(tars), 'tar')}, {size:.1f} MB")
        if not written:
            click.echo("everything was there already; nothing to do")
        return
    from preprocess.exchange.frames import export_frames

    with watch(tally, stored.dataset, stderr_console()):
        done = export_frames(stored, out, exact=lossless, seen=seen)
    click.echo(f"{out}: {count(done.videos, 'video')}, {count(len(done.lists), 'list file')}")
    if not done.written:
        click.echo("everything was there already; nothing to do")
    if done.recoded:
        click.echo(
            f"{count(done.recoded, 'video')} coded anew, with small losses; --lossless keeps "
            "every pixel",
            err=True,
        )
    for modality, index in zip(stored.modalities, stored.indices.values()):
        if modality.snippet_length > 1 and not index.sampling.get("dense"):
            click.echo(
                f"{modality.folder}: numbers run on from one snippet of "
                f"{modality.snippet_length} units to the next; for tools that cut their own "
                "snippets extract with --dense",
                err=True,
            )


def _refuse_options_of_the_other(form: str) -> None:
    context = click.get_current_context()
    for other, names in _ONLY.items():
        for name in names:
            if other != form and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} goes with --to {other}, not with {form}; leave it out")
