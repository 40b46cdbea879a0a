"""The folder in which a Ray of this machine keeps its sockets, logs and what it spills.

Ray makes `FOLDER/ray/session_.../sockets/plasma_store`, and the system takes no socket whose path is longer than 107
bytes (103 on a Mac). Batch systems set a TMPDIR that is longer than what remains, or that is not there.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.errors import InputError

LONGEST_SOCKET: Final = 103 if sys.platform == "darwin" else 107
BELOW: Final = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest of Ray's sockets below its folder: a process's number has seven digits at most."""
LONGEST_FOLDER: Final = LONGEST_SOCKET - len(BELOW)
SHORT: Final = "/tmp"
"""Where a folder of our own is made in place of one that Ray cannot use."""


class RayOptions(NamedTuple):
    """What `ray.init` is given so that it keeps its files in the right place."""

    temp_dir: str | None
    spill_to: str | None

    def as_arguments(self) -> dict[str, str]:
        """The keyword arguments of `ray.init`; none where Ray's own choice is right."""
        found = {"_temp_dir": self.temp_dir, "object_spilling_directory": self.spill_to}
        return {name: value for name, value in found.items() if value is not None}


def default_ray_folder() -> Path:
    """The folder below which Ray makes its own, `ray`, unless it is told another."""
    from_linux = os.environ.get("TMPDIR") if sys.platform == "linux" else None
    return Path(os.environ.get("RAY_TMPDIR") or from_linux or SHORT)


def find_fault(folder: Path) -> str | None:
    """Why Ray cannot keep its sockets below a folder, or None where it can."""
    if not folder.is_dir():
        return "there is no such folder"
    length = len(os.fsencode(folder.absolute()))
    if length > LONGEST_FOLDER:
        return f"its name is too long for Ray's sockets ({length} bytes, {LONGEST_FOLDER} at most)"
    ours = folder / "ray"
    if not os.access(ours if ours.exists() else folder, os.W_OK | os.X_OK):
        return f"{ours if ours.exists() else folder} cannot be written"
    return None


@contextmanager
def ray_folder() -> Iterator[RayOptions]:
    """Choose Ray's own folder where it can use that, else a private one below /tmp, which is deleted in the end.

    Arrays that do not fit into shared memory still go to the folder that the environment names, where it can be
    written: it may be on the larger disk. Raises InputError where /tmp cannot be used either.
    """
    wanted = default_ray_folder()
    fault = find_fault(wanted)
    if fault is None:
        yield RayOptions(None, None)
        return
    try:
        private = tempfile.TemporaryDirectory(prefix="gapctl-ray-", dir=SHORT, ignore_cleanup_errors=True)
    except OSError as error:
        raise InputError(
            f"Ray cannot keep its sockets in {wanted}: {fault}; nor in {SHORT}: {error.strerror}. Set RAY_TMPDIR to a "
            f"folder that can be written, whose name has {LONGEST_FOLDER} bytes at most"
        ) from error
    usable = wanted.is_dir() and os.access(wanted, os.W_OK | os.X_OK)
    with private as folder:
        yield RayOptions(folder, str(wanted.absolute()) if usable else None)
