"""List, open and read shards on this machine or, by an fsspec address, in an object store.

1. `list_shards` expands files, folders, braces and addresses into `ShardInfo`s.
2. `open_shard` opens one whole shard, `ShardReader` reads parts of many.

Shards of a hub's data set are asked for by `hf://`, whatever address was given, as its client knows the user's token.
"""

import errno
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from gapctl.data.image_text.tar import ShardBytes
from gapctl.errors import InputError, MissingDataError, WorkError
from gapctl.folders import expand_home
from gapctl.io.hub import convert_hub_file_address
from gapctl.io.retry import is_hidden_or_system_file, open_file_system, retry
from gapctl.io.scratch import ScratchFolder

EXPECTED: Final = "expected tar shards in the img2dataset layout (key.jpg, key.txt, key.json)"
MAX_UNMAPPED_BYTES: Final = 64 << 20
"""Largest shard that is read rather than mapped; a mapped file that shrinks meanwhile would end the process."""

RETRY_SECONDS: Final = 30.0
"""Time during which requests to a busy or unreachable store are retried."""

TAG_NAMES: Final = (
    "ETag",
    "etag",
    "blob_id",
    "Content-MD5",
    "Digest",
    "LastModified",
    "Last-Modified",
    "updated",
    "mtime",
    "created",
)
"""What stores call a mark that changes when a file is written again; the first that is there is taken."""

REMOTE_GAP_BYTES: Final = 1 << 20
"""Largest gap between ranges at an address that is read along: it takes less time than another request."""
REMOTE_READ_BYTES: Final = 16 << 20
"""Most bytes of one request for several ranges."""

LISTED_SCHEMES: Final = frozenset({"s3", "gs", "gcs"})
"""Stores whose lists have the same sizes and tags as their answers about single objects."""
LISTED_SHARDS: Final = 16
"""Shards in a folder from which on it is listed: a list of a thousand objects is one request."""
CHECK_THREADS: Final = 16
"""Concurrent requests; an object store answers slowly, but many at once."""

MAX_OPEN_FILES: Final = 256
"""Most files open together; systems allow a process 1,024."""


@dataclass(frozen=True)
class ShardInfo:
    """A shard's address, its size, and a time or object tag that changes when it is written again."""

    address: str
    bytes: int
    modified: str


def list_shards(places: Sequence[str]) -> list[ShardInfo]:
    """Return the shards of files, folders, braces and addresses, each once; those of a folder sorted by name.

    Files that other systems leave in a folder are ignored (`is_hidden_or_system_file`). Raise InputError for a place
    without shards, and for an address that cannot be listed.
    """
    shards = [shard for place in places for name in expand_place(place) for shard in _list_named_shards(name)]
    if not shards:
        raise InputError(f"no shards were named; {EXPECTED}")
    return list({shard.address: shard for shard in shards}.values())


def find_shard(address: str) -> ShardInfo | None:
    """Return the shard at an address now, or None."""
    if "://" not in address:
        return _describe_local_shard(Path(address)) if Path(address).is_file() else None
    file_system, path = _open_file_system(address)
    try:
        return _describe_remote_shard(address, retry(lambda: file_system.info(path), RETRY_SECONDS))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{address}: cannot be asked for ({error}); check the address and your rights") from error


def find_shards(addresses: Sequence[str]) -> list[ShardInfo | None]:
    """Return the shards at these addresses now, or None for each that is missing.

    Object stores list folders; what is not found so is asked for one by one. Raise InputError as `find_shard`.
    """
    folders = Counter(address.rpartition("/")[0] for address in addresses)
    known: dict[str, ShardInfo] = {}
    for folder, shards in folders.items():
        if folder.partition("://")[0] in LISTED_SCHEMES and shards >= LISTED_SHARDS:
            with suppress(InputError):
                known |= {shard.address: shard for shard in _list_remote_shards(folder)}
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        return list(pool.map(lambda address: known.get(address) or find_shard(address), addresses))


@contextmanager
def open_shard(address: str) -> Iterator[ShardBytes]:
    """Yield the bytes of a shard; one from an object store lies in a temporary file meanwhile."""
    if "://" not in address:
        with _map_file(Path(address)) as content:
            yield content
        return
    file_system, path = _open_file_system(address)
    with ScratchFolder("shard") as folder:
        copy = folder / "shard.tar"
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
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        content.madvise(mmap.MADV_WILLNEED)  # read ahead while the beginning is parsed
        yield content
    finally:
        with suppress(BufferError):  # arrays of an error's frames still look into it, and it ends with them
            content.close()


def expand_braces(place: str) -> list[str]:
    """Return the names that a place with braces stands for, such as {00000..00011}.tar."""
    # webdataset's own function is the same, but imports torch, which takes three seconds.
    from braceexpand import braceexpand

    try:
        return list(braceexpand(place))
    except ValueError as error:
        raise InputError(f"{place}: braces that do not match; expected such as {{00000..00011}}.tar") from error


def expand_place(place: str) -> list[str]:
    """Return the names that a place of shards stands for; those of a hub's data set begin with `hf://`."""
    return expand_braces(convert_hub_file_address(place))


def _list_named_shards(name: str) -> list[ShardInfo]:
    if "://" in name:
        return _list_remote_shards(name)
    path = expand_home(name).absolute()
    if path.is_file():
        return [_describe_local_shard(path)]
    if not path.is_dir():
        raise MissingDataError(f"{name}: no such file or folder; {EXPECTED}", absent=True)
    shards = list_tar_files(path)
    if not shards:
        raise InputError(f"{name}: no .tar file in this folder; {EXPECTED}")
    return [_describe_local_shard(shard) for shard in shards]


def list_tar_files(folder: Path) -> list[Path]:
    """Return the tar files of a folder sorted by name, without files that other systems leave there."""
    return sorted(path for path in folder.glob("*.tar") if not is_hidden_or_system_file(path.name))


def _list_remote_shards(address: str) -> list[ShardInfo]:
    file_system, path = _open_file_system(address)
    protocol = address.split("://", 1)[0]
    try:
        info = retry(lambda: file_system.info(path), RETRY_SECONDS)
        if info["type"] == "file":
            return [_describe_remote_shard(address, info)]
        entries = retry(lambda: file_system.ls(path, detail=True), RETRY_SECONDS)
        listed = sorted(entries, key=lambda entry: str(entry["name"]))
    except FileNotFoundError as error:
        raise InputError(f"{address}: nothing is there; {EXPECTED}") from error
    except OSError as error:
        raise InputError(f"{address}: cannot be listed ({error}); check the address and your rights") from error
    names = [str(entry["name"]).rpartition("/")[2] for entry in listed]
    shards = [
        each
        for each, name in zip(listed, names, strict=True)
        if name.endswith(".tar") and not is_hidden_or_system_file(name)
    ]
    if not shards:
        raise InputError(f"{address}: no .tar in this folder; {EXPECTED}")
    return [_describe_remote_shard(f"{protocol}://{each['name']}", each) for each in shards]


def _open_file_system(address: str) -> tuple[Any, str]:
    try:
        return open_file_system(address)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(f"{address}: {error}; s3:// needs the package s3fs, gs:// needs gcsfs") from error


def _describe_remote_shard(address: str, info: dict[str, Any]) -> ShardInfo:
    return ShardInfo(address, int(info["size"] or 0), find_tag(info))


def find_tag(info: Mapping[str, Any]) -> str:
    """Return what changes when a file is written again, from what its store says about it; empty if nothing does."""
    return next((str(info[name]) for name in TAG_NAMES if info.get(name)), "").strip('"')


def _describe_local_shard(path: Path) -> ShardInfo:
    facts = path.stat()
    return ShardInfo(str(path), facts.st_size, str(facts.st_mtime_ns))


class ShardReader:
    """Reads parts of many shards in any order; the last used files of this machine stay open."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._files.values():
            os.close(file)

    def read(self, address: str, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on. Raise OSError if the shard is missing or has become shorter."""
        if not size:
            return b""
        if "://" in address:
            file_system, path = _open_file_system(address)
            exact = {"cache_type": "none"} if address.startswith("hf://") else {}  # its client would read ahead
            ask = partial(file_system.cat_file, path, start=start, end=start + size, **exact)
            content = bytes(retry(ask, RETRY_SECONDS))
        else:
            content = os.pread(self._open_file(address), size, start)
        if len(content) != size:
            raise OSError(errno.EIO, f"{address} has grown short since it was indexed")
        return content

    def read_ranges(self, address: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Yield the content of each (start, size), given in ascending order; raise OSError as `read`.

        At an address, ranges near each other are read by one request, with what lies between.
        """
        if "://" not in address:
            yield from (self.read(address, start, size) for start, size in ranges)
            return
        for first, last in _group_ranges(ranges):
            begin = ranges[first][0]
            content = self.read(address, begin, sum(ranges[last - 1]) - begin)
            yield from (content[start - begin : start - begin + size] for start, size in ranges[first:last])

    def _open_file(self, address: str) -> int:
        known = self._files.pop(address, None)
        self._files[address] = os.open(address, os.O_RDONLY) if known is None else known
        if len(self._files) > MAX_OPEN_FILES:
            os.close(self._files.pop(next(iter(self._files))))
        return self._files[address]


def _group_ranges(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the places of the first range of each request and of the first one of the next."""
    first = 0
    for place in range(1, len(ranges) + 1):
        if place < len(ranges):
            start, size = ranges[place]
            near = 0 <= start - sum(ranges[place - 1]) <= REMOTE_GAP_BYTES
            if near and start + size - ranges[first][0] <= REMOTE_READ_BYTES:
                continue
        yield first, place
        first = place


def list_or_pack_local_shards(places: Sequence[str]) -> list[ShardInfo]:
    """Return the shards of these places on this machine, each once; other layouts are packed into the cache first.

    Raise InputError for a missing place, one of no known layout, and an empty file.
    """
    from gapctl.data.image_text.pack import find_or_pack_shards

    try:
        resolved = find_or_pack_shards(places, local=True)
        shards = list_shards([shards for place in resolved for shards in place.shards])
    except InputError as error:
        raise InputError(f"--data {error}") from error
    for shard in shards:
        if not shard.bytes:
            raise InputError(
                f"--data {shard.address}: an empty shard (0 bytes); expected a tar of key.jpg, key.txt, key.json"
            )
    return shards
