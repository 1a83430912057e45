"""What the commands that train and test on several splits have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from train.commands.options import device_option, loading_workers, stderr_console, workers_option
from tsn_core.errors import InputError
from tsn_core.sampling import check_num_snippets

if TYPE_CHECKING:
    from rich.console import Console

    from train.crossval import Machine, TestSettings

_OPTIONS = (
    click.option("--num-snippets", type=int, default=25, help="Per video, of the tests."),
    click.option(
        "--crops", type=click.Choice(["1", "3", "10"]), default="10", help="Of the tests."
    ),
    workers_option,
    device_option,
)


def cross_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of tests and of the machine."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def machine_and_test(context: click.Context) -> tuple[Machine, TestSettings, tuple[int, ...]]:
    """Return what the options of the machine, of the tests and ``--splits`` come to.

    Raises:
        InputError: One is out of range, or the command runs under torchrun.
    """
    options = context.params
    num_workers = loading_workers(options["workers"])
    check_num_snippets(**{"--num-snippets": options["num_snippets"]})

    from train.crossval import Machine, TestSettings, choose_splits
    from train.devices import choose_device
    from train.distributed import find_ranks
    from train.settings import parse_numbers

    if find_ranks().size > 1:
        raise InputError(
            f"{context.info_name} runs in one process; use torchrun with tsn-train fit, "
            "split by split"
        )
    wanted = options["splits"]
    machine = Machine(
        device=choose_device(options["device"]),
        num_workers=num_workers,
        worker_start=options["worker_start"],
        console=_once(stderr_console()),
    )
    splits = choose_splits(
        options["shards"],
        None if wanted is None else parse_numbers("--splits", wanted, "1,2,3", int),
    )
    return machine, TestSettings(options["num_snippets"], int(options["crops"])), splits


def _once(console: Console) -> Console:
    """Let a console print the same remark only once, however many runs make it."""
    said: set[str] = set()
    print_text = console.print

    def print_new(*texts: Any, **how: Any) -> None:
        if len(texts) == 1 and isinstance(texts[0], str):
            if texts[0] in said:
                return
            said.add(texts[0])
        print_text(*texts, **how)

    console.print = print_new  # type: ignore[method-assign]
    return console
