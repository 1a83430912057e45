"""``tsn-preprocess``: scan, extract, verify, synth."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from preprocess.datasets import DATASETS
from tsn_core.command_line import Program, Size
from tsn_core.errors import InputError
from tsn_core.listing import count
from tsn_core.modality import CODECS, FLOW_ALGORITHMS, StoredModality, get_modality
from tsn_core.quantization import flow_scale_zero
from tsn_core.sampling import SnippetPlan
from tsn_core.version import __version__

_MOST_LINES = 10  # of a list on the terminal
_FOLDER = click.Path(path_type=Path, file_okay=True)


@click.group(cls=Program, context_settings={"show_default": True, "max_content_width": 100})
@click.version_option(__version__, prog_name="tsn-preprocess")
def main() -> None:
    """Videos to compact HDF5 shards of RGB frames, optical flow and RGB differences."""


def _dataset_options(function):  # type: ignore[no-untyped-def]
    for option in reversed(
        (
            click.option("--dataset", type=click.Choice(DATASETS), required=True),
            click.option("--data", type=_FOLDER, required=True, help="Folder of the dataset."),
            click.option(
                "--list",
                "lists",
                type=_FOLDER,
                multiple=True,
                help="File of 'path label' lines, for --dataset list; may be repeated.",
            ),
        )
    ):
        function = option(function)
    return function


@main.command()
@_dataset_options
@click.option("--out", type=_FOLDER, required=True, help="Manifest to write, JSON lines.")
def scan(dataset: str, data: Path, lists: tuple[Path, ...], out: Path) -> None:
    """Read a dataset's folder and split lists into a manifest.

    Example: tsn-preprocess scan --dataset hmdb51 --data data/hmdb51 --out manifest.jsonl
    """
    from preprocess.datasets import scan_dataset
    from tsn_core.manifest import write_manifest

    manifest = scan_dataset(dataset, data, lists)
    write_manifest(manifest, out)
    splits = ", ".join(map(str, manifest.split_numbers)) or "none"
    click.echo(
        f"{out}: {len(manifest.records)} videos, {len(manifest.class_names)} classes, "
        f"splits: {splits}"
    )


def _limit_options(function):  # type: ignore[no-untyped-def]
    for option in reversed(
        (
            click.option(
                "--isolation/--no-isolation",
                default=True,
                help="Extract in processes that may crash without harm.",
            ),
            click.option("--max-seconds", type=float, help="For one video.  [default: any]"),
            click.option(
                "--stall-seconds", type=float, default=300.0, help="Without a single frame."
            ),
            click.option(
                "--max-memory-mb", type=float, default=4000.0, help="Of a process, for one video."
            ),
            click.option("--max-pixels", type=int, default=8192 * 8192, help="Of a frame."),
            click.option("--max-frames", type=int, default=10_000_000, help="Of a video."),
        )
    ):
        function = option(function)
    return function


@main.command()
@_dataset_options
@click.option("--out", type=_FOLDER, required=True, help="Folder of all shards.")
@click.option(
    "--modality",
    "names",
    type=click.Choice(("rgb", "flow", "rgbdiff")),
    multiple=True,
    default=("rgb",),
    help="May be repeated; one decode serves all.",
)
@click.option("--flow", type=click.Choice(FLOW_ALGORITHMS), default="tvl1", help="Flow algorithm.")
@click.option(
    "--flow-backend",
    type=click.Choice(("numba", "opencv")),
    default="numba",
    help="Who computes tvl1: our own code or OpenCV.",
)
@click.option(
    "--flow-parameter",
    "flow_changes",
    metavar="NAME=VALUE",
    multiple=True,
    help="Of the flow algorithm, such as median=1; may be repeated.",
)
@click.option(
    "--warp", is_flag=True, help="Take the camera's motion out of the flow: warpedflow shards."
)
@click.option("--bound", type=float, default=20.0, help="Flow is clamped to ±BOUND px.")
@click.option("--size", type=Size(), default="340x256", help="Of the stored frames.")
@click.option(
    "--short-side",
    type=int,
    help="Length of the shorter side, keeping the aspect ratio; instead of --size.",
)
@click.option("--snippets", type=int, help="Snippets per video.  [default: 25]")
@click.option("--dense", is_flag=True, help="Store every snippet instead.")
@click.option("--fps", type=float, help="Store snippets at this rate instead, in Hz.")
@click.option(
    "--snippet-length", type=int, help="Units per snippet of flow and rgbdiff.  [default: 5]"
)
@click.option("--codec", type=click.Choice(CODECS), default="jpeg")
@click.option("--quality", type=click.IntRange(1, 100), default=95, help="Of the JPEGs.")
@click.option(
    "--videos-per-shard", type=int, help="[default: 64, fewer if that made less than 16 shards]"
)
@click.option("--jobs", type=int, help="Worker processes.  [default: one for each core]")
@_limit_options
@click.option("--retry-failures", is_flag=True, help="Try videos that failed before again.")
@click.option(
    "--check-hash", is_flag=True, help="Tell changed videos by their content, not their time."
)
@click.option(
    "--wait", is_flag=True, help="Wait for another extraction into the same folder to end."
)
@click.option("--allow-failures", is_flag=True, help="Exit with 0 even if some videos failed.")
def extract(
    dataset: str,
    data: Path,
    lists: tuple[Path, ...],
    out: Path,
    names: tuple[str, ...],
    flow: str,
    flow_backend: str,
    flow_changes: tuple[str, ...],
    warp: bool,
    bound: float,
    size: tuple[int, int],
    short_side: int | None,
    snippets: int | None,
    dense: bool,
    fps: float | None,
    snippet_length: int | None,
    codec: str,
    quality: int,
    videos_per_shard: int | None,
    jobs: int | None,
    isolation: bool,
    max_seconds: float | None,
    stall_seconds: float,
    max_memory_mb: float,
    max_pixels: int,
    max_frames: int,
    retry_failures: bool,
    check_hash: bool,
    wait: bool,
    allow_failures: bool,
) -> None:
    """Decode a dataset once and write the shards of one or more modalities.

    What is there already is not made again: after an interruption, run the same command again.
    Videos that fail are listed in failures.jsonl beside the shards; the run goes on without them
    and exits with status 1 at the end.

    Example: tsn-preprocess extract --dataset hmdb51 --data data/hmdb51 --out shards
    --modality rgb --modality flow --flow farneback
    """
    from preprocess.datasets import scan_dataset
    from preprocess.executor import make_executor
    from preprocess.extract import extract_dataset
    from preprocess.isolation import end_processes
    from preprocess.limits import Limits
    from preprocess.work import Options

    options = Options(
        limits=Limits(max_seconds, stall_seconds, max_memory_mb, max_pixels, max_frames),
        isolated=isolation,
        retry_failures=retry_failures,
        check_hash=check_hash,
        wait=wait,
    )
    if snippets is None and not dense and fps is None:
        snippets = 25
    plan = SnippetPlan(snippets=snippets, dense=dense, fps=fps)
    modalities = [
        stored_modality(
            "warpedflow" if name == "flow" and warp else name,
            flow=flow,
            flow_backend=flow_backend,
            flow_changes=flow_changes,
            bound=bound,
            size=size,
            short_side=short_side,
            snippet_length=snippet_length,
            codec=codec,
            quality=quality,
        )
        for name in dict.fromkeys(names)
    ]
    manifest = scan_dataset(dataset, data, lists)
    console = _console()
    summary = extract_dataset(
        manifest,
        data,
        out,
        modalities=modalities,
        plan=plan,
        videos_per_shard=videos_per_shard,
        executor=make_executor("local", num_workers=jobs, stop=end_processes),
        console=console,
        options=options,
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
    if summary.notes:
        click.echo(f"{count(len(summary.notes), 'video')} may be damaged or cut short:", err=True)
        _list_videos(summary.notes)
    if summary.failures:
        click.echo(
            f"{len(summary.failures)} of {len(manifest.records)} videos failed, see "
            f"{summary.root / 'failures.jsonl'}:",
            err=True,
        )
        _list_videos(
            [(name, str(line["reason"])) for name, line in sorted(summary.failures.items())]
        )
        if not allow_failures:
            sys.exit(1)


def _list_videos(lines: Sequence[tuple[str, str]]) -> None:
    """Print the first names and what is to be said of them."""
    for name, text in lines[:_MOST_LINES]:
        click.echo(f"  {name}: {text}", err=True)
    if len(lines) > _MOST_LINES:
        click.echo(f"  … and {len(lines) - _MOST_LINES} more", err=True)


def stored_modality(
    name: str,
    *,
    flow: str,
    flow_backend: str = "numba",
    flow_changes: Sequence[str] = (),
    bound: float,
    size: tuple[int, int],
    short_side: int | None,
    snippet_length: int | None,
    codec: str,
    quality: int,
) -> StoredModality:
    """Return the description of what the options ask to store of one modality."""
    from preprocess.flow import flow_parameters

    kind = get_modality(name)
    scale, zero, algorithm, parameters = 1.0, 0.0, None, {}
    if name in ("flow", "warpedflow"):
        if not 0 < bound < math.inf:
            raise InputError(f"--bound must be > 0 and finite, got {bound}")
        scale, zero = flow_scale_zero(bound)
        algorithm = flow
        parameters = {"bound": bound, **flow_parameters(flow, flow_changes, flow_backend)}
    elif name == "rgbdiff":
        zero = 128.0
    for option, value in (("--short-side", short_side), ("--snippet-length", snippet_length)):
        if value is not None and value < 1:
            raise InputError(f"{option} must be > 0, got {value}")
    return StoredModality(
        name=name,
        snippet_length=kind.snippet_length
        if snippet_length is None or kind.frames_per_unit == 1
        else snippet_length,
        channels=kind.unit_channels,
        codec=codec,
        quality=quality if codec == "jpeg" else None,
        scale=scale,
        zero=zero,
        height=None if short_side else size[0],
        width=None if short_side else size[1],
        short_side=short_side,
        algorithm=algorithm,
        parameters=parameters,
    )


def _console():  # type: ignore[no-untyped-def]
    from rich.console import Console

    return Console(stderr=True)


@main.command()
@click.argument("shards", type=_FOLDER)
def verify(shards: Path) -> None:
    """Check every shard at or below a folder: structure, offsets, checksums, counts.

    Prints a line for each defect and exits with status 1 if there is one.
    """
    from tsn_core.check import folder_defects, modality_folders

    folders = modality_folders(shards)
    if not folders:
        raise InputError(f"{shards}: no shards there; extract some, or check the path")
    found = 0
    for folder in folders:
        defects = folder_defects(folder).lines
        found += len(defects)
        for defect in defects:
            click.echo(defect, err=True)
        click.echo(f"{folder}: {count(len(defects), 'defect') if defects else 'sound'}")
    if found:
        sys.exit(1)


@main.command()
@click.option("--out", type=_FOLDER, required=True, help="Folder to write.")
@click.option(
    "--kind",
    type=click.Choice(("motion", "order", "untrimmed")),
    default="motion",
    help="One motion in a video; two, whose order is the class; or several actions in a long "
    "video, at times that annotations.json tells.",
)
@click.option(
    "--videos-per-class",
    type=int,
    help="Every fourth is for testing, and every untrimmed one.  [default: 40, untrimmed 2]",
)
@click.option(
    "--frames",
    type=int,
    help="Length of the shortest video.  [default: motion 32, order 80, untrimmed 750]",
)
@click.option("--size", type=Size(), default="160x120", help="Of the frames.")
@click.option("--seed", type=int, default=0)
@click.option("--jobs", type=int, help="Worker processes.  [default: one for each core]")
def synth(
    out: Path,
    kind: str,
    videos_per_class: int | None,
    frames: int | None,
    size: tuple[int, int],
    seed: int,
    jobs: int | None,
) -> None:
    """Make a synthetic dataset: videos in which only the motion tells the class.

    Example: tsn-preprocess synth --kind order --out data/order
    """
    from preprocess.executor import default_workers
    from preprocess.synth import synthesize
    from preprocess.synth_kinds import KINDS

    number = synthesize(
        out,
        kind=kind,
        videos_per_class=videos_per_class,
        num_frames=frames,
        size=size,
        seed=seed,
        num_workers=default_workers() if jobs is None else jobs,
    )
    class_names = KINDS[kind].class_names
    click.echo(f"{out}: {number} videos, {len(class_names)} classes: {', '.join(class_names)}")
    dataset = "synthetic" if kind == "motion" else "folder"
    plan = " --fps 5" if kind == "untrimmed" else ""
    click.echo(
        f"next: tsn-preprocess extract --dataset {dataset} --data {shlex.quote(str(out))} "
        f"--out shards --modality flow --flow farneback --bound 8 --size {size[1]}x{size[0]}{plan}"
    )
