"""Extracting a whole dataset: decide what is missing, make it, then write the index."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from preprocess.executor import Executor
from preprocess.failures import write_failures
from preprocess.folder_lock import locked
from preprocess.inventory import index_of, remove_leftovers
from preprocess.isolation import end_processes
from preprocess.job import JobReport, VideoReport, run_job
from preprocess.progress import Tally, watch
from preprocess.work import Options, Work, plan_work
from tsn_core.atomic import unwritable
from tsn_core.errors import InputError, TSNError
from tsn_core.index import INDEX_NAME, Index, ShardEntry, write_index
from tsn_core.listing import count
from tsn_core.manifest import MANIFEST_NAME, Manifest, write_manifest
from tsn_core.modality import StoredModality
from tsn_core.sampling import SnippetPlan


@dataclass(frozen=True)
class Summary:
    """What is on disk after an extraction, and what this run did.

    Attributes:
        root: Folder of the dataset's shards.
        num_jobs: Shards' worth of videos that had to be done; 0 if everything was there.
        changed: Names of videos whose source files were not those of the last run.
        videos: What became of each video in this run.
        failures: Lines of ``failures.jsonl`` by name, of the videos that have failed in one of
            the modalities asked for.
        indices: The index of every modality that was asked for.
    """

    root: Path
    num_jobs: int
    changed: tuple[str, ...]
    videos: tuple[VideoReport, ...]
    failures: dict[str, dict[str, object]]
    indices: tuple[Index, ...]

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """(name, note) of videos extracted in this run that something is odd about."""
        return tuple(sorted((v.name, v.note) for v in self.videos if v.note is not None))


def extract_dataset(
    manifest: Manifest,
    data: Path,
    out: Path,
    *,
    modalities: Sequence[StoredModality],
    plan: SnippetPlan,
    videos_per_shard: int | None,
    executor: Executor,
    console: Console,
    options: Options | None = None,
) -> Summary:
    """Make the shards of every modality that are not there yet.

    A shard is there if a readable file with the right fingerprint is, and the source of none of
    its videos has changed since. One that has to be made anew takes over what is still good.

    Args:
        manifest: Videos, labels and splits.
        data: Folder that the names in the manifest are relative to.
        out: Folder of all shards; those of this dataset go to ``out/DATASET/MODALITY/``.
        modalities: What to extract.
        plan: Which snippets to store.
        videos_per_shard: None takes what the shards already there have, or else 64 and fewer for
            a small dataset, so that there are at least 16 shards to work on side by side.
        executor: Runs the jobs.
        console: Where progress is shown.
        options: None takes the usual ones.

    Raises:
        SettingsError: Shards with other settings are there already.
        OutputError: Something cannot be written, or another run is writing there.
        InputError: A number is out of range.
    """
    if videos_per_shard is not None and videos_per_shard < 1:
        raise InputError(f"--videos-per-shard must be > 0, got {videos_per_shard}")
    options = options or Options()
    if not executor.in_this_process:  # others may work in another folder
        data, out = data.absolute(), out.absolute()
    root = out / manifest.dataset
    with locked(root, wait=options.wait, tell=partial(console.print, soft_wrap=True)):
        try:
            remove_leftovers(root)
            for modality in modalities:
                (root / modality.folder).mkdir(exist_ok=True)
            work = plan_work(
                manifest,
                data,
                root,
                modalities=modalities,
                plan=plan,
                videos_per_shard=videos_per_shard,
                options=options,
            )
            return _do(work, executor, console)
        except OSError as error:
            if error.errno is None or isinstance(error, TSNError):
                raise
            remedy = "mend that or choose another --out"
            raise unwritable(error.filename or root, error, remedy) from error
        except RuntimeError as error:
            if str(error) != "can't start new thread":
                raise
            raise TSNError(
                "no thread can be started; allow more processes (ulimit -u), or use fewer --jobs"
            ) from error


def _do(work: Work, executor: Executor, console: Console) -> Summary:
    """Run the jobs, and write what tells of all shards when they are done."""
    root = work.root
    if work.changed:
        console.print(
            f"{count(len(work.changed), 'source video')} changed since the last extraction; "
            "the shards that hold them are made anew",
            highlight=False,
            soft_wrap=True,
        )
    write_manifest(work.manifest, root / MANIFEST_NAME)
    videos: list[VideoReport] = []
    entries = dict(work.entries)
    if work.jobs:
        for modality in work.modalities:  # a folder that is being changed has no index
            (root / modality.folder / INDEX_NAME).unlink(missing_ok=True)
        work.journal.start(work.data)
        with closing(_run(work, executor, console)) as reports:
            for report in reports:
                videos.extend(report.videos)
                for folder, entry in report.entries.items():
                    entries[folder, report.number] = entry
                work.journal.append(report.entries, report.number, report.stamps)
    indices = [_finish_folder(work, modality, entries) for modality in work.modalities]
    failures = write_failures(root, work.data)
    folders = {modality.folder for modality in work.modalities}
    return Summary(
        root,
        len(work.jobs),
        tuple(sorted(work.changed)),
        tuple(videos),
        {name: line for name, line in failures.items() if folders.intersection(line["modalities"])},
        tuple(indices),
    )


def _run(work: Work, executor: Executor, console: Console) -> Generator[JobReport, None, None]:
    """Run the jobs, showing progress, and yield what they report."""
    tally = Tally()
    total = sum(job.num_to_extract for job in work.jobs)
    function = partial(run_job, seen=tally.add) if executor.in_this_process else run_job
    try:
        with watch(tally, total, work.manifest.dataset, console):
            for report in executor.run(function, work.jobs):
                if not executor.in_this_process:
                    for video in report.videos:
                        tally.add(video)
                yield report
    finally:
        end_processes()


def _finish_folder(
    work: Work, modality: StoredModality, entries: dict[tuple[str, int], ShardEntry]
) -> Index:
    """Remove shards that the dataset no longer has, and write the index if it is out of date."""
    folder = work.root / modality.folder
    mine = [entries[modality.folder, number] for number in work.numbers]
    for path in set(folder.glob("shard-*.h5")) - {folder / entry.file for entry in mine}:
        path.unlink()
    manifest = work.manifest
    index = Index(
        manifest.dataset, modality, work.plan.to_dict(), manifest.class_names, tuple(mine)
    )
    if index != index_of(folder):
        write_index(index, folder)
    return index
