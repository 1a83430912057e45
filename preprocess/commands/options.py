"""What the commands share: common options, the console, and lists of videos."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preprocess.datasets import DATASETS
from preprocess.executor import EXECUTORS
from tsn_core.errors import InputError
from tsn_core.listing import count

if TYPE_CHECKING:
    from rich.console import Console

    from preprocess.executor import Executor
    from preprocess.limits import Limits
    from preprocess.making import Made

_MOST_LINES = 10  # of a list on the terminal
FOLDER = click.Path(path_type=Path, file_okay=True)


def gather(name: str, build: Callable[..., Any], *options: Callable[..., Any]) -> Any:
    """Return a decorator that gives a command some options and hands them over as one argument.

    Args:
        name: Of the argument.
        build: Makes it from the options, which its parameters are named after.
        options: Of click.
    """
    parameters = list(inspect.signature(build).parameters)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**given: Any) -> Any:
            own = {parameter: given.pop(parameter) for parameter in parameters}
            return function(**given, **{name: build(**own)})

        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def given_options() -> dict[str, Any]:
    """Return the name of the command that runs, and the values of its options by theirs."""
    context = click.get_current_context()
    given = {
        option.opts[0]: context.params[option.name]
        for option in context.command.params
        if option.name in context.params
    }
    return {"command": context.command.name, **given}


def dataset_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name a dataset: ``dataset``, ``data`` and ``lists``."""
    for option in reversed(
        (
            click.option(
                "--dataset",
                type=click.Choice(DATASETS),
                required=True,
                help="How videos, labels and splits lie in --data.",
            ),
            click.option("--data", type=FOLDER, required=True, help="Folder of the dataset."),
            click.option(
                "--list",
                "lists",
                type=FOLDER,
                multiple=True,
                help="For --dataset list: file of 'path label' lines, or CSV or JSON as Kinetics, "
                "Something-Something and Moments have it; train=FILE, val=FILE, test=FILE where "
                "its name does not tell. May be repeated.",
            ),
        )
    ):
        function = option(function)
    return function


def _limits(
    max_seconds: float | None,
    stall_seconds: float,
    max_memory_mb: float,
    max_pixels: int,
    max_frames: int,
) -> Limits:
    from preprocess.limits import Limits

    return Limits(max_seconds, stall_seconds, max_memory_mb, max_pixels, max_frames)


limit_options = gather(
    "limits",
    _limits,
    click.option(
        "--max-seconds", type=float, help="Give up a video after so long.  [default: any]"
    ),
    click.option(
        "--stall-seconds",
        type=float,
        default=300.0,
        help="Give it up after so long without a single frame.",
    ),
    click.option(
        "--max-memory-mb", type=float, default=4000.0, help="Give it up beyond so much memory."
    ),
    click.option(
        "--max-pixels", type=int, default=8192 * 8192, help="Refuse larger frames (width x height)."
    ),
    click.option("--max-frames", type=int, default=10_000_000, help="Refuse longer videos."),
)

data_option = click.option(
    "--data", type=FOLDER, help="Folder of the videos.  [default: where they were last]"
)
device_option = click.option(
    "--device",
    default="cpu",
    help="Where raft, and flow of backend torch, is computed, many pairs at a time: cpu, cuda for "
    "all GPUs, cuda:N, or several such as cuda:0,cuda:1, each of which gets some of the jobs.",
)
isolation_option = click.option(
    "--isolation/--no-isolation",
    default=sys.platform != "win32",  # see preprocess.isolation
    help="Extract in processes that may crash without harm; on Windows it is not the default, "
    "and cannot be.",
)


wait_option = click.option(
    "--wait", is_flag=True, help="Wait for another extraction into the same folder to end."
)


def _executor(jobs: int | None, kind: str, address: str | None) -> Executor:
    from preprocess.executor import make_executor
    from preprocess.isolation import end_processes

    if address is not None and kind == "local":
        raise click.UsageError(
            f"--address {address}: only for --executor dask or ray; a local run has no address"
        )
    executor = make_executor(kind, num_workers=jobs, address=address, stop=end_processes)
    click.get_current_context().call_on_close(executor.close)
    return executor


executor_options = gather(
    "executor",
    _executor,
    click.option("--jobs", type=int, help="Worker processes.  [default: one for each core]"),
    click.option(
        "--executor",
        "kind",
        type=click.Choice(EXECUTORS),
        default="local",
        help="Who runs the jobs: this machine or a cluster.",
    ),
    click.option("--address", help="Of a Dask scheduler (or its file) or a Ray cluster."),
)


def stderr_console() -> Console:
    """Return the console that progress and remarks go to."""
    from rich.console import Console

    return Console(stderr=True)


def list_videos(lines: Sequence[tuple[str, str]]) -> None:
    """Print the first names and what is to be said of them."""
    for name, text in lines[:_MOST_LINES]:
        click.echo(f"  {name}: {text}", err=True)
    if len(lines) > _MOST_LINES:
        click.echo(f"  … and {len(lines) - _MOST_LINES} more", err=True)


def check_name(dataset: str | None) -> None:
    """Refuse a name of a dataset that is no name of a folder.

    Raises:
        InputError: It is none.
    """
    if dataset is not None and ("/" in dataset or "\\" in dataset or dataset in ("", ".", "..")):
        raise InputError(f"--name must be a name without /, got {dataset!r}")


def tell_made(done: Made) -> None:
    """Print what a run has made of images that were there already."""
    for index in done.indices:
        videos = sum(entry.num_videos for entry in index.shards)
        megabytes = sum(entry.num_bytes for entry in index.shards) / 1e6
        click.echo(
            f"{done.root / index.modality.folder}: {count(videos, 'video')} in "
            f"{count(len(index.shards), 'shard')}, {megabytes:.1f} MB"
        )
    if not done.num_jobs:
        click.echo("everything was there already; nothing to do")


def end_with_failures(
    root: Path, failures: Mapping[str, Mapping[str, Any]], num_videos: int, allowed: bool
) -> None:
    """Name the videos that failed, and exit with status 1 unless that is allowed.

    Args:
        root: Folder of the dataset's shards.
        failures: Lines of ``failures.jsonl`` by name.
        num_videos: Of the dataset.
        allowed: Whether failures leave the status 0.
    """
    if not failures:
        return
    click.echo(
        f"{len(failures)} of {num_videos} videos failed, see {root / 'failures.jsonl'}:", err=True
    )
    list_videos([(name, str(line["reason"])) for name, line in sorted(failures.items())])
    if not allowed:
        sys.exit(1)
