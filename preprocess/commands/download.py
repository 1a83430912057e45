"""``tsn-preprocess download``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from preprocess.commands.options import FOLDER, stderr_console


@click.command()
@click.argument("dataset", type=click.Choice(("hmdb51", "ucf101")))
@click.option("--out", type=FOLDER, help="Folder to put the dataset into.  [default: data/DATASET]")
@click.option(
    "--archive",
    "archives",
    type=FOLDER,
    multiple=True,
    help="RAR or ZIP file that is here already, instead of a download; with 'split' in its name it "
    "holds the split lists, otherwise the videos. May be repeated.  [default: none]",
)
@click.option(
    "--mirror",
    "mirrors",
    metavar="URL",
    multiple=True,
    help="Of one of the archives, or of a folder with them (then with / at the end), to be tried "
    "before the known ones. May be repeated.  [default: none]",
)
@click.option(
    "--sha256",
    metavar="[NAME=]HEX",
    multiple=True,
    help="Checksum that the archive NAME (or that of the videos) must have, where you know it "
    "better than this program. May be repeated.  [default: the published one, if any]",
)
@click.option("--keep-archives", is_flag=True, help="Keep the downloaded archives in OUT/archives.")
@click.option(
    "--allow-incomplete",
    is_flag=True,
    help="Put the dataset into place even if videos are missing.",
)
def download(
    dataset: str,
    out: Path | None,
    archives: tuple[Path, ...],
    mirrors: tuple[str, ...],
    sha256: tuple[str, ...],
    keep_archives: bool,
    allow_incomplete: bool,
) -> None:
    """Download HMDB51 or UCF101, check it and unpack it, ready for extract.

    An interrupted download goes on with the same command. What was downloaded, from where and with
    which checksums is kept in download.json beside the data, and compared later.

    Example: tsn-preprocess download hmdb51 --out data/hmdb51
    """
    from preprocess.download.dataset import Options, download_dataset, is_there
    from preprocess.download.display import Display
    from preprocess.download.published import PUBLISHED
    from preprocess.progress import size_text

    published = PUBLISHED[dataset]
    out = Path("data", dataset) if out is None else out
    if is_there(published, out):
        click.echo(f"{out}: everything was there already; nothing to do")
        return
    size = size_text(sum(archive.num_bytes for archive in published.archives))
    click.echo(
        f"{dataset}: {published.num_videos} videos, about {size}\n"
        f"  home:    {published.home}\n"
        f"  terms:   {published.terms}\n"
        f"  cite:    {published.citation}",
        err=True,
    )
    options = Options(archives, mirrors, sha256, keep_archives, allow_incomplete)
    missing = download_dataset(published, out, options, Display(stderr_console()))
    if missing:
        click.echo(f"{out}: incomplete: {missing}", err=True)
    else:
        click.echo(
            f"{out}: {published.num_videos} videos of {published.num_classes} classes, split lists"
        )
    click.echo(
        f"next: tsn-preprocess extract --dataset {dataset} --data {shlex.quote(str(out))} "
        "--out shards --modality rgb --modality flow"
    )
