"""What an extraction has to do: the jobs for every shard that is missing, changed or to retry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from preprocess.assignment import assign_shards, by_shard, default_videos_per_shard
from preprocess.devices import CPU
from preprocess.inventory import common_cut, failed_names, find_shards, names_in_shards
from preprocess.job import Job, Target
from preprocess.limits import Limits
from preprocess.sources import Journal, stamps_of
from tsn_core.errors import InputError, SettingsError
from tsn_core.index import ShardEntry
from tsn_core.listing import count
from tsn_core.manifest import MANIFEST_NAME, Manifest, Record, read_manifest
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_format import ShardHeader, fingerprint, shard_name


@dataclass(frozen=True)
class Options:
    """How to extract, as far as no stored byte depends on it.

    Attributes:
        limits: What one video may cost.
        isolated: Whether videos are extracted in processes of their own.
        retry_failures: Whether videos that failed before are tried again.
        check_hash: Whether changed sources are told by their content, not their time.
        damaged: Names of the videos to make anew in shards that are damaged, by folder and number.
        wait: Whether to wait for another extraction into the same folder.
        metrics: File for Prometheus to write while it runs; None for none.
        device: Where flow that is computed in batches is computed; see ``find_devices``.
        command: Options of the command line, by name, for log and report.
    """

    limits: Limits = field(default_factory=Limits)
    isolated: bool = True
    retry_failures: bool = False
    check_hash: bool = False
    damaged: Mapping[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    wait: bool = False
    metrics: Path | None = None
    device: str = CPU
    command: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What is there already, and the jobs that make the rest.

    Attributes:
        root: Folder of the dataset's shards.
        data: Folder of its videos.
        manifest: All videos, with the shard that each belongs to.
        modalities: What to extract.
        plan: Which snippets to store.
        entries: What the index says of the shards that stay, by folder and number.
        jobs: What has to be made.
        changed: Names of videos whose source files are not those of the last run.
        journal: Where the sources of finished shards are recorded.
    """

    root: Path
    data: Path
    manifest: Manifest
    modalities: tuple[StoredModality, ...]
    plan: SnippetPlan
    entries: dict[tuple[str, int], ShardEntry]
    jobs: tuple[Job, ...]
    changed: frozenset[str]
    journal: Journal

    @property
    def numbers(self) -> list[int]:
        """Numbers of all shards, ascending."""
        return list(by_shard(self.manifest.records))


def plan_work(
    manifest: Manifest,
    data: Path,
    root: Path,
    *,
    modalities: Sequence[StoredModality],
    plan: SnippetPlan,
    videos_per_shard: int | None,
    options: Options,
) -> Work:
    """Compare what is asked for with what is there.

    Raises:
        SettingsError: Shards with other settings are there.
        InputError: None of the videos is there, though some were before.
    """
    found = {
        modality.folder: find_shards(root / modality.folder, modality, plan, videos_per_shard)
        for modality in modalities
    }
    cut = common_cut(root)
    if cut is not None and videos_per_shard not in (None, cut):
        raise SettingsError(
            f"{root}: written with videos_per_shard={cut}, this run has "
            f"videos_per_shard={videos_per_shard}; choose another --out or leave that out"
        )
    known = {} if cut is None else _known_shards(root)
    videos_per_shard = videos_per_shard or cut or default_videos_per_shard(len(manifest.records))
    manifest = replace(manifest, records=assign_shards(manifest.records, known, videos_per_shard))
    journal = Journal(root)
    names = [record.name for record in manifest.records]
    stamps = stamps_of(data, names, check_hash=options.check_hash)
    if names and journal.num_gone(stamps) == len(names):
        raise InputError(
            f"{data}: not one of the {count(len(names), 'video')} is there any more; mount that "
            "folder or check --data"
        )
    jobs, entries, changed = [], {}, set()
    for number, records in by_shard(manifest.records).items():
        own = [record.name for record in records]
        now = {name: stamps[name] for name in own}
        fresh = {name for name in own if known.get(name) != number}
        targets = []
        for modality in modalities:
            folder = modality.folder
            header = _header(manifest, modality, plan, videos_per_shard, records)
            there = found[folder].headers.get(number)
            again = journal.changed(folder, number, own, now, options.check_hash)
            changed |= again
            if options.retry_failures and there is not None:
                again |= failed_names(root / folder, found[folder].entries[number])
            hurt = options.damaged.get((folder, number))
            again |= hurt or frozenset()
            fresh |= again
            sound = there is not None and there.fingerprint == header.fingerprint
            if not sound or again or hurt is not None:
                path = root / folder / shard_name(number)
                targets.append(Target(path, header, reuse=there is not None))
                journal.expect(folder, number, now, is_there=there is not None)
            else:
                entries[folder, number] = found[folder].entries[number]
        if targets:
            jobs.append(
                Job(
                    number=number,
                    records=records,
                    data=data,
                    plan=plan,
                    targets=tuple(targets),
                    fresh=frozenset(fresh),
                    sources=now,
                    limits=options.limits,
                    isolated=options.isolated,
                    check_hash=options.check_hash,
                    device=options.device,
                )
            )
    return Work(
        root,
        data,
        manifest,
        tuple(modalities),
        plan,
        entries,
        tuple(jobs),
        frozenset(changed),
        journal,
    )


def _known_shards(root: Path) -> dict[str, int]:
    """Return the shard of every video that the manifest beside the shards names, or the shards."""
    try:
        records = read_manifest(root / MANIFEST_NAME).records
    except InputError:  # none, or a damaged one
        return names_in_shards(root)
    return {record.name: record.shard for record in records if record.shard is not None}


def _header(
    manifest: Manifest,
    modality: StoredModality,
    plan: SnippetPlan,
    videos_per_shard: int,
    records: Sequence[Record],
) -> ShardHeader:
    videos = [(record.name, record.label) for record in records]
    return ShardHeader(
        dataset=manifest.dataset,
        modality=modality,
        sampling=plan.to_json(),
        class_names=manifest.class_names,
        videos_per_shard=videos_per_shard,
        fingerprint=fingerprint(modality, plan.to_json(), manifest.class_names, videos),
    )
