"""Where the shipped sweep files lie: in the working folder, beside the package, or where an installation put them."""

import sysconfig
from pathlib import Path
from typing import Final

from gapctl.errors import InputError

NAME: Final = "sweeps"
PATTERN: Final = "*.yaml"


def sweep_files(folder: Path | None) -> list[Path]:
    """The sweep files of a folder, sorted by name; without one, of the first place that has any.

    Those are `sweeps/` of the working folder, of the clone that the package is part of, and of the installation.
    Raises InputError where there are none.
    """
    places = [folder] if folder is not None else _places()
    for place in places:
        if found := sorted(place.glob(PATTERN)):
            return [_as_seen(path) for path in found]
    looked = ", ".join(map(str, places))
    raise InputError(f"no sweep file in {looked}; expected a folder with files that end in .yaml")


def _places() -> list[Path]:
    clone = Path(__file__).parents[3]
    return [Path.cwd() / NAME, clone / NAME, Path(sysconfig.get_path("data")) / "share" / "gapctl" / NAME]


def _as_seen(path: Path) -> Path:
    """The path as it is typed from the working folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
