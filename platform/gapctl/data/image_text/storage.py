"""Shards where they are stored: on this machine, or in an object store by an fsspec address."""

import errno
import logging
import mmap
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from gapctl.data.image_text.tar import Content
from gapctl.errors import GapctlError, InputError, WorkError
from gapctl.folders import expand_home
from gapctl.io.retry import file_system_at, is_foreign, patiently

EXPECTED: Final = "expected tar shards in the img2dataset layout (key.jpg, key.txt, key.json)"
READ_WHOLE: Final = 64 << 20
"""Bytes of a shard that is read rather than mapped; a mapped file that shrinks meanwhile ends the process."""

PATIENCE_SECONDS: Final = 30.0
"""How long a store is asked that is busy or away."""

MOST_OPEN: Final = 256
"""Files at a time; systems allow 1,024 to a process."""


@dataclass(frozen=True)
class Stored:
    """A shard's address, its size, and what tells that it was written again: a time, or an object's tag."""

    address: str
    bytes: int
    modified: str


def stored_shards(places: Sequence[str]) -> list[Stored]:
    """The shards that files, folders, braces and addresses name; folders in the order of names, each shard once.

    Of a folder, files that other systems leave there are passed over (`is_foreign`).
    Raises InputError for a place without shards, and for an address that cannot be listed.
    """
    found = [shard for place in places for name in _names(place) for shard in _at(name)]
    if not found:
        raise InputError(f"no shards were named; {EXPECTED}")
    return list({shard.address: shard for shard in found}.values())


def stored_now(address: str) -> Stored | None:
    """What lies at an address now; None where nothing does."""
    if "://" not in address:
        return _local(Path(address)) if Path(address).is_file() else None
    file_system, path = _file_system(address)
    try:
        return _remote(file_system, address, patiently(lambda: file_system.info(path), PATIENCE_SECONDS))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{address}: cannot be asked for ({error}); check the address and your rights") from error


@contextmanager
def content_of(address: str) -> Iterator[Content]:
    """The bytes of a shard; one from an object store lies in a temporary file meanwhile."""
    if "://" not in address:
        with _mapped(Path(address)) as content:
            yield content
        return
    file_system, path = _file_system(address)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "shard.tar"
        try:
            patiently(lambda: file_system.get_file(path, str(copy)), PATIENCE_SECONDS)
        except OSError as error:
            raise WorkError(f"{address}: cannot be fetched ({error}); run the same command again") from error
        with _mapped(copy) as content:
            yield content


@contextmanager
def _mapped(path: Path) -> Iterator[Content]:
    if path.stat().st_size <= READ_WHOLE:
        yield path.read_bytes()
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        content.madvise(mmap.MADV_WILLNEED)  # all of it, while its beginning is looked at
        yield content


def _names(place: str) -> list[str]:
    # Not webdataset's own function, which is this one and brings torch, three seconds that indexing does not need.
    from braceexpand import braceexpand

    try:
        return list(braceexpand(place))
    except ValueError as error:
        raise InputError(f"{place}: braces that do not match; expected such as {{00000..00011}}.tar") from error


def _at(name: str) -> list[Stored]:
    if "://" in name:
        return _at_address(name)
    path = expand_home(name).absolute()
    if path.is_file():
        return [_local(path)]
    if not path.is_dir():
        raise InputError(f"{name}: no such file or folder; {EXPECTED}")
    shards = shards_in(path)
    if not shards:
        raise InputError(f"{name}: no .tar file in this folder; {EXPECTED}")
    return [_local(shard) for shard in shards]


def shards_in(folder: Path) -> list[Path]:
    """The tar files of a folder in the order of their names, without what other systems leave there."""
    return sorted(path for path in folder.glob("*.tar") if not is_foreign(path.name))


def _at_address(address: str) -> list[Stored]:
    file_system, path = _file_system(address)
    protocol = address.split("://", 1)[0]
    try:
        info = patiently(lambda: file_system.info(path), PATIENCE_SECONDS)
        if info["type"] == "file":
            return [_remote(file_system, address, info)]
        entries = patiently(lambda: file_system.ls(path, detail=True), PATIENCE_SECONDS)
        listed = sorted(entries, key=lambda entry: str(entry["name"]))
    except FileNotFoundError as error:
        raise InputError(f"{address}: nothing is there; {EXPECTED}") from error
    except OSError as error:
        raise InputError(f"{address}: cannot be listed ({error}); check the address and your rights") from error
    names = [str(entry["name"]).rpartition("/")[2] for entry in listed]
    shards = [each for each, name in zip(listed, names, strict=True) if name.endswith(".tar") and not is_foreign(name)]
    if not shards:
        raise InputError(f"{address}: no .tar in this folder; {EXPECTED}")
    return [_remote(file_system, f"{protocol}://{each['name']}", each) for each in shards]


def _file_system(address: str) -> tuple[Any, str]:
    try:
        return file_system_at(address)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f"{address}: {error}; s3:// needs the package s3fs, gs:// needs gcsfs") from error


def _remote(file_system: Any, address: str, info: dict[str, Any]) -> Stored:
    tag = next(
        (info[name] for name in ("ETag", "etag", "LastModified", "updated", "mtime", "created") if info.get(name)), ""
    )
    return Stored(address, int(info["size"] or 0), str(tag).strip('"'))


def _local(path: Path) -> Stored:
    facts = path.stat()
    return Stored(str(path), facts.st_size, str(facts.st_mtime_ns))


class OpenShards:
    """Parts of many shards in any order; files of this machine stay open, the last used ones."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            os.close(file)

    def read(self, address: str, start: int, size: int) -> bytes:
        """So many bytes from `start` on; raises OSError where the shard is gone or has grown short."""
        if not size:
            return b""
        if "://" in address:
            file_system, path = _file_system(address)
            ask = partial(file_system.cat_file, path, start=start, end=start + size)
            content = bytes(patiently(ask, PATIENCE_SECONDS))
        else:
            content = os.pread(self._open(address), size, start)
        if len(content) != size:
            raise OSError(errno.EIO, f"{address} has grown short since it was indexed")
        return content

    def _open(self, address: str) -> int:
        known = self._files.pop(address, None)
        self._files[address] = os.open(address, os.O_RDONLY) if known is None else known
        if len(self._files) > MOST_OPEN:
            os.close(self._files.pop(next(iter(self._files))))
        return self._files[address]


def local_shards(places: Sequence[str]) -> list[Stored]:
    """The tar files that these places name, folders in the order of names, each file once.

    Raises InputError for a place that is not there, a folder without shards, and a file of no bytes.
    """
    for place in places:
        if "://" in place:
            raise InputError(
                f"--data {place}: an address; expected files or folders on this machine. Copy the shards here"
            )
    try:
        found = stored_shards(places)
    except InputError as error:
        raise InputError(f"--data {error}") from error
    for shard in found:
        if not shard.bytes:
            raise InputError(
                f"--data {shard.address}: an empty shard (0 bytes); expected a tar of key.jpg, key.txt, key.json"
            )
    return found


Task = TypeVar("Task")
Done = TypeVar("Done")
OpenRay = Callable[[], AbstractContextManager[None]]

AT_ONCE: Final = 3
"""Tasks that wait for each process, so that none idles; more would hold results in memory."""


@dataclass(frozen=True)
class Workers:
    """Who works: Ray where `open_ray` joins a cluster, else `processes` of this machine, itself if one."""

    processes: int
    open_ray: OpenRay | None = None

    def each(self, work: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[tuple[int, Done]]:
        """Each task's place in the list and its result, in the order in which they finish.

        `work` is a function of a module, and its result can be pickled. Raises what it raises, and WorkError where a
        process dies.
        """
        if self.open_ray is not None:
            return _on_ray(work, tasks, self.open_ray)
        processes = min(self.processes, len(tasks))
        return _in_pool(work, tasks, processes) if processes > 1 else _here(work, tasks)


def _here(work: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[tuple[int, Done]]:
    yield from ((place, work(task)) for place, task in enumerate(tasks))


def _in_pool(work: Callable[[Task], Done], tasks: Sequence[Task], processes: int) -> Iterator[tuple[int, Done]]:
    # Not fork: the caller may hold threads (polars) that a forked child would find frozen.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    running: dict[Future[Done], int] = {}
    try:
        for place, task in enumerate(tasks):
            running[pool.submit(work, task)] = place
            if len(running) >= AT_ONCE * processes:
                yield from _finished(running)
        while running:
            yield from _finished(running)
    except BrokenProcessPool as error:
        names = ", ".join(str(getattr(tasks[place], "address", place)) for place in sorted(running.values())[:3])
        raise WorkError(
            f"a process died over one of these shards: {names}. Something may be writing there now, or memory ran "
            "out. What is finished is kept: run the same command again, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(running: dict[Future[Done], int]) -> Iterator[tuple[int, Done]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        result = future.result()
        yield running.pop(future), result


def _on_ray(work: Callable[[Task], Done], tasks: Sequence[Task], open_ray: OpenRay) -> Iterator[tuple[int, Done]]:
    with open_ray():
        import ray.data
        from ray.exceptions import RayError

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure reaches the user as one message
        ray.data.DataContext.get_current().enable_progress_bars = False
        items = [{"place": place, "task": _Boxed(task)} for place, task in enumerate(tasks)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(_Row(work), num_cpus=1)
        try:
            for row in dataset.iter_rows():
                if row["failed"]:
                    raise row["done"].content
                yield row["place"], row["done"].content
        except RayError as error:
            raise WorkError(
                f"a shard could not be worked on: {str(error).strip().splitlines()[-1]}. What is finished is kept: "
                "run the same command again"
            ) from error


@dataclass(frozen=True)
class _Boxed:
    """Keeps Ray Data from taking a result apart into columns."""

    content: Any


@dataclass(frozen=True)
class _Row:
    work: Callable[[Any], Any]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"place": row["place"], "failed": False, "done": _Boxed(self.work(row["task"].content))}
        except GapctlError as error:
            return {"place": row["place"], "failed": True, "done": _Boxed(error)}
