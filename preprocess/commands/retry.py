"""``tsn-preprocess retry``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from preprocess.commands.again import extract_again
from preprocess.commands.options import (
    data_option,
    device_option,
    executor_options,
    isolation_option,
    limit_options,
    list_videos,
)
from tsn_core.command_line import Location

if TYPE_CHECKING:
    from preprocess.executor import Executor
    from preprocess.limits import Limits


@click.command()
@click.argument("shards", type=Location())
@data_option
@executor_options
@device_option
@isolation_option
@limit_options
def retry(
    shards: Path,
    data: Path | None,
    executor: Executor,
    device: str,
    isolation: bool,
    limits: Limits,
) -> None:
    """Try the videos of a dataset that failed once more, with the settings it was extracted with.

    Nothing else is decoded: the other videos of their shards are copied. Exits with status 1 if
    some fail again.

    Example: tsn-preprocess retry shards/hmdb51 --max-memory-mb 16000
    """
    from preprocess.stored_dataset import read_stored

    stored = read_stored(shards, data)
    failures, _ = extract_again(
        stored, executor, device, retry_failures=True, isolated=isolation, limits=limits
    )
    if failures:
        click.echo(f"{len(failures)} failed, see {shards / 'failures.jsonl'}:", err=True)
        list_videos([(name, str(line["reason"])) for name, line in sorted(failures.items())])
        sys.exit(1)
