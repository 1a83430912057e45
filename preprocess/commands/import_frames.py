"""``tsn-preprocess import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from preprocess.commands.options import (
    FOLDER,
    check_name,
    end_with_failures,
    stderr_console,
    tell_made,
    wait_option,
)
from tsn_core.command_line import Size
from tsn_core.listing import count
from tsn_core.modality import CODECS, FLOW_ALGORITHMS

if TYPE_CHECKING:
    from preprocess.making import Made


@click.command("import")
@click.argument("sources", type=FOLDER, nargs=-1, required=True)
@click.option("--out", type=FOLDER, required=True, help="Folder of all shards.")
@click.option("--name", help="Of the dataset.  [default: that of the first source]")
@click.option(
    "--list",
    "lists",
    type=FOLDER,
    multiple=True,
    help="File of 'path num_frames label' lines, named train…, val… or test… with an optional "
    "number of the split; may be repeated.  [default: classes by folder, every fifth video for "
    "testing]",
)
@click.option("--classes", type=FOLDER, help="File of class names, one a line, by label.")
@click.option(
    "--modality",
    "names",
    type=click.Choice(("rgb", "flow")),
    multiple=True,
    help="May be repeated.  [default: what is there]",
)
@click.option("--snippets", type=int, help="Stored of each video.  [default: 25]")
@click.option("--dense", is_flag=True, help="Store every snippet.")
@click.option("--snippet-length", type=int, help="Flow images of one snippet.  [default: 5]")
@click.option("--size", type=Size(), help="Resize to WIDTHxHEIGHT, which codes images anew.")
@click.option("--short-side", type=int, help="Resize so, keeping the aspect ratio.")
@click.option(
    "--codec",
    type=click.Choice(CODECS),
    default="jpeg",
    help="jpeg keeps the bytes of JPEGs; raw keeps every pixel of whatever there is.",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Of JPEGs that have to be coded anew.  [default: that of the images, else 95]",
)
@click.option("--bound", type=float, default=20.0, help="Of the flow images, in px.")
@click.option(
    "--flow", type=click.Choice(FLOW_ALGORITHMS), default="tvl1", help="Who computed the flow."
)
@click.option(
    "--videos-per-shard",
    type=int,
    help="Videos in one file.  [default: 64, fewer for a small dataset]",
)
@click.option("--jobs", type=int, help="Shards at a time.  [default: one for each core]")
@wait_option
@click.option("--allow-failures", is_flag=True, help="Exit with 0 even if some videos failed.")
def import_frames(
    sources: tuple[Path, ...],
    out: Path,
    name: str | None,
    lists: tuple[Path, ...],
    classes: Path | None,
    names: tuple[str, ...],
    snippets: int | None,
    dense: bool,
    snippet_length: int | None,
    size: tuple[int, int] | None,
    short_side: int | None,
    codec: str,
    quality: int | None,
    bound: float,
    flow: str,
    videos_per_shard: int | None,
    jobs: int | None,
    wait: bool,
    allow_failures: bool,
) -> None:
    """Make shards of folders of images: img_00001.jpg, flow_x_00001.jpg, flow_y_00001.jpg.

    Reads what tsn-pytorch, mmaction2, denseflow, dense_flow and TSM read or write, in folders or
    ZIP archives, counted from 0 or 1; archives are not unpacked to the disk. What tsn-preprocess
    export has written becomes the very shards that it came from. After an interruption, run the
    same command again.

    Example: tsn-preprocess import rawframes --list train_split_1.txt --list val_split_1.txt
    --name hmdb51 --out shards
    """
    from preprocess.assignment import check_videos_per_shard
    from preprocess.exchange.foreign import read_manifest_of
    from preprocess.exchange.import_plan import Choice, plan_foreign, plan_restored
    from preprocess.exchange.importing import import_shard
    from preprocess.exchange.sidecar import SIDECAR_NAME, parse_sidecar
    from preprocess.exchange.source import find_videos, read_text
    from preprocess.executor import make_executor
    from preprocess.making import make_shards
    from tsn_core.errors import InputError
    from tsn_core.sampling import SnippetPlan

    for option, value in (
        ("--snippet-length", snippet_length),
        ("--short-side", short_side),
    ):
        if value is not None and value < 1:
            raise InputError(f"{option} must be > 0, got {value}")
    check_videos_per_shard(videos_per_shard)
    if not 0 < bound < float("inf"):
        raise InputError(f"--bound must be > 0 and finite, got {bound}")
    text = read_text(sources[0], SIDECAR_NAME) if sources[0].exists() else None
    if text is not None:
        if len(sources) > 1:
            raise InputError(f"{sources[0]}: an export is imported alone")
        changed = _changed_options()
        if changed:
            raise InputError(
                f"{sources[0]}: an export becomes the shards that it came from; leave "
                f"{', '.join(changed)} out, or import {sources[0] / 'rawframes'}"
            )
        sidecar = parse_sidecar(text, sources[0] / SIDECAR_NAME)
        manifest, folders = sidecar.manifest, plan_restored(sidecar, sources[0], out)
    else:
        if snippets is None and not dense:
            snippets = 25
        choice = Choice(
            modalities=tuple(dict.fromkeys(names)),
            plan=SnippetPlan(snippets=snippets, dense=dense),
            snippet_length=snippet_length,
            size=size,
            short_side=None if size else short_side,
            codec=codec,
            quality=quality,
            bound=bound,
            algorithm=flow,
            videos_per_shard=videos_per_shard,
        )
        videos = find_videos(sources)
        dataset = sources[0].resolve().name.removesuffix(".zip") if name is None else name
        check_name(dataset)
        manifest, listed = read_manifest_of(videos, lists, classes, dataset)
        manifest, folders = plan_foreign(manifest, videos, listed, choice, out)
    executor = make_executor("local", num_workers=jobs)
    done = make_shards(
        manifest,
        out,
        folders,
        import_shard,
        executor=executor,
        console=stderr_console(),
        wait=wait,
    )
    _tell(done, len(manifest.records), allow_failures)


def _changed_options() -> list[str]:
    """Return the options typed that say what is to be stored."""
    context = click.get_current_context()
    free = ("sources", "out", "jobs", "wait", "allow_failures")
    return [
        option.opts[0]
        for option in context.command.params
        if option.name is not None
        and option.name not in free
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]


def _tell(done: Made, num_videos: int, allow_failures: bool) -> None:
    tell_made(done)
    if done.changed:
        click.echo(
            f"{count(done.changed, 'video')} not byte for byte what was exported, as images were "
            "changed or coded anew since; export with --lossless keeps pixels",
            err=True,
        )
    elif done.recoded:
        click.echo(
            f"{count(done.recoded, 'video')} resized or coded anew; --codec raw without a size "
            "keeps every pixel",
            err=True,
        )
    end_with_failures(done.root, done.failures, num_videos, allow_failures)
