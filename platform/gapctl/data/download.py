"""Download gzipped files from the first mirror with the right content, continuing interrupted downloads.

A file is written as `NAME.part`, and takes its name only when its content has the right sha256.
"""

import gzip
import hashlib
import http.client
import os
import ssl
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from gapctl.errors import InputError, WorkError
from gapctl.io.locks import lock_file

MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)

OnFileProgress = Callable[[str, int, int | None], None]
TIMEOUT_SECONDS: Final = 20.0
_CONNECTION_ERRORS: Final = (TimeoutError, ConnectionError, ssl.SSLError)
_PIECE_BYTES: Final = 1 << 16
_MAX_BYTES: Final = 1 << 26
"""Largest file; a mirror that sends more is refused."""


class PublishedFile(NamedTuple):
    """A gzipped file, with the sha256 and the size of its content."""

    name: str
    sha256: str
    bytes: int

    @property
    def content_name(self) -> str:
        """The file's name once it is unzipped."""
        return self.name.removesuffix(".gz")


MNIST_FILES: Final = (
    PublishedFile(
        "train-images-idx3-ubyte.gz", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016
    ),
    PublishedFile(
        "train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008
    ),
    PublishedFile(
        "t10k-images-idx3-ubyte.gz", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016
    ),
    PublishedFile(
        "t10k-labels-idx1-ubyte.gz", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008
    ),
)


class FetchResult(NamedTuple):
    """A file with the right content; `mirror` is None if it was there before."""

    path: Path
    mirror: str | None


class _WrongContentError(Exception):
    """Raised for a mirror's file with other content."""


def fetch_files(
    files: Sequence[PublishedFile], mirrors: Sequence[str], folder: Path, on_progress: OnFileProgress
) -> list[FetchResult]:
    """Return the files in `folder`, downloading those that are missing or wrong.

    `on_progress` gets the file, its bytes so far, and its size if the mirror gives it. Raise InputError for a mirror
    that is not a web address or a folder that cannot be written, WorkError with each mirror's answer if none has a
    right file.
    """
    for mirror in mirrors:
        if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc:
            raise InputError(f"--mirror {mirror}: expected an address that begins with http:// or https://")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_fetch_file(file, mirrors, folder, on_progress) for file in files]
    except OSError as error:
        what = f"cannot be written ({error.strerror})"
        raise InputError(f"--out {folder}: {what}; expected a folder that can, on a disk with 25 MB free.") from error


def _fetch_file(file: PublishedFile, mirrors: Sequence[str], folder: Path, on_progress: OnFileProgress) -> FetchResult:
    if there := _find_right_file(file, folder):
        return FetchResult(there, None)
    with lock_file(folder / f".{file.name}.lock", delete=True):
        if there := _find_right_file(file, folder):  # another process has downloaded it meanwhile
            return FetchResult(there, None)
        return _download_from_a_mirror(file, mirrors, folder, on_progress)


def _find_right_file(file: PublishedFile, folder: Path) -> Path | None:
    """Return the path of the file with the right content, gzipped or not; None if there is none."""
    for path in (folder / file.name, folder / file.content_name):
        with suppress(FileNotFoundError, _WrongContentError):
            _check_sha256(path, file)
            return path
    return None


def _download_from_a_mirror(
    file: PublishedFile, mirrors: Sequence[str], folder: Path, on_progress: OnFileProgress
) -> FetchResult:
    answers = []
    for mirror in mirrors:
        try:
            _download_file(f"{mirror.rstrip('/')}/{file.name}", file, folder / file.name, on_progress)
            return FetchResult(folder / file.name, mirror)
        except (_WrongContentError, URLError, http.client.HTTPException, *_CONNECTION_ERRORS) as error:
            answers.append(f"  {mirror}: {_explain_error(error)}")
    raise WorkError("\n".join([f"{file.name}: no mirror has it:", *answers]))


def _download_file(url: str, file: PublishedFile, path: Path, on_progress: OnFileProgress) -> None:
    part = path.with_name(f"{path.name}.part")
    begun = part.stat().st_size if part.exists() else 0
    # The first part may come from a mirror that compresses differently: then all of it is downloaded again.
    for begin in (begun, 0) if begun else (0,):
        _receive_bytes(url, part, begin, file.name, on_progress)
        try:
            _check_sha256(part, file)
        except _WrongContentError:
            part.unlink()
            if not begin:
                raise
        else:
            part.replace(path)
            return


def _receive_bytes(url: str, part: Path, begun: int, name: str, on_progress: OnFileProgress) -> None:
    headers = {"User-Agent": "gapctl", **({"Range": f"bytes={begun}-"} if begun else {})}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if begun and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing
        raise
    with response:
        continued = response.status == http.client.PARTIAL_CONTENT
        length = response.headers.get("Content-Length")
        done = begun if continued else 0
        total = done + int(length) if length and length.isdigit() else None
        with part.open("ab" if continued else "wb") as out:
            while piece := response.read(_PIECE_BYTES):
                out.write(piece)
                done += len(piece)
                on_progress(name, done, total)
                if done > _MAX_BYTES:
                    break
            out.flush()
            os.fsync(out.fileno())
    if total is not None and done < total:
        raise http.client.IncompleteRead(b"", total - done)


def _check_sha256(path: Path, file: PublishedFile) -> None:
    """Raise _WrongContentError for other content than was published, gzipped or not."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise _WrongContentError(f"sent a damaged file ({error})") from error
    if digest != file.sha256:
        raise _WrongContentError(f"sent another file: the content's sha256 is {digest}, expected {file.sha256}")


def _explain_error(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"answered {error.code} {error.reason}"
    if isinstance(error, URLError):
        return f"cannot be reached ({error.reason})"
    if isinstance(error, http.client.IncompleteRead):
        return "broke off; what came is kept, and the same command continues it"
    return str(error) or type(error).__name__
