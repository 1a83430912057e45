"""``tsn-preprocess scan``."""

from __future__ import annotations

from pathlib import Path

import click

from preprocess.commands.options import FOLDER, dataset_options


@click.command()
@dataset_options
@click.option("--out", type=FOLDER, required=True, help="Manifest to write, JSON lines.")
def scan(dataset: str, data: Path, lists: tuple[Path, ...], out: Path) -> None:
    """Read a dataset's folder and split lists into a manifest.

    Example: tsn-preprocess scan --dataset hmdb51 --data data/hmdb51 --out manifest.jsonl
    """
    from preprocess.datasets import scan_dataset
    from tsn_core.manifest import write_manifest

    manifest = scan_dataset(dataset, data, lists)
    write_manifest(manifest, out)
    splits = ", ".join(map(str, manifest.split_numbers)) or "none"
    click.echo(
        f"{out}: {len(manifest.records)} videos, {len(manifest.class_names)} classes, "
        f"splits: {splits}"
    )
