"""An S3 store on this machine that counts what is asked of it, and can be told to fail."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tsn_core.location import location

_numbers = count()


@dataclass(frozen=True)
class Request:
    """What somebody asked: ``GET``, the object without its bucket, and the bytes of the answer."""

    method: str
    name: str
    query: str
    size: int


class Store:
    """Moto's server with a bucket of its own.

    Attributes:
        requests: Answered so far.
        fault: Asked with (method, name, query) before every request; true makes it fail.
    """

    def __init__(self, endpoint: str) -> None:
        self.client = boto3.client("s3", endpoint_url=endpoint)
        self.bucket = f"bucket-{next(_numbers)}"
        self.client.create_bucket(Bucket=self.bucket)
        self.requests: list[Request] = []
        self.fault: Callable[[str, str, str], bool] = lambda *_: False

    def path(self, key: str = "shards") -> Path:
        """Return a location in the bucket."""
        return location(f"s3://{self.bucket}/{key}")

    def names(self) -> list[str]:
        """Return what lies in the bucket."""
        return [
            entry["Key"]
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
            for entry in page.get("Contents", [])
        ]

    def tree(self, key: str) -> dict[str, bytes]:
        """Return the content of every visible object below a prefix, by relative name."""
        return {
            name.removeprefix(f"{key}/"): self.get(name)
            for name in self.names()
            if name.startswith(f"{key}/") and not name.rpartition("/")[2].startswith(".")
        }

    def get(self, key: str) -> bytes:
        """Return an object."""
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        """Make or replace an object."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def put_tree(self, folder: Path, key: str = "shards") -> None:
        """Upload a folder."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{key}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def unfinished(self) -> list[Any]:
        """Return the multipart uploads that were neither completed nor given up."""
        return self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])

    @contextmanager
    def counted(self) -> Iterator[list[Request]]:
        """Yield a list that holds the requests made meanwhile, once they are over."""
        before, made = len(self.requests), []
        yield made
        made.extend(self.requests[before:])


class _Watch:
    """Stands before the server: reports each request to the store of its bucket."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.stores: dict[str, Store] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        bucket, _, name = environ["PATH_INFO"].strip("/").partition("/")
        store = self.stores.get(bucket)
        method, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
        if store is not None and store.fault(method, name, query):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            text = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            start_response("403 Forbidden", [("Content-Length", str(len(text)))])
            return [text]
        body = b"".join(self._server(environ, start_response))
        if store is not None:
            store.requests.append(Request(method, name, query, len(body)))
        return [body]


@contextmanager
def served() -> Iterator[dict[str, Store]]:
    """Run the server and let the usual variables point to it; yield stores by bucket."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    watch = _Watch(server._server.app)
    server._server.app = watch
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield watch.stores
    server.stop()
