"""What a format's reader hands to the checks."""

import hashlib
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from gapctl.stores import is_foreign

CLOUDS: Final = ("image", "text", "image_with_attributes")
NUMBERS: Final = ("labels", "attributes", "text_to_image")
DAMAGE: Final = (OSError, ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError)
"""What numpy raises for a damaged .npy file; its header is read as Python's text."""

KNOWN: Final = (*CLOUDS, *NUMBERS)


class Found(NamedTuple):
    """The known arrays of a file, the names of whatever else it holds, and the sha256 of each file that was read."""

    arrays: Mapping[str, NDArray[Any]]
    unknown: tuple[str, ...]
    files: Mapping[str, str]


def files_in(folder: Path, ending: str) -> list[Path]:
    """The files of a folder with this ending in the order of their names, without what other systems leave there."""
    return sorted(path for path in folder.glob(f"*{ending}") if not is_foreign(path.name))


def sha256_of(path: Path) -> str:
    """The hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
