"""The HTML page that compares several sweeps; it needs no network and no other file.

The functions above `render_comparison_page` write its sentences and cells; the Markdown report uses them too.
"""

import math
from collections.abc import Sequence
from typing import Final

from gapctl.analysis.compare import (
    ResponseComparison,
    SettingDifference,
    SharedTrials,
    SweepAnalysis,
    SweepComparison,
    SweepVerdict,
)
from gapctl.ledger import Ledger
from gapctl.report.html import render_page
from gapctl.report.page_parts import collect_run_facts, read_run_record
from gapctl.report.sweep_page import collect_verdict_page_values
from gapctl.report.text import (
    format_aligned_numbers,
    format_confidence_level,
    format_marks,
    format_p_value,
    format_replicates_heading,
    name_metric,
)
from gapctl.text import format_count_with_noun

MOST_VALUES: Final = 12
_NAMES: Final = {
    "data_source": "place of the data",
    "data_fingerprint": "data (fingerprint)",
    "recipe_version": "recipe version",
}


def format_comparison_title(combined: SweepComparison) -> str:
    """Return the title of the whole comparison."""
    if len(combined.sweeps) == 1:
        return f"{combined.sweeps[0].name}, the only sweep that could be judged"
    return f"{len(combined.sweeps)} sweeps compared"


def format_response_comparison(comparison: ResponseComparison) -> str:
    """Name the response and factor that are compared."""
    name = name_metric(comparison.response)
    key = "" if name == comparison.response else f" ({comparison.response})"
    return f"{name}{key} by {comparison.factor}" if comparison.factor else f"{name}{key} itself"


def list_verdict_column_names(comparison: ResponseComparison) -> list[str]:
    """List the column names of `format_verdict_cells`."""
    levels = {format_confidence_level(finding.alpha) for finding in comparison.findings}
    interval = f"{levels.pop()} interval" if len(levels) == 1 else "interval"
    replicates = format_replicates_heading(finding.verdict for finding in comparison.findings)
    return ["sweep", "effect", "verdict", "estimate", interval, "p (Holm)", "p (all)", replicates]


def format_verdict_cells(finding: SweepVerdict) -> list[str]:
    """Format one sweep's verdict as a row."""
    verdict = finding.verdict
    estimate, low, high = format_aligned_numbers([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)
    word = verdict.verdict + format_marks(verdict.marks)
    interval = f"{low} to {high}" if known else f"too few {verdict.replicate_name}"
    p_values = [format_p_value(verdict.p), format_p_value(finding.p_of_all)]
    return [finding.sweep, finding.effect, word, estimate, interval, *p_values, str(verdict.seeds)]


def explain_interval_levels(comparison: ResponseComparison) -> str:
    """List the intervals' levels where they differ; empty otherwise."""
    levels = {finding.sweep: format_confidence_level(finding.alpha) for finding in comparison.findings}
    if len(set(levels.values())) == 1:
        return ""
    return "Intervals: " + ", ".join(f"{sweep} {level}" for sweep, level in levels.items())


def describe_shared_trainings(combined: SweepComparison) -> list[str]:
    """List a sentence for each pair of sweeps with trainings in common."""
    return [_describe_shared(shared) for shared in combined.shared]


def describe_differences(combined: SweepComparison) -> list[str]:
    """List a sentence for each setting in which the sweeps, or one sweep's trainings, differ."""
    return [_describe_difference(difference) for difference in combined.differences]


def _describe_shared(shared: SharedTrials) -> str:
    (one, other), (of_one, of_other), common = shared.sweeps, shared.of, len(shared.trials)
    return (
        f"{one} and {other} share {format_count_with_noun(common, 'training')} "
        f"({common} of {of_one} and of {of_other}); what both find in these is found once"
    )


def _describe_difference(difference: SettingDifference) -> str:
    plainer = difference.what.replace("hardware.", "hardware, ").replace("versions.", "version of ")
    name = _NAMES.get(difference.what, plainer)
    values = [f"{sweep}: {_join_values(found)}" for sweep, found in difference.values.items()]
    return f"different {name}: {'; '.join(values)}"


def _join_values(values: Sequence[str]) -> str:
    more = [f"and {len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
    return ", ".join([*values[:MOST_VALUES], *more])


def render_comparison_page(combined: SweepComparison, ledger: Ledger) -> str:
    """Return the complete HTML document; escape texts from the sweep files."""
    names = ", ".join(judged.name for judged in combined.sweeps)
    rule = (
        "each judged by its own hypotheses, with Holm's correction over its own file; nothing is pooled. "
        "p (all) is after Holm over the confirmatory hypotheses of all of them"
    )
    return render_page(
        "comparison",
        format_comparison_title(combined),
        [],
        lead=f"{names}: {rule}.",
        not_judged=combined.not_judged,
        tables=[
            {
                "heading": format_response_comparison(comparison),
                "columns": list_verdict_column_names(comparison),
                "rows": [format_verdict_cells(finding) for finding in comparison.findings],
                "note": explain_interval_levels(comparison),
            }
            for comparison in combined.comparisons
            if len(comparison.sweeps) > 1
        ],
        shared=describe_shared_trainings(combined) or ["They share no training."],
        differences=describe_differences(combined) or ["They differ in no setting, and were made alike."],
        sweeps=[_describe_sweep(judged, ledger) for judged in combined.sweeps],
    )


def _describe_sweep(judged: SweepAnalysis, ledger: Ledger) -> dict[str, object]:
    """Collect what the page shows of one sweep."""
    return {
        "name": judged.name,
        "file_name": judged.file_name,
        "damaged": judged.damaged,
        "facts": collect_run_facts(judged, ledger),
        **collect_verdict_page_values(judged.analysis, read_run_record(judged.plan, ledger, with_dimensions=False), {}),
    }
