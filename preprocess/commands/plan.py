"""``tsn-preprocess plan``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from preprocess.commands.modality_options import (
    Stored,
    every_stored_options,
    videos_per_shard_option,
)
from preprocess.commands.options import FOLDER, dataset_options, limit_options, stderr_console
from tsn_core.errors import InputError
from tsn_core.seed import check_seed

if TYPE_CHECKING:
    from preprocess.limits import Limits


class Numbers(click.ParamType):
    """Whole numbers above 0, separated by commas."""

    name = "N,N,…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers, ascending, each once."""
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        if not all(word.strip().isdecimal() and int(word) for word in words):
            self.fail(f"whole numbers above 0 such as 1,8,64 expected, got {value!r}", param, ctx)
        return tuple(sorted({int(word) for word in words}))


@click.command()
@dataset_options
@every_stored_options
@videos_per_shard_option
@limit_options
@click.option(
    "--workers",
    type=Numbers(),
    help="Numbers of workers to plan for.  [default: 1, one for each core, 64]",
)
@click.option("--sample", type=int, default=12, help="Videos to measure.")
@click.option("--seconds", type=float, default=60.0, help="About how long to measure.")
@click.option("--seed", type=int, default=0, help="Chooses the videos.")
@click.option(
    "--price-per-core-hour", "price", type=float, help="In any currency: adds what it costs."
)
@click.option("--json", "json_file", type=FOLDER, help="File to write all numbers to, too.")
def plan(
    dataset: str,
    data: Path,
    lists: tuple[Path, ...],
    stored: Stored,
    videos_per_shard: int | None,
    limits: Limits,
    workers: tuple[int, ...] | None,
    sample: int,
    seconds: float,
    seed: int,
    price: float | None,
    json_file: Path | None,
) -> None:
    """Foretell time, space, memory and cost of an extraction from a few of its videos.

    Takes the options of extract, measures some videos of all sizes in every modality and with
    every flow algorithm that is not ruled out, and foretells the whole dataset, for this machine
    and for other numbers of workers. Others are then extracted to see how wrong that is. Writes
    nothing but the file of --json.

    Example: tsn-preprocess plan --dataset hmdb51 --data data/hmdb51 --workers 1,8,64
    """
    import numpy as np

    from preprocess.assignment import check_videos_per_shard
    from preprocess.batch_flow import TORCH_BACKEND
    from preprocess.datasets import scan_dataset
    from preprocess.devices import needs_gpu
    from preprocess.executor import default_workers
    from preprocess.plan import plan_extraction
    from preprocess.plan_text import outlook_content, outlook_lines
    from preprocess.stages import Stages

    for option, value in (("--sample", sample), ("--seconds", seconds)):
        if not 0 < value < math.inf:
            raise InputError(f"{option} must be > 0 and finite, got {value}")
    if price is not None and not 0 <= price < math.inf:
        raise InputError(f"--price-per-core-hour must be 0 or more and finite, got {price}")
    backends = {modality.parameters.get("backend") for modality in stored.modalities}
    if needs_gpu(stored.device) or TORCH_BACKEND in backends:
        raise InputError(
            "plan measures one pair at a time and cannot foretell flow that is computed in batches "
            "(--flow-backend torch, --device cuda); extract a few videos with these options: the "
            "last line and report.json tell the rate, and what limits it"
        )
    check_seed(**{"--seed": seed})
    check_videos_per_shard(videos_per_shard)
    num_cores = default_workers()
    manifest = scan_dataset(dataset, data, lists)
    survey, outlook, missing = plan_extraction(
        manifest,
        data,
        modalities=stored.modalities,
        plan=stored.plan,
        limits=limits,
        videos_per_shard=videos_per_shard,
        workers=workers or tuple(sorted({1, num_cores, 64})),
        num_cores=num_cores,
        num_sample=sample,
        seconds=seconds,
        generator=np.random.default_rng(seed),
        stages=Stages(stderr_console()),
    )
    click.echo(f"{manifest.dataset}: {len(manifest.records)} videos, {len(survey.probes)} measured")
    if missing:
        click.echo(f"{missing} of them are not there; the numbers below leave them out")
    click.echo("")
    for line in outlook_lines(survey, outlook, num_cores, price):
        click.echo(line)
    if json_file is not None:
        import json

        from tsn_core.atomic import write_text

        content = {
            "dataset": manifest.dataset,
            "missing_videos": missing,
            **outlook_content(survey, outlook, num_cores, price),
        }
        write_text(json_file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
