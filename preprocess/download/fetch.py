"""An archive from the first of its sources that hands out the right file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from preprocess.download.display import Display
from preprocess.download.published import Archive, Source
from preprocess.download.receipt import Entry
from preprocess.download.transfer import Transfer
from tsn_core.errors import DownloadError, InputError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """An archive on this machine.

    Attributes:
        path: Where it is.
        role: ``videos`` or ``splits``.
        entry: For the receipt.
    """

    path: Path
    role: str
    entry: Entry


def fetch(archive: Archive, folder: Path, display: Display) -> Fetched:
    """Download an archive, or use what is there of it.

    Args:
        archive: Its sources are tried in their order.
        folder: Where to put it.
        display: Shows how far it is.

    Raises:
        DownloadError: No source works; the message names all and why.
        OutputError: It cannot be written.
    """
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    problems: list[str] = []
    for source in archive.sources:
        part = folder / f"{source.name}.part"
        with display.step(source.name) as show:
            transfer = Transfer(part, source.known_hash is not None, show)
            try:
                pooch.retrieve(
                    source.url,
                    source.known_hash,
                    fname=source.name,
                    path=folder,
                    downloader=transfer,
                )
            except DownloadError as error:
                problems.append(str(error))
                display.tell(f"{error}")
                continue
            except ValueError:
                found = file_hash(part if part.exists() else folder / source.name, source)
                transfer.discard()
                problems.append(
                    f"{source.url}: {source.known_hash} expected, got {found}; the file there is "
                    "another or was damaged on its way"
                )
                display.tell(problems[-1])
                continue
        transfer.discard()
        path = folder / source.name
        return Fetched(path, archive.role, entry_of(path, source.url, source.vouched_by))
    raise DownloadError(
        f"{archive.sources[0].name}: no source has it ({'; '.join(problems)}); name another with "
        "--mirror URL, or give the file itself with --archive FILE"
    )


def file_hash(path: Path, source: Source) -> str:
    """Return the checksum of a file in the algorithm of a source's, or why there is none."""
    import pooch

    algorithm = (source.known_hash or "sha256:").partition(":")[0]
    try:
        return pooch.file_hash(str(path), alg=algorithm)
    except OSError:
        return "another"


def entry_of(path: Path, origin: str, vouched_by: str) -> Entry:
    """Return what a receipt says about a file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return Entry(path.name, origin, digest.hexdigest(), size, vouched_by)


def with_mirrors(archive: Archive, mirrors: Sequence[str]) -> Archive:
    """Return an archive that is looked for on mirrors first.

    Args:
        archive: Of a dataset.
        mirrors: URLs of a file of one of its archives, or, with a slash at the end, of a folder
            with all of them.

    Examples:
        >>> archive = Archive("splits", 1, (Source("https://a/x_splits.rar", "md5:12"),))
        >>> [source.url for source in with_mirrors(archive, ["http://b/", "http://c/v.rar"]).sources]
        ['http://b/x_splits.rar', 'https://a/x_splits.rar']
    """
    known = {source.name: source for source in reversed(archive.sources)}
    first = archive.sources[0]
    extra: list[Source] = []
    for mirror in mirrors:
        if mirror.endswith("/"):
            extra.append(replace(first, url=f"{mirror}{first.name}"))
        elif role_of(Source(mirror).name) == archive.role:
            like = known.get(Source(mirror).name, Source(mirror))
            extra.append(replace(like, url=mirror))
    return replace(archive, sources=(*extra, *archive.sources))


def role_of(name: str) -> str:
    """Return what an archive of this name holds.

    Examples:
        >>> role_of("test_train_splits.rar"), role_of("UCF101.rar")
        ('splits', 'videos')
    """
    return "splits" if "split" in name.lower() else "videos"
