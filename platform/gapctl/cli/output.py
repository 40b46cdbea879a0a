"""Terminal and file output: no control character from a file, key or name, and no character that the terminal lacks.

`guard_output` puts `GuardedStream` before both standard streams, so that `print`, `typer.echo` and libraries' warnings
pass through it. Rich's colours and cursor movements must not be escaped: consoles write past the guard, and
`console.SafeConsole` escapes the texts that it is given instead. `print_json_or_text` prints a verb's result,
`exit_on_problems` its problems; `write_table` and `write_page` write the files that options name.
"""

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, cast

import typer

from gapctl.errors import InputError
from gapctl.io.atomic import stage_file_replacement
from gapctl.text import join_or

if TYPE_CHECKING:
    import polars as pl


_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters but for tab and line ends, and C1
    "\u2028\u2029"  # line and paragraph separator
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates of writing direction
    "\ud800-\udfff]"  # halves of characters, which no encoding has
    "|\r(?!\n)"
)


def escape_controls(text: str) -> str:
    r"""Show control characters as `\x1b` or `\u202e`; other text stays as it is."""

    def escape(match: re.Match[str]) -> str:
        number = ord(match[0])
        return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"

    return _UNSAFE.sub(escape, text)


class GuardedStream(io.TextIOBase):
    """A text stream that escapes control characters; it has no `buffer` through which bytes could pass it."""

    def __init__(self, stream: TextIO) -> None:
        """Guard `stream`, which Rich's consoles reach by `rich_proxied_file`."""
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write a text with its control characters escaped."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.rich_proxied_file.write(escape_controls(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self.rich_proxied_file.flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self.rich_proxied_file.isatty()

    def fileno(self) -> int:
        """Return the stream's file descriptor."""
        return self.rich_proxied_file.fileno()

    def writable(self) -> bool:
        """Return True: the stream can be written to."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return self.rich_proxied_file.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How the stream treats characters that its encoding lacks."""
        return self.rich_proxied_file.errors


def guard_output() -> None:
    """Guard both standard streams; escape characters that the terminal's encoding lacks instead of failing."""
    sys.stdout, sys.stderr = _guard_stream(sys.stdout), _guard_stream(sys.stderr)


def _guard_stream(stream: TextIO) -> TextIO:
    if stream is None or isinstance(stream, GuardedStream):
        return stream
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return cast(TextIO, GuardedStream(stream))


def find_raw_stream(stream: TextIO) -> TextIO:
    """Return the stream behind all guards, such as ours and that of a progress bar."""
    while (behind := getattr(stream, "rich_proxied_file", None)) is not None:
        stream = cast(TextIO, behind)
    return stream


PIECES_AT_ONCE: Final = 100_000
"""Words and signs of a JSON text that are joined before they are written."""


def print_json_or_text(document: object, render: Callable[[], None], as_json: bool, *, allow_nan: bool = True) -> None:
    """Print the document as JSON on standard output with `as_json`; else call `render`, which prints for people.

    The text is written in pieces, as that of many trials takes more memory than the trials.
    """
    if not as_json:
        render()
        return
    pieces = json.JSONEncoder(indent=1, allow_nan=allow_nan).iterencode(document)
    while some := "".join(islice(pieces, PIECES_AT_ONCE)):
        typer.echo(some, nl=False)
    typer.echo()


def print_problems(problems: Iterable[str]) -> None:
    """Print what went wrong; it comes last, where nobody overlooks it."""
    for problem in problems:
        print(f"gapctl: {problem}", file=sys.stderr)  # typer.echo would drop control characters, not show them


def exit_on_problems(problems: Iterable[str]) -> None:
    """Print what went wrong and exit with 1; return where nothing did."""
    lines = list(problems)
    print_problems(lines)
    if lines:
        raise typer.Exit(1)


def describe_counts(counts: Mapping[str, int]) -> str:
    """Describe counts as in "2 errors and 1 warning", without those that are zero."""
    return " and ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count)


def format_megabytes(count: float, digits: int = 0) -> str:
    """Format a number of bytes as megabytes."""
    return f"{count / 1e6:,.{digits}f} MB"


def require_choice(option: str, value: str, choices: Iterable[str], what: str = "choice") -> None:
    """Raise InputError, naming the option, for a value that is not among its choices."""
    from gapctl.config.base import format_choices

    known = list(choices)
    if value not in known:
        raise InputError(f"{option} {value}: no such {what}; {format_choices(value, known)}")


_TABLE_WRITERS: "Final[dict[str, Callable[[pl.DataFrame, Path], None]]]" = {
    ".parquet": lambda table, path: table.write_parquet(path),
    ".csv": lambda table, path: table.write_csv(path),
}


def check_table_file(option: str, out: Path, others: Sequence[str] = ()) -> None:
    """Raise InputError, naming the option, for a name of another format or a folder that does not exist.

    `others` are endings of formats that the verb writes itself.
    """
    if out.suffix not in (known := [*_TABLE_WRITERS, *others]):
        raise InputError(f"{option} {out}: expected a name that ends in {join_or(known)}")
    if not out.parent.is_dir() or out.is_dir():
        raise build_write_error(option, out, "is a folder" if out.is_dir() else f"there is no folder {out.parent}")


def write_table(option: str, out: Path, table: "pl.DataFrame") -> None:
    """Write a table atomically: the whole table appears under its name, or the previous file stays."""
    try:
        with stage_file_replacement(out) as temporary:
            _TABLE_WRITERS[out.suffix](table, temporary)
    except OSError as error:
        raise build_write_error(option, out, error) from error


def build_write_error(option: str, out: Path, reason: OSError | str) -> InputError:
    """Build the error about a file, named by an option, that cannot be written."""
    text = (reason.strerror or str(reason)) if isinstance(reason, OSError) else reason
    return InputError(
        f"{option} {out}: cannot be written: {text}; expected a file in a folder that exists and may be written to"
    )


def check_output_place(option: str, out: str) -> None:
    """Raise InputError for an address that nothing can be written to; call it before anything is read."""
    if "://" in out:
        from gapctl.io.files import Folder

        Folder(out, option)


def build_address_error(name: str, address: str) -> InputError:
    """Build the error about an address where an option, or an argument, takes a path of this machine alone."""
    return InputError(
        f"{name} {address}: an address; expected a path on this machine. Copy it from or to a store with its own tool, "
        "such as `aws s3 cp` or `gcloud storage cp`"
    )


def check_page_file_name(option: str, out: Path | None) -> None:
    """Raise InputError where the name is not a page's; call it before anything is computed."""
    if out is not None and out.suffix != ".html":
        raise InputError(f"{option} {out}: found a name that ends in {out.suffix or 'nothing'}; expected .html")


def write_page(option: str, out: Path, page: str | bytes) -> None:
    """Write a page; raise InputError, naming the option, where the file cannot be written."""
    try:
        out.write_bytes(page.encode() if isinstance(page, str) else page)
    except OSError as error:
        raise build_write_error(option, out, error) from error
