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
from gapctl.report.html import Html, build_element, join_html, render_facts
from gapctl.report.page_parts import collect_run_facts, read_record, render_document, render_section
from gapctl.report.sweep_page import render_notices, render_summary, render_verdict_cards
from gapctl.report.text import (
    align_numbers,
    format_confidence_level,
    format_count,
    format_marks,
    format_p_value,
    name_metric,
)

MOST_VALUES: Final = 12
_NAMES: Final = {
    "data_source": "place of the data",
    "data_fingerprint": "data (fingerprint)",
    "recipe_version": "recipe version",
}


def name_comparison(combined: SweepComparison) -> str:
    """Return the title of the whole comparison."""
    if len(combined.sweeps) == 1:
        return f"{combined.sweeps[0].name}, the only sweep that could be judged"
    return f"{len(combined.sweeps)} sweeps compared"


def describe_comparison(comparison: ResponseComparison) -> str:
    """Name the response and factor that are compared."""
    name = name_metric(comparison.response)
    key = "" if name == comparison.response else f" ({comparison.response})"
    return f"{name}{key} by {comparison.factor}" if comparison.factor else f"{name}{key} itself"


def list_column_names(comparison: ResponseComparison) -> list[str]:
    """List the column names of `format_verdict_cells`."""
    levels = {format_confidence_level(finding.alpha) for finding in comparison.findings}
    interval = f"{levels.pop()} interval" if len(levels) == 1 else "interval"
    return ["sweep", "effect", "verdict", "estimate", interval, "p (Holm)", "seeds"]


def format_verdict_cells(finding: SweepVerdict) -> list[str]:
    """Format one sweep's verdict as a row."""
    verdict = finding.verdict
    estimate, low, high = align_numbers([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)
    word = verdict.verdict + format_marks(verdict.marks)
    interval = f"{low} to {high}" if known else "too few seeds"
    return [finding.sweep, finding.effect, word, estimate, interval, format_p_value(verdict.p), str(verdict.seeds)]


def note_interval_levels(comparison: ResponseComparison) -> str:
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
        f"{one} and {other} share {format_count(common, 'training')} ({common} of {of_one} and of {of_other}); "
        "what both find in these is found once"
    )


def _describe_difference(difference: SettingDifference) -> str:
    plainer = difference.what.replace("hardware.", "hardware, ").replace("versions.", "version of ")
    name = _NAMES.get(difference.what, plainer)
    values = [f"{sweep}: {_join_values(found)}" for sweep, found in difference.values.items()]
    return f"different {name}: {'; '.join(values)}"


def _join_values(values: Sequence[str]) -> str:
    more = [f"and {len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
    return ", ".join([*values[:MOST_VALUES], *more])


TEXT_COLUMNS = 3


def render_comparison_page(combined: SweepComparison, ledger: Ledger) -> str:
    """Return the complete HTML document; escape texts from the sweep files."""
    title = name_comparison(combined)
    first = [
        build_element("p", "gapctl · comparison", class_="kicker"),
        build_element("h1", title),
        _render_lead(combined),
    ]
    parts = [
        _render_comparisons(combined),
        _render_agreement(combined),
        *(_render_sweep(judged, ledger) for judged in combined.sweeps),
    ]
    not_judged = [_render_alert("NOT JUDGED", problem) for problem in combined.not_judged]
    page = [
        build_element("header", join_html([*first, *not_judged])),
        build_element("main", join_html(parts)),
    ]
    return render_document(title, join_html(page), [])


def _render_lead(combined: SweepComparison) -> Html:
    names = ", ".join(judged.name for judged in combined.sweeps)
    rule = "each judged by its own hypotheses, with Holm's correction over its own file; nothing is pooled"
    return build_element("p", f"{names}: {rule}.", class_="lead")


def _render_alert(word: str, said: str) -> Html:
    return build_element(
        "p", join_html([build_element("strong", f"{word}:"), build_element("span", said)], " "), class_="notice alert"
    )


def _render_comparisons(combined: SweepComparison) -> Html:
    parts = [_render_table(comparison) for comparison in combined.comparisons if len(comparison.sweeps) > 1]
    none = build_element("p", "No response and factor is judged by more than one sweep.", class_="lead")
    lead = "Verdicts on one response and factor; only estimates of the same effect measure the same thing."
    return render_section("compared", "The same question in several sweeps", lead, parts or [none])


def _render_table(comparison: ResponseComparison) -> Html:
    head = build_element("tr", _render_cells("th", list_column_names(comparison)))
    rows = (build_element("tr", _render_cells("td", format_verdict_cells(finding))) for finding in comparison.findings)
    table = build_element("table", join_html([build_element("thead", head), build_element("tbody", join_html(rows))]))
    note = note_interval_levels(comparison)
    parts = [build_element("h3", describe_comparison(comparison)), build_element("div", table, class_="scroll")]
    return join_html([*parts, *([build_element("p", note)] if note else [])])


def _render_cells(tag: str, texts: Sequence[str]) -> Html:
    """Render cells: the first three columns are words, the others numbers."""
    kinds = ["text"] * TEXT_COLUMNS + ["number"] * (len(texts) - TEXT_COLUMNS)
    return join_html((build_element(tag, text, class_=kind) for text, kind in zip(texts, kinds, strict=True)), "")


def _render_agreement(combined: SweepComparison) -> Html:
    shared = describe_shared_trainings(combined) or ["They share no training."]
    differ = describe_differences(combined) or ["They differ in no setting, and were made alike."]
    return render_section(
        "agreement", "What they share and where they differ", "", [_render_list(shared), _render_list(differ)]
    )


def _render_list(lines: Sequence[str]) -> Html:
    return build_element("ul", join_html(build_element("li", line) for line in lines))


def _render_sweep(judged: SweepAnalysis, ledger: Ledger) -> Html:
    analysis, told = judged.analysis, read_record(judged.plan, ledger, with_dimensions=False)
    facts = collect_run_facts(judged, ledger)
    record = {fact.term: build_element("code" if fact.code else "span", fact.said) for fact in facts}
    parts = [
        build_element("p", render_summary(analysis), class_="summary"),
        render_notices(analysis, told),
        *(_render_alert("LEFT OUT", said) for said in judged.damaged),
        render_verdict_cards(analysis, {}),
        build_element("dl", render_facts(record), class_="facts"),
    ]
    return render_section(f"sweep-{judged.file_name}", judged.name, analysis.question, parts)
