"""A server on this machine that behaves as well, or as badly, as a test wants."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file.

    Attributes:
        data: Its bytes.
        etag: Its validator; empty for none.
        ranges: Whether parts of it are handed out.
        cuts: After how many bytes the connection breaks, at each of the next requests.
        status: Of every answer, 200 for the file.
        location: Where to redirect to.
        content_length: Whether its length is told.
    """

    data: bytes
    etag: str = '"1"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    status: int = 200
    location: str = ""
    content_length: bool = True
    unasked_range: bool = False


class Handler(BaseHTTPRequestHandler):
    """Hands out ``server.files``, and notes what was asked for."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        served = self.server.files.get(self.path, Served(b"", status=404))
        if served.location:
            self.send_response(302)
            self.send_header("Location", served.location)
            self.end_headers()
            return
        if served.status != 200:
            self.send_error(served.status)
            return
        start = self.start_of(served)
        if start is not None and start >= len(served.data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(served.data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200 if start is None else 206)
        total = len(served.data)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        body = served.data[start or 0 :]
        if served.etag:
            self.send_header("ETag", served.etag)
        if served.content_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: served.cuts.pop(0)] if served.cuts else body)

    def start_of(self, served):
        """Return where the range begins that is asked for and handed out."""
        if served.unasked_range:
            return 0
        asked = self.headers.get("Range")
        valid = self.headers.get("If-Range") in (None, served.etag)
        if not asked or not served.ranges or not valid:
            return None
        return int(asked.removeprefix("bytes=").partition("-")[0])


@contextmanager
def serving(files: dict[str, Served]) -> Iterator[tuple[Callable[[str], str], list]]:
    """Serve files; yield what makes a URL of a path, and the list of (path, range) asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked = files, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield (lambda path: f"http://127.0.0.1:{server.server_port}{path}"), server.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
