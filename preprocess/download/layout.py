"""What must lie in a dataset's folder in the end, and what is missing of it."""

from __future__ import annotations

from pathlib import Path

from preprocess.datasets.files import VIDEO_SUFFIXES
from preprocess.download.published import Published
from tsn_core.listing import few


def class_files(root: Path) -> dict[str, set[str]]:
    """Return the names of the videos by class, of the folder of class folders."""
    if not root.is_dir():
        return {}
    return {
        folder.name: {file.name for file in folder.iterdir() if file.suffix in VIDEO_SUFFIXES}
        for folder in sorted(root.iterdir())
        if folder.is_dir()
    }


def defect(published: Published, videos: Path, splits: Path) -> str:
    """Return what is wrong with a dataset, in one line; empty if nothing is.

    Args:
        published: The dataset.
        videos: The folder of class folders.
        splits: The folder of official lists.
    """
    found = class_files(videos)
    number = sum(map(len, found.values()))
    problems = []
    if (number, len(found)) != (published.num_videos, published.num_classes):
        problems.append(
            f"{published.num_videos} videos of {published.num_classes} classes expected, "
            f"{number} of {len(found)} found"
        )
    listed = listed_videos(splits)
    if not listed:
        problems.append("no split lists found")
    missing = sorted(listed - {f"{name}/{file}" for name, files in found.items() for file in files})
    if missing:
        problems.append(f"missing: {few(missing)}")
    return "; ".join(problems)


def listed_videos(splits: Path) -> set[str]:
    """Return ``CLASS/FILE`` of all videos that the official lists name."""
    listed = set()
    for path in sorted(splits.glob("*.txt")) if splits.is_dir() else []:
        name, marker, _ = path.stem.rpartition("_test_split")
        if not marker and not path.stem.startswith(("trainlist", "testlist")):
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip():
                video = line.split()[0]
                listed.add(f"{name}/{video}" if marker else video)
    return listed
