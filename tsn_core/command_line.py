"""What both command-line programs share: how they end, and how they read sizes."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click

from tsn_core.errors import TSNError


class Program(click.Group):
    """A click group that turns expected errors into one line and exit status 1.

    Usage errors keep click's status 2; anything else is a bug and keeps its traceback.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command."""
        warnings.showwarning = _show_warning
        try:
            return super().invoke(ctx)
        except TSNError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on where this one stopped", err=True)
            sys.exit(130)


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
