"""What all dataset layouts share: finding videos and reading list files."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tsn_core.errors import InputError

_ENDINGS = ".3gp .avi .flv .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv"
VIDEO_SUFFIXES = frozenset(_ENDINGS.split(" "))
_AUTOMATIC_TEST_FRACTION = 5  # every fifth video


@dataclass(frozen=True)
class Line:
    """A line of a list file that is not empty, and where it stands."""

    path: Path
    number: int
    text: str

    @property
    def where(self) -> str:
        """The file and the line, for messages."""
        return f"{self.path}, line {self.number}"

    def error(self, message: str) -> InputError:
        """Return an error that names the file and the line."""
        return InputError(f"{self.where}: {message}")

    def path_and_label(self) -> tuple[str, str]:
        """Split ``path label``; the path may hold blanks, the label may not.

        Raises:
            InputError: There is only one word.
        """
        parts = self.text.rsplit(maxsplit=1)
        if len(parts) != 2:
            raise self.error(f"'path label' expected, got {self.text!r}")
        return parts[0].replace("\\", "/").removeprefix("./"), parts[1]


def read_text(path: Path) -> str:
    """Return the text of a list file, without a byte order mark.

    Raises:
        InputError: It cannot be read as UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such list file") from None
    except IsADirectoryError:
        raise InputError(
            f"{path}: a text file expected, found a folder; name the file in it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: a text file in UTF-8 expected: {error}") from None


def lines_of(path: Path, text: str) -> Iterator[Line]:
    """Yield the lines of a text that are not empty, stripped."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Line(path, number, line.strip())


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a list file that are not empty, stripped.

    Raises:
        InputError: It cannot be read as UTF-8 text.
    """
    yield from lines_of(path, read_text(path))


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the class names in a file of one name a line.

    Raises:
        InputError: It cannot be read, or a name stands there twice.
    """
    names: dict[str, int] = {}
    for line in read_lines(path):
        first = names.setdefault(line.text, line.number)
        if first != line.number:
            raise line.error(f"duplicate class name {line.text!r}; it stands in line {first}")
    return tuple(names)


def class_ids(class_names: Iterable[str]) -> dict[str, int]:
    """Return the ids of classes by name; of one that stands there twice, the first."""
    ids: dict[str, int] = {}
    for number, name in enumerate(class_names):
        ids.setdefault(name, number)
    return ids


def existing_folder(data: Path, remedy: str) -> Path:
    """Return the dataset's folder.

    Raises:
        InputError: It is not there; ``remedy`` says what to put there and how to get it.
    """
    if not data.is_dir():
        raise InputError(f"{data}: no such folder; {remedy}")
    return data


def first_folder(data: Path, names: Iterable[str]) -> Path:
    """Return the first of the named subfolders that exists, or ``data`` itself."""
    return next((data / name for name in names if (data / name).is_dir()), data)


def class_videos(root: Path) -> dict[str, list[Path]]:
    """Return the video files of every class folder, both sorted by name.

    Folders without any file are no class folders if their names start with a dot or are those of
    split lists.

    Raises:
        InputError: There is no class folder, or one without videos, or one that cannot be read.
    """
    found = {}
    for folder in sorted(root.iterdir()):
        if not folder.is_dir() or folder.name.startswith(".") or folder.name == "splits":
            continue
        try:
            files = list(folder.iterdir())
        except OSError as error:
            raise InputError(
                f"{folder}: class folder cannot be read: {error.strerror}; allow that, or take it "
                "out of there"
            ) from None
        videos = sorted(
            file
            for file in files
            if file.suffix.lower() in VIDEO_SUFFIXES and not file.name.startswith(".")
        )
        if not videos:
            raise InputError(
                f"{folder}: class folder without videos; put some there or remove it "
                f"(known endings: {_ENDINGS})"
            )
        found[folder.name] = videos
    if not found:
        raise InputError(f"{root}: no class folders; one folder for each class expected")
    return found


def assign(splits: dict[int, str], split: int, subset: str, line: Line, name: str) -> None:
    """Put a video into a subset of a split.

    Raises:
        InputError: Another line put it into another subset of the same split.
    """
    if splits.setdefault(split, subset) != subset:
        raise line.error(f"{name} is for {splits[split]} in split {split} already")


def _hash(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()


_SPLIT_FILE = re.compile(r"^(train|val|test)(?:[_-]?(?:split|list)?[_-]?0*(\d+))?$", re.IGNORECASE)


def split_of(path: Path) -> tuple[str, int] | None:
    """Return (subset, split) that the name of a list file tells, or None.

    Examples:
        >>> split_of(Path("train_split_2.txt")), split_of(Path("val.txt")), split_of(Path("a.txt"))
        (('train', 2), ('val', 1), None)
    """
    match = _SPLIT_FILE.match(path.stem)
    return (match[1].lower(), int(match[2] or 1)) if match else None


def automatic_splits(videos: Iterable[tuple[str, int]]) -> dict[str, dict[int, str]]:
    """Return split 1 for videos that come without: every fifth of each class is for testing.

    Which ones follows from a hash of their names alone, so that it is the same on every machine.

    Args:
        videos: (name, label) of every video.

    Returns:
        ``{1: "train"}`` or ``{1: "test"}`` by name. A class of one video has none for testing.
    """
    classes = defaultdict(list)
    for name, label in videos:
        classes[label].append(name)
    splits = {}
    for names in classes.values():
        ranked = sorted(names, key=_hash)
        num_test = max(len(ranked) // _AUTOMATIC_TEST_FRACTION, min(len(ranked) - 1, 1))
        for place, name in enumerate(ranked):
            splits[name] = {1: "test" if place < num_test else "train"}
    return splits
