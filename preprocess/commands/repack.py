"""``tsn-preprocess repack``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preprocess.commands.options import (
    FOLDER,
    check_name,
    end_with_failures,
    stderr_console,
    tell_made,
    wait_option,
)
from tsn_core.command_line import Location, ModalityName, Size
from tsn_core.listing import count
from tsn_core.manifest import SUBSETS
from tsn_core.modality import CODECS

if TYPE_CHECKING:
    from preprocess.making import ShardJob
    from preprocess.repack.recoding import RepackedVideo


class _Subset(click.ParamType):
    """``SPLIT:SUBSET`` on the command line, (split, subset) in code."""

    name = "SPLIT:SUBSET"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        """Return (split, subset)."""
        if isinstance(value, tuple):
            return value
        split, _, subset = str(value).partition(":")
        if not split.isdecimal() or subset not in SUBSETS:
            self.fail(
                f"a split and {', '.join(SUBSETS[:-1])} or {SUBSETS[-1]} such as 1:train expected, "
                f"got {value!r}",
                param,
                ctx,
            )
        return int(split), subset


@click.command()
@click.argument("shards", type=Location(), nargs=-1, required=True)
@click.option(
    "--out", type=Location(), required=True, help="Folder of all shards, or s3://BUCKET/PREFIX."
)
@click.option("--name", help="Of the new dataset.  [default: that of the first one]")
@click.option(
    "--modality",
    "modalities",
    type=ModalityName(),
    multiple=True,
    help="To take; may be repeated.  [default: all there are]",
)
@click.option(
    "--codec",
    type=click.Choice(CODECS),
    help="How images are stored; raw needs no decoding and is many times larger.  "
    "[default: as they are]",
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    help="Of the JPEGs; another one codes them anew.  [default: as they are, of raw images 95]",
)
@click.option(
    "--size", type=Size(), help="Resize to WIDTHxHEIGHT, which codes images anew.  [default: none]"
)
@click.option(
    "--short-side",
    type=click.IntRange(min=1),
    help="Resize so, keeping the aspect ratio; instead of --size.  [default: none]",
)
@click.option(
    "--snippets",
    type=click.IntRange(min=1),
    help="Keep that many of each video, those at the centres of equal parts.  [default: all]",
)
@click.option(
    "--videos-per-shard",
    type=click.IntRange(min=1),
    help="Videos in one file.  [default: as they are, of several sets the most]",
)
@click.option(
    "--subset",
    "subsets",
    type=_Subset(),
    multiple=True,
    help="Take the videos of a split's train, val or test, such as 1:train; may be repeated.  "
    "[default: all]",
)
@click.option(
    "--list",
    "lists",
    type=FOLDER,
    multiple=True,
    help="Take the videos that a file names, one a line, as the result calls them; may be "
    "repeated.  [default: all]",
)
@click.option(
    "--class",
    "classes",
    metavar="NAME",
    multiple=True,
    help="Take the videos of this class, and no other class; may be repeated.  [default: all]",
)
@click.option(
    "--prefix",
    is_flag=True,
    help="Put the name of its dataset before that of each video: for sets that share names.",
)
@click.option("--jobs", type=int, help="Shards at a time.  [default: one for each core]")
@wait_option
@click.option("--allow-failures", is_flag=True, help="Exit with 0 even if some videos failed.")
def repack(
    shards: tuple[Path, ...],
    out: Path,
    name: str | None,
    modalities: tuple[str, ...],
    codec: str | None,
    quality: int | None,
    size: tuple[int, int] | None,
    short_side: int | None,
    snippets: int | None,
    videos_per_shard: int | None,
    subsets: tuple[tuple[int, str], ...],
    lists: tuple[Path, ...],
    classes: tuple[str, ...],
    prefix: bool,
    jobs: int | None,
    wait: bool,
    allow_failures: bool,
) -> None:
    """Make new shards from existing ones, without decoding the videos again.

    SHARDS are folders of datasets, or of single modalities; several are merged. Where codec,
    quality and size stay, images keep their bytes. What is there already is not made again: after
    an interruption, or when SHARDS have changed, run the same command again.

    Examples:
    tsn-preprocess repack shards/hmdb51 --out raw --codec raw
    tsn-preprocess repack shards/hmdb51/rgb --out small --size 170x128 --quality 90
    tsn-preprocess repack shards/hmdb51 --out shards --name hands --class wave --class clap
    tsn-preprocess repack shards/hmdb51 --out shards --name train1 --subset 1:train
    --list kept.txt --videos-per-shard 32
    tsn-preprocess repack shards/hmdb51 shards/my_videos --out shards --name both
    --modality rgb --snippets 10 --prefix
    """
    from preprocess.datasets.files import read_lines
    from preprocess.executor import make_executor
    from preprocess.making import make_shards
    from preprocess.repack.plan import Choice, plan_repack
    from preprocess.repack.recoding import is_repacked, repack_shard
    from preprocess.repack.selection import Selection
    from preprocess.repack.source import read_sets
    from preprocess.repack.space import space_lines
    from tsn_core.errors import InputError

    if size is not None and short_side is not None:
        raise InputError("choose one of --size and --short-side")
    check_name(name)
    names = frozenset(line.text for path in lists for line in read_lines(path))
    if lists and not names:
        raise InputError(f"{lists[0]}: names of videos expected, one a line; it is empty")
    choice = Choice(codec, quality, size, short_side, snippets, videos_per_shard)
    selection = Selection(subsets, names, classes, prefix)
    executor = make_executor("local", num_workers=jobs)
    sets = read_sets(shards, tuple(dict.fromkeys(modalities)))
    manifest, folders = plan_repack(sets, selection, choice, out, name)
    del sets

    def begin(jobs: Sequence[ShardJob[RepackedVideo]]) -> None:
        for line in space_lines(jobs, out):
            click.echo(line, err=True)

    done = make_shards(
        manifest,
        out,
        folders,
        repack_shard,
        executor=executor,
        console=stderr_console(),
        wait=wait,
        is_made=is_repacked,
        begin=begin,
    )
    tell_made(done)
    if done.recoded and any(folder.modality.codec == "jpeg" for folder in folders):
        click.echo(
            f"{count(done.recoded, 'video')} resized or coded anew; where codec, quality and size "
            "stay, images keep their bytes",
            err=True,
        )
    end_with_failures(done.root, done.failures, len(manifest.records), allow_failures)
