"""A folder in which Numba may keep compiled code.

Numba looks for such a folder itself, but it notices changes only in the file that holds the cached
function, not in the files that one imports, and it fails where no folder is writable. So the
folder's name carries a digest of all sources here, and there is always the temporary folder.
"""

import getpass
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsn_core.notice import say


def is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder; it is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run under a number without a name
        return "user"


def cache_folder(sources: list[Path]) -> Path:
    """Return a writable folder for code compiled from these sources, and create it.

    The first choice is the folder that ``NUMBA_CACHE_DIR`` names, or ``__pycache__`` beside the
    sources; then the user's cache folder; then the temporary folder. Where it is not the first
    choice, a ``UserWarning`` says so and ``NUMBA_CACHE_DIR`` is set for this process and those it
    starts, so that these neither warn nor compile again.

    Args:
        sources: All Python files that the compiled code comes from, in one folder.

    Returns:
        The folder; its name changes with the sources.
    """
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    name = f"{sources[0].stem}-{digest}"
    named = os.environ.get("NUMBA_CACHE_DIR")
    wanted = Path(named) if named else sources[0].parent / "__pycache__"
    if is_writable(wanted / name):
        return wanted / name
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for base in (home / "tsn-shards", Path(tempfile.gettempdir()) / f"tsn-shards-{_user_name()}"):
        if is_writable(base / name):
            warnings.warn(
                f"{wanted}: compiled code cannot be kept there, using {base}; "
                "set NUMBA_CACHE_DIR to a folder that is writable",
                stacklevel=2,
            )
            os.environ["NUMBA_CACHE_DIR"] = str(base)
            return base / name
    raise OSError(f"{tempfile.gettempdir()}: no folder for compiled code is writable")


@contextmanager
def numba_cache(sources: list[Path], what: str) -> Iterator[Path]:
    """Let functions decorated inside this context keep their code in ``cache_folder(sources)``.

    Args:
        sources: All Python files that the compiled code comes from, in one folder.
        what: It computes; where nothing is compiled yet, a line says that it will be.
    """
    import numba

    folder = cache_folder(sources)
    if not any(folder.glob("*.nbi")):  # Numba's index of what is compiled
        say(f"compiling {what} for this processor, once; this takes up to a minute")
    settings: Any = numba.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(folder)
    try:
        yield folder
    finally:
        settings.CACHE_DIR = before
