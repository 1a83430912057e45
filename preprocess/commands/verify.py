"""``tsn-preprocess verify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from preprocess.commands.again import extract_again
from preprocess.commands.options import data_option, device_option, executor_options, list_videos
from tsn_core.command_line import Location
from tsn_core.errors import InputError
from tsn_core.listing import count
from tsn_core.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from preprocess.executor import Executor
    from tsn_core.check import FolderDefects


@click.command()
@click.argument("shards", type=Location())
@click.option("--repair", is_flag=True, help="Make what is damaged or missing anew.")
@data_option
@executor_options
@device_option
def verify(shards: Path, repair: bool, data: Path | None, executor: Executor, device: str) -> None:
    """Check every shard at or below a folder: structure, offsets, checksums, counts.

    Prints a line for each defect and exits with status 1 if there is one. With --repair, SHARDS is
    a dataset's folder; of a damaged shard whose tables are sound, only the damaged videos are
    extracted anew. Status 1 then says that something is still damaged, or a video is lost, as its
    source is gone.

    Example: tsn-preprocess verify shards/hmdb51 --repair
    """
    if repair and not (shards / MANIFEST_NAME).is_file():
        raise InputError(f"{shards}: --repair needs the folder of a dataset, with its manifest")
    folders = _print_defects(shards)
    found = sum(len(defects.lines) for defects in folders)
    if found and repair:
        from preprocess.failures import FAILURES_NAME
        from preprocess.repair import damaged_shards
        from preprocess.stored_dataset import read_stored

        for catalog in [defects.catalog for defects in folders if defects.catalog is not None]:
            catalog.unlink(missing_ok=True)  # extracting writes it anew
        stored = read_stored(shards, data)
        damaged = damaged_shards(stored, {path for defects in folders for path in defects.shards})
        _, failures = extract_again(stored, executor, device, damaged=damaged)
        found = sum(len(defects.lines) for defects in _print_defects(shards))
        if failures:
            number = count(len(failures), "video")
            click.echo(
                f"{number} could not be extracted anew, see {shards / FAILURES_NAME}:", err=True
            )
            list_videos([(name, str(line["reason"])) for name, line in failures.items()])
            found += len(failures)
    if found:
        sys.exit(1)


def _print_defects(shards: Path) -> list[FolderDefects]:
    """Print and return the defects of every folder of shards."""
    from tsn_core.check import folder_defects, modality_folders

    folders = modality_folders(shards)
    if not folders:
        raise InputError(f"{shards}: no shards there; extract some, or check the path")
    found = []
    for folder in folders:
        defects = folder_defects(folder)
        found.append(defects)
        for line in defects.lines:
            click.echo(line, err=True)
        number = len(defects.lines)
        click.echo(f"{folder}: {count(number, 'defect') if number else 'sound'}")
    return found
