"""Planning an extraction: measure a few videos, foretell the rest, write nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from preprocess.assignment import assign_shards, default_videos_per_shard
from preprocess.forecast import Outlook, forecast
from preprocess.limits import Limits
from preprocess.measurements import Source, Survey
from preprocess.sources import stamps_of
from preprocess.stages import Stages
from preprocess.survey import Surveyor
from tsn_core.errors import InputError
from tsn_core.listing import count
from tsn_core.manifest import Manifest
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan


def plan_extraction(
    manifest: Manifest,
    data: Path,
    *,
    modalities: Sequence[StoredModality],
    plan: SnippetPlan,
    limits: Limits,
    videos_per_shard: int | None,
    workers: Sequence[int],
    num_cores: int,
    num_sample: int,
    seconds: float,
    generator: np.random.Generator,
    stages: Stages,
) -> tuple[Survey, Outlook, int]:
    """Measure some videos of a dataset and foretell what extracting all of them costs.

    Args:
        manifest: All videos.
        data: Folder that their names are relative to.
        modalities: What would be extracted.
        plan: Which snippets would be stored.
        limits: What one video may cost.
        videos_per_shard: None takes what an extraction would.
        workers: Numbers of workers to foretell for.
        num_cores: Workers that run on this machine at once.
        num_sample: Videos to measure.
        seconds: About how long to measure.
        generator: Source of all randomness.
        stages: Shows progress.

    Returns:
        What was measured, what is foretold, and how many videos are not there.

    Raises:
        InputError: No video is there, or none of the sample can be extracted.
        TSNError: No process can be started.
    """
    names = [record.name for record in manifest.records]
    stamps = stamps_of(data, names, check_hash=False)
    per_shard = videos_per_shard or default_videos_per_shard(len(names))
    sources, shards = [], []
    for record in assign_shards(manifest.records, {}, per_shard):
        stamp = stamps[record.name]
        if stamp is not None:
            path = (data / record.name).absolute()
            sources.append(Source(record.name, path, stamp.num_bytes))
            assert record.shard is not None
            shards.append(record.shard)
    if not sources:
        raise InputError(
            f"{data}: none of {count(len(names), 'video')} is there, such as {names[0]}; check "
            "--data"
        )
    survey = Surveyor(sources, modalities, plan, limits, stages).survey(
        num_sample=num_sample, seconds=seconds, num_cores=num_cores, generator=generator
    )
    outlook = forecast(survey, shards, workers, num_cores, generator)
    return survey, outlook, len(names) - len(sources)
