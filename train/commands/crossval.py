"""``tsn-train crossval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from train.commands.cross_options import cross_options, machine_and_test
from train.commands.fit_options import run_settings, splits_options
from train.commands.options import PATH
from tsn_core.errors import InputError
from tsn_core.modality import get_modality


@click.command()
@splits_options(several_modalities=True)
@cross_options
@click.option("--out", type=PATH, required=True, help="Folder of all runs.")
@click.pass_context
def crossval(context: click.Context, *, out: Path, modalities: tuple[str, ...], **_: Any) -> None:
    """Train and test on several splits.

    Of every split a run goes to OUT/split1 and so on; of several modalities, to OUT/rgb/split1 and
    so on, and their fusion to OUT/fusion. crossval.json holds the accuracies, their mean and
    sample standard deviation; where no video is tested twice, the files of a test of all videos
    together are written beside the runs. The same command goes on where an interrupted one
    stopped.

    Example: tsn-train crossval --shards shards/hmdb51 --modality rgb --modality flow
    --preset hmdb51 --out runs/hmdb51
    """
    if len(set(modalities)) < len(modalities):
        raise InputError(f"--modality must name each modality once, got {', '.join(modalities)}")
    flow = context.params["flow"]
    if flow and not any(get_modality(name).has_algorithm for name in modalities):
        raise InputError(f"--flow {flow}: {', '.join(modalities)} has no flow algorithm")
    settings = {
        name: run_settings(
            context,
            modality=name,
            split=0,
            flow=flow if get_modality(name).has_algorithm else None,
        )
        for name in modalities
    }
    machine, test, splits = machine_and_test(context)

    import json

    from train.cross_fusion import fuse_splits
    from train.cross_table import cells, text
    from train.crossval import CrossResult, cross_validate, pooled_scores
    from train.results import write_results
    from train.scores import Scores
    from tsn_core.atomic import write_text

    results: dict[tuple[str, ...], CrossResult] = {}
    scores: dict[str, dict[int, Scores]] = {}
    for number, name in enumerate(modalities):
        folder = out if len(modalities) == 1 else out / name
        results[name,], scores[name] = cross_validate(
            settings[name],
            splits,
            folder,
            test=test,
            machine=machine,
            runs_before=number * len(splits),
            runs=len(modalities) * len(splits),
        )
        pooled = pooled_scores(list(scores[name].values()))
        if pooled is not None and len(splits) > 1:
            write_results(pooled, folder, {"splits": splits})
    if len(modalities) > 1:
        results["fusion",] = fuse_splits(list(scores.values()), out / "fusion")
    content = {name: result.to_dict() for (name,), result in results.items()}
    write_text(out / "crossval.json", json.dumps({"results": content}, indent=1) + "\n")
    click.echo(text(cells(["modality"], results), 1))
    click.echo(f"{out}: crossval.json")
