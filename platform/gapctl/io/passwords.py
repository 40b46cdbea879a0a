"""Find passwords in addresses and texts, and hide them before anything is shown or stored."""

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
    """Replace the password in an address or `PATH=ADDRESS` by `***`, up to the last `@`."""
    return _IN_ADDRESS.sub(r"\1***@", address)


def has_password(address: str) -> bool:
    """Return whether an address or `PATH=ADDRESS` has a password between user and host."""
    return hide_password(address) != address


def hide_passwords(text: str) -> str:
    """Replace passwords of all addresses in a text, such as a sweep file, by `***`. YAML and JSON stay valid."""
    return _IN_TEXT.sub(lambda found: f"{next(filter(None, found.groups()))}***@", text)
