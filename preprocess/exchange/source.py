"""Images in folders and in ZIP archives, found by their names and read one by one.

Archives may come from anybody: nothing is unpacked to the disk, names must not lead out of the
folder, links are refused, and what one image may unpack to is bounded.
"""

from __future__ import annotations

import os
import re
import zipfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from preprocess.download.archive import DamagedError, read_kind, safe_path, zip_errors, zip_kind
from tsn_core.errors import ArchiveError, InputError, TSNError

_IMAGE = re.compile(r"([A-Za-z0-9_]*?)([0-9]{1,9})\.(jpg|jpeg|png)", re.IGNORECASE)
_SLOTS = {
    **dict.fromkeys(("img_", "image_", "frame_", "frame", ""), "img"),
    **dict.fromkeys(("flow_x_", "x_", "flow_u_"), "x"),
    **dict.fromkeys(("flow_y_", "y_", "flow_v_"), "y"),
}
_STEP = re.compile(r"_p[0-9]+_$")  # denseflow, src/common.cpp: flow over several frames
_AXES = {"x": "x", "u": "x", "flow_x": "x", "y": "y", "v": "y", "flow_y": "y"}
_AXIS_PARENTS = ("flow", "tvl1_flow", "flows")
_COLLECTIONS = re.compile(r"(rawframes|frames|jpegs_[0-9]+|images|rgb|flow|tvl1_flow)", re.I)
_SUBSETS = re.compile(r"(?:rawframes_)?(train|val|test)", re.I)
_PARTS_OF_VIDEO = ("img", "image", "flow_x", "flow_y")  # dense_flow -o zip: one for each slot
MOST_IMAGE_BYTES = 64 << 20
_MOST_RATIO, _ALWAYS_ALLOWED = 100, 1 << 20


@dataclass
class ImageRun:
    """The numbered images of one kind of one video.

    Attributes:
        container: The folder, or the archive.
        inner: Path of the images' folder within an archive; empty for folders.
        stem: What the names begin with, before the number.
        digits: To which numbers are filled up with zeros.
        ending: Of the names.
        numbers: Of the images; sorted once the scan is through.
    """

    container: Path
    inner: str
    stem: str
    digits: int
    ending: str
    numbers: array = field(default_factory=lambda: array("i"))

    def name(self, number: int) -> str:
        """Return the name of an image, as messages call it."""
        return f"{self.stem}{number:0{self.digits}d}.{self.ending}"


@dataclass
class FoundVideo:
    """One video's images, by slot: ``img``, ``x`` and ``y``, or what names begin with.

    Attributes:
        runs: By slot.
        subset: That the folder above tells, or None.
    """

    runs: dict[str, ImageRun] = field(default_factory=dict)
    subset: str | None = None


class ImageReader:
    """Reads images; keeps the last archive open. Use as a context manager; not for threads."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._archive: zipfile.ZipFile | None = None

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def read(self, run: ImageRun, number: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            InputError: It is not there, or too large.
            ArchiveError: The archive is damaged.
        """
        name = run.name(number)
        try:
            if run.container.is_dir():
                with (run.container / name).open("rb") as file:
                    data = file.read(MOST_IMAGE_BYTES + 1)
            else:
                data = self._read_member(run.container, f"{run.inner}{name}")
        except (OSError, KeyError, DamagedError) as error:
            reason = "not there" if isinstance(error, (FileNotFoundError, KeyError)) else error
            raise InputError(f"{name}: {reason}") from None
        if len(data) > MOST_IMAGE_BYTES:
            raise InputError(f"{name}: larger than {MOST_IMAGE_BYTES >> 20} MB")
        return data

    def _read_member(self, path: Path, name: str) -> bytes:
        with zip_errors():
            if path != self._path:
                if self._archive is not None:
                    self._archive.close()
                self._archive, self._path = zipfile.ZipFile(path), path
            assert self._archive is not None
            info = self._archive.getinfo(name)
            with self._archive.open(info) as file:
                return file.read(MOST_IMAGE_BYTES + 1)


def find_videos(sources: Sequence[Path]) -> dict[str, FoundVideo]:
    """Return all videos in folders and archives, by path, sorted.

    Raises:
        InputError: A source is not there, or has no images, or a video's images lie in two.
        ArchiveError: An archive is damaged, or must not be trusted.
    """
    videos: dict[str, FoundVideo] = {}
    for source in sources:
        number = 0
        for container, above, inner, name in _files(source):
            number += _add(videos, container, above, inner, name)
        if not number:
            if any(source.glob("*.tar")):
                raise InputError(
                    f"{source}: tars cannot be imported; unpack those of other tools, or export "
                    "the shards again with --to frames"
                )
            raise InputError(
                f"{source}: no images there; img_00001.jpg, flow_x_00001.jpg and so on in one "
                "folder for each video expected"
            )
    for video in videos.values():
        for run in video.runs.values():
            run.numbers = array("i", sorted(run.numbers))
    return dict(sorted(videos.items()))


def read_text(source: Path, name: str) -> str | None:
    """Return a text file at the top of a source, or None if it is not there."""
    try:
        if source.is_dir():
            return (source / name).read_text(encoding="utf-8")
        with zip_errors(), zipfile.ZipFile(source) as archive, archive.open(name) as file:
            data = file.read(MOST_IMAGE_BYTES + 1)
        if len(data) > MOST_IMAGE_BYTES:
            raise InputError(f"{source}/{name}: larger than {MOST_IMAGE_BYTES >> 20} MB")
        return data.decode()
    except (FileNotFoundError, KeyError):
        return None
    except DamagedError as error:
        raise _damaged(source, error) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{source}/{name}: cannot be read: {error}") from None


def _files(source: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield (container, folder of the video, folder within an archive, name) of every file."""
    if source.is_dir():
        yield from _folder_files(source, "")
    elif source.is_file():
        alone = source.stem
        for inner, name in _zip_files(source):
            yield source, inner.rstrip("/") or alone, inner, name
    else:
        raise InputError(f"{source}: no such folder or ZIP archive")


def _folder_files(folder: Path, above: str) -> Iterator[tuple[Path, str, str, str]]:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            raise InputError(
                f"{entry.path}: a link; give what it leads to as a source of its own, or copy it"
            )
        path = f"{above}{entry.name}"
        if entry.is_dir():
            yield from _folder_files(Path(entry.path), f"{path}/")
        elif entry.name.lower().endswith(".zip"):
            stem = entry.name[:-4]
            own = above.rstrip("/") if stem in _PARTS_OF_VIDEO else f"{above}{stem}"
            for inner, name in _zip_files(Path(entry.path)):
                parts = [own, *inner.rstrip("/").split("/")]
                if parts[1] in ("", stem):
                    del parts[1]
                yield Path(entry.path), "/".join(parts), inner, name
        else:
            yield folder, above.rstrip("/"), "", entry.name


def _zip_files(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (folder with ``/``, name) of every file in an archive, once all of it is checked."""
    if read_kind(path) != "zip":
        raise ArchiveError(f"{path}: a ZIP archive expected; unpack others first")
    try:
        with zip_errors(), zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except DamagedError as error:
        raise _damaged(path, error) from None
    for info in infos:
        safe_path(path.name, info.orig_filename)
        kind = zip_kind(info)
        if kind not in ("file", "folder"):
            raise ArchiveError(f"{path}: {info.filename} is a {kind}; do not trust this archive")
        allowed = max(_ALWAYS_ALLOWED, _MOST_RATIO * info.compress_size)
        if kind == "file" and info.file_size > allowed:
            raise ArchiveError(
                f"{path}: {info.filename} unpacks to {info.file_size} bytes from "
                f"{info.compress_size}; do not trust this archive"
            )
    for info in infos:
        if zip_kind(info) == "file":
            head, slash, name = info.filename.rpartition("/")
            yield head + slash, name


def _damaged(path: Path, error: DamagedError) -> TSNError:
    """Return the error of an archive that cannot be read, or of a file that never was one."""
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        return InputError(f"{path}: a folder of images, or a ZIP archive of them, expected")
    return ArchiveError(f"{path}: damaged or cut short: {error}; copy it again")


def _add(videos: dict[str, FoundVideo], container: Path, above: str, inner: str, name: str) -> bool:
    """Add a file to its video; return whether it is an image."""
    match = _IMAGE.fullmatch(name)
    if match is None:
        return False
    stem, digits, ending = match.groups()
    slot = _SLOTS.get(_STEP.sub("_", stem), stem)
    parts = above.split("/") if above else []
    subset = None
    if slot == "img" and stem in ("", "frame", "frame_"):  # in a folder for each axis
        places = [place for place, part in enumerate(parts) if part in _AXES]
        if places:
            slot = _AXES[parts[places[-1]]]
            del parts[places[-1]]
            if places[-1] and parts[places[-1] - 1] in _AXIS_PARENTS:
                del parts[places[-1] - 1]
    while len(parts) > 1 and subset is None:
        found = _SUBSETS.fullmatch(parts[0])
        subset = found[1].lower() if found else None
        if found is None and not _COLLECTIONS.fullmatch(parts[0]):
            break
        del parts[0]
    key = "/".join(parts) or container.name
    video = videos.setdefault(key, FoundVideo(subset=subset))
    run = video.runs.get(slot)
    if run is None:
        run = video.runs[slot] = ImageRun(container, inner, stem, len(digits), ending)
    if (run.container, run.inner, run.stem, run.ending) != (container, inner, stem, ending):
        raise InputError(
            f"{key}: images of one kind in two places or forms, {run.container} and {container}; "
            "import them apart"
        )
    run.digits = min(run.digits, len(digits))
    run.numbers.append(int(digits))
    return True
