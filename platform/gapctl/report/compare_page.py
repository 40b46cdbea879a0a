"""One HTML page that sets several sweeps beside each other; it needs no network and no other file."""

import math
from collections.abc import Sequence
from typing import Final

from gapctl.analysis.compare import Combined, Comparison, Difference, Judged, Shared, SweepVerdict
from gapctl.ledger import Ledger
from gapctl.report.html import Html, element, facts, joined
from gapctl.report.page_parts import Fact, document, read_record, run_facts, section
from gapctl.report.sweep_page import notices, summary, verdict_cards
from gapctl.report.text import aligned, confidence, counted, in_brackets, metric_name, p_value

MOST_VALUES: Final = 12
_NAMES: Final = {
    "data_source": "place of the data",
    "data_fingerprint": "data (fingerprint)",
    "recipe_version": "recipe version",
}


def comparison_title(combined: Combined) -> str:
    """What the whole comparison is called."""
    if len(combined.sweeps) == 1:
        return f"{combined.sweeps[0].name}, the only sweep that could be judged"
    return f"{len(combined.sweeps)} sweeps compared"


def heading(comparison: Comparison) -> str:
    """What is compared."""
    name = metric_name(comparison.response)
    key = "" if name == comparison.response else f" ({comparison.response})"
    return f"{name}{key} by {comparison.factor}" if comparison.factor else f"{name}{key} itself"


def headings(comparison: Comparison) -> list[str]:
    """The column names of `finding_cells`."""
    levels = {confidence(finding.alpha) for finding in comparison.findings}
    interval = f"{levels.pop()} interval" if len(levels) == 1 else "interval"
    return ["sweep", "effect", "verdict", "estimate", interval, "p (Holm)", "seeds"]


def finding_cells(finding: SweepVerdict) -> list[str]:
    """One sweep's verdict as a row."""
    verdict = finding.verdict
    estimate, low, high = aligned([verdict.estimate, *verdict.ci])
    known = math.isfinite(verdict.ci.low) and math.isfinite(verdict.ci.high)
    word = verdict.verdict + in_brackets(verdict.marks)
    interval = f"{low} to {high}" if known else "too few seeds"
    return [finding.sweep, finding.effect, word, estimate, interval, p_value(verdict.p), str(verdict.seeds)]


def level_note(comparison: Comparison) -> str:
    """The intervals' levels where they are not all the same; nothing else."""
    levels = {finding.sweep: confidence(finding.alpha) for finding in comparison.findings}
    if len(set(levels.values())) == 1:
        return ""
    return "Intervals: " + ", ".join(f"{sweep} {level}" for sweep, level in levels.items())


def shared_lines(combined: Combined) -> list[str]:
    """A sentence per pair of sweeps with trainings in common."""
    return [_shared(shared) for shared in combined.shared]


def difference_lines(combined: Combined) -> list[str]:
    """A sentence per thing in which the sweeps, or one sweep's trainings, differ."""
    return [_difference(difference) for difference in combined.differences]


def _shared(shared: Shared) -> str:
    (one, other), (of_one, of_other), common = shared.sweeps, shared.of, len(shared.trials)
    return (
        f"{one} and {other} share {counted(common, 'training')} ({common} of {of_one} and of {of_other}); "
        "what both find in these is found once"
    )


def _difference(difference: Difference) -> str:
    plainer = difference.what.replace("hardware.", "hardware, ").replace("versions.", "version of ")
    name = _NAMES.get(difference.what, plainer)
    values = [f"{sweep}: {_listed(found)}" for sweep, found in difference.values.items()]
    return f"different {name}: {'; '.join(values)}"


def _listed(values: Sequence[str]) -> str:
    more = [f"and {len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
    return ", ".join([*values[:MOST_VALUES], *more])


WORDS = 3


def render_combined(combined: Combined, ledger: Ledger) -> str:
    """A complete HTML document; texts from the sweep files are escaped."""
    title = comparison_title(combined)
    first = [element("p", "gapctl · comparison", class_="kicker"), element("h1", title), _lead(combined)]
    parts = [
        _compared(combined),
        _agreement(combined),
        *(_sweep(judged, ledger) for judged in combined.sweeps),
    ]
    page = [element("header", joined([*first, *_not_judged(combined)])), element("main", joined(parts))]
    return document(title, joined(page), [])


def _lead(combined: Combined) -> Html:
    names = ", ".join(judged.name for judged in combined.sweeps)
    rule = "each judged by its own hypotheses, with Holm's correction over its own file; nothing is pooled"
    return element("p", f"{names}: {rule}.", class_="lead")


def _not_judged(combined: Combined) -> list[Html]:
    return [_alert("NOT JUDGED", said) for said in combined.not_judged]


def _alert(word: str, said: str) -> Html:
    return element("p", joined([element("strong", f"{word}:"), element("span", said)], " "), class_="notice alert")


def _compared(combined: Combined) -> Html:
    parts = [_table(comparison) for comparison in combined.comparisons if len(comparison.sweeps) > 1]
    none = element("p", "No response and factor is judged by more than one sweep.", class_="lead")
    lead = "Verdicts on one response and factor; only estimates of the same effect measure the same thing."
    return section("compared", "The same question in several sweeps", lead, parts or [none])


def _table(comparison: Comparison) -> Html:
    head = element("tr", _cells("th", headings(comparison)))
    rows = (element("tr", _cells("td", finding_cells(finding))) for finding in comparison.findings)
    table = element("table", joined([element("thead", head), element("tbody", joined(rows))]))
    note = level_note(comparison)
    parts = [element("h3", heading(comparison)), element("div", table, class_="scroll")]
    return joined([*parts, *([element("p", note)] if note else [])])


def _cells(tag: str, texts: Sequence[str]) -> Html:
    """The first three columns are words, the others numbers."""
    kinds = ["text"] * WORDS + ["number"] * (len(texts) - WORDS)
    return joined((element(tag, text, class_=kind) for text, kind in zip(texts, kinds, strict=True)), "")


def _agreement(combined: Combined) -> Html:
    shared = shared_lines(combined) or ["They share no training."]
    differ = difference_lines(combined) or ["They differ in no setting, and were made alike."]
    return section("agreement", "What they share and where they differ", "", [_list(shared), _list(differ)])


def _list(lines: Sequence[str]) -> Html:
    return element("ul", joined(element("li", line) for line in lines))


def _sweep(judged: Judged, ledger: Ledger) -> Html:
    analysis, told = judged.analysis, read_record(judged.plan, ledger, with_dimensions=False)
    record = {fact.term: _said(fact) for fact in run_facts(judged, ledger)}
    parts = [
        element("p", summary(analysis), class_="summary"),
        notices(analysis, told),
        *(_alert("LEFT OUT", said) for said in judged.damaged),
        verdict_cards(analysis, {}),
        element("dl", facts(record), class_="facts"),
    ]
    return section(f"sweep-{judged.file_name}", judged.name, analysis.question, parts)


def _said(fact: Fact) -> Html:
    return element("code", fact.said) if fact.code else element("span", fact.said)
