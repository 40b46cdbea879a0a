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

from gapctl.data.image_text.tar import ShardBytes
from gapctl.errors import GapctlError, InputError, WorkError
from gapctl.folders import expand_home
from gapctl.io.retry import is_foreign, open_file_system, retry

EXPECTED: Final = "expected tar shards in the img2dataset layout (key.jpg, key.txt, key.json)"
MAX_UNMAPPED_BYTES: Final = 64 << 20
"""Bytes of a shard that is read rather than mapped; a mapped file that shrinks meanwhile ends the process."""

RETRY_SECONDS: Final = 30.0
"""How long a store is asked that is busy or away."""

MAX_OPEN_FILES: Final = 256
"""Files at a time; systems allow 1,024 to a process."""


@dataclass(frozen=True)
class ShardInfo:
    """A shard's address, its size, and what tells that it was written again: a time, or an object's tag."""

    address: str
    bytes: int
    modified: str


def list_shards(places: Sequence[str]) -> list[ShardInfo]:
    """The shards that files, folders, braces and addresses name; folders in the order of names, each shard once.

    Of a folder, files that other systems leave there are passed over (`is_foreign`).
    Raises InputError for a place without shards, and for an address that cannot be listed.
    """
    found = [shard for place in places for name in _expand_braces(place) for shard in _list_named_shards(name)]
    if not found:
        raise InputError(f"no shards were named; {EXPECTED}")
    return list({shard.address: shard for shard in found}.values())


def find_shard(address: str) -> ShardInfo | None:
    """What lies at an address now; None where nothing does."""
    if "://" not in address:
        return _describe_local_shard(Path(address)) if Path(address).is_file() else None
    file_system, path = _open_file_system(address)
    try:
        return _describe_remote_shard(file_system, address, retry(lambda: file_system.info(path), RETRY_SECONDS))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{address}: cannot be asked for ({error}); check the address and your rights") from error


@contextmanager
def open_shard(address: str) -> Iterator[ShardBytes]:
    """The bytes of a shard; one from an object store lies in a temporary file meanwhile."""
    if "://" not in address:
        with _map_file(Path(address)) as content:
            yield content
        return
    file_system, path = _open_file_system(address)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "shard.tar"
        try:
            retry(lambda: file_system.get_file(path, str(copy)), RETRY_SECONDS)
        except OSError as error:
            raise WorkError(f"{address}: cannot be fetched ({error}); run the same command again") from error
        with _map_file(copy) as content:
            yield content


@contextmanager
def _map_file(path: Path) -> Iterator[ShardBytes]:
    if path.stat().st_size <= MAX_UNMAPPED_BYTES:
        yield path.read_bytes()
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        content.madvise(mmap.MADV_WILLNEED)  # all of it, while its beginning is looked at
        yield content


def _expand_braces(place: str) -> list[str]:
    # Not webdataset's own function, which is this one and brings torch, three seconds that indexing does not need.
    from braceexpand import braceexpand

    try:
        return list(braceexpand(place))
    except ValueError as error:
        raise InputError(f"{place}: braces that do not match; expected such as {{00000..00011}}.tar") from error


def _list_named_shards(name: str) -> list[ShardInfo]:
    if "://" in name:
        return _list_remote_shards(name)
    path = expand_home(name).absolute()
    if path.is_file():
        return [_describe_local_shard(path)]
    if not path.is_dir():
        raise InputError(f"{name}: no such file or folder; {EXPECTED}")
    shards = list_tar_files(path)
    if not shards:
        raise InputError(f"{name}: no .tar file in this folder; {EXPECTED}")
    return [_describe_local_shard(shard) for shard in shards]


def list_tar_files(folder: Path) -> list[Path]:
    """The tar files of a folder in the order of their names, without what other systems leave there."""
    return sorted(path for path in folder.glob("*.tar") if not is_foreign(path.name))


def _list_remote_shards(address: str) -> list[ShardInfo]:
    file_system, path = _open_file_system(address)
    protocol = address.split("://", 1)[0]
    try:
        info = retry(lambda: file_system.info(path), RETRY_SECONDS)
        if info["type"] == "file":
            return [_describe_remote_shard(file_system, address, info)]
        entries = retry(lambda: file_system.ls(path, detail=True), RETRY_SECONDS)
        listed = sorted(entries, key=lambda entry: str(entry["name"]))
    except FileNotFoundError as error:
        raise InputError(f"{address}: nothing is there; {EXPECTED}") from error
    except OSError as error:
        raise InputError(f"{address}: cannot be listed ({error}); check the address and your rights") from error
    names = [str(entry["name"]).rpartition("/")[2] for entry in listed]
    shards = [each for each, name in zip(listed, names, strict=True) if name.endswith(".tar") and not is_foreign(name)]
    if not shards:
        raise InputError(f"{address}: no .tar in this folder; {EXPECTED}")
    return [_describe_remote_shard(file_system, f"{protocol}://{each['name']}", each) for each in shards]


def _open_file_system(address: str) -> tuple[Any, str]:
    try:
        return open_file_system(address)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f"{address}: {error}; s3:// needs the package s3fs, gs:// needs gcsfs") from error


def _describe_remote_shard(file_system: Any, address: str, info: dict[str, Any]) -> ShardInfo:
    tag = next(
        (info[name] for name in ("ETag", "etag", "LastModified", "updated", "mtime", "created") if info.get(name)), ""
    )
    return ShardInfo(address, int(info["size"] or 0), str(tag).strip('"'))


def _describe_local_shard(path: Path) -> ShardInfo:
    facts = path.stat()
    return ShardInfo(str(path), facts.st_size, str(facts.st_mtime_ns))


class ShardReader:
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
            file_system, path = _open_file_system(address)
            ask = partial(file_system.cat_file, path, start=start, end=start + size)
            content = bytes(retry(ask, RETRY_SECONDS))
        else:
            content = os.pread(self._open_file(address), size, start)
        if len(content) != size:
            raise OSError(errno.EIO, f"{address} has grown short since it was indexed")
        return content

    def _open_file(self, address: str) -> int:
        known = self._files.pop(address, None)
        self._files[address] = os.open(address, os.O_RDONLY) if known is None else known
        if len(self._files) > MAX_OPEN_FILES:
            os.close(self._files.pop(next(iter(self._files))))
        return self._files[address]


def list_local_shards(places: Sequence[str]) -> list[ShardInfo]:
    """The tar files that these places name, folders in the order of names, each file once.

    Raises InputError for a place that is not there, a folder without shards, and a file of no bytes.
    """
    for place in places:
        if "://" in place:
            raise InputError(
                f"--data {place}: an address; expected files or folders on this machine. Copy the shards here"
            )
    try:
        found = list_shards(places)
    except InputError as error:
        raise InputError(f"--data {error}") from error
    for shard in found:
        if not shard.bytes:
            raise InputError(
                f"--data {shard.address}: an empty shard (0 bytes); expected a tar of key.jpg, key.txt, key.json"
            )
    return found


Task = TypeVar("Task")
TaskResult = TypeVar("TaskResult")
OpenRay = Callable[[], AbstractContextManager[None]]

TASKS_PER_PROCESS: Final = 3
"""Tasks that wait for each process, so that none idles; more would hold results in memory."""


@dataclass(frozen=True)
class Workers:
    """Who works: Ray where `open_ray` joins a cluster, else `processes` of this machine, itself if one."""

    processes: int
    open_ray: OpenRay | None = None

    def each(self, work: Callable[[Task], TaskResult], tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        """Each task's place in the list and its result, in the order in which they finish.

        `work` is a function of a module, and its result can be pickled. Raises what it raises, and WorkError where a
        process dies.
        """
        if self.open_ray is not None:
            return _run_on_ray(work, tasks, self.open_ray)
        processes = min(self.processes, len(tasks))
        return _run_in_pool(work, tasks, processes) if processes > 1 else _run_inline(work, tasks)


def _run_inline(work: Callable[[Task], TaskResult], tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
    yield from ((place, work(task)) for place, task in enumerate(tasks))


def _run_in_pool(
    work: Callable[[Task], TaskResult], tasks: Sequence[Task], processes: int
) -> Iterator[tuple[int, TaskResult]]:
    # Not fork: the caller may hold threads (polars) that a forked child would find frozen.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    running: dict[Future[TaskResult], int] = {}
    try:
        for place, task in enumerate(tasks):
            running[pool.submit(work, task)] = place
            if len(running) >= TASKS_PER_PROCESS * processes:
                yield from _collect_finished(running)
        while running:
            yield from _collect_finished(running)
    except BrokenProcessPool as error:
        names = ", ".join(str(getattr(tasks[place], "address", place)) for place in sorted(running.values())[:3])
        raise WorkError(
            f"a process died over one of these shards: {names}. Something may be writing there now, or memory ran "
            "out. What is finished is kept: run the same command again, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _collect_finished(running: dict[Future[TaskResult], int]) -> Iterator[tuple[int, TaskResult]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        result = future.result()
        yield running.pop(future), result


def _run_on_ray(
    work: Callable[[Task], TaskResult], tasks: Sequence[Task], open_ray: OpenRay
) -> Iterator[tuple[int, TaskResult]]:
    with open_ray():
        import ray.data
        from ray.exceptions import RayError

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure reaches the user as one message
        ray.data.DataContext.get_current().enable_progress_bars = False
        items = [{"place": place, "task": _RayBox(task)} for place, task in enumerate(tasks)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(_RowTask(work), num_cpus=1)
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
class _RayBox:
    """Keeps Ray Data from taking a result apart into columns."""

    content: Any


@dataclass(frozen=True)
class _RowTask:
    work: Callable[[Any], Any]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"place": row["place"], "failed": False, "done": _RayBox(self.work(row["task"].content))}
        except GapctlError as error:
            return {"place": row["place"], "failed": True, "done": _RayBox(error)}
