"""The whole way of a published dataset: fetch, check, unpack, count, put into place."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from preprocess.download.archive import read_kind
from preprocess.download.display import Display
from preprocess.download.fetch import Fetched, entry_of, fetch, file_hash, role_of, with_mirrors
from preprocess.download.layout import class_files, defect
from preprocess.download.published import Archive, Published, Source
from preprocess.download.receipt import RECEIPT_NAME, read_receipt
from preprocess.download.unpack import Unpacking, require_rar
from preprocess.progress import size_text
from tsn_core.atomic import unwritable
from tsn_core.errors import DownloadError, InputError, OutputError

_WORK, _KEPT, _LOCK = ".download", "archives", "lock"
_ROLES = ("videos", "splits")
_HEX = re.compile(r"^[0-9a-fA-F]{64}$")


@dataclass(frozen=True)
class Options:
    """What a user may want otherwise.

    Attributes:
        archives: Files on this machine that are used instead of downloads.
        mirrors: URLs that are tried first.
        sha256: ``HEX`` of the videos' archive, or ``NAME=HEX`` of any.
        keep_archives: Whether the downloaded archives stay.
        allow_incomplete: Whether a dataset of which something is missing is put into place.
    """

    archives: Sequence[Path] = ()
    mirrors: Sequence[str] = ()
    sha256: Sequence[str] = ()
    keep_archives: bool = False
    allow_incomplete: bool = False


def download_dataset(
    published: Published, out: Path, options: Options, display: Display
) -> str | None:
    """Bring a published dataset into a folder, as ``extract`` reads it.

    Args:
        published: What and from where.
        out: The folder; an interrupted download in it goes on.
        options: What is to be otherwise.
        display: Shows how far it is.

    Returns:
        What is missing, if ``options`` allow that; None if the dataset is complete.

    Raises:
        DownloadError: An archive cannot be had, or is not what was published.
        ArchiveError: One is damaged or must not be unpacked.
        MissingDependencyError: Nothing here can read RAR archives.
        InputError: The folder holds something else, or the dataset is incomplete.
        OutputError: The folder cannot be written or the disk is full.
    """
    work = out / _WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work / _LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(f"{out}: another download is writing there; wait for it") from None
    except OSError as error:
        raise unwritable(out, error, "choose another --out") from error
    try:
        problem = _bring(published, out, work, options, display)
    finally:
        lock.release()
    shutil.rmtree(work, ignore_errors=True)
    return problem


def is_there(published: Published, out: Path) -> bool:
    """Return whether a folder holds the complete dataset."""
    return (out / "videos").is_dir() and not _defect(published, out, out)


def notice(published: Published) -> dict[str, str]:
    """Return what is to be known about a dataset."""
    return {"home": published.home, "terms": published.terms, "citation": published.citation}


def _bring(
    published: Published, out: Path, work: Path, options: Options, display: Display
) -> str | None:
    receipt = read_receipt(out / RECEIPT_NAME, published.name)
    wanted = [role for role in _ROLES if not (out / role).exists()]
    if not wanted:
        raise InputError(
            f"{out}: videos/ and splits/ are there already, but {_defect(published, out, out)}; "
            "move them away and run again"
        )
    _check_names(published, options)
    local = [given for given in _local(published, options) if given.role in wanted]
    roles = {given.role for given in local}
    archives = [
        with_mirrors(_expecting(archive, options.sha256), options.mirrors)
        for archive in published.archives
        if archive.role in wanted and archive.role not in roles
    ]
    if any(source.name.endswith(".rar") for a in archives for source in a.sources[:1]):
        require_rar(archives[0].sources[0].name)
    _check_space(published, out, work, wanted, archives)
    # the small one first: if its server is down, that is better known before hours of download
    archives.sort(key=lambda archive: archive.num_bytes)
    for given in chain(local, (fetch(archive, work, display) for archive in archives)):
        new = receipt.note(given.entry, out / RECEIPT_NAME)
        receipt.write(out / RECEIPT_NAME, notice(published))
        if new and not given.entry.vouched_by:
            display.tell(
                f"{given.entry.name}: nobody has published a checksum of it; its sha256 "
                f"{given.entry.sha256} is now in {out / RECEIPT_NAME} and compared from now on"
            )
        _unpack(published, given, work, display)
    whole = work / "whole"
    problem = _defect(published, *(whole if role in wanted else out for role in _ROLES))
    if problem and not options.allow_incomplete:
        for path in (whole, *work.glob("unpacked-*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise InputError(
            f"{published.name}: {problem}; try another archive (--archive, --mirror), or put it "
            "into place as it is with --allow-incomplete"
        )
    _put_into_place(out, work, wanted, keep_archives=options.keep_archives)
    receipt.num_videos = sum(map(len, class_files(out / "videos").values()))
    receipt.write(out / RECEIPT_NAME, notice(published))
    return problem or None


def _defect(published: Published, videos: Path, splits: Path) -> str:
    return defect(published, videos / "videos", splits / "splits")


def _local(published: Published, options: Options) -> list[Fetched]:
    """Return the archives that are here already, compared with published checksums.

    Raises:
        DownloadError: One has another checksum.
    """
    import pooch

    found = []
    for path in options.archives:
        read_kind(path)
        role = role_of(path.name)
        archive = next(archive for archive in published.archives if archive.role == role)
        known = {source.name: source for source in _expecting(archive, options.sha256).sources}
        source = known.get(path.name)
        if source is None:
            expected = next((value for value in _given(options.sha256, path.name, role)), None)
            source = Source(path.name, expected)
        if not pooch.hashes.hash_matches(str(path), source.known_hash):
            raise DownloadError(
                f"{path}: {source.known_hash} expected, got {file_hash(path, source)}; it is "
                "another file, or damaged; where you trust it, give its --sha256"
            )
        entry = entry_of(path, str(path), source.vouched_by if source.known_hash else "")
        found.append(Fetched(path, role, entry))
    return found


def _check_names(published: Published, options: Options) -> None:
    """Refuse a checksum of an archive that there is not: nothing would be compared with it.

    Raises:
        InputError: There is one.
    """
    names = [source.name for archive in published.archives for source in archive.sources]
    names += [path.name for path in options.archives]
    names += [Source(mirror).name for mirror in options.mirrors if not mirror.endswith("/")]
    for text in options.sha256:
        about = text.rpartition("=")[0]
        if about and about not in names:
            raise InputError(
                f"--sha256 {text}: no archive is called {about}; choose from "
                f"{', '.join(dict.fromkeys(names))}"
            )


def _given(sha256: Iterable[str], name: str, role: str) -> Iterator[str]:
    """Yield the checksums that the user gives for an archive."""
    for text in sha256:
        about, _, digest = text.rpartition("=")
        if not _HEX.match(digest):
            raise InputError(
                f"--sha256 {text}: 64 hexadecimal digits expected, or NAME=DIGITS of an archive"
            )
        if about == name or (not about and role == "videos"):
            yield f"sha256:{digest.lower()}"


def _expecting(archive: Archive, sha256: Iterable[str]) -> Archive:
    """Return an archive whose sources have the checksums that the user gives."""
    sources = []
    for source in archive.sources:
        for known_hash in _given(sha256, source.name, archive.role):
            source = replace(source, known_hash=known_hash, vouched_by="--sha256")
        sources.append(source)
    return replace(archive, sources=tuple(sources))


def _check_space(
    published: Published, out: Path, work: Path, wanted: Sequence[str], archives: Sequence[Archive]
) -> None:
    """Refuse before a download that the disk has no room for.

    Raises:
        OutputError: It has not.
    """
    there = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    unpacked = sum(archive.num_bytes for archive in published.archives if archive.role in wanted)
    need = unpacked + sum(archive.num_bytes for archive in archives) - there
    free = shutil.disk_usage(out).free
    if free < need:
        raise OutputError(
            f"{out}: about {size_text(need)} are needed there, {size_text(free)} are free; free "
            "space or choose another --out"
        )


def _unpack(published: Published, given: Fetched, work: Path, display: Display) -> None:
    """Unpack an archive, unless that has been done."""
    root = work / f"unpacked-{given.entry.sha256[:16]}"
    done = root.with_suffix(".done")
    if not done.exists():
        written = 0
        with display.step(f"unpacking {given.entry.name}") as show:

            def advance(num_bytes: int) -> None:
                nonlocal written
                written += num_bytes
                show(written, max(written, given.entry.num_bytes))  # videos can hardly be packed

            temporary = root.with_suffix(".tmp")
            Unpacking(root, published.place, advance, temporary).run(given.path)
        done.touch()
        shutil.rmtree(temporary, ignore_errors=True)
    for file in sorted(root.rglob("*")):
        if file.is_file():
            target = work / "whole" / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)


def _put_into_place(out: Path, work: Path, wanted: Sequence[str], *, keep_archives: bool) -> None:
    try:
        for role in wanted:
            (work / "whole" / role).mkdir(parents=True, exist_ok=True)
            (work / "whole" / role).replace(out / role)
        for path in work.iterdir() if keep_archives else ():
            if path.suffix in (".rar", ".zip"):
                (out / _KEPT).mkdir(exist_ok=True)
                path.replace(out / _KEPT / path.name)
    except OSError as error:
        raise unwritable(out, error) from error
