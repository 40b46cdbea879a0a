"""Small files below a folder of this machine."""

import os
import uuid
from pathlib import Path
from typing import Final


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
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Deletes the file."""
        self._at(name).unlink()

    def modified(self, name: str) -> float:
        """When the file was last written, in seconds since 1970."""
        return self._at(name).stat().st_mtime

    def names(self, under: str) -> list[str]:
        """What lies directly in a folder."""
        return [entry.name for entry in self._at(under).iterdir()]

    def _at(self, name: str) -> Path:
        return self.root / name
