"""What both command-line programs share: how they end, how they read sizes and locations."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from tsn_core.completion import completion
from tsn_core.errors import TSNError
from tsn_core.help_text import document
from tsn_core.location import location
from tsn_core.modality import MODALITIES, get_modality, modality_names


class Program(click.Group):
    """A click group that turns expected errors into one line and exit status 1.

    Usage errors keep click's status 2; anything else is a bug and keeps its traceback. The help of
    its commands is completed, see ``tsn_core.help_text``, and one prints the shell's completion.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_command(completion)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, and complete its help."""
        document(cmd)
        super().add_command(cmd, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their first sentences, which click would cut short."""
        rows = [
            (name, self.commands[name].get_short_help_str(limit=1000))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        with _ended_in_one_line("interrupted; the same command goes on where this one stopped"):
            return super().invoke(ctx)


class OneCommand(click.Command):
    """A program of a single command; its help and its end are like those of ``Program``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        document(self)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _ended_in_one_line("interrupted"):
            return super().invoke(ctx)


@contextmanager
def _ended_in_one_line(interrupted: str) -> Iterator[None]:
    """Turn expected errors into one line and exit status 1, an interruption into 130."""
    warnings.showwarning = _show_warning
    try:
        with _terminated_as_interrupted():
            yield
    except TSNError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo(interrupted, err=True)
        sys.exit(130)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # nobody's bug: the files we write have errors of their own
            raise
        click.echo(
            "error: what this prints cannot be written: no space left where it goes; free some, or "
            "send it elsewhere",
            err=True,
        )
        _forget_output()
        sys.exit(1)


def _forget_output() -> None:
    """Drop what is still to be printed, which Python would try, and complain about, at its end."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """End the program as Ctrl-C does when a cluster's scheduler asks it to go, with SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"warning: {message}", err=True)


class Size(click.ParamType):
    """``WIDTHxHEIGHT`` on the command line, (height, width) in code."""

    name = "WIDTHxHEIGHT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (height, width)."""
        if isinstance(value, tuple):
            return value
        width, _, height = str(value).partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            self.fail(f"WIDTHxHEIGHT such as 340x256 expected, got {value!r}", param, ctx)
        return int(height), int(width)


class ModalityName(click.ParamType):
    """The name of a modality, built-in or registered by a package that is installed."""

    name = "modality"

    def __init__(self, without: tuple[str, ...] = ()) -> None:
        self._without = without

    def _choice(self) -> click.Choice:
        return click.Choice([name for name in modality_names() if name not in self._without])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name; only that of a registered modality needs a look at the packages."""
        if value in MODALITIES and value not in self._without:
            return value
        name, _, flow = str(value).partition("-")
        if flow and name in MODALITIES and get_modality(name).has_algorithm:
            self.fail(f"{value!r} is two options: --modality {name} --flow {flow}", param, ctx)
        return self._choice().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Return all names, for ``--help``."""
        return self._choice().get_metavar(param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so."""
        return self._choice().shell_complete(ctx, param, incomplete)


class Location(click.ParamType):
    """A folder or file of this machine, or a URL in an object store such as ``s3://…``."""

    name = "PATH or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return a ``Path``, or a ``RemotePath``."""
        return location(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave it to the shell, which knows the folders of this machine."""
        return [CompletionItem(incomplete, type="file")]


def cache_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of the local cache, see ``tsn_core.shard_cache``."""
    for option in (
        click.option(
            "--cache-size",
            metavar="GB",
            envvar="TSN_CACHE_SIZE",
            expose_value=False,
            callback=_into_environment,
            help="How much of these shards to keep; 0 keeps none and reads by ranges.  "
            "[default: 20; env: TSN_CACHE_SIZE]",
        ),
        click.option(
            "--cache",
            metavar="DIR",
            envvar="TSN_CACHE",
            expose_value=False,
            callback=_into_environment,
            help="Where to keep shards of an object store.  [default: in the user's cache folder; "
            "env: TSN_CACHE]",
        ),
    ):
        command = option(command)
    return command


def _into_environment(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """Set a variable until the command ends, for this process and those that it starts."""
    name = option.envvar
    assert isinstance(name, str)
    before = os.environ.get(name)
    if value is None or value == before:
        return

    def restore() -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    context.call_on_close(restore)
    os.environ[name] = value
