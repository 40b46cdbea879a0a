"""What is wrong with a cluster file: where, what it risks, what to do."""

from pathlib import Path
from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """An error keeps a sweep from running, or lets strangers in; a warning costs money, time or comfort.

    `rule` is a short name that does not change; `line` counts from 1.
    """

    file: Path
    line: int
    severity: Severity
    rule: str
    risk: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.risk}; {self.fix}"
