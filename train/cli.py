"""``tsn-train``: train networks on shards, test, fuse and compare them."""

from __future__ import annotations

import click

from train.commands.ablate import ablate
from train.commands.crossval import crossval
from train.commands.evaluate import evaluate
from train.commands.export import export
from train.commands.features import features
from train.commands.fit import fit
from train.commands.fuse import fuse
from train.commands.head import head
from train.commands.import_checkpoint import import_checkpoint
from train.commands.import_scores import export_scores, import_scores
from train.commands.report import report
from train.commands.windows import windows
from tsn_core.command_line import Program
from tsn_core.heap import keep_freed_memory
from tsn_core.version import __version__


@click.group(cls=Program, context_settings={"show_default": True, "max_content_width": 100})
@click.version_option(__version__, prog_name="tsn-train")
def main() -> None:
    """Temporal Segment Networks trained on shards, tested and fused."""
    keep_freed_memory()


for command in (
    fit,
    evaluate,
    fuse,
    crossval,
    ablate,
    features,
    head,
    report,
    windows,
    export,
    import_checkpoint,
    import_scores,
    export_scores,
):
    main.add_command(command)
