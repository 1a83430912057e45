"""The command that prints what a shell needs to complete the programs of this package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which the Tab key completes commands, options and names.

    It serves all programs of this package, and nothing is installed: the line for bash goes into
    ~/.bashrc, that for zsh into ~/.zshrc, after compinit, and in fish into config.fish it is
    tsn-preprocess completion fish | source

    Example: eval "$(tsn-preprocess completion bash)"
    """
    main = context.find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    for name in _programs(str(context.find_root().info_name)):
        variable = f"_{name}_COMPLETE".replace("-", "_").upper()
        click.echo(kind(main, {}, name, variable).source())


def _programs(own: str) -> list[str]:
    """Return the names of the installed programs of this package, or that of this one alone."""
    try:
        scripts = distribution("tsn-shards").entry_points.select(group="console_scripts")
    except PackageNotFoundError:
        return [own]
    return sorted(script.name for script in scripts) or [own]
