"""An object store in memory that answers late and counts what it is asked, as one far away would bill it."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

SECONDS = 0.1


class CountingStore(MemoryFileSystem):  # type: ignore[misc]
    """`counted://...`; `asked` counts requests by kind and name, `most` is how many were under way at a time."""

    protocol: ClassVar[str] = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked: ClassVar[Counter[tuple[str, str]]] = Counter()
    most: ClassVar[int] = 0
    _under_way: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("counted://")))

    def cat_file(self, path: str, *arguments: Any, **options: Any) -> Any:
        with self._request("read", path):
            return super().cat_file(path, *arguments, **options)

    def exists(self, path: str, **options: Any) -> bool:
        with self._request("exists", path):
            return bool(super().exists(path, **options))

    def ls(self, path: str, *arguments: Any, **options: Any) -> Any:
        with self._request("list", path):
            return super().ls(path, *arguments, **options)

    def modified(self, path: str) -> Any:
        with self._request("modified", path):
            return super().modified(path)

    @classmethod
    @contextmanager
    def _request(cls, kind: str, path: str) -> Iterator[None]:
        with cls._lock:
            cls.asked[kind, cls._strip_protocol(path)] += 1
            cls._under_way += 1
            cls.most = max(cls.most, cls._under_way)
        time.sleep(SECONDS)
        try:
            yield
        finally:
            with cls._lock:
                cls._under_way -= 1

    @classmethod
    def forget(cls) -> None:
        """Begins to count anew."""
        cls.asked, cls.most = Counter(), 0

    @classmethod
    def reads(cls, ending: str = "") -> Counter[str]:
        """How often each file was read."""
        return Counter(
            {path: count for (kind, path), count in cls.asked.items() if kind == "read" and path.endswith(ending)}
        )

    @classmethod
    def count(cls, kind: str) -> int:
        """How many requests of a kind there were."""
        return sum(count for (asked, _), count in cls.asked.items() if asked == kind)


fsspec.register_implementation("counted", CountingStore, clobber=True)
