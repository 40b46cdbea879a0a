"""Find the file of a sweep by what a person types: a path, or the name of a sweep.

A name is `imbalance`, `imbalance.yaml` or `sweeps/imbalance.yaml`. It means, in this order, a file of that path, one in
`sweeps/` below the working folder, and one that comes with gapctl. Paths within a sweep file, such as `data.source`,
always begin at the working folder.
"""

from pathlib import Path
from typing import Final

from gapctl.errors import InputError
from gapctl.spec.nearest import nearest
from gapctl.spec.problem import SpecError
from gapctl.spec.yaml_source import SWEEP, missing_file

SWEEPS: Final = "sweeps"
SUFFIX: Final = ".yaml"


def find_sweep_file(typed: Path) -> Path:
    """Return the file that `typed` means; raise SpecError, with the nearest name, where there is none.

    A path that exists and cannot be read is returned as it is: reading it says what is wrong.
    """
    candidates = [typed, *_places_of(typed)]
    if (found := next((path for path in candidates if _is_readable(path)), None)) is not None:
        return found
    try:
        typed.stat()
    except FileNotFoundError as error:
        raise SpecError(missing_file(typed, SWEEP) + _suggestion(typed)) from error
    except OSError:
        pass
    return typed


def is_shipped(path: Path) -> bool:
    """Whether a sweep file is one that comes with gapctl."""
    return path.parent == shipped_sweeps()


def list_sweep_files(place: Path | None) -> list[Path]:
    """List the sweep files of a folder by name, or the one that a path or name means.

    Without a place, those of `sweeps/` below the working folder, or else those that come with gapctl. Raises InputError
    where there are none.
    """
    if place is not None and not place.is_dir():
        return [find_sweep_file(place)]
    folders = [place] if place is not None else [Path(SWEEPS), shipped_sweeps()]
    for each in folders:
        if found := _yaml_files(each):
            return found
    looked = ", ".join(map(str, folders))
    raise InputError(f"no sweep file in {looked}; expected a folder with files that end in {SUFFIX}")


def shipped_sweeps() -> Path:
    """Return the folder of the sweeps that come with gapctl: in an installed package, or at the clone's root."""
    package = Path(__file__).parents[1]
    installed = package / SWEEPS
    return installed if installed.is_dir() else package.parents[1] / SWEEPS


def _places_of(typed: Path) -> list[Path]:
    """The files that a name may mean; none for any other path."""
    if typed.name in ("", "..") or typed.parent not in (Path(), Path(SWEEPS)):
        return []
    name = typed.name if typed.suffix == SUFFIX else f"{typed.name}{SUFFIX}"
    return [Path(SWEEPS, name), shipped_sweeps() / name]


def _is_readable(path: Path) -> bool:
    """Whether a file, a pipe or the like is there; False where even that cannot be asked."""
    try:
        return path.exists() and not path.is_dir()
    except OSError:
        return False


def _suggestion(typed: Path) -> str:
    """Name what `typed` may be a slip of: a file beside it, by its path, or a sweep that every verb finds, by name."""
    beside = {path.stem: str(path) for path in _yaml_files(typed.parent)}
    named = {path.stem: path.stem for folder in (Path(SWEEPS), shipped_sweeps()) for path in _yaml_files(folder)}
    close = nearest(typed.stem, {**named, **beside})
    return "" if close is None else f"; did you mean {beside.get(close) or named[close]}?"


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))
