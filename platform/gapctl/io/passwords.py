"""Passwords in addresses and in texts that hold addresses: found, and hidden before anything is shown or kept."""

import re
from typing import Final

_IN_ADDRESS: Final = re.compile(r"(://[^:/]*:).*@", re.DOTALL)
_IN_TEXT: Final = re.compile(
    r"""
    ^([ \t]*(?:tracking\.)?uri:[ \t]+\w[\w+.-]*://[^:/\n]*:)(?:(?![ ]\#).)*@  # a line of YAML without quotes
    | (?<=")(\w[\w+.-]*://[^:/"\n]*:)(?:[^"\\\n]|\\.)*@                       # what double quotes hold
    | (?<=')(\w[\w+.-]*://[^:/'\n]*:)(?:[^'\n]|'')*@                          # what single quotes hold in YAML
    | (://[^\s:/"']*:)(?:[^\s"']|["'](?![,}\]]))*@                            # a word, to the quote that ends a value
    """,
    re.MULTILINE | re.VERBOSE,
)


def hide_password(address: str) -> str:
    """An address, or a `PATH=ADDRESS`, with `***` from a user's name to the last `@`, as a password may hold others."""
    return _IN_ADDRESS.sub(r"\1***@", address)


def has_password(address: str) -> bool:
    """Whether an address, or a `PATH=ADDRESS`, has a password between a user's name and a host."""
    return hide_password(address) != address


def hide_passwords(text: str) -> str:
    """A text, a sweep file for one, with `***` for the passwords of the addresses in it; YAML and JSON stay whole."""
    return _IN_TEXT.sub(lambda found: f"{next(filter(None, found.groups()))}***@", text)
