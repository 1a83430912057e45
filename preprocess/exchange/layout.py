"""What the images of a video are called, and where they lie, in folders that other tools read.

| modality | images of unit 1 | who reads it |
|---|---|---|
| rgb | ``img_00001.jpg`` | tsn-pytorch, mmaction2, TSM |
| flow, warpedflow | ``flow_x_00001.jpg``, ``flow_y_00001.jpg`` | the same |
| others | ``NAME_00001.jpg``, one for each channel where they are stacked: ``NAME_0_00001.jpg`` | |

Numbers begin at 1, as tsn-pytorch (``dataset.py``: ``img_{:05d}.jpg``, indices + 1) and mmaction2
(``start_index=1``) expect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from tsn_core.errors import InputError
from tsn_core.manifest import check_relative
from tsn_core.modality import Modality, StoredModality

FRAMES_FOLDER = "rawframes"
FIRST_NUMBER = 1


def prefixes(kind: Modality) -> tuple[str, ...]:
    """Return what the names of a unit's images begin with, one for each image.

    Examples:
        >>> from tsn_core.modality import get_modality
        >>> prefixes(get_modality("rgb")), prefixes(get_modality("flow"))
        (('img_',), ('flow_x_', 'flow_y_'))
    """
    if kind.name == "rgb":
        return ("img_",)
    if not kind.stacked:
        return (f"{kind.name}_",)
    if kind.like == "flow" and kind.unit_channels == 2:
        return ("flow_x_", "flow_y_")
    return tuple(f"{kind.name}_{channel}_" for channel in range(kind.unit_channels))


def image_name(prefix: str, place: int, ending: str) -> str:
    """Return the name of the image at a 0-based place.

    Examples:
        >>> image_name("img_", 0, "jpg")
        'img_00001.jpg'
    """
    return f"{prefix}{place + FIRST_NUMBER:05d}.{ending}"


def check_apart(modalities: Sequence[StoredModality]) -> None:
    """Check that no two modalities would have images of the same names.

    Raises:
        InputError: Two have.
    """
    taken: dict[str, str] = {}
    for modality in modalities:
        for prefix in prefixes(modality.kind):
            other = taken.setdefault(prefix, modality.folder)
            if other != modality.folder:
                raise InputError(
                    f"{other} and {modality.folder} would both be {prefix}00001.jpg; "
                    f"export the folder of one of them, such as SHARDS/{modality.folder}"
                )


def folder_names(names: Iterable[str], *, dots: bool = True) -> dict[str, str]:
    """Return a folder for each video: its name without the ending, if no other has the same.

    Args:
        names: Of the videos; paths with ``/``.
        dots: Whether there may be dots in the names; WebDataset ends a sample's key at the first.

    Returns:
        By name of the video; without blanks, at which list files end a path.

    Raises:
        InputError: A name leads out of the folder.

    Examples:
        >>> folder_names(["walk/a.avi", "walk/b.avi", "walk/b.mp4"])
        {'walk/a.avi': 'walk/a', 'walk/b.avi': 'walk/b', 'walk/b.mp4': 'walk/b.mp4'}
        >>> folder_names(["a.b.avi", "a_b.avi"], dots=False)
        {'a.b.avi': 'a_b', 'a_b.avi': 'a_b-2'}
    """
    paths = {name: PurePosixPath(check_relative(name)) for name in names}
    # walk/a.avi lies in walk, so walk.avi must not: its folder would seem to be there already
    taken = {
        _folder(above, dots).casefold() for path in paths.values() for above in path.parents[:-1]
    }
    found = {}
    for name, path in paths.items():
        short = _folder(path.with_suffix(""), dots)
        wanted = [short, _folder(path, dots)] if dots else [short]
        number = 1
        while wanted[0].casefold() in taken:  # as file systems see it that fold cases
            number += 1
            wanted = wanted[1:] or [f"{short}-{number}"]
        taken.add(wanted[0].casefold())
        found[name] = wanted[0]
    return found


def _folder(path: PurePosixPath, dots: bool) -> str:
    """Return a path without blanks, whose every part names something."""
    parts = ("_".join(part.split()) for part in str(path).split("/"))
    named = "/".join(part if part.strip(".") else "_" for part in parts)
    return named if dots else named.replace(".", "_")


def to_runs(numbers: Sequence[int]) -> list[list[int]]:
    """Return ``[first, count]`` for each run of consecutive numbers.

    Examples:
        >>> to_runs([3, 4, 5, 9, 9])
        [[3, 3], [9, 1], [9, 1]]
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return runs


def from_runs(runs: Sequence[Sequence[int]], most: int) -> list[int]:
    """Return the numbers of ``to_runs``.

    Args:
        runs: ``[first, count]`` each.
        most: How many numbers there may be.

    Raises:
        InputError: There are more, or it is something else.
    """
    numbers: list[int] = []
    for run in runs:
        if len(run) != 2 or any(type(value) is not int for value in run):
            raise InputError(f"[first, count] expected, got {run!r}")
        first, count = run
        if not 0 <= first < 1 << 31 or not 0 < count <= most - len(numbers):
            raise InputError(f"[first, count] within {most} numbers expected, got {run!r}")
        numbers.extend(range(first, first + count))
    return numbers
