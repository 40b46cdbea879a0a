"""Text files that a person wrote, by whatever editor: UTF-8, with or without byte order marks, with any line ends."""

import re
from pathlib import Path
from typing import Final

from gapctl.errors import InputError
from gapctl.spec.problem import SpecError

UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_MARK_AT_LINE_START: Final = re.compile("^\ufeff", re.MULTILINE)


def read_text_file(path: Path, name: str, expected: str) -> str:
    """Read a text file; `name` is what messages call it, `expected` what it should be.

    Raises InputError where there is no such file, or another thing than text.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; expected {expected}") from error
    except IsADirectoryError as error:
        raise InputError(f"{name}: is a folder; expected {expected}") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}; expected {expected}") from error
    text = decode_text(content, name)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}:{line}: found the byte 0x00; expected {expected}, in UTF-8")
    return text


def decode_text(content: bytes, name: str) -> str:
    r"""Decode UTF-8 to lines that end in \n, without byte order marks; raises InputError with line and byte.

    Files that were put together from several have such marks within, at the beginning of a line.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        found = f"the byte {content[error.start]:#04x}{', as UTF-16 begins' if content.startswith(UTF16) else ''}"
        raise SpecError(f"{name}:{line}:{column}: not UTF-8: found {found}; expected a text file in UTF-8") from error
    return _MARK_AT_LINE_START.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
