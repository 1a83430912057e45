"""``tsn-preprocess verify``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from preprocess.commands.options import FOLDER
from tsn_core.errors import InputError
from tsn_core.listing import count


@click.command()
@click.argument("shards", type=FOLDER)
def verify(shards: Path) -> None:
    """Check every shard at or below a folder: structure, offsets, checksums, counts.

    Prints a line for each defect and exits with status 1 if there is one.
    """
    from tsn_core.check import folder_defects, modality_folders

    folders = modality_folders(shards)
    if not folders:
        raise InputError(f"{shards}: no shards there; extract some, or check the path")
    found = 0
    for folder in folders:
        defects = folder_defects(folder).lines
        found += len(defects)
        for defect in defects:
            click.echo(defect, err=True)
        click.echo(f"{folder}: {count(len(defects), 'defect') if defects else 'sound'}")
    if found:
        sys.exit(1)
