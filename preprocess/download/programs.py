"""Programs that unpack RAR archives, where libarchive cannot."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from preprocess.download.archive import DamagedError, Member, file_kind

_COMMANDS = {
    "unar": ["-quiet", "-no-directory", "-force-skip", "-output-directory", "{folder}", "{path}"],
    "bsdtar": ["-x", "-f", "{path}", "-C", "{folder}"],
    "unrar": ["x", "-idq", "-y", "-o-", "-p-", "{path}", "{folder}/"],
    "7zz": ["x", "-y", "-bd", "-p-", "-o{folder}", "{path}"],
    "7z": ["x", "-y", "-bd", "-p-", "-o{folder}", "{path}"],
}
INSTALL = (
    "install libarchive and its module (pip install 'tsn-shards[archives]', and "
    "apt install libarchive13 or brew install libarchive), or one of the programs unar "
    "(apt install unar, brew install unar), bsdtar (apt install libarchive-tools; part of macOS "
    "and Windows), unrar or 7-Zip (winget install 7zip.7zip)"
)
_BLOCK = 1 << 20


def programs() -> list[tuple[str, str]]:
    """Return (name, path) of the programs that are there."""
    found = ((name, shutil.which(name)) for name in _COMMANDS)
    return [(name, path) for name, path in found if path]


def program_members(program: tuple[str, str], path: Path, folder: Path) -> Iterator[Member]:
    """Unpack an archive into an empty folder and yield what is there then.

    Args:
        program: Name and path, of ``programs()``.
        path: Of the archive.
        folder: Where to; removed at the end.

    Raises:
        DamagedError: The program fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _run(program, path.absolute(), folder.absolute())
        for place, folders, files in os.walk(folder):
            for name in sorted(folders + files):
                file = Path(place, name)
                yield _member(file, file.relative_to(folder).as_posix())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: tuple[str, str], path: Path, folder: Path) -> None:
    name, executable = program
    command = [part.format(path=path, folder=folder) for part in _COMMANDS[name]]
    result = subprocess.run(
        [executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if result.returncode:
        said = result.stdout.decode("utf-8", "replace").strip().splitlines()
        raise DamagedError(said[-1] if said else f"status {result.returncode}")


def _member(file: Path, name: str) -> Member:
    mode = file.lstat().st_mode

    def blocks() -> Iterator[bytes]:
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                yield block

    return Member(name, file_kind(stat.S_IFMT(mode)), blocks)
