"""Find the files of digits: the bundled file, or the files of a folder with MNIST's names."""

from pathlib import Path
from typing import Final, Literal, NamedTuple

from gapctl.errors import InputError
from gapctl.folders import expand_home

Split = Literal["train", "test"]
SPLITS: Final[tuple[Split, ...]] = ("train", "test")
BUNDLED: Final = "bundled"
BUNDLED_FILE: Final = Path(__file__).parent / "bundled" / "digits.npz"
_PREFIX: Final[dict[Split, str]] = {"train": "train", "test": "t10k"}


class IdxFiles(NamedTuple):
    """The two files of a split."""

    images: Path
    labels: Path


def resolve_source_folder(source: str) -> Path:
    """Return the folder that a source names, with `~` expanded. Raise InputError for an unknown user."""
    return expand_home(source)


def find_idx_files(folder: Path, split: Split) -> IdxFiles:
    """Return a split's files. Raise InputError with the expected names if the folder or a file is missing."""
    reason = _explain_missing(folder)
    if reason:
        raise InputError(
            f"{folder}: the data source {reason}. Expected `bundled` or a folder with MNIST's IDX files "
            f"({', '.join(_list_file_names(split, 'images', 3))}) . "
            "`gapctl data fetch mnist --out mnist` brings these; a sweep also takes the shards that "
            "`gapctl data mad --source mnist --out SHARDS` makes of them."
        )
    return IdxFiles(_find_idx_file(folder, split, "images", 3), _find_idx_file(folder, split, "labels", 1))


def _explain_missing(folder: Path) -> str | None:
    try:
        if folder.is_dir():
            return None
        return "is a file" if folder.exists() else "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _list_file_names(split: Split, kind: str, dimensions: int) -> tuple[str, ...]:
    stem = f"{_PREFIX[split]}-{kind}"
    plain = (f"{stem}-idx{dimensions}-ubyte", f"{stem}.idx{dimensions}-ubyte")
    return tuple(name + suffix for name in plain for suffix in ("", ".gz"))


def _find_idx_file(folder: Path, split: Split, kind: str, dimensions: int) -> Path:
    names = _list_file_names(split, kind, dimensions)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    present = sorted(path.name for path in folder.iterdir())[:8]
    raise InputError(
        f"{folder}: no {split} {kind} there. Sought {', '.join(names)}; the folder holds "
        f"{', '.join(present) or 'nothing'}. Put MNIST's four IDX files there, gzipped or not."
    )
