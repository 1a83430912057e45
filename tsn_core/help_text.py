"""What ``--help`` says of a command: its examples, laid out, and the default of every option."""

from __future__ import annotations

import inspect
import re

import click

_PARAGRAPH = re.compile(r"^Examples?:\s*")
_NEXT = re.compile(r"\n(?=tsn-)")
_WIDTH = 76  # of a line of an example, which is indented, on a terminal of 80 columns


def document(command: click.Command) -> None:
    """Complete the help of a command: lay out its examples, state the defaults click leaves out.

    In a docstring, a paragraph that begins with ``Example:`` or ``Examples:`` holds command lines.
    Each begins with a program's name at the start of a line and may go on in the next one. A
    switch is ``off`` unless given, another option ``none``.
    """
    if command.help:
        command.help = "\n\n".join(map(_laid_out, inspect.cleandoc(command.help).split("\n\n")))
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            _state_default(parameter, click.Context(command))


def examples(command: click.Command) -> list[str]:
    """Return the command lines in the docstring of a command, each in one line."""
    text = inspect.cleandoc(getattr(command.callback, "__doc__", None) or "")
    found = []
    for paragraph in text.split("\n\n"):
        if _PARAGRAPH.match(paragraph):
            found += _lines(paragraph)
    return found


def wrapped(line: str) -> str:
    r"""Return a command line in several lines that a shell takes as one.

    Examples:
        >>> print(wrapped("tsn-train evaluate runs/flow --crops 10"))
        tsn-train evaluate runs/flow --crops 10
        >>> line = "tsn-train fit --shards shards/ucf101 --modality flow --preset small --out run"
        >>> print(wrapped(line))
        tsn-train fit --shards shards/ucf101 --modality flow --preset small \
            --out run
    """
    first, *parts = re.split(r" (?=-)", line)
    rows = [first]
    for part in parts:
        if len(rows[-1]) + 1 + len(part) > _WIDTH - 2:
            rows.append(f"    {part}")
        else:
            rows[-1] += f" {part}"
    return " \\\n".join(rows)


def _lines(paragraph: str) -> list[str]:
    commands = _NEXT.split(_PARAGRAPH.sub("", paragraph).strip())
    return [" ".join(command.split()) for command in commands]


def _laid_out(paragraph: str) -> str:
    if not _PARAGRAPH.match(paragraph):
        return paragraph
    lines = _lines(paragraph)
    body = "\n".join(wrapped(line) for line in lines)
    return f"\b\nExample{'s' * (len(lines) > 1)}:\n" + re.sub(r"(?m)^", "  ", body)


def _state_default(option: click.Option, context: click.Context) -> None:
    text = option.help or ""
    if option.required or option.hidden or "[default" in text:
        return
    if option.is_eager and not option.expose_value:  # --version: an action, no setting
        return
    value = option.get_default(context, call=False)
    if option.is_flag and not option.secondary_opts:
        default = "on" if value else "off"
    elif isinstance(value, (bool, int, float, str)) or (isinstance(value, tuple) and value):
        return  # click shows it
    else:
        default = "none"
    option.help = f"{text}  [default: {default}]".strip()
