"""One HTML page that sets several sweeps beside each other; it needs no network and no other file."""

from collections.abc import Sequence

from gapctl.analysis.combined import Combined
from gapctl.analysis.comparison import Comparison
from gapctl.analysis.judged import Judged
from gapctl.ledger import Ledger
from gapctl.report.comparison_words import (
    comparison_title,
    difference_lines,
    finding_cells,
    heading,
    headings,
    level_note,
    shared_lines,
)
from gapctl.report.markup import Html, element, facts, joined
from gapctl.report.page_parts import document, section
from gapctl.report.run_facts import Fact, run_facts
from gapctl.report.run_record import read_record
from gapctl.report.standing import notices, summary
from gapctl.report.verdict_cards import verdict_cards

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
