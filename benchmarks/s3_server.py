"""A local S3, moto's in a process of its own, that counts the requests and bytes that it is sent.

Requests are counted as a store bills them: lists, writes, reads and looks (HEAD); deletions are free. moto needs 0.3
seconds for a page of a listing of 40,000 files, most of it to write XML, so a page is kept until something is written.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import NamedTuple
from wsgiref.types import StartResponse, WSGIEnvironment

BUCKET = "bucket"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class RequestCount:
    """Requests by kind, and bytes to and from the store."""

    list: int = 0
    write: int = 0
    read: int = 0
    look: int = 0
    delete: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def __sub__(self, other: "RequestCount") -> "RequestCount":
        """Return what was counted since `other`."""
        return RequestCount(**{name: value - getattr(other, name) for name, value in asdict(self).items()})

    @property
    def total(self) -> int:
        """All requests."""
        return self.list + self.write + self.read + self.look + self.delete

    def describe(self) -> str:
        """Return the counts as the end of a line; empty where there are none."""
        if not self.total:
            return ""
        kinds = ", ".join(f"{getattr(self, kind):,} {kind}" for kind in ("list", "write", "read", "look", "delete"))
        return f"; {self.total:,} requests ({kinds}), {self.bytes_up / 1e6:.1f} MB up, {self.bytes_down / 1e6:.1f} down"


def count_kind(method: str, path: str, query: str) -> str:
    """Return the kind of a request."""
    whole_bucket = not path.strip("/").partition("/")[2]
    if method == "GET":
        return "list" if whole_bucket or "list-type" in query else "read"
    return {"HEAD": "look", "DELETE": "delete"}.get(method, "delete" if "delete" in query else "write")


class Answer(NamedTuple):
    """What a request is answered with."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class BucketServer:
    """The server's address, and what it counted."""

    def __init__(self, address: str) -> None:
        self.address = address

    def count_requests(self) -> RequestCount:
        """Return all requests so far."""
        with urllib.request.urlopen(f"{self.address}/counted", timeout=30) as answer:
            return RequestCount(**json.load(answer))

    def put_files(self, prefix: str, files: Iterable[tuple[str, bytes]]) -> None:
        """Put files below a prefix, round the counting and the protocol: ten thousand trials would take minutes."""
        for name, content in files:
            request = urllib.request.Request(f"{self.address}/put/{prefix}/{name}", data=content, method="POST")
            urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def serve_bucket() -> Iterator[BucketServer]:
    """Serve an empty bucket."""
    with serve_store(sys.executable, __file__) as address:
        yield BucketServer(address)


@contextmanager
def serve_store(*command: str) -> Iterator[str]:
    """Yield the address that a server prints first, and let s3fs of this process and its children find it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **ENVIRONMENT})
    before = dict(os.environ)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        os.environ.update({**ENVIRONMENT, "AWS_ENDPOINT_URL": address, "NO_PROXY": "127.0.0.1"})
        yield address
    finally:
        os.environ.clear()
        os.environ.update(before)
        process.kill()
        process.wait()


def main() -> None:
    """Serves until it is killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import make_server
    from werkzeug.test import run_wsgi_app

    logging.getLogger("werkzeug").disabled = True  # or it tells of each request
    counted = Counter[str]()
    pages: dict[tuple[int, str, str], Answer] = {}
    changes, changing = 0, threading.Lock()
    application = DomainDispatcherApplication(create_backend_app)
    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")

    def count_change() -> None:
        nonlocal changes
        with changing:
            changes += 1
            pages.clear()

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method, query = environ["PATH_INFO"], environ["REQUEST_METHOD"], environ["QUERY_STRING"]
        if path == "/counted":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(counted).encode()]
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if path.startswith("/put/"):
            backend.put_object(BUCKET, path.removeprefix("/put/"), environ["wsgi.input"].read(length))
            count_change()
            start_response("200 OK", [("Content-Length", "0")])
            return []
        kind = count_kind(method, path, query)
        counted[kind] += 1
        counted["bytes_up"] += length
        page = changes, path, query
        found = pages.get(page) if kind == "list" else None
        if found is None:
            parts, status, headers = run_wsgi_app(application, environ)
            found = Answer(status, list(headers), b"".join(parts))
        if kind == "list" and found.status.startswith("200"):
            pages[page] = found
        elif kind in ("write", "delete"):
            count_change()
        counted["bytes_down"] += len(found.body)
        start_response(found.status, found.headers)
        return [found.body]

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=MotoRequestHandler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
