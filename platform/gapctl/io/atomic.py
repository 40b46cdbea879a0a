"""Write local files atomically, and hash them."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

TEMPORARY: Final = ".tmp"


@contextmanager
def write_atomically(path: Path, scratch: Path) -> Iterator[Path]:
    """Yield a temporary file in `scratch` to write. It becomes `path` on success and is deleted otherwise."""
    handle, name = tempfile.mkstemp(prefix=f"{path.name}-", suffix=TEMPORARY, dir=scratch)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_whole(path: Path, content: bytes, scratch: Path) -> None:
    """Write a file atomically."""
    with write_atomically(path, scratch) as temporary:
        temporary.write_bytes(content)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
