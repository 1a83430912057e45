"""``tsn-preprocess extract``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from preprocess.commands.modality_options import Stored, stored_options, videos_per_shard_option
from preprocess.commands.options import (
    FOLDER,
    dataset_options,
    end_with_failures,
    executor_options,
    given_options,
    isolation_option,
    limit_options,
    list_videos,
    stderr_console,
    wait_option,
)
from tsn_core.command_line import Location
from tsn_core.listing import count

if TYPE_CHECKING:
    from preprocess.executor import Executor
    from preprocess.limits import Limits


@click.command()
@dataset_options
@click.option(
    "--out", type=Location(), required=True, help="Folder of all shards, or s3://BUCKET/PREFIX."
)
@stored_options
@videos_per_shard_option
@executor_options
@isolation_option
@limit_options
@click.option("--retry-failures", is_flag=True, help="Try videos that failed before again.")
@click.option(
    "--check-hash", is_flag=True, help="Tell changed videos by their content, not their time."
)
@wait_option
@click.option("--metrics", type=FOLDER, help="File for Prometheus's textfile collector: NAME.prom.")
@click.option("--allow-failures", is_flag=True, help="Exit with 0 even if some videos failed.")
def extract(
    dataset: str,
    data: Path,
    lists: tuple[Path, ...],
    out: Path,
    stored: Stored,
    videos_per_shard: int | None,
    executor: Executor,
    isolation: bool,
    limits: Limits,
    retry_failures: bool,
    check_hash: bool,
    wait: bool,
    metrics: Path | None,
    allow_failures: bool,
) -> None:
    """Decode a dataset once and write the shards of one or more modalities.

    What is there already is not made again: after an interruption, run the same command again.
    Videos that fail are listed in failures.jsonl beside the shards; the run goes on without them
    and exits with status 1 at the end.

    Example: tsn-preprocess extract --dataset hmdb51 --data data/hmdb51 --out shards
    --modality rgb --modality flow --flow farneback

    Example: tsn-preprocess extract --dataset hmdb51 --data data/hmdb51 --out shards
    --modality flow --device cuda
    """
    from preprocess.datasets import scan_dataset
    from preprocess.extract import extract_dataset
    from preprocess.progress import summary_line
    from preprocess.report import REPORT_NAME
    from preprocess.work import Options

    manifest = scan_dataset(dataset, data, lists)
    summary = extract_dataset(
        manifest,
        data,
        out,
        modalities=stored.modalities,
        plan=stored.plan,
        videos_per_shard=videos_per_shard,
        executor=executor,
        console=stderr_console(),
        options=Options(
            limits=limits,
            isolated=isolation,
            retry_failures=retry_failures,
            check_hash=check_hash,
            wait=wait,
            metrics=metrics,
            device=stored.device,
            command=given_options(),
        ),
    )
    for index in summary.indices:
        videos = sum(entry.num_videos for entry in index.shards)
        megabytes = sum(entry.num_bytes for entry in index.shards) / 1e6
        click.echo(
            f"{summary.root / index.modality.folder}: {videos} videos in {len(index.shards)} "
            f"shards, {megabytes:.1f} MB"
        )
    if not summary.num_jobs:
        click.echo("everything was there already; nothing to do")
    else:
        click.echo(f"{summary_line(summary.counts)}; see {summary.root / REPORT_NAME}")
    if summary.flow is not None:
        click.echo(summary.flow.text())
    if summary.notes:
        click.echo(f"{count(len(summary.notes), 'video')} may be damaged or cut short:", err=True)
        list_videos(summary.notes)
    end_with_failures(summary.root, summary.failures, len(manifest.records), allow_failures)
