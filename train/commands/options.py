"""What the commands share: common options and the console."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsn_core.command_line import Location, cache_options
from tsn_core.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

_MOST_WORKERS = 256
PATH = click.Path(path_type=Path)


def shards_option(
    help: str = "Folder of a dataset's shards, or s3://BUCKET/PREFIX.", required: bool = False
) -> Callable[..., Any]:
    """Return the options ``--shards``, ``--cache`` and ``--cache-size``."""
    option = click.option("--shards", type=Location(), required=required, help=help)
    return lambda command: option(cache_options(command))


workers_option = click.option(
    "--workers", type=int, help="Loading processes.  [default: 2, fewer on few cores]"
)
device_option = click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
checkpoint_option = click.option(
    "--checkpoint",
    type=click.Choice(["auto", "last", "best"]),
    default="auto",
    help="Which weights; auto: the best if val videos chose it, else the last.",
)


def loading_workers(workers: int | None) -> int:
    """Return the number of loading processes; None stands for the usual one.

    Raises:
        InputError: It is negative, or so large that they would fill the machine's memory.
    """
    if workers is not None and workers < 0:
        raise InputError(f"--workers must be 0 or more, got {workers}")
    if workers is not None and workers > _MOST_WORKERS:
        raise InputError(f"--workers must be <= {_MOST_WORKERS}, got {workers}")
    return min(2, os.cpu_count() or 1) if workers is None else workers


def stderr_console(quiet: bool = False) -> Console:
    """Return the console that progress and remarks go to; a quiet one shows nothing."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet)
