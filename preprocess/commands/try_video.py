"""``tsn-preprocess try``."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from preprocess.commands.options import data_option, device_option, isolation_option, limit_options
from tsn_core.command_line import Location
from tsn_core.errors import InputError, VideoError
from tsn_core.listing import count

if TYPE_CHECKING:
    from preprocess.limits import Limits
    from preprocess.task import Extractor, Task


@click.command(name="try")
@click.argument("shards", type=Location())
@click.argument("name")
@data_option
@device_option
@isolation_option
@limit_options
def try_video(
    shards: Path, name: str, data: Path | None, device: str, isolation: bool, limits: Limits
) -> None:
    """Extract one video of a dataset alone, storing nothing, and tell how that goes.

    With --no-isolation it is extracted in this very process, for a debugger.

    Example: tsn-preprocess try shards/hmdb51 brush_hair/a.avi --max-memory-mb 16000
    """
    from preprocess.devices import check_use
    from preprocess.flow_method import method_of
    from preprocess.flow_pool import lent_device
    from preprocess.flow_weights import check_weights
    from preprocess.isolation import borrowed_process, end_processes
    from preprocess.stored_dataset import read_stored
    from preprocess.task import InProcess, Task

    stored = read_stored(shards, data)
    if name not in {record.name for record in stored.manifest.records}:
        raise InputError(f"{shards}: no video {name}; see its manifest.jsonl")
    check_weights(stored.modalities)
    path = (stored.data / name).absolute()
    click.echo(f"{path}:")
    with ExitStack() as stack:
        batched = list(filter(method_of, stored.modalities))
        check_use(device, batched)
        chosen = stack.enter_context(lent_device(device)) if batched else None
        extractor = stack.enter_context(borrowed_process()) if isolation else InProcess()
        done = [
            _try(extractor, Task(path, plan, modalities, limits, device=chosen))
            for plan, modalities in stored.groups
        ]
    end_processes()
    if not all(done):
        sys.exit(1)


def _try(extractor: Extractor, task: Task) -> bool:
    """Extract what one decode serves and print how that went; return whether it did."""
    num_images, num_bytes = [0] * len(task.modalities), [0] * len(task.modalities)

    def emit(place: int, unit: int, frame: int, data: bytes) -> None:
        num_images[place] += 1
        num_bytes[place] += len(data)

    began = time.perf_counter()
    try:
        extracted = extractor.extract(task, emit)
    except VideoError as error:
        folders = ", ".join(modality.folder for modality in task.modalities)
        click.echo(f"  {folders}: failed in stage {error.stage}: {error}", err=True)
        return False
    seconds = time.perf_counter() - began
    click.echo(f"  {count(extracted.rows[0].num_frames, 'frame')} decoded in {seconds:.1f} s")
    for modality, images, size in zip(task.modalities, num_images, num_bytes):
        click.echo(f"  {modality.folder}: {count(images, 'image')}, {size / 1e6:.2f} MB")
    if extracted.note is not None:
        click.echo(f"  {extracted.note}", err=True)
    return True
