"""One thing that a check on a GPU found, and the table of all of them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """A figure: an error beside the most that is allowed, or a rate beside the peer's.

    `ok` is None where nothing is demanded. A check that failed has no value, and its error in `note`.
    """

    what: str
    value: float | None
    unit: str
    allowed: float | None = None
    peer: float | None = None
    note: str = ""
    failed: bool = False

    @property
    def ok(self) -> bool | None:
        """Whether what is demanded holds."""
        if self.failed:
            return False
        if self.value is None or self.allowed is None:
            return None
        return self.value <= self.allowed

    @property
    def ratio(self) -> float | None:
        """How many times the peer's figure ours is."""
        return None if self.value is None or not self.peer else self.value / self.peer


def write(findings: Sequence[Finding], machine: str, folder: Path) -> None:
    """`gpu_check.json` and `gpu_check.md` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(each), "ok": each.ok, "ratio": each.ratio} for each in findings]
    document = {"machine": machine, "findings": rows}
    (folder / "gpu_check.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / "gpu_check.md").write_text(markdown(findings, machine), encoding="utf-8")


def markdown(findings: Sequence[Finding], machine: str) -> str:
    """All findings as a table."""
    head = ["check", "found", "at most", "peer", "ratio", "holds", "note"]
    lines = [machine, "", f"| {' | '.join(head)} |", "|---|--:|--:|--:|--:|---|---|"]
    lines += [f"| {' | '.join(_cells(each))} |" for each in findings]
    return "\n".join(lines) + "\n"


def _cells(each: Finding) -> list[str]:
    holds = {None: "", True: "yes", False: "**no**"}[each.ok]
    numbers = [f"{_number(each.value)} {each.unit}".strip(), *map(_number, (each.allowed, each.peer, each.ratio))]
    return [each.what, *numbers, holds, each.note.replace("|", "/").replace("\n", " ")]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
