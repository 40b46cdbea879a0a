"""Small files below a folder of this machine."""

import errno
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from re import Pattern
from typing import Final, NamedTuple


class Entry(NamedTuple):
    """A file's name, its size, and how many seconds ago it was last written, where that is known."""

    name: str
    bytes: int
    age: float | None


NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems answer that know no second name for a file."""


class Disk:
    """Every method raises OSError as the system does; names are relative to the folder."""

    at_once: Final = 1
    """Threads would only take turns at a disk."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return self._at(name).exists()

    def read(self, name: str) -> bytes:
        """The file's content."""
        return self._at(name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Puts the file in place, whole, also after a power cut."""
        target = self._at(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(target)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def swap(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Puts `new` where `old` lies, or nothing where it is None; whether it did. Of several that try, one does."""
        target = self._at(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        ready = _beside(target)
        try:
            ready.write_bytes(new)
            return (old is None or _took_away(target, old)) and _linked(ready, target)
        finally:
            ready.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Deletes the file."""
        self._at(name).unlink()

    def modified(self, name: str) -> float:
        """When the file was last written, in seconds since 1970."""
        return self._at(name).stat().st_mtime

    def names(self, under: str) -> list[str]:
        """What lies directly in a folder."""
        return [entry.name for entry in self._at(under).iterdir()]

    def entries(self, under: str, pattern: Pattern[str]) -> list[Entry]:
        """The files directly in a folder whose names the pattern matches, with what is known of them."""
        found, now = [], time.time()
        for entry in os.scandir(self._at(under)):
            if pattern.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # its writer has put it in place meanwhile
                    facts = entry.stat()
                    found.append(Entry(entry.name, facts.st_size, now - facts.st_mtime))
        return found

    def _at(self, name: str) -> Path:
        return self.root / name


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")


def _took_away(target: Path, old: bytes) -> bool:
    """Whether this process, and no other, took the file away while it was still `old`."""
    away = _beside(target)
    try:
        if target.read_bytes() != old:
            return False
        target.rename(away)
    except FileNotFoundError:
        return False
    try:
        if away.read_bytes() == old:
            return True
        _linked(away, target)  # another process put its own there between the look and the taking
        return False
    finally:
        away.unlink(missing_ok=True)


def _linked(ready: Path, target: Path) -> bool:
    """Whether the file got the target's name, which nothing had."""
    try:
        os.link(ready, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _copied(ready, target)
    return True


def _copied(ready: Path, target: Path) -> bool:
    with suppress(FileExistsError), target.open("xb") as file:
        file.write(ready.read_bytes())
        return True
    return False
