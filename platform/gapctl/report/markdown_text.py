"""Texts and tables as Markdown: what a sweep file says is text there, never markup."""

import re
from collections.abc import Sequence
from typing import Final

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>|#~&$])")
_LIST_MARK: Final = re.compile(r"^([-+]|\d+[.)])(?=\s|$)")
_RULE: Final = re.compile(r"^(?=[-=\s]+$)")


def plain(text: str) -> str:
    """A text on one line that reads as it was written."""
    line = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    marked = _LIST_MARK.sub(lambda mark: mark[0][:-1] + "\\" + mark[0][-1], line)
    return _RULE.sub(r"\\", marked) if line else line


def code(text: str) -> str:
    """A text as code, whatever backticks are in it; bars are escaped, so that it may stand in a table."""
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    padded = f" {line} " if line.startswith("`") or line.endswith("`") else line
    return f"{fence}{padded}{fence}".replace("|", r"\|")


def block(text: str) -> str:
    """A text of several lines as code: indented, which no text in it can end."""
    return "\n".join(f"    {line}" for line in text.expandtabs().splitlines())


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int) -> str:
    """A table of cells that are Markdown already; columns from `numbers_from` on are set right."""
    marks = ["---" if index < numbers_from else "---:" for index in range(len(headings))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, marks, *rows))
