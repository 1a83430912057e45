"""List files of other tools: ``path num_frames label`` lines.

tsn-pytorch (``dataset.py``, ``VideoRecord``) and mmaction2 (``RawframeDataset``) read the same
lines; the paths of the former are relative to the working folder, those of the latter to
``data_prefix``. Both split lines at blanks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from preprocess.datasets.files import Line, read_lines
from tsn_core.errors import InputError

_SUBSET = re.compile(r"(?<![a-z])(train|val|test)(?:ing|idation)?(?![a-z])")
_SPLIT = re.compile(r"(?:split|list)?[_-]?0*([0-9]{1,6})(?![0-9])")


@dataclass(frozen=True)
class Listed:
    """One line.

    Attributes:
        line: Where it stands.
        path: Of the video's folder of images.
        num_frames: That it should have.
        label: Class id.
    """

    line: Line
    path: str
    num_frames: int
    label: int


def read_list(path: Path) -> list[Listed]:
    """Return the lines of a list file.

    Raises:
        InputError: It cannot be read, or a line is not ``path num_frames label``.
    """
    found = []
    for line in read_lines(path):
        parts = line.text.rsplit(maxsplit=2)
        numbers = parts[1:]
        if len(parts) != 3 or not all(text.isdecimal() and len(text) < 10 for text in numbers):
            raise line.error(f"'path num_frames label' expected, got {line.text!r}")
        folder = parts[0].replace("\\", "/").strip("/")
        found.append(Listed(line, folder, int(numbers[0]), int(numbers[1])))
    if not found:
        raise InputError(f"{path}: no videos listed; 'path num_frames label' lines expected")
    return found


def list_split(path: Path) -> tuple[str, int] | None:
    """Return (subset, split) that the name of a list file tells, or None.

    Examples:
        >>> [list_split(Path(name)) for name in ("ucf101_rgb_train_split_1.txt",
        ...     "hmdb51_val_split_2_rawframes.txt", "kinetics400_train_list_rawframes.txt",
        ...     "testlist03.txt", "all.txt")]
        [('train', 1), ('val', 2), ('train', 1), ('test', 3), None]
    """
    stem = path.stem.lower().replace("_", " ").replace("list", " list ")
    subset = _SUBSET.search(stem)
    if subset is None:
        return None
    after = stem[subset.end() :].replace(" ", "")
    number = _SPLIT.match(after)
    return subset[1], int(number[1]) if number else 1


def list_text(lines: list[tuple[str, int, int]]) -> str:
    """Return the text of a list file of (path, num_frames, label)."""
    return "".join(f"{path} {num_frames} {label}\n" for path, num_frames, label in lines)
