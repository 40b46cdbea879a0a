"""What every benchmark reports: a line of the table that `make bench` prints."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One figure: ours beside a peer's, or beside a limit alone where `peer` is None.

    `ratio` is how many times better than the peer we are; `target` and `wanted` are of the ratio, or of `ours` where
    there is no peer. `limited_by` says what keeps the figure from being better now.
    """

    what: str
    unit: str
    ours: float
    limited_by: str
    peer_name: str = ""
    peer: float | None = None
    ratio: float | None = None
    target: float | None = None
    wanted: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def met(self) -> bool | None:
        """Whether the target is met, or None where there is none."""
        found = self.ours if self.ratio is None else self.ratio
        if self.target is None:
            return None
        return found >= self.target if self.better == "higher" or self.ratio is not None else found <= self.target


def report(rows: Sequence[Row], path: Path | None) -> None:
    """Prints the rows, and writes them where asked."""
    for row in rows:
        print(row)
    write_rows(rows, path)


def write_rows(rows: Sequence[Row], path: Path | None) -> None:
    """The rows as JSON, where asked."""
    if path:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote."""
    return [Row(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))]
