"""A disk of a few megabytes that a test fills and makes room on: a real one where this process may mount, else one that
answers as a full one does."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MEGABYTES = 16


class SmallDisk:
    """`folder` lies on it; `real` says whether it is a disk of its own."""

    def __init__(self, folder: Path, real: bool) -> None:
        self.folder, self.real = folder, real
        self.full = False

    def fill(self) -> None:
        """Nothing more can be written."""
        self.full = True
        if self.real:
            with suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 4096)

    def make_room(self) -> None:
        """There is as much room as before."""
        self.full = False
        (self.folder / "ballast").unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, megabytes: int = MEGABYTES) -> Iterator[SmallDisk]:
    """The disk, empty."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    made = SmallDisk(folder, subprocess.run(mount, capture_output=True, check=False).returncode == 0)
    if not made.real:
        monkeypatch.setattr(os, "fsync", lambda file: _refuse() if made.full else None)
    try:
        yield made
    finally:
        if made.real:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
