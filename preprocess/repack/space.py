"""How much raw shards take, said before they are written."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from preprocess.making import ShardJob
from preprocess.progress import size_text
from preprocess.repack.recoding import RepackedVideo
from tsn_core.location import is_remote


def space_lines(jobs: Sequence[ShardJob[RepackedVideo]], out: Path) -> list[str]:
    """Return a line for each modality of which raw images are to be written.

    One more says if there is not that much room.

    Args:
        jobs: To be done.
        out: Folder of all shards, which exists.
    """
    sizes: dict[str, int] = defaultdict(int)
    for job in jobs:
        modality = job.header.modality
        if modality.codec != "raw":
            continue
        for video in job.videos:
            if video.source is None:
                continue
            images = video.source.num_images
            if video.snippets is not None:
                images = min(images, video.snippets * modality.snippet_length)
            height, width = video.unit_size
            sizes[modality.folder] += images * height * width * modality.channels
    lines = [f"{name}: {size_text(size)} of raw images to write" for name, size in sizes.items()]
    if sizes and not is_remote(out):
        free = shutil.disk_usage(out).free
        if free < sum(sizes.values()):
            lines.append(
                f"{out}: only {size_text(free)} are free there; when it is full the run ends, and "
                "goes on with the same command"
            )
    return lines
