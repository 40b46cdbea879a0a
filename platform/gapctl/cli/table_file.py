"""A table written for other programs, in the format that its name asks for."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gapctl.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_WRITERS: "Final[dict[str, Callable[[pl.DataFrame, Path], None]]]" = {
    ".parquet": lambda table, path: table.write_parquet(path),
    ".csv": lambda table, path: table.write_csv(path),
}


def check_table_file(option: str, out: Path) -> None:
    """Raises InputError, which names the option, for a name of another format or a folder that is not there."""
    if out.suffix not in _WRITERS:
        raise InputError(f"{option} {out}: expected a name that ends in {' or '.join(_WRITERS)}")
    if not out.parent.is_dir() or out.is_dir():
        raise _unwritable(option, out, "is a folder" if out.is_dir() else f"there is no folder {out.parent}")


def write_table(option: str, out: Path, table: "pl.DataFrame") -> None:
    """The whole table appears under its name, or what was there before stays."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{out.name}-", suffix=".part", dir=out.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            _WRITERS[out.suffix](table, temporary)
            temporary.chmod(0o644)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(option, out, error.strerror or str(error)) from error


def _unwritable(option: str, out: Path, reason: str) -> InputError:
    return InputError(
        f"{option} {out}: cannot be written: {reason}; expected a file in a folder that exists and may be written to"
    )
