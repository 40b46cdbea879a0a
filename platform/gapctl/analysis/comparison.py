"""The same question in several sweeps: verdicts on one response and factor, side by side and never pooled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gapctl.analysis.judged import Judged
from gapctl.analysis.results import Verdict
from gapctl.spec.hypotheses import Hypothesis

_SAID_APART: Final = {"response", "factor", "test", "where"}
_NOT_OF_THE_EFFECT: Final = {"id", "claim", "source", "direction", "smallest_effect"}


class Finding(NamedTuple):
    """One sweep's verdict; `effect` says what its estimate is of.

    As `trend`, or `contrast, between 0 and 5, where temperature.mode is learned`.
    """

    sweep: str
    effect: str
    alpha: float
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Findings on one response and factor; estimates of the same `effect` measure the same thing."""

    response: str
    factor: str
    findings: tuple[Finding, ...]

    @property
    def sweeps(self) -> tuple[str, ...]:
        """Which sweeps asked."""
        return tuple(dict.fromkeys(finding.sweep for finding in self.findings))


def compare(sweeps: Sequence[Judged]) -> tuple[Comparison, ...]:
    """A comparison for each response and factor that any sweep has a hypothesis on, in the files' order.

    Those that only one sweep asks about have one sweep in them.
    """
    found: dict[tuple[str, str], list[Finding]] = {}
    for judged in sweeps:
        for hypothesis, verdict in zip(judged.plan.sweep.spec.hypotheses, judged.analysis.verdicts, strict=True):
            finding = Finding(judged.name, _effect(hypothesis), judged.analysis.alpha, verdict)
            found.setdefault((verdict.response, verdict.factor), []).append(finding)
    return tuple(Comparison(*key, _by_effect(findings)) for key, findings in found.items())


def _by_effect(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    order = list(dict.fromkeys(finding.effect for finding in findings))
    return tuple(sorted(findings, key=lambda finding: order.index(finding.effect)))


def _effect(hypothesis: Hypothesis) -> str:
    details = hypothesis.model_dump(mode="json", exclude=_NOT_OF_THE_EFFECT | _SAID_APART, exclude_none=True)
    told = [f"{name} {_text(value)}" for name, value in details.items() if value != []]
    held = [f"{path} is {level}" for path, level in sorted(hypothesis.where.items())]
    return ", ".join([hypothesis.test, *told, *([f"where {' and '.join(held)}"] if held else [])])


def _text(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)
