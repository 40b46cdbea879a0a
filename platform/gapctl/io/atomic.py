"""Files that appear whole under their name or not at all."""

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
    """Give a temporary file in `scratch` to write; it becomes `path` if all went well, and vanishes if not."""
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
    """Write a file that appears whole."""
    with write_atomically(path, scratch) as temporary:
        temporary.write_bytes(content)


def hash_file(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
