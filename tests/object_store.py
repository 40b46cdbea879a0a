"""An S3 server of this process, moto's, that answers late, wrongly or not at all when a test says so."""

import logging
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import boto3
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

BUCKET: Final = "bucket"
Fault = Literal["InternalError", "SlowDown", "reset", "answer lost", "silence"]
STATUS: Final = {"InternalError": "500 Internal Server Error", "SlowDown": "503 Slow Down"}
PASSING: Final[tuple[Fault, ...]] = ("InternalError", "SlowDown", "reset", "answer lost")
"""What is over at the next request. `answer lost` does what was asked; `silence` lasts until faults are mended."""
DROPPED: Final = struct.pack("ii", 1, 0)
"""A socket that lingers for no time is reset, not closed."""


@dataclass
class Store:
    """Where the server is, and what goes wrong there: one of `kinds` happens to `share` of the requests that
    have `only` in their line, and all come after `latency`. `asked` are the methods of all, LIST for a listing."""

    address: str = ""
    share: float = 0.0
    only: str = ""
    kinds: tuple[Fault, ...] = PASSING
    latency: float = 0.0
    happened: Counter[str] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(7))
    _mended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def failing(
        self, *kinds: Fault, share: float = 1.0, only: str = "", latency: float = 0.0
    ) -> Iterator[Counter[str]]:
        """Faults for a while; how often each kind happened."""
        self.kinds, self.latency, self.happened = kinds or PASSING, latency, Counter()
        self._mended.clear()
        self.share, self.only = share, only
        try:
            yield self.happened
        finally:
            self.mend()

    def mend(self) -> None:
        """Everything is answered at once from now on."""
        self.share = self.latency = 0.0
        self._mended.set()

    def names(self) -> list[str]:
        """All objects, and uploads that were not finished."""
        client = self.client()
        objects = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        parts = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return sorted([each["Key"] for each in objects] + [f"{each['Key']} (unfinished)" for each in parts])

    def client(self) -> Any:
        """A client that knows nothing of gapctl."""
        return boto3.client("s3", endpoint_url=self.address)

    def _fault(self, environ: Mapping[str, Any]) -> Fault | None:
        line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        return self._random.choice(self.kinds) if self.only in line and self._random.random() < self.share else None

    def _through(self, application: Any) -> Any:
        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            kind = "LIST" if "list-type" in environ["QUERY_STRING"] else environ["REQUEST_METHOD"]
            self.asked.append(kind)
            time.sleep(self.latency)
            fault = self._fault(environ)
            if fault is None:
                answered: Iterable[bytes] = application(environ, start_response)
                return answered
            self.happened[fault] += 1
            if fault in STATUS:
                said = f"<Error><Code>{fault}</Code><Message>{fault}, says the test</Message></Error>".encode()
                start_response(STATUS[fault], [("Content-Type", "application/xml"), ("Content-Length", str(len(said)))])
                return [] if environ["REQUEST_METHOD"] == "HEAD" else [said]
            if fault == "answer lost":
                list(application(environ, lambda *_: None))
            elif fault == "silence":
                self._mended.wait(timeout=60)
            connection = environ["werkzeug.socket"]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DROPPED)
            connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError

        return answer


@contextmanager
def object_store() -> Iterator[Store]:
    """The server with an empty bucket, found through the environment as any other store would be, also by processes."""
    from s3fs import S3FileSystem

    logging.getLogger("werkzeug").disabled = True  # or it tells of each request
    store = Store()
    application = store._through(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    store.address = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": store.address,
            "AWS_ACCESS_KEY_ID": "a key",
            "AWS_SECRET_ACCESS_KEY": "a secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            environment.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # of a server that is gone
        store.client().create_bucket(Bucket=BUCKET)
        yield store
        store.mend()
    S3FileSystem.clear_instance_cache()
    server.shutdown()
    thread.join()
