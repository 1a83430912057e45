"""The synthetic datasets: real video files in which only the motion tells the class.

``preprocess.synth_kinds`` says which there are, ``preprocess.synth_scene`` what they look like.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from preprocess.executor import run_jobs
from preprocess.synth_kinds import KINDS, SynthKind
from preprocess.synth_scene import Part, render
from tsn_core.atomic import atomic_path, write_text
from tsn_core.errors import InputError, OutputError
from tsn_core.seed import check_seed

_TEST_FRACTION = 4  # every fourth video


def synthesize(
    out: Path,
    *,
    kind: str = "motion",
    videos_per_class: int | None = None,
    num_frames: int | None = None,
    size: tuple[int, int] = (120, 160),
    seed: int = 0,
    num_workers: int = 1,
) -> int:
    """Write a dataset in the ``folder`` layout, with the lists of one split.

    Args:
        out: Folder to make; ``videos/CLASS/*.avi`` and ``splits/*.txt`` appear in it, and for
            untrimmed videos ``annotations.json``, whose format ``docs/synthetic.md`` tells.
        kind: One of ``KINDS``.
        videos_per_class: How many; every fourth is for testing, and every untrimmed one. None
            stands for the kind's usual number.
        num_frames: Length of the shortest video; others are up to half longer. None stands for
            the kind's usual length.
        size: (height, width) of the frames in px, both even.
        seed: The same seed gives the same pixels, for any number of workers.
        num_workers: Processes that make videos side by side.

    Returns:
        Number of videos written.

    Raises:
        InputError: There is no such kind, a number is too small, the size is odd, or the folder
            holds other videos.
        OutputError: A file cannot be written.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}; choose from {', '.join(KINDS)}")
    chosen = KINDS[kind]
    videos_per_class = chosen.videos_per_class if videos_per_class is None else videos_per_class
    num_frames = chosen.num_frames if num_frames is None else num_frames
    fewest = 2 if chosen.trimmed else 1
    if videos_per_class < fewest:
        raise InputError(f"videos_per_class must be > {fewest - 1}, got {videos_per_class}")
    if num_frames < chosen.fewest_frames:
        reason = "" if kind == "motion" else f" for kind {kind}"
        raise InputError(
            f"num_frames must be > {chosen.fewest_frames - 1}{reason}, got {num_frames}"
        )
    if min(size) < 32 or size[0] % 2 or size[1] % 2:
        raise InputError(f"size must be even and at least 32x32, got {size[1]}x{size[0]}")
    check_seed(seed=seed)
    if num_workers < 1:
        raise InputError(f"jobs must be > 0, got {num_workers}")
    lists: dict[str, list[str]] = {"train": [], "test": []}
    clips = []
    for label, name in enumerate(chosen.class_names):
        for number in range(videos_per_class):
            relative = f"{name}/{name}_{number:04d}.avi"
            origin = (seed, label, number, chosen.number)
            generator = np.random.default_rng(origin[:3] if kind == "motion" else origin)
            length = int(generator.integers(num_frames, num_frames * 3 // 2 + 1))
            parts = tuple(chosen.script(name, length, generator))
            clips.append(_Clip(f"videos/{relative}", parts, size, chosen.fps, generator))
            testing = not chosen.trimmed or number % _TEST_FRACTION == _TEST_FRACTION - 1
            lists["test" if testing else "train"].append(f"{relative} {name}\n")
    _refuse_others(out, {clip.name for clip in clips})
    for _ in run_jobs(_make_clip, [(out, clip) for clip in clips], num_workers):
        pass
    for subset, lines in lists.items():
        if lines:
            write_text(out / "splits" / f"{subset}_split_1.txt", "".join(lines))
    if not chosen.trimmed:
        write_text(out / "annotations.json", _annotations(chosen, clips))
    return len(clips)


@dataclass(frozen=True)
class _Clip:
    """One video to make: its path in the set, what happens, how large and fast, at random."""

    name: str
    parts: tuple[Part, ...]
    size: tuple[int, int]
    fps: float
    generator: np.random.Generator


def _make_clip(job: tuple[Path, _Clip]) -> None:
    out, clip = job
    cv2.setNumThreads(1)
    frames = render(clip.parts, clip.size, clip.generator)
    write_video(out / clip.name, frames, clip.size, clip.fps)


def _refuse_others(out: Path, names: set[str]) -> None:
    """Raise if the folder holds videos of another set, which a scan would take for ours."""
    for path in sorted((out / "videos").glob("*/*.avi")):
        if not path.name.startswith(".") and path.relative_to(out).as_posix() not in names:
            raise InputError(f"{path}: not of this set; choose another --out or delete the folder")


def _annotations(kind: SynthKind, clips: Sequence[_Clip]) -> str:
    """Return the JSON text that tells when the actions of every video begin and end."""
    videos = {}
    for clip in clips:
        actions, first = [], 0
        for part in clip.parts:
            end = first + part.num_frames
            if part.motion is not None:
                actions.append(
                    {
                        "label": part.motion,
                        "start_seconds": first / clip.fps,
                        "end_seconds": end / clip.fps,
                    }
                )
            first = end
        videos[clip.name] = {
            "duration_seconds": first / clip.fps,
            "fps": clip.fps,
            "actions": actions,
        }
    return json.dumps({"class_names": kind.class_names, "videos": videos}, indent=1) + "\n"


def write_video(
    path: Path, frames: Iterator[np.ndarray], size: tuple[int, int], fps: float
) -> None:
    """Write frames as an MPEG-4 video in an AVI file, atomically.

    Args:
        path: Ends in ``.avi``.
        frames: (H, W, 3) uint8, BGR.
        size: (height, width) of the frames.
        fps: Frame rate in Hz.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        named = temporary.with_suffix(".avi")  # the encoder chooses the container by the ending
        writer = cv2.VideoWriter(
            str(named), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, (size[1], size[0])
        )
        if not writer.isOpened():
            raise OutputError(f"{path}: cannot be written; check the folder and its free space")
        try:
            for frame in frames:
                writer.write(frame)
            writer.release()
            named.replace(temporary)
        finally:
            writer.release()
            named.unlink(missing_ok=True)
