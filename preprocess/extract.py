"""Extracting a whole dataset: decide what is missing, make it, then write the index."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from preprocess.assignment import check_videos_per_shard
from preprocess.devices import Device, devices_text, find_devices, needs_gpu
from preprocess.executor import Executor
from preprocess.failures import write_failures
from preprocess.flow_method import method_of
from preprocess.flow_report import FlowFacts
from preprocess.folder_lock import locked
from preprocess.guard import first_readable, guarding
from preprocess.inventory import remove_leftovers, shard_paths
from preprocess.isolation import end_processes
from preprocess.job import Job, JobReport, VideoReport, run_job
from preprocess.metrics import check_metrics_path
from preprocess.progress import watch
from preprocess.run import Run, observed
from preprocess.tally import Counts
from preprocess.work import Options, Work, plan_work
from tsn_core.atomic import unwritable
from tsn_core.errors import InputError, TSNError
from tsn_core.index import INDEX_NAME, Index, ShardEntry, update_index
from tsn_core.listing import count
from tsn_core.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
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
        counts: What this run did, in numbers; ``report.json`` tells more.
        flow: How flow was computed in batches, and what limited that; None where none was.
    """

    root: Path
    num_jobs: int
    changed: tuple[str, ...]
    videos: tuple[VideoReport, ...]
    failures: dict[str, dict[str, object]]
    indices: tuple[Index, ...]
    counts: Counts
    flow: FlowFacts | None = None

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
        TSNError: Flow cannot be computed where ``options`` say.
    """
    check_videos_per_shard(videos_per_shard)
    options = options or Options()
    if executor.in_this_process and needs_gpu(options.device):
        find_devices(options.device)  # before anything else is done
    if not executor.in_this_process:  # others may work in another folder
        data, out = data.absolute(), out.absolute()
    if options.metrics is not None:
        check_metrics_path(options.metrics)
    root = out / manifest.dataset
    tell = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    with locked(root, wait=options.wait, tell=tell) as check_lock, _one_line(root):
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
        devices = _devices(work, executor, options, tell)
        with observed(work, options, devices) as run, _one_line(root):  # what is logged is one, too
            return _do(work, executor, console, run, check_lock)


def _devices(
    work: Work, executor: Executor, options: Options, tell: Callable[[str], None]
) -> tuple[Device, ...]:
    """Return the devices of this machine that flow is computed on in batches, and tell of them.

    Raises:
        TSNError: One of them is not there.
    """
    flows = sorted({
        target.path.parent.name
        for job in work.jobs
        for target in job.targets
        if method_of(target.header.modality) is not None
    })  # fmt: skip
    if not flows:
        return ()
    if not executor.in_this_process:
        tell(f"{', '.join(flows)}: computed on --device {options.device} of every worker")
        return ()
    devices = find_devices(options.device)
    tell(f"{', '.join(flows)}: computed on {devices_text(devices)}")
    return devices


@contextmanager
def _one_line(root: Path) -> Iterator[None]:
    """Turn errors of the file system, and a lack of threads, into one line for the user."""
    try:
        yield
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


def _do(
    work: Work, executor: Executor, console: Console, run: Run, check_lock: Callable[[], None]
) -> Summary:
    """Run the jobs, and write what tells of all shards when they are done."""
    root = work.root
    if work.changed:
        console.print(
            f"{count(len(work.changed), 'source video')} changed since the last extraction; "
            "the shards that hold them are made anew",
            highlight=False,
            soft_wrap=True,
        )
    moved = _in_other_subsets(work)
    if moved:
        console.print(
            f"{count(moved, 'video')} {'belongs' if moved == 1 else 'belong'} to other subsets of "
            "the splits than before: taken over; train into another --out",
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
        with closing(_run(work, executor, console, run)) as reports:
            for report in reports:
                check_lock()
                videos.extend(report.videos)
                for folder, entry in report.entries.items():
                    entries[folder, report.number] = entry
                work.journal.append(report.entries, report.number, report.stamps)
        work.journal.close()
        check_lock()
    indices = [_finish_folder(work, modality, entries, run) for modality in work.modalities]
    failures = write_failures(root, work.data)
    folders = {modality.folder for modality in work.modalities}
    return Summary(
        root,
        len(work.jobs),
        tuple(sorted(work.changed)),
        tuple(videos),
        {name: line for name, line in failures.items() if folders.intersection(line["modalities"])},
        tuple(indices),
        run.tally.counts,
        run.flow,
    )


def _in_other_subsets(work: Work) -> int:
    """Return how many videos the manifest beside the shards, if any, has in other subsets."""
    try:
        records = read_manifest(work.root / MANIFEST_NAME).records
    except InputError:  # none, or a damaged one
        return 0
    before = {record.name: dict(record.splits) for record in records}
    return sum(
        before.get(record.name, dict(record.splits)) != dict(record.splits)
        for record in work.manifest.records
    )


def _run(
    work: Work, executor: Executor, console: Console, run: Run
) -> Generator[JobReport, None, None]:
    """Run the jobs, showing progress, and yield what they report."""

    def run_here(job: Job) -> JobReport:
        report = run_job(job, seen=run.video)
        run.shard(report)
        return report

    with ExitStack() as stack:
        stack.callback(end_processes)
        if executor.in_this_process:
            stack.enter_context(watch(run.tally, work.manifest.dataset, console))
            yield from executor.run(run_here, work.jobs)
            return
        paths = (work.data / record.name for job in work.jobs for record in job.records)
        device = next((job.device for job in work.jobs if job.needs_device), None)
        guard = stack.enter_context(guarding(work.root, first_readable(paths), device))
        executor.check(guard)
        stack.enter_context(watch(run.tally, work.manifest.dataset, console))
        reports = executor.run(guard.around(run_job), work.jobs, guard.num_gpus)
        for report in stack.enter_context(closing(reports)):
            for video in report.videos:
                run.video(video)
            run.shard(report)
            yield report
        remove_leftovers(work.root)  # of workers that were lost


def _finish_folder(
    work: Work, modality: StoredModality, entries: dict[tuple[str, int], ShardEntry], run: Run
) -> Index:
    """Remove shards that the dataset no longer has, and write the index if it is out of date."""
    folder = work.root / modality.folder
    mine = [entries[modality.folder, number] for number in work.numbers]
    named = {entry.file for entry in mine}
    for path in (path for path in shard_paths(folder).values() if path.name not in named):
        path.unlink()
        run.removed(path)
    manifest = work.manifest
    index = Index(
        manifest.dataset, modality, work.plan.to_dict(), manifest.class_names, tuple(mine)
    )
    update_index(index, folder)
    return index
