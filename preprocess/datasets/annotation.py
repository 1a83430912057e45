"""What list files say about videos, in the formats that action datasets come with.

The format is found by the content:

- lines of ``path label`` (those of mmaction2's video lists, too);
- CSV without a header, ``path,label`` and more (Moments in Time);
- CSV with a header that names ``label`` and ``youtube_id``, ``video_id``, ``id``, ``path`` or
  ``video``, and perhaps ``time_start``, ``time_end`` and ``split`` (Kinetics);
- JSON, ``{id: {"annotations": {"label": …, "segment": [start, end]}, "subset": …}}`` (Kinetics);
- JSON, ``[{"id": …, "template": …, "label": …}]`` (Something-Something), and its
  ``{class name: number}`` of all classes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from preprocess.datasets.files import VIDEO_SUFFIXES, Line, lines_of, read_text
from tsn_core.errors import InputError

_SUBSETS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_NAMES, _IDS = ("path", "video", "video_path", "file"), ("youtube_id", "video_id", "id")
_BRACKETS = re.compile(r"\[(.*?)\]")
_FILE_NAME = re.compile(
    r"(?:^|[_\-. ])(train|training|val|valid|validate|validation|test|testing)(?:set)?"
    r"(?:[_-]?(?:split|list)?[_-]?0*([1-9]\d?))?(?=[_\-. ]|$)",
    re.IGNORECASE,
)
_GIVEN = re.compile(r"^(train|val|test)(\d{0,2})=(.+)$", re.DOTALL)


class Item(Line):
    """An entry of a JSON file."""

    @property
    def where(self) -> str:
        """The file and the entry, for messages."""
        return f"{self.path}, entry {self.number}"


@dataclass(frozen=True)
class Entry:
    """What a list says about one video.

    Attributes:
        line: Where it stands.
        name: Path of the file, or, if ``by_id``, what its name begins with.
        label: Class name or number.
        subset: train, val or test, if the entry itself says so.
        times: Start and end in seconds, if it is said to be a part of a longer video.
        by_id: Whether the file is still to be found.
    """

    line: Line
    name: str
    label: str
    subset: str | None = None
    times: tuple[float, float] | None = None
    by_id: bool = False

    @property
    def stems(self) -> list[str]:
        """Names that its file may have, without ending, the likeliest first."""
        if self.times is None:
            return [self.name]
        start, end = (int(time) for time in self.times)
        return [f"{self.name}_{start:06d}_{end:06d}", f"{self.name}_{start}_{end}", self.name]


@dataclass
class Annotations:
    """Everything that one list file says.

    Attributes:
        path: Of the file.
        entries: One for each video.
        classes: Class names by number, where the file is a list of these; empty otherwise.
    """

    path: Path
    entries: list[Entry] = field(default_factory=list)
    classes: tuple[str, ...] = ()


def given_list(path: Path) -> tuple[Path, tuple[str, int] | None]:
    """Return the file, and (subset, split), of what stands behind ``--list``.

    ``train=FILE``, ``val2=FILE`` say it outright, otherwise the file's name may.

    Examples:
        >>> given_list(Path("kinetics400_val_list_videos.txt"))[1]
        ('val', 1)
        >>> given_list(Path("ucf101_train_split_2_videos.txt"))[1]
        ('train', 2)
        >>> given_list(Path("something-something-v2-validation.json"))[1]
        ('val', 1)
        >>> path, place = given_list(Path("test3=mine.csv"))
        >>> path.name, place
        ('mine.csv', ('test', 3))
        >>> given_list(Path("mine.csv"))[1] is None
        True
    """
    given = None if path.exists() else _GIVEN.match(str(path))
    if given is not None:
        return Path(given[3]), (given[1], int(given[2] or 1))
    matches = list(_FILE_NAME.finditer(path.stem))
    if not matches:
        return path, None
    return path, (_SUBSETS[matches[-1][1].lower()], int(matches[-1][2] or 1))


def read_annotations(path: Path) -> Annotations:
    """Return what a list file says, in whichever format it is.

    Raises:
        InputError: It cannot be read, or an entry is not what its format asks for; the message
            names it.
    """
    text = read_text(path)
    if text.lstrip()[:1] in ("[", "{"):
        content = _json(path, text)
        if isinstance(content, list):
            return Annotations(path, [_something(path, n, item) for n, item in _numbered(content)])
        if content and all(isinstance(value, int | str) for value in content.values()):
            return Annotations(path, classes=_classes(path, content))
        videos = content.get("database", content)
        if not isinstance(videos, dict):
            raise InputError(f"{path}: 'database' is no object of videos by id")
        return Annotations(
            path, [_kinetics(path, n, *item) for n, item in _numbered(videos.items())]
        )
    return Annotations(path, list(_entries_of_text(path, text)))


def _numbered(items: Any) -> Iterator[tuple[int, Any]]:
    return enumerate(items, start=1)


def _entries_of_text(path: Path, text: str) -> Iterator[Entry]:
    first = next(lines_of(path, text), None)
    if first is None:
        return
    cells = next(csv.reader([first.text]), [])
    columns = [cell.strip().lower() for cell in cells]
    if "label" in columns and len(columns) > 1:
        yield from _table(path, text, columns)
    elif any(name in columns for name in ("youtube_id", "video_id")):
        raise first.error("no column 'label'; videos without labels are of no use here")
    elif len(cells) > 1 and _is_video(cells[0]) and not _is_video(_before_label(first)):
        for line, row in _rows(path, text):
            if len(row) < 2:
                raise line.error(f"'path,label' expected, got {line.text!r}")
            yield Entry(line, _slashes(row[0]), row[1])
    else:
        for line in lines_of(path, text):
            name, label = line.path_and_label()
            if not _is_video(name) and any(map(_is_video, name.split())):
                raise line.error(f"one label expected, got {line.text!r}")
            yield Entry(line, name, label)


def _is_video(name: str) -> bool:
    return PurePosixPath(name.strip()).suffix.lower() in VIDEO_SUFFIXES


def _before_label(line: Line) -> str:
    return line.text.rsplit(maxsplit=1)[0]


def _slashes(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _rows(path: Path, text: str) -> Iterator[tuple[Line, list[str]]]:
    """Yield the rows of a CSV file that are not empty, their cells stripped."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield Line(path, reader.line_num, ",".join(cells)), cells
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: no CSV: {error}") from None


def _table(path: Path, text: str, columns: list[str]) -> Iterator[Entry]:
    named = next((name for name in (*_IDS, *_NAMES) if name in columns), None)
    if named is None:
        raise InputError(
            f"{path}: a column named {', '.join(_IDS)}, {', '.join(_NAMES)} expected beside "
            f"'label', got {', '.join(columns)}"
        )
    rows = _rows(path, text)
    next(rows)
    for line, row in rows:
        if len(row) != len(columns):
            raise line.error(f"{len(columns)} columns expected, got {len(row)}: {line.text!r}")
        cells = dict(zip(columns, row))
        name, label = cells[named], cells["label"]
        if not name or not label:
            raise line.error(f"'{named}' and 'label' expected, got {line.text!r}")
        yield Entry(
            line,
            _slashes(name) if named in _NAMES else name,
            label,
            _subset(line, cells.get("split", "")),
            _times(line, cells.get("time_start", ""), cells.get("time_end", "")),
            by_id=named in _IDS,
        )


def _subset(line: Line, text: Any) -> str | None:
    if text in ("", None):
        return None
    word = str(text).lower()
    subset = _SUBSETS.get(word) or _SUBSETS.get(re.split(r"[_\- ]", word)[-1])
    if subset is None:
        raise line.error(f"train, val or test expected, got {text!r}")
    return subset


def _times(line: Line, start: Any, end: Any) -> tuple[float, float] | None:
    if start in ("", None) and end in ("", None):
        return None
    try:
        times = float(start), float(end)
    except (TypeError, ValueError, OverflowError):
        times = (0.0, -1.0)
    if not 0 <= times[0] < times[1] < 1e6:
        raise line.error(f"start and end in seconds expected, got {start!r} and {end!r}")
    return times


def _json(path: Path, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise InputError(f"{path}: {twice!r} stands there twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON: {error}") from None


def _something(path: Path, number: int, item: Any) -> Entry:
    """Return an entry of Something-Something; its class is the template without brackets."""
    line = Item(path, number, "")
    if not isinstance(item, dict) or not isinstance(item.get("id"), str | int):
        raise line.error("an object with 'id' expected")
    label = item.get("template", item.get("label"))
    if not isinstance(label, str) or not label.strip():
        raise line.error("'template' or 'label' expected; videos without labels are of no use here")
    label = _BRACKETS.sub(r"\1", label) if "template" in item else label
    return Entry(line, str(item["id"]), label.strip(), by_id=True)


def _kinetics(path: Path, number: int, video: str, content: Any) -> Entry:
    line = Item(path, number, "")
    said = content.get("annotations") if isinstance(content, dict) else None
    if isinstance(said, list):
        if len(said) != 1:
            raise line.error(
                f"{video!r} has {len(said)} actions; one for each video expected (for long videos "
                "with several see docs/untrimmed.md)"
            )
        said = said[0]
    if not isinstance(said, dict) or not isinstance(said.get("label"), str) or not said["label"]:
        raise line.error(f"{video!r}: 'annotations' with a 'label' expected")
    segment = said.get("segment", [None, None])
    if not isinstance(segment, list) or len(segment) != 2:
        raise line.error(f"{video!r}: 'segment' of a start and an end expected")
    subset = _subset(line, content.get("subset"))
    return Entry(line, video, said["label"], subset, _times(line, *segment), by_id=True)


def _classes(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """Return the class names of an object of numbers by name, in their order."""
    numbers = {name: str(number) for name, number in content.items()}
    order = sorted(numbers, key=lambda name: (len(numbers[name]), numbers[name]))
    if [numbers[name] for name in order] != [str(number) for number in range(len(order))]:
        raise InputError(f"{path}: class names with numbers from 0 to {len(order) - 1} expected")
    return tuple(order)
