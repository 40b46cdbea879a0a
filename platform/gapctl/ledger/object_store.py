"""Small files below an address of an object store, or of whatever else fsspec knows."""

import time
from collections.abc import Callable
from re import Pattern
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gapctl.ledger.disk import Entry
from gapctl.stores import patiently

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Answer = TypeVar("Answer")

CREATING: Final = frozenset({"s3", "gs", "memory"})
"""Protocols whose file system writes a file only where there is none, if asked to."""
MATCHING: Final = frozenset({"s3"})
"""Those that write only in place of what the caller saw."""
SETTLE_SECONDS: Final = 1.0

FIRST_SECONDS: Final = 15.0
"""How long a store is asked that has never answered yet: its address may be wrong."""
AGAIN_SECONDS: Final = 75.0
"""How long one is asked that has. With the last request and the time between two renewals it is less than a lease
lasts, so that no other takes a trial over whose training waits for the store."""
REQUEST_SECONDS: Final = 30.0
SLOWEST: Final = 1e6
"""Bytes a second; less is taken for a connection that is stuck."""


class ObjectStore:
    """Every method raises OSError where the store does not give what is asked, within a bounded time.

    A file is put in place by one request, or by several of which the last makes it appear.
    """

    at_once: Final = 32
    """Requests under way at a time: what one takes is waiting for its answer."""

    def __init__(self, files: "AbstractFileSystem", root: str) -> None:
        self._files, self._root = files, root.rstrip("/")
        self._patience = FIRST_SECONDS

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return bool(self._ask("exists", self._at(name)))

    def read(self, name: str) -> bytes:
        """The file's content."""
        return bytes(self._ask("cat_file", self._at(name), seconds=10 * REQUEST_SECONDS))

    def write(self, name: str, content: bytes) -> None:
        """Puts the file in place, whole."""
        self._ask("pipe_file", self._at(name), content, seconds=REQUEST_SECONDS + len(content) / SLOWEST)

    def swap(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Puts `new` where `old` lies, or nothing where it is None; whether it did.

        Of several that try, one does where the store has conditional writes (S3; a new file also at Google); elsewhere
        the last one, if the others write within `SETTLE_SECONDS` of it.
        """
        path = self._at(name)
        condition = self._condition(path, old)
        if self._content(path) != old:
            return False
        try:
            self._ask("pipe_file", path, new, **condition)
        except Exception:  # each file system has its own for a condition that did not hold, if only for a second try
            if self._content(path) == old:
                raise
        if not self._is_conditional(old):
            time.sleep(SETTLE_SECONDS)
        return self._content(path) == new

    def remove(self, name: str) -> None:
        """Deletes the file."""
        if not self.exists(name):
            raise FileNotFoundError(name)
        self._ask("rm", self._at(name))

    def modified(self, name: str) -> float:
        """When the file was last written, in seconds since 1970; raises NotImplementedError where that is not known."""
        return float(self._patiently(lambda: self._files.modified(self._at(name))).timestamp())

    def names(self, under: str) -> list[str]:
        """What lies directly in a folder."""
        self._files.invalidate_cache()
        return [str(entry).rsplit("/", 1)[-1] for entry in self._ask("ls", self._at(under), detail=False)]

    def entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """The files directly in a folder whose names the pattern matches, with their sizes; none is half written."""
        self._files.invalidate_cache()
        listed = self._ask("ls", self._at(under), detail=True)
        named = [(str(each["name"]).rsplit("/", 1)[-1], each) for each in listed if each["type"] == "file"]
        return [Entry(name, int(each["size"] or 0), None) for name, each in named if pattern.fullmatch(name)]

    def _ask(self, request: str, *told: Any, seconds: float = REQUEST_SECONDS, **options: Any) -> Any:
        """One request, so often as it takes; one of a client that can be told to is given up after `seconds`."""
        from fsspec.asyn import AsyncFileSystem, sync

        files = self._files
        if isinstance(files, AsyncFileSystem):
            coroutine = getattr(files, f"_{request}")
            return self._patiently(lambda: sync(files.loop, coroutine, *told, timeout=seconds, **options))
        return self._patiently(lambda: getattr(files, request)(*told, **options))

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        try:
            answer = patiently(ask, self._patience)
        except FileNotFoundError:
            self._patience = AGAIN_SECONDS
            raise
        self._patience = AGAIN_SECONDS
        return answer

    def _condition(self, path: str, old: bytes | None) -> dict[str, Any]:
        """What tells the store to write only in place of what lies there now, which the caller then compares."""
        if not self._is_conditional(old):
            return {}
        if old is None:
            return {"mode": "create"}
        try:
            return {"IfMatch": self._ask("info", path, refresh=True)["ETag"]}
        except FileNotFoundError:
            return {}

    def _is_conditional(self, old: bytes | None) -> bool:
        spoken = self._files.protocol
        protocols = {spoken} if isinstance(spoken, str) else set(spoken)
        return bool(protocols & (CREATING if old is None else MATCHING))

    def _content(self, path: str) -> bytes | None:
        try:
            return bytes(self._ask("cat_file", path))
        except FileNotFoundError:
            return None

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root
