"""What a sweep's own run shows beside its trials: how the hypotheses fared, and the report's files."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gapctl.plan.as_typed import sweep_as_typed
from gapctl.spec.load import Sweep

REPORT: Final = "report.html"
NOTE: Final = "mlflow.note.content"
VERDICTS: Final = "gapctl.verdicts"
MARKS: Final = "gapctl.marks"
LONGEST_NOTE: Final = 7_900
"""MLflow cuts a tag's text after 8,000 characters, whatever it cuts through."""


@dataclass(frozen=True)
class Findings:
    """`verdicts` in a few words, `table` of them in Markdown, and files by name, the report among them.

    `marks` name the verdicts that carry any: `slope: not learned; difference: exploratory, not learned`.
    """

    verdicts: str
    table: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    marks: str = ""


def sweep_note(sweep: Sweep, findings: Findings | None, report: str, curves: str) -> str:
    """The run's description: the question, then the verdicts and the ways to `report` and `curves`, or the hypotheses.

    MLflow's page shows its first lines and unfolds the rest, so the answer and the way to the report come first.
    """
    if findings is None:
        claims = [f"* **{item.id}**: {item.claim}" for item in sweep.spec.hypotheses]
        parts = ["Hypotheses, to be judged when trials are done:", "\n".join(claims)] if claims else []
    else:
        parts = [f"**{findings.verdicts}** · [open the report]({report}) · [see the curves]({curves})", findings.table]
    return _fitting([sweep.spec.question, *parts, f"Run it again: `{rerun_command(sweep)}`"])


def rerun_command(sweep: Sweep) -> str:
    """`gapctl sweep` with the scale and the overrides that the sweep had."""
    return shlex.join(["gapctl", "sweep", *sweep_as_typed(sweep)])


def _fitting(parts: list[str]) -> str:
    text = "\n\n".join(part for part in parts if part)
    return text if len(text) <= LONGEST_NOTE else f"{text[:LONGEST_NOTE]}\n\n(cut; the report has it all)"
