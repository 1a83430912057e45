"""What the commands share that extract once more what is stored already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from preprocess.commands.options import given_options, stderr_console
from tsn_core.listing import count

if TYPE_CHECKING:
    from preprocess.executor import Executor
    from preprocess.stored_dataset import StoredDataset

Failures = dict[str, dict[str, Any]]

_NOTHING: Mapping[tuple[str, int], frozenset[str]] = {}


def extract_again(
    stored: StoredDataset,
    executor: Executor,
    device: str,
    *,
    damaged: Mapping[tuple[str, int], frozenset[str]] = _NOTHING,
    **options: Any,
) -> tuple[Failures, Failures]:
    """Extract what is missing, changed, damaged or to retry, with the settings it is stored with.

    Args:
        stored: The dataset.
        executor: Runs the jobs.
        device: Where flow that is computed in batches is computed.
        damaged: See ``Options``.
        options: Others of ``Options``.

    Returns:
        (failures, tried): the lines of ``failures.jsonl`` by name; and of these, those of videos
        that were tried now.
    """
    from preprocess.devices import check_use
    from preprocess.extract import extract_dataset
    from preprocess.flow_method import method_of
    from preprocess.flow_weights import check_weights
    from preprocess.work import Options

    check_use(device, filter(method_of, stored.modalities))
    check_weights(stored.modalities)
    failures: Failures = {}
    tried: set[str] = set()
    extracted: dict[str, int] = {}
    for plan, modalities in stored.groups:
        summary = extract_dataset(
            stored.manifest,
            stored.data,
            stored.root.absolute().parent,
            modalities=modalities,
            plan=plan,
            videos_per_shard=None,
            executor=executor,
            console=stderr_console(),
            options=Options(damaged=damaged, device=device, command=given_options(), **options),
        )
        failures.update(summary.failures)
        for video in summary.videos:
            if video.tries and video.stage is None:
                extracted[video.name] = video.tries
            elif video.tries:
                tried.add(video.name)
    click.echo(f"{stored.root}: {count(len(extracted), 'video')} extracted anew")
    return failures, {name: failures[name] for name in sorted(tried)}
