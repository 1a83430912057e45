"""One URL into one file, going on where an earlier attempt stopped.

The bytes so far lie in ``NAME.part``, what is known about them in ``NAME.part.json``: URL,
validator (ETag, or the time of the last change) and length. A server that sends another file, or
does not know about ranges, is read from the start again.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from preprocess.download.archive import SIGNATURE_BYTES, archive_kind
from tsn_core.atomic import unwritable, write_text
from tsn_core.errors import DownloadError
from tsn_core.version import __version__

if TYPE_CHECKING:
    from requests import Response

_CHUNK = 1 << 16  # what an interruption loses at most
_TRIES = 4  # one after the other without a new byte
_TIMEOUT_SECONDS = (20, 60)  # to connect, between two bytes
_MOST_WAIT_SECONDS = 30
_RANGE = re.compile(r"^bytes (?P<start>\d+)-\d+/(?P<total>\d+)$")
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


class _AgainError(Exception):
    """This attempt failed, another may not."""


@dataclass
class Transfer:
    """A downloader for pooch.

    Attributes:
        part: Where the bytes lie until all are there.
        trusted: Whether the whole file will be compared with a checksum: then bytes of one server
            may be completed by another.
        show: Told how many bytes are there, and of how many (None if unknown).
        sleep: Waits between two attempts.
    """

    part: Path
    trusted: bool
    show: Callable[[int, int | None], None]
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, url: str, output_file: str | Path, pooch: Any) -> None:
        """Fetch a URL, and give the file the name that pooch asks for.

        Raises:
            DownloadError: The server does not hand it out, or hands out something else.
            OutputError: It cannot be written.
        """
        self._complete(url)
        output = Path(output_file)
        output.unlink(missing_ok=True)
        try:
            os.link(self.part, output)  # a kill before the file is checked costs nothing
        except OSError:
            self.part.replace(output)

    def discard(self) -> None:
        """Remove what is there."""
        for path in (self.part, self._state_path):
            with suppress(FileNotFoundError):
                path.unlink()

    def _complete(self, url: str) -> None:
        failures = 0
        while True:
            before = self._have
            try:
                self._attempt(url)
                return
            except _AgainError as error:
                failures = 0 if self._have > before else failures + 1
                if failures >= _TRIES:
                    raise DownloadError(f"{url}: {error}, {failures} times") from None
                self.sleep(min(2.0**failures, _MOST_WAIT_SECONDS))

    @property
    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def _state_path(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _attempt(self, url: str) -> None:
        import requests

        state = self._state()
        start = self._have if self._may_go_on(url, state) else 0
        headers = {"Accept-Encoding": "identity", "User-Agent": f"tsn-shards/{__version__}"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if state.get("url") == url and state.get("validator"):
                headers["If-Range"] = str(state["validator"])
        try:
            with requests.get(url, stream=True, headers=headers, timeout=_TIMEOUT_SECONDS) as got:
                self._receive(url, got, start, state)
        except requests.exceptions.SSLError as error:
            raise DownloadError(_certificate(url, error)) from None
        except (
            requests.exceptions.ConnectionError,
            requests.exceptions.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise _AgainError(_reason(error)) from None
        except requests.exceptions.RequestException as error:
            raise DownloadError(f"{url}: {error}") from None

    def _may_go_on(self, url: str, state: dict[str, Any]) -> bool:
        if not self._have or not isinstance(state.get("length"), int):
            return False
        return self.trusted or (state.get("url") == url and bool(state.get("validator")))

    def _receive(self, url: str, got: Response, start: int, state: dict[str, Any]) -> None:
        if got.status_code == 416:
            if (
                got.headers.get("Content-Range")
                == f"bytes */{start}"
                == f"bytes */{state.get('length')}"
            ):
                return  # everything is there
            self.discard()
            raise _AgainError("the file has changed")
        if got.status_code == 429 or got.status_code >= 500:
            raise _AgainError(f"{got.status_code} {got.reason}")
        if got.status_code not in (200, 206):
            raise DownloadError(f"{url}: {got.status_code} {got.reason}")
        total: int | None
        if got.status_code == 206:
            place = _RANGE.match(got.headers.get("Content-Range", ""))
            if (
                place is None
                or int(place["start"]) != start
                or int(place["total"]) != state.get("length")
            ):
                self.discard()
                raise _AgainError("the file has changed")
            total = int(place["total"])
        else:
            start = 0
            length = got.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            validator = got.headers.get("ETag", "")
            if not validator or validator.startswith("W/"):
                validator = got.headers.get("Last-Modified", "")
            state = {"url": url, "validator": validator, "length": total}
        self._write(url, got, start, total, state)

    def _write(
        self, url: str, got: Response, start: int, total: int | None, state: dict[str, Any]
    ) -> None:
        try:
            if not start:
                self.discard()  # else a kill here would leave a note about other bytes
            write_text(self._state_path, json.dumps(state))
            with self.part.open("ab" if start else "wb") as file:
                self.show(start, total)
                for chunk in got.iter_content(_CHUNK):
                    if start == 0 and archive_kind(chunk[:SIGNATURE_BYTES]) is None:
                        file.truncate(0)
                        raise DownloadError(f"{url}: {_what_came(chunk)}")
                    file.write(chunk)
                    start += len(chunk)
                    self.show(start, total)
        except OSError as error:
            if error.errno is None:  # the network's, not the disk's
                raise
            remedy = "free space and run the same command again, which goes on from here"
            raise unwritable(self.part, error, remedy) from error
        if total is not None and start != total:
            if start > total:
                self.discard()
            raise _AgainError(f"cut off after {start} of {total} bytes")
        if start == 0:
            raise DownloadError(f"{url}: an empty file")


def _what_came(head: bytes) -> str:
    expected = "a RAR or ZIP archive expected, got"
    if b"<" not in head[:200].lstrip()[:1]:
        return f"{expected} something else that begins with {head[:8]!r}"
    title = _TITLE.search(head)
    words = " ".join(title[1].decode("utf-8", "replace").split()) if title else ""
    return f"{expected} a web page" + (f" titled {words!r}" if words else "")


def _certificate(url: str, error: Exception) -> str:
    host = urlsplit(url).hostname
    return (
        f"{url}: the certificate of {host} cannot be verified ({_reason(error)}); get the file "
        "with a browser and give it with --archive, or name a file with the missing certificates "
        "in REQUESTS_CA_BUNDLE"
    )


def _reason(error: BaseException) -> str:
    """Return what lies at the bottom of an error of requests."""
    while True:
        inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        inner = inner or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = str(getattr(error, "strerror", None) or error).partition("(_ssl.c")[0]
    return text.rpartition("] ")[2].strip() or type(error).__name__
