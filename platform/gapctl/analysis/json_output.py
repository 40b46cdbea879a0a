"""The JSON documents of analyses, as `gapctl analyze --json` prints them; non-finite numbers are null."""

import math
from statistics import mean
from typing import TYPE_CHECKING

from gapctl.ledger.search_record import SearchRecord

if TYPE_CHECKING:
    from gapctl.analysis.compare import SweepComparison
    from gapctl.analysis.results import AnalysisResults, CohortSummary, Verdict


def build_analysis_json(
    analysis: "AnalysisResults", damaged: tuple[str, ...] = (), lacking: tuple[str, ...] = ()
) -> dict[str, object]:
    """Build one sweep's document: the verdicts and what they rest on; non-finite numbers are null.

    `damaged` and `lacking` are as in `SweepAnalysis`.
    """
    hashes = ("spec_sha256", "hypotheses_sha256", "declared_sha256")
    fields = ("sweep", "question", "scale", "alpha", *hashes, "deviation")
    declared, first = analysis.declared, analysis.first_question
    found = {
        "verdicts": [_serialise_verdict(verdict) for verdict in analysis.verdicts],
        **{name: getattr(analysis, name) for name in fields},
        "trials_done": len(analysis.trials),
        "trials_planned": analysis.planned,
        "damaged": damaged,
        "lacking": lacking,
        "declared": declared and {**vars(declared), "changed": [change._asdict() for change in declared.changed]},
        "first_question": first and {**vars(first), "answers": [_serialise_verdict(one) for one in first.answers]},
        "learning": [vars(check) for check in analysis.learning],
        "information": _list_information(analysis),
    }
    return {name: _replace_non_finite(value) for name, value in found.items()}


def _list_information(analysis: "AnalysisResults") -> list[dict[str, object]]:
    """List each arm's levels, the bits of its captions and its Bayes loss by name; nothing where none is known.

    Each is the mean over the arm's trainings, which differ where recipes are drawn; null where one lacks it.
    """
    trials, factors = analysis.trials, list(analysis.factors)
    names = [name for name in trials.columns if name.startswith("information/") or name == "train/loss_bayes"]
    if not names or trials.is_empty():
        return []
    arms = trials.partition_by(factors, maintain_order=True) if factors else [trials]
    return [
        {
            "levels": {factor: arm[factor][0] for factor in factors},
            **{name: None if arm[name].has_nulls() else mean(arm[name]) for name in names},
        }
        for arm in arms
    ]


def build_comparison_json(combined: "SweepComparison") -> dict[str, object]:
    """Build the document of several sweeps: each with its missing trials, then the comparison."""
    sweeps = []
    for judged in combined.sweeps:
        missing = [{"id": trial.id, "label": trial.label} for trial in judged.missing]
        document = build_analysis_json(judged.analysis, judged.damaged, judged.lacking)
        sweeps.append({"name": judged.name, **document, "missing": missing})
    fields = ("id", "verdict", "estimate", "ci", "p", "p_direction", "replicates", "seeds", "exploratory", "marks")
    comparisons = []
    for found in combined.comparisons:
        if len(found.sweeps) > 1:
            findings = [
                {"sweep": finding.sweep, "effect": finding.effect, "alpha": finding.alpha}
                | {"p_of_all": _replace_non_finite(finding.p_of_all)}
                | {name: _replace_non_finite(getattr(finding.verdict, name)) for name in fields}
                for finding in found.findings
            ]
            comparisons.append({"response": found.response, "factor": found.factor, "findings": findings})
    return {
        "sweeps": sweeps,
        "comparisons": comparisons,
        "shared_trials": [{"sweeps": list(shared.sweeps), "trials": list(shared.trials)} for shared in combined.shared],
        "differences": [
            {"what": found.what, "values": {name: list(values) for name, values in found.values.items()}}
            for found in combined.differences
        ],
        "not_judged": list(combined.not_judged),
    }


def build_search_json(record: SearchRecord) -> dict[str, object]:
    """Build the document of a search: its points and the best one; non-finite numbers are null."""
    best = record.best
    drawn = [vars(one) for one in record.ranked]
    found = {**vars(record), "drawn": drawn, "best": None if best is None else vars(best)}
    return {name: _replace_non_finite(value) for name, value in found.items()}


def _serialise_verdict(verdict: "Verdict") -> dict[str, object]:
    not_learned = [vars(check) for check in verdict.not_learned]
    first = None if verdict.first_answer is None else verdict.first_answer._asdict()
    cohort = None if verdict.cohort is None else _serialise_cohort(verdict.cohort)
    own = {"marks": list(verdict.marks), "not_learned": not_learned, "first_answer": first, "cohort": cohort}
    forecast = verdict.forecast and {
        **vars(verdict.forecast),
        "levels": [one._asdict() for one in verdict.forecast.levels],
    }
    lists = {name: [each._asdict() for each in getattr(verdict, name)] for name in ("two_modes", "reversed_steps")}
    return {**vars(verdict), **own, "forecast": forecast, **lists}


def _serialise_cohort(cohort: "CohortSummary") -> dict[str, object]:
    groups = {"lineages": cohort.lineages, "strata_left_out": cohort.strata_left_out}
    left = {name: found and found._asdict() for name, found in groups.items()}
    sets = [{**one._asdict(), "slopes": one.slopes and one.slopes._asdict()} for one in cohort.sets]
    return {**vars(cohort), **left, "sets": sets}


def _replace_non_finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _replace_non_finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
