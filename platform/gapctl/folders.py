"""Folders that the environment decides: the user's home, gapctl's cache, and the folder that gapctl works in."""

import os
from pathlib import Path
from typing import Final

from gapctl.errors import InputError

NO_HOME: Final = Path("/nonexistent")
"""The home that Debian gives to users who have none."""
CACHE_REMEDY: Final = "set GAPCTL_CACHE to a folder that can be written"


def find_cache_root(cache: Path | None = None) -> Path:
    """Return `cache`, or `$GAPCTL_CACHE`, or `~/.cache/gapctl`; raises InputError where no home folder is known."""
    if cache is not None:
        return cache
    if named := os.environ.get("GAPCTL_CACHE"):
        return expand_home(named)
    if not _is_home_known() or Path.home() == NO_HOME:
        raise InputError(f"no home folder is known; {CACHE_REMEDY}")
    return Path.home() / ".cache" / "gapctl"


def expand_home(place: str | Path) -> Path:
    """Replace a leading `~` or `~user` of a path; raises InputError where that user's home is not known."""
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise InputError(f"{place}: no home folder of that user is known; write the folder's whole path") from error


def provide_home() -> None:
    """Give this process a home folder where none is known: altair, MLflow and Ray cannot be imported without.

    It is the cache folder that GAPCTL_CACHE names, else one that does not exist, for what only asks for its name.
    """
    if not _is_home_known():
        named = os.environ.get("GAPCTL_CACHE")
        os.environ["HOME"] = str(Path(named).absolute() if named else NO_HOME)


def _is_home_known() -> bool:
    """Many containers have neither HOME nor an entry for their user in /etc/passwd."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def require_working_folder() -> None:
    """Raise InputError where the folder that gapctl was called in is gone, which libraries answer with a crash."""
    try:
        Path.cwd()
    except OSError as error:
        raise InputError(
            f"the folder that you are in cannot be used ({error.strerror}): it was deleted or moved away; expected one "
            "that exists. Change to another folder, and call the command again"
        ) from error
