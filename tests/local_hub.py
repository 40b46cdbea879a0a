"""A hub of data sets on this machine, in the protocol of Hugging Face's: what huggingface_hub asks for, it answers."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LocalHub(ThreadingHTTPServer):
    """Serves the files below `folder` as the data set `repository`.

    `status` answers everything with an error, `break_off` hangs up after so many bytes of each answer as often as its
    count says, and `spoilt` files arrive with another content than the hub says. `asked` counts downloads by path, and
    `ranges` are the ranges that were asked for.
    """

    def __init__(self, folder: Path, repository: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.folder, self.repository = folder, repository
        self.status: int | None = None
        self.break_off: tuple[int, int] | None = None
        self.spoilt: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answering(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(send_content=False)

    def do_GET(self) -> None:
        self._answer(send_content=True)

    def _answer(self, *, send_content: bool) -> None:
        start = f"/datasets/{self.server.repository}/resolve/main/"
        stored = self.path.startswith("/store/")
        name = self.path.removeprefix("/store/" if stored else start)
        path = self.server.folder / name
        if self.server.status is not None:
            self._refuse(self.server.status, "")
        elif not (stored or self.path.startswith(start)):
            self._refuse(404, "RepoNotFound")
        elif not path.is_file():
            self._refuse(404, "EntryNotFound")
        elif path.suffix == ".tar" and not stored:  # large files lie in another place, as with Git LFS
            self._redirect(name, path.read_bytes())
        else:
            self._send(name, path.read_bytes(), send_content=send_content)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _redirect(self, name: str, content: bytes) -> None:
        self.send_response(302)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Location", f"http://localhost:{self.server.server_port}/store/{name}")  # of another host
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, name: str, content: bytes, *, send_content: bool) -> None:
        wanted = self.headers.get("Range")
        begin = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        if name in self.server.spoilt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(206 if wanted else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - begin))
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not send_content:
            return
        self.server.asked[name] += 1
        if wanted:
            self.server.ranges.append(wanted)
        end = len(content)
        if self.server.break_off is not None and name.endswith(".tar") and self.server.break_off[1]:
            after, times = self.server.break_off
            self.server.break_off = (after, times - 1)
            end, self.close_connection = min(end, begin + after), True
        self.wfile.write(content[begin:end])

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving(folder: Path, repository: str) -> Iterator[LocalHub]:
    """The hub while it runs."""
    hub = LocalHub(folder, repository)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
