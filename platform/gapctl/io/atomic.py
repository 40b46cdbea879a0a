"""Write local files atomically, and hash them."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TEMPORARY: Final = ".part"


def build_temporary_path(path: Path, scratch: Path | None = None) -> Path:
    """Return a hidden name of its own for what will become `path`, in `scratch` or beside it."""
    return (scratch or path.parent) / f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}"


@contextmanager
def stage_file_replacement(path: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Yield a temporary file to write, in `scratch` or beside `path`. It becomes `path` on success, else is deleted.

    What was written outlasts a power cut.
    """
    temporary = build_temporary_path(path, scratch)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_file_atomically(path: Path, content: bytes, scratch: Path | None = None) -> None:
    """Write a file atomically."""
    with stage_file_replacement(path, scratch) as temporary:
        temporary.write_bytes(content)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
