"""A page written to where a person asked for it."""

from pathlib import Path

from gapctl.errors import InputError


def check_page(option: str, out: Path | None) -> None:
    """Raises InputError where no page can be asked for there; to be called before anything is computed."""
    if out is not None and out.suffix != ".html":
        raise InputError(f"{option} {out}: found a name that ends in {out.suffix or 'nothing'}; expected .html")


def write_page(option: str, out: Path, page: str | bytes) -> None:
    """Raises InputError, which names the option, where the file cannot be written."""
    try:
        out.write_bytes(page.encode() if isinstance(page, str) else page)
    except OSError as error:
        raise InputError(
            f"{option} {out}: cannot be written: {error.strerror or error}; expected a file in a folder that exists "
            "and may be written to"
        ) from error
