"""RAR and ZIP archives from elsewhere, member by member, without writing anything.

Only these formats are read: libarchive knows others that name files of this machine.
"""

from __future__ import annotations

import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tsn_core.errors import ArchiveError

SIGNATURE_BYTES = 8
_SIGNATURES = {
    b"Rar!\x1a\x07\x00": "rar",
    b"Rar!\x1a\x07\x01": "rar5",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without members
}
_BLOCK = 1 << 18
_MOST_NAME_BYTES, _MOST_DEPTH = 255, 32
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))]
)


class DamagedError(ArchiveError):
    """An archive cannot be read to its end by this reader; another may."""


@dataclass(frozen=True)
class Member:
    """What an archive says about one of its members.

    Attributes:
        name: Its path there, not yet checked.
        kind: ``file``, ``folder``, or what else it is.
        blocks: Yields its bytes; only while it is the current member.
    """

    name: str
    kind: str
    blocks: Callable[[], Iterator[bytes]]


def archive_kind(head: bytes) -> str | None:
    r"""Return ``rar``, ``rar5`` or ``zip``, from the first bytes of a file; None if it is neither.

    Examples:
        >>> archive_kind(b"PK\x03\x04 and more"), archive_kind(b"<html>")
        ('zip', None)
    """
    return next((kind for start, kind in _SIGNATURES.items() if head.startswith(start)), None)


def read_kind(path: Path) -> str:
    """Return the kind of an archive.

    Raises:
        ArchiveError: It cannot be read, or is of no kind that is known here.
    """
    try:
        with path.open("rb") as file:
            head = file.read(SIGNATURE_BYTES)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read: {error.strerror or error}") from None
    kind = archive_kind(head)
    if kind is None:
        raise ArchiveError(f"{path}: a RAR or ZIP archive expected, got a file that is neither")
    return kind


def safe_path(label: str, name: str) -> PurePosixPath:
    """Return the path of a member if it is one that every system can hold and that leads nowhere.

    Args:
        label: What messages call the archive.
        name: As the archive has it.

    Raises:
        ArchiveError: It is absolute, climbs out, or has characters that hide what it is.

    Examples:
        >>> safe_path("a.rar", "wave/b.avi")
        PurePosixPath('wave/b.avi')
    """
    why = _objection(name)
    if why:
        raise ArchiveError(
            f"{label}: the name {name[:200]!r} {why}; nothing was unpacked from here on, do not "
            "trust this archive"
        )
    return PurePosixPath(unicodedata.normalize("NFC", name))


def _objection(name: str) -> str:
    """Return why a name is refused; empty if it is not."""
    folded = unicodedata.normalize("NFKC", name)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts:
        return "is empty"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for letter in name):
        return "has control or invisible characters"
    if "\\" in folded or folded.count("/") != name.count("/"):
        return "has backslashes, or letters that look like slashes"
    if name.startswith("/") or ":" in folded:
        return "is absolute, or names a drive or stream"
    if ".." in folded.split("/"):
        return "climbs out of the folder"
    if len(parts) > _MOST_DEPTH or any(len(part.encode()) > _MOST_NAME_BYTES for part in parts):
        return "is too long or too deep"
    if any(part[-1] in ". " or part.partition(".")[0].lower() in _RESERVED for part in parts):
        return "is one that Windows reserves or changes"
    return ""


@contextmanager
def zip_errors() -> Iterator[None]:
    """Turn what zipfile raises for a damaged archive into a ``DamagedError``."""
    import zipfile
    import zlib

    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DamagedError(_plain(error)) from None


def _plain(error: Exception) -> str:
    """Return what an error of zipfile says, without the inner life of its objects."""
    text = str(error) or type(error).__name__
    return "it is encrypted" if "is encrypted" in text else text


def zip_members(path: Path) -> Iterator[Member]:
    """Yield the members of a ZIP archive.

    Raises:
        DamagedError: It is damaged, cut short or encrypted.
    """
    import zipfile

    with zip_errors():
        archive = zipfile.ZipFile(path)
    with archive:
        for info in archive.infolist():

            def blocks(info: zipfile.ZipInfo = info) -> Iterator[bytes]:
                with zip_errors(), archive.open(info) as file:
                    while block := file.read(_BLOCK):
                        yield block

            yield Member(info.orig_filename, zip_kind(info), blocks)


def zip_kind(info: object) -> str:
    """Return what a member is, as its ``ZipInfo`` says: file, folder, or what else."""
    mode = getattr(info, "external_attr", 0) >> 16
    name = getattr(info, "orig_filename", "")
    return file_kind(stat.S_IFMT(mode) or (stat.S_IFDIR if name.endswith("/") else stat.S_IFREG))


def file_kind(mode: int) -> str:
    """Return what a file type means, in words."""
    names = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link"}
    return names.get(mode, "device, socket or pipe")


def have_libarchive() -> bool:
    """Return whether libarchive and its Python module are there."""
    try:
        import libarchive  # noqa: F401
    except Exception:  # without the library itself, it fails in ways of its own
        return False
    return True


@contextmanager
def _rar_errors() -> Iterator[None]:
    from libarchive.exception import ArchiveError as LibraryError

    try:
        yield
    except LibraryError as error:
        raise DamagedError(str(getattr(error, "msg", None) or error)) from None


def rar_members(path: Path) -> Iterator[Member]:
    """Yield the members of a RAR archive, read by libarchive.

    Raises:
        DamagedError: It is damaged, cut short, encrypted, or packed in a way that libarchive does
            not know.
    """
    import libarchive

    with _rar_errors(), libarchive.file_reader(str(path), read_kind(path), "none") as archive:
        for entry in archive:
            name = entry.pathname
            if not isinstance(name, str):
                raise DamagedError("a member without a name, or with one that is not Unicode")
            kind = "hard link" if entry.islnk else file_kind(stat.S_IFMT(entry.filetype))

            def blocks(entry: libarchive.ArchiveEntry = entry) -> Iterator[bytes]:
                with _rar_errors():
                    yield from entry.get_blocks(_BLOCK)

            yield Member(name, kind, blocks)
