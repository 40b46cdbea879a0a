"""What a sweep may say and nobody should keep or show: the password in a store's address."""

import re
from typing import Final

PRIVATE: Final = "tracking"
"""The part of a sweep that holds addresses; no number depends on it, so that what is kept may go without."""

_PASSWORD: Final = re.compile(r"(://[^\s:/@\"']*:)[^\s\"']+@")


def without_passwords(text: str) -> str:
    """A text, or an address alone, with `***` in place of what stands between a user's name and a host."""
    return _PASSWORD.sub(r"\1***@", text)


def is_private(override: str) -> bool:
    """Whether a `--set PATH=VALUE`, as it was typed, changes that part."""
    return override.strip().partition("=")[0].partition(".")[0] == PRIVATE
