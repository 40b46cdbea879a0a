"""Name, list and read files on this machine or, by an fsspec address, elsewhere.

1. `resolve_location` turns a path or an address into a `Location`; the web pages of Hugging Face's data sets become `hf://`.
2. `Location` lists, describes and reads; every error of a store becomes an InputError or an OSError with its reason.
"""

import posixpath
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from gapctl.data.image_text.storage import RETRY_SECONDS, find_tag
from gapctl.errors import InputError
from gapctl.folders import expand_home
from gapctl.io.hub import convert_hub_page_address
from gapctl.io.retry import WEB_SCHEMES, is_hidden_or_system_file, is_transient, open_file_system, retry

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Answer = TypeVar("Answer")

PACKAGES: Final = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
}
"""The package that a scheme needs."""
MAX_FILE_BYTES: Final = 1 << 30
"""Largest image or table cell's file that is read; an image below 89 megapixels is smaller."""
READ_BYTES: Final = 4 << 20
PARALLEL_REQUESTS: Final = 16


class FileInfo(NamedTuple):
    """A file's name below the folder that was listed, its size (-1 if unknown), and a tag that changes with it."""

    name: str
    bytes: int
    tag: str


@dataclass(frozen=True)
class Location:
    """A file or a folder: its address as the user wrote it, and the path in its file system."""

    address: str
    files: "AbstractFileSystem"
    path: str

    @property
    def scheme(self) -> str:
        """The address's scheme, empty on this machine."""
        return self.address.partition("://")[0] if "://" in self.address else ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return posixpath.basename(self.path.partition("?")[0].rstrip("/"))

    @property
    def ending(self) -> str:
        """The name's ending in lower case, with its dot."""
        return posixpath.splitext(self.name)[1].lower()

    @property
    def parent(self) -> "Location":
        """The folder that it lies in."""
        return replace(
            self,
            address=_strip_last_part(self.address),
            path=posixpath.dirname(self.path.partition("?")[0].rstrip("/")),
        )

    def join(self, name: str) -> "Location":
        """Return a file below this folder; an absolute path stands for itself."""
        if not self.scheme and posixpath.isabs(name):
            return replace(self, address=name, path=posixpath.normpath(name))
        address, path = (f"{start.rstrip('/')}/{name}" for start in (self.address, self.path))
        if self.scheme not in WEB_SCHEMES:
            path = posixpath.normpath(path)
        return replace(self, address=address, path=path)

    def find_info(self) -> FileInfo | None:
        """Return what the store says about the file, or None if it is missing or a folder."""
        try:
            info = self._retry_request(lambda: self.files.info(self.path))
        except OSError as error:
            # fsspec calls a file of a web server that cannot be reached a missing one; `retry` took its cause's place.
            reached = error.__context__ is None or not is_transient(error.__context__)
            if not self.scheme or (isinstance(error, FileNotFoundError | NotADirectoryError) and reached):
                return None
            raise self._build_error(error) from error
        return _build_file_info(info, self.name) if info["type"] == "file" else None

    def is_folder(self) -> bool:
        """Return whether it is a folder; on the web, where nobody knows, a name without an ending is one."""
        if self.scheme in WEB_SCHEMES:
            return not self.ending
        return bool(self._explain_errors(lambda: self._retry_request(lambda: self.files.isdir(self.path))))

    def list_names(self) -> tuple[list[str], list[str]]:
        """Return the names of the files and of the folders directly in a folder, each sorted."""
        listed = self._explain_errors(lambda: self._retry_request(lambda: self.files.ls(self.path, detail=True)))
        names: dict[bool, list[str]] = {True: [], False: []}
        for entry in listed:
            name = posixpath.basename(str(entry["name"]).rstrip("/"))
            if not is_hidden_or_system_file(name):
                names[entry["type"] == "file"].append(name)
        return sorted(names[True]), sorted(names[False])

    def list_files(self) -> list[FileInfo]:
        """Return the files of a folder and of its folders, sorted by name, without what other systems leave."""
        found = self._explain_errors(lambda: self._retry_request(lambda: self.files.find(self.path, detail=True)))
        root = self.path.rstrip("/") + "/"
        infos = [_build_file_info(info, str(path).removeprefix(root)) for path, info in found.items()]
        infos = sorted(info for info in infos if not is_hidden_or_system_file(info.name))
        if any(info.bytes < 0 for info in infos):  # a web server's list has names alone
            with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
                asked = list(pool.map(lambda info: self.join(info.name).find_info(), infos))
            infos = [more._replace(name=info.name) if more else info for info, more in zip(infos, asked, strict=True)]
        return infos

    def read(self, seconds: float = RETRY_SECONDS, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the file's content. Raise OSError if it cannot be read, or is longer than `limit` bytes."""
        return bytes(self._retry_request(partial(self._read_once, limit), seconds))

    def read_whole(self) -> bytes:
        """Return the content of a file that the user named. Raise InputError if it cannot be read."""
        return bytes(self._explain_errors(lambda: self.read(limit=1 << 40)))

    def _read_once(self, limit: int) -> bytes:
        # A web server may send more than it said, so an answer is read only as far as it may go.
        options = {"block_size": 0} if self.scheme in WEB_SCHEMES else {}
        content = bytearray()
        with self.files.open(self.path, "rb", **options) as file:
            while piece := file.read(READ_BYTES):
                content += piece
                if len(content) > limit:
                    raise ValueError(f"longer than {limit:,} bytes")
        return bytes(content)

    def _retry_request(self, ask: Callable[[], Answer], seconds: float = RETRY_SECONDS) -> Answer:
        try:
            return retry(ask, seconds)
        except ValueError as error:
            raise OSError(str(error)) from error

    def _explain_errors(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except FileNotFoundError as error:
            raise InputError(f"{self.address}: nothing is there; check the address") from error
        except OSError as error:
            raise self._build_error(error) from error

    def _build_error(self, error: OSError) -> InputError:
        unreached = error.__context__ if error.__context__ and is_transient(error.__context__) else None
        remedy = "the address, your rights and the network, or bring a copy here" if self.scheme else "its rights"
        return InputError(f"{self.address}: cannot be read ({unreached or error.strerror or error}); check {remedy}")


def resolve_location(place: str) -> Location:
    """Return the location of a path or an address. Raise InputError for an address that nothing here can open."""
    address = convert_hub_page_address(place)
    if "://" not in address:
        from fsspec.implementations.local import LocalFileSystem

        return Location(place, LocalFileSystem(), str(expand_home(place).absolute()))
    scheme = address.partition("://")[0].lower()
    address = scheme + address[len(scheme) :]
    try:
        files, path = open_file_system(address)
    except (ImportError, ValueError, OSError) as error:
        named = {scheme: PACKAGES[scheme]} if scheme in PACKAGES else PACKAGES
        needs = ", ".join(f"{each}:// needs the package {package}" for each, package in named.items())
        raise InputError(f"{place}: {error}; {needs}. Install it, or bring a copy here") from error
    return Location(address, files, path)


def _build_file_info(info: dict[str, Any], name: str) -> FileInfo:
    size = info.get("size")
    return FileInfo(name, -1 if size is None else int(size), find_tag(info))


def _strip_last_part(address: str) -> str:
    start, scheme, path = address.rpartition("://")
    return f"{start}{scheme}{posixpath.dirname(path.partition('?')[0].rstrip('/')) or ('.' if not scheme else '')}"


def iterate_parents(location: Location, steps: int) -> Iterator[Location]:
    """Yield the location and the folders that it lies in."""
    for _ in range(steps):
        yield location
        location = location.parent
