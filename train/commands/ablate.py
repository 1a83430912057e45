"""``tsn-train ablate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from train.commands.cross_options import cross_options, machine_and_test
from train.commands.fit_options import CONSENSUS, run_settings, splits_options
from train.commands.options import PATH


@click.command()
@splits_options(several_modalities=False)
@click.option(
    "--consensus-list", default=",".join(CONSENSUS), help="Compared at --num-segments segments."
)
@click.option("--segments-list", default="1,3,5,7", help="Compared with the --consensus.")
@click.option("--grid", is_flag=True, help="Every consensus with every number of segments.")
@cross_options
@click.option("--out", type=PATH, required=True, help="Folder of all runs.")
@click.pass_context
def ablate(context: click.Context, *, out: Path, grid: bool, **options: Any) -> None:
    """Compare every consensus, and several numbers of segments.

    All variants are trained and tested in the same way on every split, in OUT/avg-3/split1 and so
    on. Writes ablation.json, ablation.md, a table, and ablation.png. The same command goes on
    where an interrupted one stopped.

    Example: tsn-train ablate --shards shards/hmdb51 --modality flow --preset hmdb51
    --out runs/ablation
    """
    settings = run_settings(context, split=0)
    machine, test, splits = machine_and_test(context)

    from train import ablation
    from train.cross_table import text
    from train.settings import parse_numbers

    variants = ablation.choose_variants(
        settings,
        options["consensus_list"].replace(",", " ").split(),
        parse_numbers("--segments-list", options["segments_list"], "1,3,5,7", int),
        grid=grid,
    )
    results = ablation.ablate(settings, variants, splits, out, test=test, machine=machine)
    click.echo(text(ablation.table_cells(results), len(ablation.COLUMNS)))
    click.echo(f"{out}: {', '.join(ablation.ABLATION_FILES)}")
