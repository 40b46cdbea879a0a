"""What `gapctl analyze --json` prints: one sweep's verdicts, or several; docs/analysis.md says more."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gapctl.analysis.combined import Combined
    from gapctl.analysis.comparison import Comparison, Finding
    from gapctl.analysis.declared import Declared
    from gapctl.analysis.judged import Judged
    from gapctl.analysis.results import Analysis, FirstQuestion, Verdict
    from gapctl.ledger.search_record import SearchRecord


def document(analysis: "Analysis", damaged: tuple[str, ...]) -> dict[str, Any]:
    """One sweep: the verdicts and what they rest on; what is no number is null."""
    hashes = ("spec_sha256", "hypotheses_sha256", "declared_sha256")
    fields = ("sweep", "question", "scale", "alpha", *hashes, "deviation")
    found = {
        "verdicts": [_verdict(verdict) for verdict in analysis.verdicts],
        **{name: getattr(analysis, name) for name in fields},
        "trials_done": len(analysis.trials),
        "trials_planned": analysis.planned,
        "damaged": damaged,
        "declared": None if analysis.declared is None else _declared(analysis.declared),
        "first_question": None if analysis.first_question is None else _first_question(analysis.first_question),
        "learning": [vars(check) for check in analysis.learning],
    }
    return {name: _plain(value) for name, value in found.items()}


def combined_document(combined: "Combined") -> dict[str, Any]:
    """Several sweeps: each one's own document with the trials that it misses, then what sets them side by side."""
    return {
        "sweeps": [_sweep(judged) for judged in combined.sweeps],
        "comparisons": [_comparison(found) for found in combined.comparisons if len(found.sweeps) > 1],
        "shared_trials": [{"sweeps": list(shared.sweeps), "trials": list(shared.trials)} for shared in combined.shared],
        "differences": [
            {"what": found.what, "values": {name: list(values) for name, values in found.values.items()}}
            for found in combined.differences
        ],
        "not_judged": list(combined.not_judged),
    }


def search_document(record: "SearchRecord") -> dict[str, Any]:
    """What a search drew and found; a value that is no number is null."""
    best = record.best
    drawn = [vars(one) for one in record.ranked]
    found = {**vars(record), "drawn": drawn, "best": None if best is None else vars(best)}
    return {name: _plain(value) for name, value in found.items()}


def _verdict(verdict: "Verdict") -> dict[str, Any]:
    not_learned = [vars(check) for check in verdict.not_learned]
    first = None if verdict.first_answer is None else verdict.first_answer._asdict()
    return {**vars(verdict), "marks": list(verdict.marks), "not_learned": not_learned, "first_answer": first}


def _first_question(first: "FirstQuestion") -> dict[str, Any]:
    return {**vars(first), "answers": [_verdict(one) for one in first.answers]}


def _declared(declared: "Declared") -> dict[str, Any]:
    return {**vars(declared), "changed": [change._asdict() for change in declared.changed]}


def _sweep(judged: "Judged") -> dict[str, Any]:
    missing = [{"id": trial.id, "label": trial.label} for trial in judged.missing]
    return {"name": judged.name, **document(judged.analysis, judged.damaged), "missing": missing}


def _comparison(found: "Comparison") -> dict[str, Any]:
    findings = [_finding(finding) for finding in found.findings]
    return {"response": found.response, "factor": found.factor, "findings": findings}


def _finding(finding: "Finding") -> dict[str, Any]:
    fields = ("id", "verdict", "estimate", "ci", "p", "p_direction", "replicates", "seeds", "exploratory", "marks")
    told = {name: _plain(getattr(finding.verdict, name)) for name in fields}
    return {"sweep": finding.sweep, "effect": finding.effect, "alpha": finding.alpha, **told}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
