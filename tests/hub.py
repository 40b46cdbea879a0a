"""A hub of models and data sets on this machine, in the protocol that huggingface_hub's own client speaks.

Small files are answered in place, with the ETag of their git object. Weights and shards are answered with a redirect to
another origin, as the hub's storage is, with their sha256 as ETag; there ranges are served, so a broken download goes
on.
Faults are those that hubs have: a status for a repository or a file, a file that stops in the middle.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Final
from urllib.parse import parse_qs

import pytest

COMMIT: Final = "1" * 40
STORED: Final = (".safetensors", ".bin", ".pt", ".tar")
"""Endings of files that a hub keeps in its storage."""
REPOSITORY: Final = r"((?:datasets/)?[\w.-]+/[\w.-]+)"
"""A model's repository, or a data set's with its prefix."""


@dataclass
class Hub:
    """What is served, and what went wrong and was asked so far.

    `statuses` are answers in place of a repository (`organisation/name`) or of one of its files
    (`organisation/name/file`). `stops` are the bytes of a file after which the connection breaks, for good: what is
    asked from there on never comes. After each of those of `breaks` it breaks once. `spoilt` files arrive with another
    content than the hub says. `asked` lists every request: method, path and range. The repositories of data sets begin
    with `datasets/`. With a `token` the hub, though not its storage, refuses all who come without. Lists of files have
    `page` entries a piece.
    """

    address: str
    storage: str
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)
    breaks: dict[str, list[int]] = field(default_factory=dict)
    spoilt: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    token: str = ""
    page: int = 1000

    def add(self, repository: str, folder: Path) -> str:
        """Serve the files of a folder; return the name that `--model` takes."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        self.repositories[repository] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
        return f"hf-hub:{repository}"

    def downloads(self) -> list[str]:
        """The files whose content was sent, in order."""
        return [path for method, path, _ in self.asked if method == "GET" and "/storage/" in path]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve a hub, empty at first, on a port of this machine."""

    class Handler(_HubHandler):
        served: Hub

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in ("hub", "storage")]
    Handler.served = hub = Hub(*(f"http://127.0.0.1:{server.server_port}" for server in servers))
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def make_environment(hub: Hub, cache: Path) -> dict[str, str]:
    """What a process needs for that hub: its address, a cache of its own, and short patience."""
    return {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(cache),
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        "HF_HUB_ETAG_TIMEOUT": "2",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def use_hub(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process ask that hub, as if it had begun with `make_environment`, which the library reads once."""
    from huggingface_hub import constants

    for name, value in make_environment(hub, cache).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 2)
    for module in ("huggingface_hub.file_download", "huggingface_hub.utils._http"):
        monkeypatch.setattr(f"{module}.logger.disabled", True)  # it tells of each retry
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.01))))


def describe_storage(content: bytes, digest: str) -> dict[str, object]:
    """Return what the hub says about a file in its storage, which calls the sha256 by two names."""
    return {"lfs": {digest: hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}


def object_id(content: bytes) -> str:
    """Return the name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0].lstrip("/")
        self.served.asked.append((self.command, f"/{path}", self.headers.get("Range", "")))
        bearer = self.headers.get("Authorization", "")
        if self.served.token and not path.startswith("storage/") and bearer != f"Bearer {self.served.token}":
            self._send(401, {"X-Error-Code": "RepoNotFound"})
        elif stored := re.fullmatch(rf"storage/{REPOSITORY}/(.+)", path):
            self._send_range(f"{stored[1]}/{stored[2]}", self.served.repositories[stored[1]][stored[2]])
        elif described := re.fullmatch(rf"api/(?:models/)?{REPOSITORY}(/revision/\w+)?", path):
            self._describe(described[1])
        elif listed := re.fullmatch(rf"api/(?:models/)?{REPOSITORY}/tree/\w+(?:/(.+))?", path):
            self._list(listed[1], listed[2] or "")
        elif asked := re.fullmatch(rf"{REPOSITORY}/resolve/(\w+)/(.+)", path):
            self._resolve(asked[1], asked[2], asked[3])
        else:
            self._send(404, {})

    def _resolve(self, repository: str, revision: str, file: str) -> None:
        files, where = self.served.repositories.get(repository), f"{repository}/{file}"
        status = self.served.statuses.get(where, self.served.statuses.get(repository))
        if status is not None:
            self._send(status, {"Retry-After": "0"})
        elif files is None:  # huggingface.co says so to all who are not logged in, of private ones too
            self._send(401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        elif file not in files:
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif file.endswith(STORED):
            about = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hashlib.sha256(files[file]).hexdigest()}"',
                "X-Linked-Size": str(len(files[file])),
                "Location": f"{self.served.storage}/storage/{where}",
            }
            self._send(302, about)
        else:
            self._send(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{object_id(files[file])}"'}, files[file])

    def _describe(self, repository: str) -> None:
        files = self.served.repositories.get(repository)
        if files is None:
            self._send(401, {"X-Error-Code": "RepoNotFound"})
            return
        siblings = [
            {"rfilename": name, "size": len(content), **(describe_storage(content, "sha256") if stored else {})}
            for name, content in files.items()
            for stored in [name.endswith(STORED)]
        ]
        document = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "gated": False}
        self._send(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _list(self, repository: str, folder: str) -> None:
        """Answer with a page of what lies directly in a folder, and the address of the next page."""
        files, inside = self.served.repositories.get(repository), f"{folder}/" if folder else ""
        status = self.served.statuses.get(repository)
        if files is None or status is not None:
            self._send(status or 401, {"X-Error-Code": "RepoNotFound"} if status is None else {"Retry-After": "0"})
            return
        entries: list[dict[str, object]] = []
        for name, content in sorted(files.items()):
            below = name.removeprefix(inside) if name.startswith(inside) else ""
            if "/" in below:
                entry: dict[str, object] = {
                    "type": "directory",
                    "path": inside + below.partition("/")[0],
                    "oid": COMMIT,
                }
            else:
                entry = {"type": "file", "path": name, "oid": object_id(content), "size": len(content)}
                entry |= describe_storage(content, "oid") if name.endswith(STORED) else {}
            if below and entry not in entries:
                entries.append(entry)
        if not entries:
            self._send(404, {"X-Error-Code": "EntryNotFound"})
            return
        asked = parse_qs(self.path.partition("?")[2])
        start = int(asked.get("cursor", ["0"])[0])
        about = {"Content-Type": "application/json"}
        if start + self.served.page < len(entries):
            place = self.path.partition("?")[0]
            about["Link"] = f'<{self.served.address}{place}?cursor={start + self.served.page}>; rel="next"'
        self._send(200, about, json.dumps(entries[start : start + self.served.page]).encode())

    def _send_range(self, where: str, content: bytes) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)) + 1, len(content))
        breaks = self.served.breaks.get(where) if self.command == "GET" else None
        stop = self.served.stops.get(where, breaks.pop(0) if breaks else len(content))
        if where in self.served.spoilt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        about = {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if "Range" in self.headers:
            about["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._send(206 if "Range" in self.headers else 200, about, content[start:end], limit=max(stop - start, 0))

    def _send(self, status: int, about: Mapping[str, str], content: bytes = b"", *, limit: int | None = None) -> None:
        self.send_response(status)
        for name, value in about.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content if limit is None else content[:limit])
            if limit is not None and limit < len(content):
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
